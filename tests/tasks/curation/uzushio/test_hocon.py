"""Uzushio's own filter files, the command that brings them in, and the preset."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from data_contracts.errors import ConfigError
from flows.cli import main
from tasks.curation.config import FilterConfig
from tasks.curation.outside_files import outside_digests
from tasks.curation.presets import uzushio_03a
from tasks.curation.uzushio.hocon import read_hocon
from tasks.runtime import identity

PIPELINE = """
filters: [
  # a comment
  {"class": "DocLength", "low": 50},
  {"class": "DeduplicateDocumentsPercentile", "expected": 5, "percentile": 0.05},
  {class: KenLMParagraphPerplexity, "sudachi": ${sudachi}, kenlm: ${kenlm}, outliers: 0.1, count: 3, "threshold": 1e6}
  {class = DeduplicateDocuments, baseNumFreq = 20},
  {"class": "WordTypes", "kind": "uniq", "threshold": 9, "list": "words/ng.txt"},
  {"class": "MergeListTag"},
]
"""


@pytest.fixture
def pipeline(tmp_path) -> Path:
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "ng.txt").write_text("悪い言葉\n", encoding="utf-8")
    path = tmp_path / "pipeline.conf"
    path.write_text(PIPELINE, encoding="utf-8")
    return path


def test_filters_are_read_in_order_with_their_parameters(pipeline, tmp_path) -> None:
    stages = read_hocon(pipeline, {"sudachi": "/models/system.dic", "kenlm": "/models/ja.bin"})
    names = ["DocLength", "DeduplicateDocumentsPercentile", "KenLMParagraphPerplexity", "DeduplicateDocuments"]
    assert [stage.name for stage in stages] == [*names, "WordTypes", "MergeListTag"]
    values = [stage.model_dump() for stage in stages]
    assert values[0]["low"] == 50 and values[1]["expected"] == 5 and values[3]["base_num_freq"] == 20
    assert values[2]["kenlm"] == Path("/models/ja.bin") and values[2]["threshold"] == 1e6
    assert values[4]["list"] == tmp_path / "words" / "ng.txt"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("filters: [{class: DocLenght}]", "did you mean `DocLength`"),
        ("filters: [{class: a.b.Filter}]", "expected one of DocLength, HiraganaRatio"),
        ("filters: [{low: 1}]", "class None"),
        ("filters: [{class: DocLength, hihg: 9}]", "`hihg`, expected one of: low, high"),
        ("filters: [{class: DocLength, name: x}]", "`name`"),
        ("filters: [{class: DocLength, low: many}]", "filter 1, DocLength, `low`"),
        ("filters: [{class: CompressionRate, low: 1}]", "`high`: Field required"),
        ("filters: [{class: KenLMDocAvgPerplexity, kenlm: ${nowhere_to_be_found}}]", "--var name=value"),
        ("stages: []", "no list `filters`"),
        ("filters: [{class: ", "expected HOCON"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, content, told) -> None:
    path = tmp_path / "wrong.conf"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_hocon(path)
    assert told in str(error.value) and str(path) in str(error.value)


def test_parameters_that_uzushio_ignores_can_be_ignored_here_too(tmp_path) -> None:
    path = tmp_path / "extra.conf"
    path.write_text("filters: [{class: DocLength, low: 5, hihg: 9}]", encoding="utf-8")
    assert read_hocon(path, ignore_unknown=True)[0].model_dump()["low"] == 5
    with pytest.raises(ConfigError, match="no such file"):
        read_hocon(tmp_path / "none.conf")


def test_the_command_prints_a_section_that_a_run_takes(pipeline, tmp_path) -> None:
    words = ["--var", "sudachi=/models/system.dic", "--var", "kenlm=/models/ja.bin"]
    result = CliRunner().invoke(main, ["import-uzushio", str(pipeline), *words])
    assert result.exit_code == 0, result.output
    section = yaml.safe_load(result.stdout)
    config = FilterConfig.model_validate(section["filters"])
    assert not config.normalization.remove_control_characters
    assert [step.filter for step in config.cascade] == ["uzushio"]
    file = tmp_path / "run.yaml"
    file.write_text(result.stdout, encoding="utf-8")
    shown = CliRunner().invoke(main, ["show", "demo", "--config", str(file)])
    assert yaml.safe_load(shown.stdout)["filters"]["cascade"] == section["filters"]["cascade"]
    wrong = CliRunner().invoke(main, ["import-uzushio", str(pipeline), "--var", "sudachi"])
    assert wrong.exit_code == 2 and "NAME=VALUE" in wrong.output


def test_the_content_of_a_list_is_part_of_the_key_and_its_path_is_not(tmp_path) -> None:
    def config(folder: str, words: str) -> FilterConfig:
        path = tmp_path / folder / "words.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(words, encoding="utf-8")
        stages = [{"name": "WordTypes", "list": str(path)}]
        return FilterConfig.model_validate({"cascade": [{"filter": "uzushio", "stages": stages}]})

    first, moved, changed = config("a", "猫"), config("b", "猫"), config("c", "犬")
    assert identity(first) == identity(moved) == identity(changed)
    assert outside_digests(first) == outside_digests(moved) != outside_digests(changed)
    assert list(outside_digests(first)) == ["cascade.0.uzushio.1.WordTypes.list"]
    (tmp_path / "a" / "words.txt").unlink()
    with pytest.raises(ConfigError, match="found no such file"):
        outside_digests(first)


def test_the_preset_has_the_24_filters_of_pipeline_03a_when_all_files_are_given(tmp_path) -> None:
    def names(config: FilterConfig) -> list[str]:
        return [label.split(".")[2] for label in config.cascade[0].model_copy().numbered]  # pyright: ignore

    files = {"kenlm": tmp_path / "m", "adult_words": tmp_path / "a", "discriminating_words": tmp_path / "d"}
    thin = ["DeduplicateDocumentsPercentile"]
    document = [*["CompressionRate"] * 3, *["KenLMDocAvgPerplexity"] * 2, *["WordTypes"] * 3, "DocLength", *thin * 2]
    html = ["MergeListTag", "MarkdownizeHeading", "NoContentDOM"]
    frequent = [*["LargeFreqParagraphs"] * 2, *["KenLMParagraphPerplexity"] * 2]
    start = ["DocLength", *thin, *["HiraganaRatio"] * 2, *["LinkCharRatio"] * 2]
    assert names(uzushio_03a(**files)) == [*start, *html, *frequent, *document]
    left = [name for name in [*start, *html, *frequent, *document] if "KenLM" not in name and name != "WordTypes"]
    assert names(uzushio_03a()) == left and len(left) == 17
