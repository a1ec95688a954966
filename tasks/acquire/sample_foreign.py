"""Documents in other languages for the sample corpus: English, Chinese (simplified and traditional) and Korean prose."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.acquire.sample_dice import Dice

# English, simplified Chinese, traditional Chinese, Korean: country and capital.
_PLACES = (
    (("France", "Paris"), ("法国", "巴黎"), ("法國", "巴黎"), ("프랑스", "파리")),
    (("Germany", "Berlin"), ("德国", "柏林"), ("德國", "柏林"), ("독일", "베를린")),
    (("Italy", "Rome"), ("意大利", "罗马"), ("義大利", "羅馬"), ("이탈리아", "로마")),
    (("Spain", "Madrid"), ("西班牙", "马德里"), ("西班牙", "馬德里"), ("스페인", "마드리드")),
    (("Portugal", "Lisbon"), ("葡萄牙", "里斯本"), ("葡萄牙", "里斯本"), ("포르투갈", "리스본")),
    (("Greece", "Athens"), ("希腊", "雅典"), ("希臘", "雅典"), ("그리스", "아테네")),
    (("Norway", "Oslo"), ("挪威", "奥斯陆"), ("挪威", "奧斯陸"), ("노르웨이", "오슬로")),
    (("Finland", "Helsinki"), ("芬兰", "赫尔辛基"), ("芬蘭", "赫爾辛基"), ("핀란드", "헬싱키")),
    (("Hungary", "Budapest"), ("匈牙利", "布达佩斯"), ("匈牙利", "布達佩斯"), ("헝가리", "부다페스트")),
    (("Egypt", "Cairo"), ("埃及", "开罗"), ("埃及", "開羅"), ("이집트", "카이로")),
    (("Kenya", "Nairobi"), ("肯尼亚", "内罗毕"), ("肯亞", "奈洛比"), ("케냐", "나이로비")),
    (("Canada", "Ottawa"), ("加拿大", "渥太华"), ("加拿大", "渥太華"), ("캐나다", "오타와")),
    (("Peru", "Lima"), ("秘鲁", "利马"), ("秘魯", "利馬"), ("페루", "리마")),
    (("Vietnam", "Hanoi"), ("越南", "河内"), ("越南", "河內"), ("베트남", "하노이")),
    (("Thailand", "Bangkok"), ("泰国", "曼谷"), ("泰國", "曼谷"), ("태국", "방콕")),
    (("Nepal", "Kathmandu"), ("尼泊尔", "加德满都"), ("尼泊爾", "加德滿都"), ("네팔", "카트만두")),
)

_ENGLISH = (
    "{capital} is the capital of {country}.",
    "Anyone who travels to {country} will find its government in {capital}.",
    "On a map of {country}, look for {capital} to find the seat of power.",
    "Schoolchildren learn early that {country} is governed from {capital}.",
    "The product of {a} and {b} is {product}.",
    "If you add {a} to {b}, the result is {total}.",
    "A careful clerk who subtracts {b} from {product} still has a long column of figures to check, namely {rest}.",
    "The number {a} lies exactly between {below} and {above}.",
    "Multiplying {b} by itself gives {square}, as any pocket calculator will confirm.",
    "Half of {double} is {a}, which is easy to verify by hand.",
    "There are {seconds} seconds in {b} minutes, and nobody has ever found a good reason to dispute it.",
    "A distance of {b} kilometres is the same as {metres} metres.",
    "Ships that leave with {b} dozen oranges carry {dozens} pieces of fruit in all.",
    "In {b} weeks there are {days} days, so patience is a virtue for those who wait.",
    "The digits of {product} may be written down one after another without any calculation.",
    "A library with {a} volumes that buys {b} more will own {total} volumes.",
    "From {country} the road is long, yet letters addressed to {capital} usually arrive.",
    "Dividing {product} by {a} brings us back to {b}.",
    "People who read about {country} will sooner or later come across the name of {capital}.",
    "Three times {a} makes {triple}, and twice that number makes {sixfold}.",
)

_SIMPLIFIED = (
    "{country}的首都是{capital}。",
    "去{country}旅行的人常常会先到{capital}看一看。",
    "在地图上寻找{country}时，可以先找到{capital}这个城市。",
    "老师告诉我们，{capital}是{country}的政治中心。",
    "{a}乘以{b}等于{product}。",
    "如果把{a}和{b}加起来，就会得到{total}。",
    "{product}除以{a}的结果是{b}，这很容易验算。",
    "{b}公里就是{metres}米。",
    "{b}个星期一共有{days}天。",
    "他们从{product}里减去{b}，还剩下{rest}。",
    "{a}这个数在{below}和{above}之间。",
    "{b}分钟等于{seconds}秒，这一点没有人会怀疑。",
    "图书馆里原来有{a}本书，后来又买了{b}本，现在一共有{total}本。",
    "{b}的平方是{square}，我们用计算器就能知道。",
    "{a}的三倍是{triple}，再乘以二就是{sixfold}。",
)

_TRADITIONAL = (
    "{country}的首都是{capital}。",
    "到{country}旅行的人，常常會先去{capital}走一走。",
    "在地圖上尋找{country}的時候，可以先找{capital}這個城市。",
    "老師說過，{capital}是{country}的政治中心。",
    "{a}乘以{b}等於{product}。",
    "如果把{a}和{b}加起來，就會得到{total}。",
    "{product}除以{a}的結果是{b}，這很容易驗算。",
    "{b}公里就是{metres}公尺。",
    "{b}個星期一共有{days}天。",
    "他們從{product}裡面減去{b}，還剩下{rest}。",
    "{a}這個數在{below}和{above}之間。",
    "{b}分鐘等於{seconds}秒，這一點沒有人會懷疑。",
    "圖書館裡原來有{a}本書，後來又買了{b}本，現在一共有{total}本。",
    "{b}的平方是{square}，我們用計算機就能知道。",
    "{a}的三倍是{triple}，再乘以二就是{sixfold}。",
)

_KOREAN = (
    "{country}의 수도는 {capital}입니다.",
    "{country}를 여행하는 사람들은 대개 {capital}에 먼저 들릅니다.",
    "지도에서 {country}를 찾을 때는 {capital}부터 찾으면 쉽습니다.",
    "선생님은 {capital}가 {country}의 정치 중심지라고 말씀하셨습니다.",
    "{a}에 {b}를 곱하면 {product}가 됩니다.",
    "{a}와 {b}를 더하면 {total}가 나옵니다.",
    "{product}를 {a}로 나누면 {b}가 되는데, 이것은 쉽게 확인할 수 있습니다.",
    "{b}킬로미터는 {metres}미터와 같습니다.",
    "{b}주일은 모두 {days}일입니다.",
    "{product}에서 {b}를 빼면 {rest}가 남습니다.",
    "{a}라는 수는 {below}와 {above} 사이에 있습니다.",
    "{b}분은 {seconds}초이며, 아무도 이것을 의심하지 않습니다.",
    "도서관에 책이 {a}권 있었는데 {b}권을 더 사서 지금은 {total}권이 되었습니다.",
    "{b}의 제곱은 {square}이고, 계산기로 금방 알 수 있습니다.",
    "{a}의 세 배는 {triple}이고, 그 두 배는 {sixfold}입니다.",
)


def english(dice: Dice) -> tuple[str, str]:
    """Title and text of an English document."""
    return _document(dice, _ENGLISH, 0, "Notes on {country}", " ")


def chinese(dice: Dice) -> tuple[str, str]:
    """Title and text of a Chinese document, in simplified or traditional characters."""
    if dice.chance(0.5):
        return _document(dice, _SIMPLIFIED, 1, "关于{country}的笔记", "")
    return _document(dice, _TRADITIONAL, 2, "關於{country}的筆記", "")


def korean(dice: Dice) -> tuple[str, str]:
    """Title and text of a Korean document."""
    return _document(dice, _KOREAN, 3, "{country}에 관한 노트", " ")


def _document(dice: Dice, patterns: Sequence[str], language: int, title: str, gap: str) -> tuple[str, str]:
    """Seven to ten sentences in two paragraphs, each with places and numbers of its own."""
    chosen = dice.some(patterns, dice.within(7, 10))
    sentences = [pattern.format_map(_values(dice, language)) for pattern in chosen]
    cut = len(sentences) // 2
    text = gap.join(sentences[:cut]) + "\n\n" + gap.join(sentences[cut:])
    return title.format_map(_values(dice, language)), text


def _values(dice: Dice, language: int) -> dict[str, object]:
    country, capital = dice.pick(_PLACES)[language]
    a, b = dice.within(10_000, 999_999), dice.within(100, 9999)
    return {
        "country": country, "capital": capital, "a": a, "b": b, "product": a * b, "total": a + b, "rest": a * b - b,
        "below": a - 1, "above": a + 1, "square": b * b, "double": 2 * a, "triple": 3 * a, "sixfold": 6 * a,
        "seconds": 60 * b, "metres": 1000 * b, "dozens": 12 * b, "days": 7 * b,
    }  # fmt: skip
