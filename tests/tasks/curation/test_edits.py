"""Steps that rewrite texts: what goes, what stays, what the ledger of edits holds, and hostile text."""

import random
import time
from itertools import pairwise

import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.curation.config import FilterConfig
from tasks.curation.filters.length import Length
from tasks.curation.filters.mask_personal_data import MaskPersonalData
from tasks.curation.filters.wikipedia_leftovers import WikipediaLeftovers
from tasks.curation.personal_data import FINDERS, find, is_my_number
from tasks.stages import FILTER

EDIT, MASK = WikipediaLeftovers(), MaskPersonalData()

WIKIPEDIA = {
    "東京[1]は日本[注 2]の首都[要出典]である。[3][4]": "東京は日本の首都である。",
    "Linux[1]は1991年[2]に公開された。［注釈 3］": "Linuxは1991年に公開された。",
    "本当に[いつ?]そうなのか[要検証 – ノート]。": "本当にそうなのか。",
    "東京（）は日本（、）の首都 ( ; ) である。": "東京は日本の首都  である。",
    "東京（、とうきょう、）と大阪（（））と京都()。": "東京（とうきょう）と大阪と京都。",
    "'''東京'''は''首都''であり'''''大都市'''''である。": "東京は首都であり大都市である。",
    "[[日本]]の[[東京都|東京]]と[https://example.org/ 公式の頁]。": "日本の東京と公式の頁。",
    "前[[ファイル:a.jpg|thumb|[[東京]]の写真]]後": "前後",
    "前{{Infobox|名={{lang|ja|東京}}|人口={{{人口|不明}}}}}後": "前後",
    "前<ref name=a>典拠<br>一</ref>中<ref name=a />後<references/>": "前中後",
    "前<!-- 見えない\n二行 -->後": "前後",
    '一\n{| class="wikitable"\n! 名 !! 数\n|-\n| 東京 || 1\n|}\n二': "一\n二",
    "一\n[[Category:日本]]\n[[en:Tokyo]][[de:Tokio]]\nカテゴリ:東京": "一",
    "東京。\nen:Tokyo\nde:Tokio": "東京。",
    "東京。\n\n== 脚注 ==\n\n関連項目\n* [[大阪]]\n\n外部リンク\nhttps://example.org/": "東京。",
    "東京。\n脚注\n[注 1]\n参考文献": "東京。\n脚注\n[注 1]",
    "一行目\n{{脚注ヘルプ}}\n三行目": "一行目\n三行目",
    "行の終わり <ref>注</ref>\n次の行": "行の終わり\n次の行",
}

STAYS = [
    "次の（　）に入る言葉を答えよ。( )でもよい。",
    "読点（、）とカンマ (,) とセミコロン(;)、括弧（）の使い方。",
    "main() と f() を for ( ; ; ) で呼ぶ。",
    "argv[1]は引数、a[0]、R[3]C[2]、x[1] = y[2]、m[[1]]。",
    "[1] 山田太郎『論文』2001年。\n[注 2] 行頭の番号。",
    "文献 [12] による。",
    "if [[ -f x ]] && [[ $a == b ]]; then",
    "[[:alnum:]] と [[.ch.]] は文字の種類。",
    "空の文字列 '' と ``引用'' と '一重'。",
    "値は {{ x }} と ${a} と {}。",
    "閉じない <ref>注 と <!-- 注 と {{型 と [[頁",
    "|列|値|\n|---|---|\n|東京|1|",
    "時刻 en:Tokyo のような行が一つ\nen:Tokyo",
    "脚注は大切である。\n関連項目を次に述べる。\n関連項目\nこれは文である。",
    "関連項目\n* 大阪",
    "😀（笑）＼(^o^)／（・∀・）（；´Д｀）",
]


@pytest.mark.parametrize(("text", "expected"), WIKIPEDIA.items())
def test_leftovers_of_wikipedia_go(text: str, expected: str) -> None:
    edited, pieces = EDIT.edit(text)
    assert edited == expected
    assert pieces and all(pieces)


@pytest.mark.parametrize("text", STAYS)
def test_what_may_be_meant_stays(text: str) -> None:
    assert EDIT.edit(text) == (text, [])


