"""Filters that need optional packages: their scores, their limits, and what is said where the package is absent."""

import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from data_contracts.errors import ConfigError, ModelError
from tasks.curation.config import FilterConfig
from tasks.curation.filters.perplexity import Perplexity
from tasks.curation.filters.word_count import WordCount
from tasks.stage import Request
from tasks.stages import FILTER

ROOT = Path(__file__).parents[3]
needs_words = pytest.mark.skipif(
    find_spec("fugashi") is None or find_spec("unidic_lite") is None, reason="the extra `words` is not installed"
)
needs_kenlm = pytest.mark.skipif(find_spec("kenlm") is None, reason="the extra `perplexity` is not installed")

ARPA = """\\data\\
ngram 1=6
ngram 2=3

\\1-grams:
-99\t<s>\t-0.5
-1.0\t</s>
-2.0\t<unk>
-0.7\t東\t-0.25
-0.8\t京\t-0.125
-1.5\t。

\\2-grams:
-0.1\t<s> 東
-0.2\t東 京
-0.3\t。 </s>

\\end\\
"""


@pytest.fixture
def arpa(tmp_path) -> Path:
    path = tmp_path / "tiny.arpa"
    path.write_text(ARPA, encoding="utf-8")
    return path


def scores(step, *texts: str) -> list[float]:
    return step.scores(pa.array(texts, pa.string())).tolist()


@needs_words
def test_words_are_short_units_with_punctuation_and_without_white_space() -> None:
    step = WordCount()
    assert scores(step, "東京都に住む人。", "東京\u3000都 に\n住む\n\n人。", "", " \u3000\n", "\0") == [6, 6, 0, 0, 0]
    assert scores(step, "東京\0都に住む人。") == [6], "a NUL does not end the text"


@needs_words
def test_hard_texts_are_counted_in_linear_time_and_alone(hard_texts) -> None:
    texts = {name: text[:300_000] for name, text in hard_texts.items()} | {"one script": "ア" * 300_000}
    step = WordCount()
    found = step.scores(pa.array(texts.values(), pa.large_string()))
    assert np.isfinite(found).all()
    assert found.tolist() == [scores(step, text)[0] for text in texts.values()]
    assert found[list(texts).index("same line again")] == 50 * scores(step, "同じ行が続く文書です。")[0]
    line = "東京は日本の首都である。"
    assert scores(step, line * 1000) == [1000 * scores(step, line)[0]], "long lines are cut where sentences end"


@needs_words
def test_stage_removes_documents_outside_of_the_brief_s_bounds(seal_raw, run, ledger, kept_ids, prose) -> None:
    rows = [("short", "東京である。"), ("fits", prose(1, 300)), ("long", prose(2, 9000))]
    result = run(FILTER, FilterConfig(cascade=(WordCount(),)), raw=seal_raw({"train-00000": rows}))
    assert kept_ids(result) == ["fits"]
    assert [(row["id"], row["threshold"]) for row in ledger(result)] == [("short", 10), ("long", 2048)]
    assert ledger(result)[0]["reason"] == "word_count: 4 words, below the minimum of 10"


