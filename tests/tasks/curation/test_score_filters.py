"""The score filters against definitions in plain Python, on text made to break them, and on what they are for."""

import itertools
import math
import random
import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tasks.curation.cascade import judge
from tasks.curation.characters import KANJI, KATAKANA, LATIN, character_classes
from tasks.curation.emoji import PICTURE_RANGES, TEXT_RANGES
from tasks.curation.filters import FilterSpec
from tasks.curation.filters.base import KEPT, Batch, Filter
from tasks.curation.filters.compression_ratio import CompressionRatio
from tasks.curation.filters.duplicate_paragraphs import DuplicateParagraphs
from tasks.curation.filters.ellipsis_lines import EllipsisLines
from tasks.curation.filters.emoji_ratio import EmojiRatio
from tasks.curation.filters.kanji_ratio import KanjiRatio
from tasks.curation.filters.katakana_ratio import KatakanaRatio
from tasks.curation.filters.latin_ratio import LatinRatio
from tasks.curation.filters.list_ratio import ListRatio
from tasks.curation.filters.sentence_end_ratio import SentenceEndRatio
from tasks.curation.filters.top_ngram import TopNgram
from tasks.curation.filters.url_density import UrlDensity

PIECES = [
    *'あアｱﾞー・漢々〇𠮷Ａａaéz19０９*#-+|｜.．。｡…‥!？」）)("、:@ \t\u3000\n\n\n\u2028\x1c',
    *(
        "か\u3099",
        "\n\n",
        "\n \u3000\n",
        "...",
        "・・・",
        "。。。",
        "1. ",
        "（１）",
        "①",
        "- ",
        "● ",
        "10:30",
        "3.14",
        "2024.",
    ),
    *(
        "😀",
        "👍🏽",
        "👨‍👩‍👧",
        "❤️",
        "☝🏽",
        "1️⃣",
        "#⃣",
        "🇯🇵",
        "🏴\U000e0067\U000e007f",
        "☀",
        "★",
        "\ufe0e",
        "\ufe0f",
        "\u200d♂",
    ),
    *(
        "http://",
        "HTTPS://x.jp/a_(b)?c=1#d).",
        "www.",
        "ftp://a",
        "a.b+c@d-e.co.jp",
        "@d.c",
        "x@y.z9",
        "mail@host..com.",
    ),
]
TEXTS = st.lists(st.lists(st.sampled_from(PIECES), max_size=25).map("".join) | st.text(), max_size=6)


def visible(text: str) -> str:
    return "".join(text.split())


def share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def lines_of(text: str) -> list[str]:
    """Lines that are not blank, without white space at both ends."""
    return [line for part in text.split("\n") if (line := part.strip())]


def share_of_pattern(pattern: str):
    return lambda text: share(sum(len(found) for found in re.findall(pattern, text)), len(visible(text)))


def members(ranges: str) -> str:
    """The inside of a character class."""
    return "".join("-".join(f"\\U{int(code, 16):08x}" for code in piece.split("-")) for piece in ranges.split())


P, T = members(PICTURE_RANGES), members(TEXT_RANGES)
EMOJI = (
    f"(?:[{P}](?!\ufe0e)|[0-9#*](?=[\ufe0f\u20e3])|[{T}](?=[\ufe0f\U0001f3fb-\U0001f3ff]))"
    f"(?:[\u200d\u20e3\ufe0f\U000e0020-\U000e007f]|(?<=\u200d)[{T}])*"
)


def plain_duplicate_paragraphs(text: str) -> float:
    groups = itertools.groupby(text.split("\n"), key=lambda line: bool(line.strip()))
    paragraphs = [visible("".join(lines)) for is_text, lines in groups if is_text]
    again = [len(p) for index, p in enumerate(paragraphs) if p in paragraphs[:index]]
    return share(sum(again), len(visible(text)))