@pytest.mark.parametrize("kind", [name for name in WikipediaLeftovers.model_fields if name != "filter"])
def test_each_kind_can_be_switched_off(kind: str) -> None:
    samples = {
        "comments": "前<!-- 注 -->後",
        "references": "前<ref>注</ref>後",
        "templates": "前{{型}}後",
        "tables": "前\n{|\n|-\n|}\n後",
        "categories": "前\n[[カテゴリ:東京]]",
        "links": "前[[頁|名]]後",
        "emphasis": "前'''太字'''後",
        "footnotes": "前[1]後",
        "parentheses": "前（、）後",
        "link_sections": "前\n外部リンク\n* https://example.org/",
    }
    everything_else = WikipediaLeftovers.model_validate({kind: False})
    only = WikipediaLeftovers.model_validate({name: name == kind for name in samples})
    assert everything_else.edit(samples[kind]) == (samples[kind], [])
    assert only.edit(samples[kind])[1]
    for name, sample in samples.items():
        assert name == kind or only.edit(sample) == (sample, [])


MARKUP = [
    "[", "]", "[[", "]]", "[1]", "[注 2]", "[要出典]", "（", "）", "(", ")", "、", ";", "{{", "}}", "{", "}", "型", "|",
    "'''", "''", "'", "<ref>", "</ref>", "<ref/>", "<!--", "-->", "<", ">", "{|", "|}", "|-", "!", "Category:", "en:a",
    "\n", "\n脚注\n", "\n関連項目\n", "* あ", "http://a ", "東京", "x", "1", " ", "\u3000", "。",
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(MARKUP), max_size=30).map("".join))
@example("[[1]2]")
@example("（（、）（））")
@example("<re<ref/>f>注</ref>")
@example("{{{{a}}}}")
@example("あ[1]\n[1]い\n脚注\n[1]")
def test_editing_what_was_edited_changes_nothing(text: str) -> None:
    edited, pieces = EDIT.edit(text)
    assert EDIT.edit(edited) == (edited, [])
    assert bool(pieces) == (edited != text)
    rest = iter(text)
    assert all(character in rest for character in edited), "letters were put in or moved"


@pytest.mark.parametrize("step", [EDIT, MASK], ids=lambda step: step.filter)
def test_hard_texts_are_edited_without_harm(step, hard_texts: dict[str, str]) -> None:
    for text in hard_texts.values():
        assert step.edit(text) == (text, [])


HOSTILE = [
    *(
        "（",
        "（、",
        "あ()",
        "[",
        "[1",
        "あ[1]",
        "[[a|",
        "{",
        "{{a",
        "<ref>",
        "<ref></ref>",
        "<!--",
        "'''",
        "''あ",
        "{|\n",
    ),
    *("|-\n", "・\n", "脚注\n", "en:x\n", "\n", " ", "、 ", "[http://a b", "a-", "a.b@", "@", "03-", "(0", "0120-123-"),
    *("090 ", "+81 ", "1234 ", "〒 ", "電話", "０１", "TEL", "03-1234-5678", "a@b.jp", "1-a@a.jp(0"),
]


def test_time_is_linear_in_hostile_text() -> None:
    texts = [(unit * 1_000_000)[:1_000_000] for unit in ("(", "{{", "[[", "a", "0")]
    texts += [(unit * 200_000)[:200_000] for unit in HOSTILE]
    texts += ["（" * 100_000 + "）" * 100_000, "{{a" * 100_000 + "}}" * 100_000, "[" * 100_000 + "1]" * 100_000]
    for text in texts:
        for step in (EDIT, MASK):
            begin = time.process_time()
            step.edit(text)
            # Linear time is below a second on a slow machine, quadratic time is some minutes or hours.
            assert time.process_time() - begin < 20, (step.filter, text[:10])


def test_nesting_without_end_is_left_alone() -> None:
    text = "{{a" * 30 + "}}" * 30
    assert EDIT.edit(text) == (text, [])