BLOCKED = """
import sys
import pyarrow as pa
sys.modules[sys.argv[1]] = None
from data_contracts.errors import MissingPackage
from tasks.curation.filters.perplexity import Perplexity
from tasks.curation.filters.word_count import WordCount
step = WordCount() if sys.argv[2] == "word_count" else Perplexity(language_model=sys.argv[3], max_perplexity=1)
assert step.filter == sys.argv[2]
try:
    step.scores(pa.array(["東京"]))
except MissingPackage as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("package", "step", "extra"),
    [("fugashi", "word_count", "words"), ("unidic_lite", "word_count", "words"), ("kenlm", "perplexity", "perplexity")],
)
def test_missing_package_is_named_with_its_extra(arpa, package: str, step: str, extra: str) -> None:
    if package == "unidic_lite" and find_spec("fugashi") is None:
        pytest.skip("the extra `words` is not installed")
    command = [sys.executable, "-c", BLOCKED, package, step, arpa]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"`{step}`: needs the package {package}, found none\nhint: pip install 'tsuzuki[{extra}]'\n"


@needs_kenlm
def test_perplexity_is_that_of_the_model_by_hand(arpa) -> None:
    step = Perplexity(language_model=arpa, max_perplexity=100)
    first = -0.1 - 0.2 - (0.125 + 1.5) - 0.3  # <s> 東, 東 京, back off from 京 to 。, 。 </s>
    unknown = -(0.5 + 2.0) - 1.0  # back off from <s>, <unk>, </s>
    expected = [10 ** (-first / 4), 10 ** (-unknown / 2), 10 ** (-(first + unknown) / 6), 0.0, 0.0]
    found = scores(step, "東京。", "x", "東 京\u3000。\n\n x \n", "", " \n\u3000")
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@needs_kenlm
@needs_words
def test_words_are_tokens_too(arpa) -> None:
    arpa.write_text(ARPA.replace("東 京", "東 京都").replace("京\t", "京都\t"), encoding="utf-8")
    step = Perplexity(language_model=arpa, max_perplexity=100, tokens="words")
    log10 = -(0.5 + 2.0) - 1.5 - 0.3  # a word that is unknown, 。, </s>
    np.testing.assert_allclose(scores(step, "走る。"), [10 ** (-log10 / 3)], rtol=1e-5)


@needs_kenlm
def test_hard_texts_and_impossible_tokens_have_finite_perplexity(arpa, hard_texts) -> None:
    arpa.write_text(ARPA.replace("-2.0\t<unk>", "-1e30\t<unk>"), encoding="utf-8")
    step = Perplexity(language_model=arpa, max_perplexity=100)
    found = scores(step, *(text[:100_000] for text in hard_texts.values()))
    assert np.isfinite(found).all() and max(found) == 10.0**300


@needs_kenlm
def test_stage_removes_what_the_model_does_not_expect(arpa, seal_raw, run, ledger, kept_ids) -> None:
    config = FilterConfig(cascade=(Perplexity(language_model=arpa, max_perplexity=20, min_perplexity=2),))
    rows = [("known", "東京。"), ("strange", "漢字仮名"), ("empty", "")]
    result = run(FILTER, config, raw=seal_raw({"train-00000": rows}))
    assert kept_ids(result) == ["known"]
    assert [(row["id"], row["threshold"]) for row in ledger(result)] == [("strange", 20), ("empty", 2)]


@needs_kenlm
def test_file_that_is_no_model_is_a_clear_error(arpa) -> None:
    arpa.write_text("no model")
    with pytest.raises(ModelError, match=r"KenLM could not read it .* expected an ARPA or binary model"):
        scores(Perplexity(language_model=arpa, max_perplexity=1), "東京")


def test_content_of_the_model_is_identity_and_its_path_is_not(arpa, tmp_path, seal_raw) -> None:
    raw = seal_raw({"train-00000": []})

    def key(path: Path) -> str:
        config = FilterConfig(cascade=(Perplexity(language_model=path, max_perplexity=9),))
        return Request.of(FILTER, config, {"raw": raw}).key

    copy = tmp_path / "copy.arpa"
    copy.write_text(ARPA, encoding="utf-8")
    assert key(copy) == key(arpa)
    copy.write_text(ARPA.replace("-0.7", "-0.6"), encoding="utf-8")
    assert key(copy) != key(arpa)
    with pytest.raises(ConfigError, match="language_model of the filter `perplexity`"):
        key(tmp_path / "absent.arpa")


@pytest.mark.parametrize(
    ("step", "spec"),
    [
        (WordCount, {"min_words": 9, "max_words": 8}),
        (Perplexity, {"language_model": "m"}),
        (Perplexity, {"language_model": "m", "max_perplexity": math.nan}),
        (Perplexity, {"language_model": "m", "max_perplexity": 1, "min_perplexity": 2}),
        (Perplexity, {"language_model": "m", "max_perplexity": 1, "tokens": "sudachi"}),
    ],
)
def test_wrong_parameters_are_refused(step, spec: dict) -> None:
    with pytest.raises(ValidationError):
        step(**spec)