def plain_top_ngram(text: str, ngram: int, window: int) -> float:
    text, covered = visible(text), 0
    for start in range(0, len(text), window):
        piece = text[start : start + window]
        counts = [piece.count(piece[i : i + ngram]) for i in range(len(piece) - ngram + 1)]
        covered += max((ngram * count for count in counts if count > 1), default=0)
    return share(covered, len(text))


def plain_compression(text: str) -> float:
    data = text.encode()[: 1 << 20]
    return share(len(pa.compress(data, codec="lz4_raw", asbytes=True)), len(data)) if data else 0.0


URL = re.compile(r"(https?://|ftp://|www\.)([A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+)", re.IGNORECASE | re.ASCII)
LOCAL = re.compile(r"[A-Za-z0-9._%+\-]*\Z")
DOMAIN = re.compile(r"[A-Za-z0-9.\-]*")


def plain_url_density(text: str) -> float:
    hits, free, position = 0, 0, 0
    while position < len(text):
        length = 0
        if text[position] == "@":
            local = next(LOCAL.finditer(text, free, position))[0]
            domain = next(DOMAIN.finditer(text, position + 1))[0].rstrip(".-")
            if local and re.fullmatch(r".+\.[A-Za-z]{2,}", domain):
                hits, length = hits + len(local) + 1 + len(domain), 1 + len(domain)
        elif not re.match("[A-Za-z0-9]", text[position - 1 : position]) and (found := URL.match(text, position)):
            rest = found[2].rstrip(".,;:!?')]")
            length = len(found[1]) + len(rest) if rest else 0
            hits += length
        position += length or 1
        free = position if length else free
    return share(hits, len(visible(text)))


ELLIPSIS = re.compile(r"(?:[…‥⋯]|([.．。｡・･])\1\1)\Z")


def plain_sentence_ends(text: str) -> float:
    ends = [line for line in lines_of(text) if line[-1] in "。｡．.！!？?‼⁇⁈⁉」』）)】〉》〕］]｝}｣”’\"'"]
    return share(sum(not ELLIPSIS.search(visible(line)) for line in ends), len(lines_of(text)))


def plain_ellipsis_lines(text: str) -> float:
    lines = lines_of(text)
    return share(sum(bool(ELLIPSIS.search(visible(line))) for line in lines), len(lines))


ITEM = re.compile(
    r"[・･•‣◦●○◎■□◆◇▪▫▲△▼▽▶►★☆➤①-⒛❶-➓]|[-*+–—－＊]\s|[(（\[［]?[0-9０-９]{1,3}[.．)）\]］、:：](?![0-9０-９])"
)


def plain_list_ratio(text: str) -> float:
    lines = [part.lstrip() for part in text.split("\n") if part.strip()]
    rows = [len(re.findall("[|｜]+", line)) >= 2 or "\t" in line.strip() for line in lines]
    return share(sum(bool(ITEM.match(line)) or row for line, row in zip(lines, rows, strict=True)), len(lines))


PLAIN = [
    (KatakanaRatio(), share_of_pattern("[\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f\U0001b000]")),
    (KanjiRatio(), share_of_pattern("[々〆〇〻\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd]")),
    (LatinRatio(), share_of_pattern("[A-Za-zÀ-ÖØ-öø-ʯ\u1e00-\u1effⱠ-ⱿꜢ-ꞇꞋ-ꟿꬰ-ꭚﬀ-ﬆＡ-Ｚａ-ｚ]")),
    (EmojiRatio(), share_of_pattern(EMOJI)),
    (DuplicateParagraphs(), plain_duplicate_paragraphs),
    (TopNgram(ngram_characters=1), lambda text: plain_top_ngram(text, 1, 65536)),
    (TopNgram(ngram_characters=3), lambda text: plain_top_ngram(text, 3, 65536)),
    (TopNgram(ngram_characters=2, window_characters=64), lambda text: plain_top_ngram(text, 2, 64)),
    (CompressionRatio(), plain_compression),
    (UrlDensity(), plain_url_density),
    (SentenceEndRatio(), plain_sentence_ends),
    (EllipsisLines(), plain_ellipsis_lines),
    (ListRatio(), plain_list_ratio),
]
SPECS = [spec for spec, _ in PLAIN]