PRIVATE = {
    "email": [
        *("taro.yamada+list@example.co.jp", "a@b.jp", "ｔａｒｏ＠ｅｘａｍｐｌｅ．ｊｐ", "x_1@mail-2.example.museum"),
        "A.B@EXAMPLE.COM",
    ],
    "phone": [
        *(
            "03-1234-5678",
            "０３－１２３４－５６７８",
            "03ー1234ー5678",
            "03‐1234‐5678",
            "(03)1234-5678",
            "03(1234)5678",
        ),
        *(
            "（０３）１２３４－５６７８",
            "090-1234-5678",
            "08012345678",
            "090 1234 5678",
            "050-1234-5678",
            "0120-123-456",
        ),
        *("0120-12-3456", "0570-012-345", "0800-123-4567", "045-123-4567", "0466-12-3456", "04992-1-2345"),
        *("+81-3-1234-5678", "+81 90 1234 5678", "+81(0)3-1234-5678", "+819012345678", "06-6123-4567"),
    ],
    "postal_code": ["〒123-4567", "〒 １２３－４５６７", "〒1234567", "郵便番号: 123-4567"],
    "my_number": ["123456789018", "1234-5678-9018", "1234 5678 9018", "１２３４５６７８９０１８"],
}

NOT_PRIVATE = [
    *(
        "2023-04-05から2024/12/31まで",
        "1999-2000年",
        "2023-04-05T10:00:00+09:00",
        "12:34:56",
        "令和5年4月1日",
        "20230405",
    ),
    *("ISBN 978-4-06-519981-0", "ISBN4-00-310101-4", "ISBN 0306406152", "ISBN 0-306-40615-2", "ISSN 0385-1234"),
    *("9784065199810", "価格は1,234,567円、0123-456円", "￥03,980", "100-0001個", "12-3456-7890", "123-4567"),
    *("0.03-1234-5678", "0312345678", "型番AB03-1234-5678", "03-1234-5678-90", "192.168.10.123", "2001:0db8:0000:1234"),
    *("3.14159265358979", "090-123", "1234-5678-9012-3456", "1234567890123456", "123456789012", "202304051230"),
    *("000000000000", "+1-212-555-0123", "+86 10 1234 5678", "icon@2x.png", "getty@tty1.service", "user@localhost"),
    *("@taro", "a @ b", "foo@1.2.3", "@media screen", "〒記号", "〒12", "0xc0ffee12345678", "10-9876-5432"),
    *("0000-00-0000", "電話は2台", "1/2/3 4", "令和03-1234"),
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in PRIVATE.items() for text in texts])
def test_personal_data_is_masked(kind: str, text: str) -> None:
    around = [("", ""), ("連絡先は", "です。"), ("宛先：", "\n"), ("\u3000", "\u3000"), ("ー", "（代表）"), ("―", "、")]
    # A dash before a number makes it the end of a longer one.
    for before, after in around if kind in ("email", "postal_code") else around[:4]:
        masked, pieces = MASK.edit(before + text + after)
        assert pieces == [kind] and f"<{kind.upper()}>" in masked
        assert masked.startswith(before) and masked.endswith(after)
        assert not any(digit in masked for digit in "0123456789０１２３") and "@" not in masked
        assert MASK.edit(masked) == (masked, [])


@pytest.mark.parametrize("text", NOT_PRIVATE)
def test_dates_book_numbers_and_prices_are_not_masked(text: str) -> None:
    for before, after in (("", ""), ("番号は", "です。"), ("「", "」")):
        assert MASK.edit(before + text + after) == (before + text + after, [])


def test_compact_footer_is_masked_whole() -> None:
    text = "〒100-0001 東京都 TEL03-1234-5678FAX03-1234-5679 電話:0312345678 e-mail:info@example.jp"
    masked, pieces = MASK.edit(text)
    assert masked == "〒<POSTAL_CODE> 東京都 TEL<PHONE>FAX<PHONE> 電話:<PHONE> e-mail:<EMAIL>"
    assert MASK.record(pieces) == "email 1, phone 3, postal_code 1"


