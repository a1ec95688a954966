"""The model card: front matter, both directions of the evaluation, licences, and text that cannot break it."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from data_contracts.manifest import DataSource, Summary
from tasks.deliver.card import markdown, markdown_link
from tasks.deliver.comparison import Comparison, forgetting_sentence, gain_sentence


@pytest.fixture
def card(build_pipeline) -> str:
    return (build_pipeline().deliver(name="my-model").path / "README.md").read_text(encoding="utf-8")


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_front_matter_is_what_the_hub_reads(card):
    head = front_matter(card)
    assert head["language"] == ["ja"]
    assert head["base_model"] == "Qwen/Qwen2.5-0.5B"
    assert head["license"] == "apache-2.0"
    assert head["datasets"] == ["llm-jp/sample"]
    assert "japanese" in head["tags"]


def test_card_states_gain_and_forgetting(card):
    assert "**Japanese gain.** Japanese improved: perplexity 4,064 → 9.488" in card
    assert "**English forgetting.** Forgetting: English became worse: perplexity 4,188 → 8,434" in card


def test_card_states_licence_and_attribution_of_weights_and_data(card):
    assert re.search(r"\| weights \| \[Qwen/Qwen2\.5-0\.5B\].*Apache-2\.0", card)
    assert re.search(r"\| data \| \[llm-jp/sample\].*CC-BY-SA-4\.0 \| .*半角ｶﾅ", card)


def test_card_states_funnel_tokens_and_settings(card):
    assert "| Acquire | 409 | 400 | – | 7 quarantined, 2 blank lines | yes |" in card
    assert "| Filter | 400 | 375 | 25 | – | yes |" in card
    assert "| Tokens consumed by continued pretraining | 819,200 |" in card
    assert "| `learning_rate` | 0.003 | 0.0002 |" in card


def test_card_tells_no_time_and_no_speed(card):
    assert "second" not in card.lower()
    assert not re.search(r"20\d\d-\d\d-\d\d", card)


def test_every_table_row_has_the_columns_of_its_head(card):
    table: list[int] = []
    for line in card.splitlines():
        if not line.startswith("|"):
            table = []
            continue
        table.append(len(re.findall(r"(?<!\\)\|", line)))
        assert table[-1] == table[0], line


@pytest.mark.parametrize(
    "text", ["a | b", "`code`", "<script>", "[x](y)", "**b**", "# h", "line\n\n# two", "&lt;", "\\|"]
)
def test_text_from_outside_is_no_markdown(text):
    shown = str(markdown(text))
    assert "\n" not in shown
    assert not re.search(r"(?<!\\)(?:\\\\)*[|`<>*\[\]#]", shown)


def test_only_plain_web_addresses_become_links():
    assert "](" not in markdown_link(DataSource(name="x", url="javascript:alert(1)"))
    assert "](" not in markdown_link(DataSource(name="x", url="https://a.b/> <script>"))
    assert markdown_link(DataSource(name="x", url="https://a.b/c")) == "[x](<https://a.b/c>)"


def test_local_base_without_a_known_licence_claims_none(build_pipeline, pipeline_configs):
    base = pipeline_configs["base"].model_copy(update={"summary": Summary(sources=[DataSource(name="tiny")])})
    head = front_matter((build_pipeline(base=base).deliver().path / "README.md").read_text(encoding="utf-8"))
    assert head["license"] == "unknown"
    assert "base_model" not in head


def test_missing_evaluation_is_said_and_not_invented(build_pipeline, pipeline_configs):
    empty = pipeline_configs["evaluation"].model_copy(update={"files": {"evaluation.json": json.dumps({"models": {}})}})
    card = (build_pipeline(evaluation=empty).deliver().path / "README.md").read_text(encoding="utf-8")
    assert "No Japanese figure was measured" in card
    assert "forgetting is unknown" in card
    assert "| Japanese perplexity | lower | – | – | – | – |" in card


@pytest.mark.parametrize(
    ("after", "japanese", "english"),
    [
        (5.0, "Japanese improved", "improved as well"),
        (20.0, "became worse", "Forgetting"),
        (10.0, "not change", "not change"),
    ],
)
def test_sentences_follow_the_direction_of_the_figures(after, japanese, english):
    models = {
        m: {side: {"perplexity": p} for side in ("japanese", "english")} for m, p in (("base", 10.0), ("tuned", after))
    }
    comparison = Comparison(models, [], {})
    assert japanese in gain_sentence(comparison)
    assert english in forgetting_sentence(comparison)