@pytest.mark.parametrize(("spec", "plain"), PLAIN, ids=lambda value: getattr(value, "filter", ""))
def test_score_equals_its_definition(spec: Filter, plain, hard_texts: dict[str, str]) -> None:
    @given(TEXTS)
    @settings(max_examples=200)
    def equal(texts: list[str]) -> None:
        np.testing.assert_allclose(spec.scores(pa.array(texts, pa.string())), [plain(t) for t in texts], rtol=1e-12)

    equal()
    hard = [text[:5000] for text in hard_texts.values()]
    np.testing.assert_allclose(spec.scores(pa.array(hard)), [plain(t) for t in hard], rtol=1e-12)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.filter)
def test_hard_texts_have_finite_scores_that_a_slice_of_the_batch_repeats(
    spec: Filter, hard_texts: dict[str, str]
) -> None:
    texts = pa.array(hard_texts.values(), pa.large_string())
    scores = spec.scores(texts)
    assert scores.dtype == np.float64 and np.isfinite(scores).all() and (scores >= 0).all()
    assert scores[list(hard_texts).index("empty")] == 0
    assert [spec.scores(texts.slice(index, 1))[0] for index in range(len(texts))] == scores.tolist()
    middle = texts.cast(pa.string()).slice(2, 5)
    assert spec.scores(middle).tolist() == scores[2:7].tolist()
    assert len(spec.scores(texts.slice(3, 0))) == len(spec.scores(pa.array([], pa.string()))) == 0


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.filter)
def test_bounds_are_inclusive_and_the_ledger_names_the_broken_one(spec: Filter, prose) -> None:
    body = prose(3, 300).replace("。", "。\n")
    mixed = f"- ゴミ箱…\nABC 😀 a@b.jp\n\n{body}\n\n{body}\n\n1. 終わり"
    texts = pa.array([mixed])
    score = float(spec.scores(texts)[0])
    assert 0 < score < 1
    fields = [name for name in ("min_ratio", "max_ratio") if name in type(spec).model_fields]
    for name in fields:
        at = type(spec).model_validate(
            {**spec.model_dump(), "min_ratio": 0, "max_ratio": 1, name: score}, extra="ignore"
        )
        beyond = at.model_copy(update={name: math.nextafter(score, 2 if name == "min_ratio" else -1)})
        kept, gone = (judge([step], Batch(pa.array(["a"]), texts)) for step in (at, beyond))
        assert (kept.rejected_by[0], gone.rejected_by[0]) == (KEPT, 0)
        assert gone.threshold[0] == getattr(beyond, name)
        side = "below the minimum" if name == "min_ratio" else "above the maximum"
        assert side in beyond.reason(spec.filter, score, gone.threshold[0])


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.filter)
def test_specs_survive_json(spec: Filter) -> None:
    read = TypeAdapter(FilterSpec).validate_json(spec.model_dump_json())
    assert read == spec and type(read) is type(spec)


@pytest.mark.parametrize(
    "spec",
    [
        {"filter": "katakana_ratio", "min_ratio": 0.6},
        {"filter": "kanji_ratio", "max_ratio": 1.5},
        {"filter": "compression_ratio", "min_ratio": 2.0},
        {"filter": "top_ngram", "ngram_characters": 0},
        {"filter": "url_density", "min_ratio": 0.1},
        {"filter": "sentence_end_ratio", "max_ratio": 0.1},
    ],
)
def test_wrong_specs_are_refused(spec: dict) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(FilterSpec).validate_python(spec)


def random_base64(characters: int) -> str:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return "".join(random.Random(1).choices(letters, k=characters))


