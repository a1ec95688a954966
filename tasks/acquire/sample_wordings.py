"""Connecting prose of the sample corpus: titles, openings, leads, remarks, recaps, and the polite style."""

from __future__ import annotations

from tasks.acquire.sample_dice import Dice

_SLOTS: dict[str, tuple[str, ...]] = {
    "場": (
        "学校の授業", "町の図書館", "旅先の案内板", "家庭の食卓", "博物館の展示", "新聞の解説欄", "子ども向けの図鑑",
        "地域の講座", "放課後の教室", "週末の勉強会", "駅の待合室", "朝の会",
    ),
    "話": (
        "話題になる", "質問が出る", "短い説明を見かける", "意見を交わす", "思い出を語る", "まとめの紙を配る", "写真を見せ合う",
        "小さな問題を出す", "感想を述べる", "先生が例を挙げる",
    ),
    "頻": ("ことが多い", "ことがある", "場面がよくある", "機会が少なくない", "ことも珍しくない"),
    "方": (
        "声に出して読む", "表に書き写す", "隣どうしで比べる", "カードに書いて並べる", "由来をあわせて調べる", "図と見比べる",
        "友だちと問題を出し合う", "時間をおいて読み返す", "自分の言葉で言い換える", "身近な例に置き換える", "誰かに説明する",
    ),
    "果": (
        "記憶に残りやすくなる", "違いがはっきりする", "思い違いに気づくことができる", "全体の流れが見えてくる",
        "言葉の意味がよくわかる", "次に学ぶことが見つかる", "細かな点まで頭に入る", "関心がいっそう深くなる",
        "似た名前と区別できるようになる", "忘れにくくなる",
    ),
    "人": (
        "初めて学ぶ人", "旅の好きな人", "中学生", "子どもたち", "教師", "読書の好きな人", "試験を控えた人", "町の案内役",
        "観察の好きな人", "大人",
    ),
    "評": (
        "身近な話題である", "調べがいのある題材である", "覚えておきたい項目である", "会話のきっかけにもなる", "学びの入り口である",
        "何度でも確かめたい知識である", "説明の練習によい題材である", "よい復習の材料になる",
    ),
    "調": ("調べる", "人に教える", "ノートにまとめる", "覚える", "思い出す", "紹介する", "確かめる", "話題にする"),
    "注": (
        "名前の読み方も確かめておく", "一つずつ順に見ていく", "似たものと並べてみる", "出典を書き添えておく",
        "一度に多くを詰めこまない", "理由まで考えてみる", "間違えた箇所に印をつける", "古い資料と新しい資料を読み比べる",
        "図を一枚かいてみる", "前に学んだことと結びつける",
    ),
    "比": ("取り違える", "まとめて覚える", "続けて調べる", "見比べて楽しむ", "同じ頁に書きとめる", "交互に思い出す"),
    "時": ("夏休みの間に", "雨の日の午後に", "試験の前に", "旅の途中で", "夕食の後に", "図書館の帰りに", "年の初めに", "休み時間に"),
    "知": ("調べ直す", "ノートにまとめる", "本で確かめる", "家族に話す", "改めて思い出す", "書きとめる", "詩や歌に詠む"),
    "数": ("二つ", "三つ", "いくつか"),
    "性": ("短い", "簡単な", "ささやかな", "整理された", "手ごろな"),
    "物": ("記録", "覚え書き", "案内", "資料", "まとめ", "読み物"),
}  # fmt: skip

_REMARKS = (
    "{場}では、{x}について{話}{頻}。",
    "{方}と、{果}。",
    "{x}についても、{方}と{果}。",
    "{人}にとって、{x}は{評}。",
    "{x}を{調}ときは、{注}とよい。",
    "{x}と{y}を{比}人もいる。",
    "{時}、{x}のことを{知}人がいる。",
    "{調}前に、{注}とよい。",
    "{人}は、{方}うちに{x}を自然に覚える。",
    "{時}{方}と、{x}と{y}の関係について{果}。",
    "{場}で{x}の名を聞いて、{時}{知}人もいる。",
)

_OPENINGS = (
    "この記事では、{x}と{y}を中心に、{t}を整理する。",
    "{t}のうち、{x}や{y}に関わる事柄をまとめる。",
    "{t}を学ぶとき、{x}は{y}とともによく取り上げられる。",
    "{x}、{y}などを例に、{t}の基本を紹介する。",
    "{t}は範囲が広い。ここでは{x}から始めて、{y}へと話を進める。",
    "次に挙げるのは、{t}についての{性}{物}である。{x}と{y}を含めて順に述べる。",
    "{t}についての{性}{物}である。主に{x}と{y}を扱う。",
    "{人}のために、{t}の{性}{物}を用意した。{x}の話から始める。",
    "{場}では{t}がよく話題になる。その中から{x}と{y}を選んで説明する。",
    "{x}と{y}は、どちらも{t}を知るうえで欠かせない。",
    "{t}に関心を持ったら、まず{x}を調べるとよい。続いて{y}に進むと理解が早い。",
    "{数}の話題を通して{t}を見ていく。初めに取り上げるのは{x}である。",
)

