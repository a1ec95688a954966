"""Recipe, file and --set make one validated config; every refusal names the key and the choices."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from data_contracts.errors import ConfigError, UsageError
from flows.configuration import load_config
from flows.recipes import RECIPES, PipelineConfig


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_show_prints_is_accepted_and_changes_nothing(recipe, tmp_path):
    config = load_config(recipe)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json"), allow_unicode=True), encoding="utf-8")
    assert load_config(recipe, file) == config


def test_the_workshop_recipe_holds_the_numbers_of_the_brief():
    config = load_config("workshop-qwen25-0.5b")
    folders = [folder.path for folder in config.source.folders]
    assert (config.source.kind, config.source.max_documents, folders) == ("llm_jp", 100_000, ["ja/ja_wiki"])
    bounds = {f.filter: f for f in config.filters.cascade}
    assert (bounds["length"].min_characters, bounds["length"].max_characters) == (100, 4096)
    assert (bounds["language"].languages, bounds["language"].min_probability) == (("ja",), 0.8)
    assert config.dedup.fuzzy.jaccard_threshold == 0.8
    assert config.split.validation_share == 0.05
    pretrain, lora = config.pretrain, config.lora
    assert (pretrain.sequence_length, pretrain.micro_batch_size, pretrain.global_batch_size) == (2048, 4, 64)
    assert (pretrain.max_steps, lora.max_steps, lora.rank, lora.alpha) == (1000, 500, 16, 32)
    assert pretrain.expect_pretrained
    assert config.model.source == "hf://Qwen/Qwen2.5-0.5B"
    assert config.binarize.prefix == "ja_wiki_"


def test_one_epoch_of_ja_wiki_is_left_to_the_token_files():
    config = load_config("ja-wiki-qwen25-0.5b")
    assert (config.pretrain.max_steps, config.pretrain.epochs) == (None, 1.0)
    assert config.source.max_documents is None


def test_later_words_win_over_the_file_and_the_file_over_the_recipe(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("pretrain: {max_steps: 7, seed: 5}\n", encoding="utf-8")
    config = load_config("demo", file, ("pretrain.max_steps=9", "pretrain.learning_rate=1e-3"))
    assert (config.pretrain.max_steps, config.pretrain.seed, config.pretrain.learning_rate) == (9, 5, 0.001)


def test_another_kind_of_source_starts_anew_and_keeps_what_all_sources_share():
    words = ("source.max_documents=5", "source.kind=local", "source.path=somewhere")
    source = load_config("demo", None, words).source
    assert (source.kind, source.path, source.max_documents) == ("local", Path("somewhere"), 5)


def test_an_item_of_a_list_is_named_by_its_index():
    assert load_config("demo", None, ("filters.cascade.0.min_characters=7",)).filters.cascade[0].min_characters == 7


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("pretrain.max_step=3", "no such key, expected one of .*max_steps"),
        ("nowhere.x=3", "no such key, expected one of .*pretrain"),
        ("pretrain.max_steps=many", "`pretrain.max_steps`: found 'many'"),
        ("pretrain.max_steps=-1", "greater than or equal to 1"),
        ("source.kind=tape", "Input tag 'tape'.*'sample', 'local', 'llm_jp', 'huggingface'"),
        ("filters.cascade.99.min_characters=1", "expected an index below"),
        ("max_steps", "expected KEY=VALUE"),
        ("pretrain.max_steps=[", "expected a YAML value"),
    ],
)
def test_a_wrong_word_is_one_clear_error(word, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_config("demo", None, (word,))
    assert error.value.exit_code == 2


def test_a_close_key_is_suggested():
    with pytest.raises(ConfigError) as error:
        load_config("demo", None, ("pretrain.max_step=3",))
    assert error.value.hint == "did you mean `pretrain.max_steps`?"


@pytest.mark.parametrize("content", ["a: [", "- 1\n- 2\n", "nowhere: 1\n", "!!python/object/apply:os.getcwd []\n"])
def test_a_file_that_is_no_config_is_refused(tmp_path, content):
    file = tmp_path / "c.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError):
        load_config("demo", file)


def test_a_hostile_file_runs_nothing_and_is_refused_in_a_few_words(tmp_path):
    file, witness = tmp_path / "hostile.yaml", tmp_path / "続き"
    file.write_text(
        f"source: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{witness}']]"
    )
    with pytest.raises(ConfigError, match="could not determine a constructor"):
        load_config("demo", file)
    assert not witness.exists()
    levels = "abcdefghij"
    laughs = [f"{one}: &{one} [{', '.join([f'*{before}'] * 9)}]" for before, one in pairwise(levels)]
    file.write_text("\n".join(["a: &a [笑]", *laughs]), encoding="utf-8")
    with pytest.raises(ConfigError, match="Extra inputs") as refused:
        load_config("demo", file)
    assert len(str(refused.value)) < 10_000


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(UsageError, match="expected one of demo, workshop"):
        load_config("domo")


def test_a_config_that_names_its_recipe_is_filled_from_it():
    config = PipelineConfig.model_validate({"recipe": "demo", "pretrain": {"max_steps": 3}})
    assert config.pretrain.max_steps == 3
    assert config.source == load_config("demo").source


def _fields(model, path=""):
    for name, field in model.model_fields.items():
        yield f"{path}{name}", field
        for inner in getattr(field.annotation, "__args__", (field.annotation,)):
            if hasattr(inner, "model_fields"):
                yield from _fields(inner, f"{path}{name}.")


def test_every_field_is_described():
    undescribed = [
        name
        for name, field in _fields(PipelineConfig)
        if not field.description and not name.endswith(("kind", "filter"))
    ]
    assert not undescribed
