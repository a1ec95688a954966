"""The tiny model: equal bytes from equal configs, and a tokenizer that every reader understands alike."""

import json
from pathlib import Path

import fastokens
import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from data_contracts.errors import ModelError
from data_contracts.files import hash_file
from tasks.models.config import ModelConfig, TinyConfig
from tasks.models.importing import import_base
from tasks.models.loading import is_tied, load_model, load_tokenizer, num_parameters
from tasks.models.tiny import random_model, save_tokenizer, train_tokenizer
from tasks.runtime import Runtime
from tasks.workspace import Workspace

GOLDEN = Path(__file__).parents[2] / "golden" / "base_model.json"
TEXTS = ["東京都は日本の首都である。大阪府の庁舎は大阪市にある。コンピューターで計算する。"] * 3 + ["One, two: 1868年!"]
HARD_TEXTS = [
    "半角ｶﾀｶﾅと全角ＡＢＣ、㍿、が（結合濁点）。",
    "\u3000全角空白で始まる。\r\n\r\n改行\tタブ  空白 ",
    "絵文字🗾👨‍👩‍👧と𠮷野家、〆切、人々、ヶ月。",
    "",
    "It's 3.14, isn't it?  <b>x</b>",
    "0123456789０１２３",
]
CONFIG = TinyConfig(
    vocabulary_size=325,
    tokenizer_documents=60,
    hidden_size=16,
    num_layers=1,
    num_heads=2,
    num_key_value_heads=1,
    initializer_range=0.02,
)


def write(folder: Path, config: TinyConfig = CONFIG) -> Path:
    folder.mkdir()
    save_tokenizer(train_tokenizer(TEXTS, config.vocabulary_size), config, folder)
    random_model(config).save_pretrained(folder)
    return folder


def test_two_models_of_one_config_have_equal_bytes_and_match_the_golden_digests(tmp_path):
    digests = []
    for name in ("first", "second"):
        folder = write(tmp_path / name)
        digests.append({p.name: hash_file(p).sha256 for p in sorted(folder.iterdir())})
    assert digests[0] == digests[1]
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert {name: digests[0][name] for name in golden} == golden, "bytes changed: bump the revision of `base_model`"


def test_stage_makes_the_same_model_twice_from_the_bundled_sample(tmp_path):
    digests = []
    for name in ("first", "second"):
        workspace = Workspace(tmp_path / name, Runtime(store=tmp_path / "store"))
        summary = import_base(ModelConfig(tiny=CONFIG, cpu_threads=1), workspace)
        digests.append([(entry.name, entry.sha256) for entry in workspace.files()])
        assert summary.proofs["weights"] == "random" and summary.proofs["must_be_pretrained"] is False
        assert summary.counts["vocabulary"] == summary.counts["tokenizer_tokens"] == CONFIG.vocabulary_size
        assert summary.sources[0].licence == "Apache-2.0"
    assert digests[0] == digests[1]
    assert [name for name, _ in digests[0]] == [
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    ]  # fmt: skip


def test_another_seed_gives_other_weights_and_the_same_tokenizer(tmp_path):
    first, second = write(tmp_path / "a"), write(tmp_path / "b", CONFIG.model_copy(update={"seed": 1}))
    same = {p.name: p.read_bytes() == (second / p.name).read_bytes() for p in first.iterdir()}
    assert not same["model.safetensors"] and same["tokenizer.json"] and same["config.json"]


def test_default_model_has_two_to_five_million_parameters_and_tied_embeddings():
    model = random_model(TinyConfig())
    assert 2_000_000 < num_parameters(model) < 5_000_000
    assert is_tied(model)


def test_untied_model_loads_without_a_gap(tmp_path):
    folder = write(tmp_path / "untied", CONFIG.model_copy(update={"tie_word_embeddings": False}))
    assert not is_tied(load_model(folder))


def test_every_reader_gives_the_same_ids_on_hard_text_and_decodes_it_back(tmp_path):
    folder = write(tmp_path / "model")
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    fast = fastokens.Tokenizer.from_file(str(folder / "tokenizer.json"))
    ours = load_tokenizer(folder)
    automatic = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for text in TEXTS + HARD_TEXTS:
        ids = plain.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, add_special_tokens=False) == ids == automatic.encode(text), text
        assert list(fast.encode(text).ids) == ids, text
        assert plain.decode(ids) == plain.normalizer.normalize_str(text)


def test_control_tokens_are_the_first_ids_and_end_and_padding_are_named(tmp_path):
    tokenizer = load_tokenizer(write(tmp_path / "model"))
    assert tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]) == [0, 1, 2]
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == 0
    assert tokenizer.model_max_length == CONFIG.max_position_embeddings


def test_no_token_crosses_a_change_of_script():
    tokenizer = train_tokenizer(["東京都は札幌市である。カナ"] * 9, 289)
    pieces = [tokenizer.decode([i]) for i in tokenizer.encode("東京都は札幌市である。札幌市はカナである").ids]
    assert "|".join(pieces) == "東京都|は|札幌市|である|。|札幌市|は|カナ|である"


def test_too_little_text_for_the_vocabulary_is_said():
    with pytest.raises(ModelError, match="expected 5000"):
        train_tokenizer(["短い。"], 5000)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="multiple of 2 x num_heads"):
        ModelConfig(tiny=TinyConfig(hidden_size=100, num_heads=6))