_LEADS = (
    "ここでは{n}を取り上げる。",
    "まず{n}について述べる。",
    "{n}には、次のような例がある。",
    "{n}を順に見ていく。",
    "話題を{n}に移す。",
    "{n}に関しては、資料に次のように書かれている。",
    "続いて{n}を確かめる。",
    "{n}を知っておくと役に立つ。",
    "よく問われるのは{n}である。",
    "{n}についての説明を添える。",
)

_RECAPS = (
    "{n}を並べると、{l}となる。",
    "まとめると、{n}は{l}である。",
    "{n}を一覧にすれば、{l}という形になる。",
    "以上の{n}を短く言えば、{l}となる。",
    "{n}の表には、{l}と書かれている。",
    "復習として{n}を挙げると、{l}である。",
)

_TITLES = (
    "{x}と{y}", "{t}（{x}・{y}）", "{x}から見る{t}", "{t}の要点 {x}ほか", "{x}、{y}と{t}", "{t}の{性}{物}", "{x}の話", "{x}をめぐる{物}",
)  # fmt: skip

CONNECTIVES = (
    "また、",
    "そして、",
    "一方、",
    "なお、",
    "さらに、",
    "ちなみに、",
    "続いて、",
    "同じように、",
    "加えて、",
)

# Longest first: the first ending that fits is exchanged. Every plain sentence of the sample ends in one of these.
_POLITE = (
    ("少なくない。", "少なくありません。"), ("珍しくない。", "珍しくありません。"), ("欠かせない。", "欠かせません。"),
    ("である。", "です。"), ("始めた。", "始めました。"), ("呼んでいた。", "呼んでいました。"), ("用意した。", "用意しました。"),
    ("呼ばれていた。", "呼ばれていました。"), ("来る。", "来ます。"), ("書く。", "書きます。"), ("ある。", "あります。"), ("いる。", "います。"),
    ("いく。", "いきます。"), ("れる。", "れます。"), ("する。", "します。"), ("なる。", "なります。"), ("できる。", "できます。"),
    ("いう。", "いいます。"), ("支払う。", "支払います。"), ("扱う。", "扱います。"), ("挙がる。", "挙がります。"), ("入る。", "入ります。"),
    ("わかる。", "わかります。"), ("始まる。", "始まります。"), ("見つかる。", "見つかります。"), ("移す。", "移します。"),
    ("目立つ。", "目立ちます。"), ("立ち寄る。", "立ち寄ります。"), ("取る。", "取ります。"), ("行き着く。", "行き着きます。"),
    ("学ぶ。", "学びます。"), ("及ぶ。", "及びます。"), ("始める。", "始めます。"),
    ("進める。", "進めます。"), ("上げる。", "上げます。"), ("める。", "めます。"), ("えてくる。", "えてきます。"), ("覚える。", "覚えます。"),
    ("添える。", "添えます。"), ("あてる。", "あてます。"), ("べる。", "べます。"), ("見る。", "見ます。"), ("立つ。", "立ちます。"), ("多い。", "多いです。"), ("広い。", "広いです。"),
    ("早い。", "早いです。"), ("よい。", "よいです。"), ("あたる。", "あたります。"), ("あった。", "ありました。"),
)  # fmt: skip


def politely(sentence: str) -> str:
    """The sentence with its plain ending exchanged for the です/ます one."""
    for plain, polite in _POLITE:
        if sentence.endswith(plain):
            return sentence[: -len(plain)] + polite
    raise ValueError(f"`{sentence}`: no polite form is known for its ending")


def _fill(pattern: str, dice: Dice, **known: str) -> str:
    """`pattern` with the known slots given and every other slot drawn."""
    for slot, options in _SLOTS.items():
        marker = "{" + slot + "}"
        if marker in pattern:
            pattern = pattern.replace(marker, dice.pick(options))
    return pattern.format_map(known)


def opening(dice: Dice, theme: str, first: str, second: str) -> list[str]:
    """One or two plain sentences that open a document on `theme`, naming two of its subjects."""
    text = _fill(dice.pick(_OPENINGS), dice, t=theme, x=first, y=second)
    return [part + "。" for part in text.split("。") if part]


def lead(dice: Dice, noun: str) -> str:
    """One plain sentence that opens a paragraph about `noun`."""
    return dice.pick(_LEADS).format(n=noun)


def remark(dice: Dice, first: str, second: str) -> str:
    """One plain sentence of general comment on two subjects; it states no fact."""
    return _fill(dice.pick(_REMARKS), dice, x=first, y=second)


def recap(dice: Dice, noun: str, pairs: list[tuple[str, str]]) -> str:
    """One plain sentence that lists (subject, answer) pairs in prose."""
    return dice.pick(_RECAPS).format(n=noun, l="、".join(f"{subject}が{answer}" for subject, answer in pairs))


def title(dice: Dice, theme: str, first: str, second: str) -> str:
    """A title for a document on `theme` about two subjects."""
    return _fill(dice.pick(_TITLES), dice, t=theme, x=first, y=second)