def test_check_digit_is_that_of_the_ordinance() -> None:
    def digit(eleven: str) -> str:
        total = sum(int(eleven[11 - n]) * (n + 1 if n <= 6 else n - 5) for n in range(1, 12))
        return str(0 if total % 11 <= 1 else 11 - total % 11)

    generator = random.Random(1)
    for _ in range(300):
        eleven = f"{generator.randrange(10**11):011d}"
        right = digit(eleven)
        assert [d for d in "0123456789" if is_my_number(eleven + d)] == [right]


def test_kinds_can_be_switched_off_and_placeholders_chosen() -> None:
    text = "a@b.jp 03-1234-5678"
    assert MaskPersonalData(phone=False).edit(text)[0] == "<EMAIL> 03-1234-5678"
    assert MaskPersonalData(email=False, phone_placeholder="■").edit(text)[0] == "a@b.jp ■"
    for wrong in ("0120", "x@y", "〒"):
        with pytest.raises(ValidationError):
            MaskPersonalData(email_placeholder=wrong)


GLUED = st.sampled_from([*(text for texts in PRIVATE.values() for text in texts), *NOT_PRIVATE[:20], *" -ー\n@.あ1a+("])


@settings(max_examples=300, deadline=None)
@given(st.lists(GLUED, max_size=3).map("".join))
@example("a@b.jp(03)1234-5678")
def test_masking_what_was_masked_changes_nothing(text: str) -> None:
    masked, _ = MASK.edit(text)
    assert MASK.edit(masked) == (masked, [])
    places = find(text, FINDERS)
    assert all(a.stop <= b.start for a, b in pairwise(places))


def private_and_plain(prose) -> list[tuple[str, str]]:
    rows = [(f"p{n}", prose(n, 300)) for n in range(4)]
    rows += [(kind, f"{prose(9, 200)}\n" + "、".join(texts)) for kind, texts in PRIVATE.items()]
    return [*rows, ("short", "連絡は secret.person@example.com へ")]


def test_masks_leave_no_private_text_in_any_file_of_the_artifact(seal_raw, run, ledger, prose) -> None:
    rows = private_and_plain(prose)
    config = FilterConfig(cascade=(MASK, Length(min_characters=100)))
    result = run(FILTER, config, raw=seal_raw({"train-00000": rows}))
    assert [row["id"] for row in ledger(result)] == ["short"]
    edits = {row["id"]: row for row in pq.read_table(result.path / "edits.parquet").to_pylist()}
    assert set(edits) == {*PRIVATE, "short"}
    assert {name: row["removed"] for name, row in edits.items()} == {
        **{kind: f"{kind} {len(texts)}" for kind, texts in PRIVATE.items()},
        "short": "email 1",
    }
    secrets = [text.removeprefix("郵便番号: ").strip("〒 ") for texts in PRIVATE.values() for text in texts]
    for path in result.path.rglob("*"):
        if path.is_file():
            content = path.read_bytes().decode("utf-8", "replace")
            if path.suffix == ".parquet":
                content = repr(pq.read_table(path).to_pylist())
            for secret in [*secrets, "secret.person"]:
                assert len(secret) < 7 or secret not in content, path.name


def test_counts_and_edits_of_the_stage_reconcile(seal_raw, run, prose) -> None:
    rows = [(f"w{n}", f"{prose(n, 200)}\n{text}") for n, text in enumerate(WIKIPEDIA)]
    rows += [(f"p{n}", prose(100 + n, 200)) for n in range(3)]
    result = run(
        FILTER, FilterConfig(cascade=(EDIT,)), raw=seal_raw({"train-00000": rows, "validation-00000": rows[:2]})
    )
    counts = result.manifest.summary.counts
    edits = pq.read_table(result.path / "edits.parquet").to_pylist()
    assert counts["num_documents_kept"] == counts["num_documents_in"] == len(rows) + 2
    assert counts["num_documents_edited"] == len(edits) == len(WIKIPEDIA) + 2
    assert [row["split"] for row in edits].count("validation") == 2
    assert counts["num_characters_edited_away"] == sum(row["num_characters_removed"] for row in edits)
    assert counts["num_characters_in"] - counts["num_characters_edited_away"] == counts["num_characters_kept"]
    first = next(row for row in edits if row["id"] == "w0")
    assert first["removed"] == "[1]\n[注 2]\n[要出典]\n[3][4]" and first["num_places"] == 4