BAD = [
    (KatakanaRatio(), "スマートフォン ケース カバー ブランド アクセサリー ショルダーバッグ 人気 ﾚﾃﾞｨｰｽ ﾌｧｯｼｮﾝ"),
    (KanjiRatio(), "圖書館成立於一八九七年，後來遷至公園內的現址，收藏了大量歷史文獻與地方資料。"),
    (LatinRatio(), "The library moved to its present building in the park. これは英語。"),
    (EmojiRatio(), "今日は楽しかった😀😀👨‍👩‍👧‍👦❤️🇯🇵"),
    (DuplicateParagraphs(), "同じ段落が\n二回ある。\n\n別の段落。\n\n同じ段落が二回\nある。"),
    (TopNgram(), "激安通販なら当店へ。激安通販サイト。激安通販の比較。激安通販ランキング。激安通販"),
    (CompressionRatio(), "お問い合わせはこちらから。" * 40),
    (CompressionRatio(), random_base64(600)),
    (UrlDensity(), "出典：https://www.example.co.jp/archive/2024/01/index.html、連絡先：info@example.co.jp"),
    (SentenceEndRatio(), "ホーム\n会社概要\n採用情報\nお問い合わせ\nサイトマップ\nログイン\n検索\n戻る\n次へ"),
    (EllipsisLines(), "速報 新しい駅が開業し…\n地元の祭りに三万人が...\n首相が会見で・・・\n詳しくは本文へ。"),
    (ListRatio(), "・りんご\n● みかん\n1. 米\n（２）麦\n③ 豆\n- 塩\n| 品 | 値 |\n茶\t三百円\n* 酒\n+ 酢"),
]


@pytest.mark.parametrize(("spec", "bad"), BAD, ids=lambda value: getattr(value, "filter", ""))
def test_defaults_remove_what_a_filter_is_for_and_keep_prose(spec: Filter, bad: str, prose) -> None:
    good = [prose(seed, 600).replace("。", "。\n", 3) for seed in range(5)]
    texts = pa.array([bad, *good])
    verdict = judge([spec], Batch(pa.array([str(n) for n in range(6)]), texts))
    assert verdict.rejected_by.tolist() == [0, *[KEPT] * 5]


@pytest.mark.parametrize(
    ("text", "characters"),
    [
        ("🇯🇵", 2),
        ("1️⃣", 3),
        ("#⃣", 2),
        ("👨‍👩‍👧‍👦", 7),
        ("👍🏽", 2),
        ("☝🏽", 2),
        ("🏃‍♂", 3),
        ("🏴\U000e0067\U000e0062\U000e007f", 4),
        ("❤️", 2),
        ("❤", 0),
        ("😀\ufe0e", 0),
        ("★☆※♪①㊗1#", 0),
        ("\u200d\ufe0f", 0),
    ],
)
def test_emoji_sequences_count_by_character(text: str, characters: int) -> None:
    assert EmojiRatio().scores(pa.array([text + "語" * 10]))[0] == characters / (len(text) + 10)


def test_classes_hold_the_scripts_that_they_are_named_after() -> None:
    classes = character_classes()
    for bit, words in (
        (KATAKANA, ("KATAKANA",)),
        (KANJI, ("CJK", "IDEOGRAPHIC")),
        (LATIN, ("LATIN", "MODIFIER LETTER")),
    ):
        names = [unicodedata.name(chr(code), "") for code in np.flatnonzero(classes & bit)]
        assert len(names) > 150
        assert [name for name in names if name and not any(word in name for word in words)] == []


def test_compression_has_fixed_sizes_so_that_another_codec_does_not_go_unseen(prose) -> None:
    texts = [prose(1, 1000), prose(2, 20_000), "あ" * 1000, random_base64(1000)]
    sizes = CompressionRatio().scores(pa.array(texts)) * [len(text.encode()) for text in texts]
    assert sizes.round(6).tolist() == [1438, 21413, 24, 1005]


def test_only_the_first_mebibyte_is_compressed() -> None:
    noise = random_base64(1 << 20)
    scores = CompressionRatio().scores(pa.array([noise, noise + "あ" * 1000]))
    assert scores[0] == scores[1] > 1
