"""NeMo checkpoints: whole ones are told from damaged ones by what they hold, and the furthest by what it says."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nemo_folders
import pytest
import torch

from tasks.training import nemo_checkpoints
from tasks.training.inert_pickle import Inert, load_inert_torch, loads_inert

DATA = "weights/__0_0.distcp"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose names tell nothing: the furthest is neither last by name nor last by date."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    for name, step in (("b--loss=2.1-last", 20), ("z--loss=2.0", 30), ("a--loss=9.9-last", 10)):
        nemo_folders.write(folder / name, step, 8 * step)
    return folder


@pytest.fixture
def run(three: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(three, tmp_path / "checkpoints"))


def cut(path: Path, num_bytes: int) -> None:
    os.truncate(path, path.stat().st_size - num_bytes)


def blank(path: Path, begin: int) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:begin] + bytes(len(content) - begin))


def change(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 255
    path.write_bytes(content)


DAMAGES = {
    "data cut by a byte": (lambda p: cut(p / DATA, 1), "__0_0.distcp holds"),
    "data gone": (lambda p: (p / DATA).unlink(), "__0_0.distcp is missing, 2 tensors"),
    "data of full length but never written": (lambda p: blank(p / DATA, 0), "was never written"),
    "second half never written": (lambda p: blank(p / DATA, 9000), "was never written, or is cut short"),
    "no plan": (lambda p: (p / "weights/.metadata").unlink(), "lacks .metadata"),
    "plan cut": (lambda p: cut(p / "weights/.metadata", 40), ".metadata: no whole pickle"),
    "another plan": (lambda p: (p / "weights/.metadata").write_bytes(pickle.dumps([1])), "no storage entries"),
    "no seal": (lambda p: (p / "weights/metadata.json").unlink(), "lacks metadata.json"),
    "empty seal": (lambda p: (p / "weights/metadata.json").write_text(""), "metadata.json: JSONDecodeError"),
    "old format": (lambda p: (p / "weights/metadata.json").write_text('{"sharded_backend": "zarr"}'), "zarr"),
    "no common state": (lambda p: (p / "weights/common.pt").unlink(), "lacks common.pt"),
    "common state cut": (lambda p: cut(p / "weights/common.pt", 30), "common.pt: no whole file"),
    "common state changed": (lambda p: change(p / "weights/common.pt", 400), "common.pt: "),
    "no context": (lambda p: (p / "context/io.json").unlink(), "context/io.json is missing"),
    "context cut": (lambda p: cut(p / "context/io.json", 3), "context/io.json: "),
    "context of nothing": (lambda p: (p / "context/io.json").write_text("{}"), "describes nothing"),
    "marker": (lambda p: p.with_name(p.name + "-unfinished").touch(), "NeMo's marker"),
    "no weights": (lambda p: [f.unlink() for f in (p / "weights").iterdir()], "lacks metadata.json, .metadata, common"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_any_damage_is_named_and_leads_to_the_one_before(run, name):
    do, words = DAMAGES[name]
    do(run / "z--loss=2.0")
    told = []
    assert words in (nemo_checkpoints.damage(run / "z--loss=2.0") or "nothing")
    assert nemo_checkpoints.latest_complete(run, told.append) == run / "b--loss=2.1-last"
    assert len(told) == 1 and "z--loss=2.0" in told[0] and words in told[0]


def test_the_furthest_is_found_by_what_stands_inside_whatever_its_name_and_date(run):
    assert nemo_checkpoints.latest_complete(run, pytest.fail) == run / "z--loss=2.0"
    assert nemo_checkpoints.position(run / "z--loss=2.0") == (30, 240)
    (run / "a--loss=9.9-last").rename(run / "zzz-last")
    os.utime(run / "zzz-last" / DATA, (4e9, 4e9))
    assert nemo_checkpoints.latest_complete(run, pytest.fail) == run / "z--loss=2.0"


def test_of_equal_steps_the_one_with_more_samples_and_then_the_later_one_counts(tmp_path):
    few = nemo_folders.write(tmp_path / "z", 5, 40)
    many = nemo_folders.write(tmp_path / "a", 5, 80)
    assert nemo_checkpoints.latest_complete(tmp_path) == many
    os.utime(few / DATA, (4e9, 4e9))
    assert nemo_checkpoints.latest_complete(tmp_path) == many


def test_a_link_to_the_last_one_is_not_counted_twice_and_goes_with_it(run):
    (run / "linked-last").symlink_to(run / "a--loss=9.9-last")
    assert len(nemo_checkpoints.checkpoints(run)) == 3
    assert nemo_checkpoints.damage(run / "linked-last") is None
    nemo_checkpoints.prune(run, keep=2)
    assert not (run / "linked-last").is_symlink()


def test_a_folder_without_checkpoints_has_no_latest(tmp_path):
    (tmp_path / "notes" / "weights").mkdir(parents=True)
    assert nemo_checkpoints.latest_complete(tmp_path, pytest.fail) is None
    assert nemo_checkpoints.latest_complete(tmp_path / "absent", pytest.fail) is None
    assert nemo_checkpoints.prune(tmp_path, keep=1) == []


def test_prune_keeps_the_furthest_whole_ones_and_what_may_be_in_the_making(run):
    nemo_folders.write(run / "old-and-broken", 25)
    (run / "old-and-broken" / DATA).unlink()
    for file in (run / "old-and-broken").rglob("*"):
        os.utime(file, (1e9, 1e9))
    nemo_folders.write(run / "new", 40)
    (run / "new-unfinished").touch()
    (run / ".pruning-left").mkdir()
    gone = nemo_checkpoints.prune(run, keep=2)
    assert {path.name for path in gone} == {"a--loss=9.9-last", "old-and-broken"}
    assert {path.name for path in run.iterdir()} == {"b--loss=2.1-last", "z--loss=2.0", "new", "new-unfinished"}


def test_size_and_date_are_those_of_the_files(run):
    found = nemo_checkpoints.size(run / "z--loss=2.0")
    files = [file for file in (run / "z--loss=2.0").rglob("*") if file.is_file()]
    assert found.num_bytes == sum(file.stat().st_size for file in files) > 2 * 4 * 4096
    assert found.modified_at.timestamp() == pytest.approx(max(file.stat().st_mtime for file in files))


@pytest.mark.parametrize("moment", ["step=3-last/weights/common.pt", "step=2-last/weights/__*"])
def test_a_process_killed_in_the_middle_of_a_save_leaves_what_loads_or_is_named(tmp_path, moment):
    for folder in (tmp_path / str(attempt) for attempt in range(5)):
        process = subprocess.Popen([sys.executable, nemo_folders.__file__, str(folder)], stdout=subprocess.PIPE)
        while not list(folder.glob(moment)):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        damages = {path: nemo_checkpoints.damage(path) for path in nemo_checkpoints.checkpoints(folder)}
        latest = nemo_checkpoints.latest_complete(folder)
        assert latest in [path for path, damage in damages.items() if damage is None]
        step = nemo_checkpoints.position(latest).step
        for tensor in nemo_folders.read(latest, nemo_folders.MANY_FLOATS).values():
            assert torch.equal(tensor, torch.full_like(tensor, step))
        if any(damages.values()):
            return
    pytest.fail("each save was over before its process could be killed")


class Dangerous:
    def __reduce__(self):
        return os.mkdir, ("/tmp/opened-by-a-pickle",)


def test_nothing_that_a_pickle_names_is_called(tmp_path):
    value = loads_inert(pickle.dumps({"step": 3, "danger": Dangerous(), "path": Path("x")}))
    assert value["step"] == 3 and isinstance(value["danger"], Inert) and isinstance(value["path"], Inert)
    torch.save({"danger": Dangerous(), "rate": torch.ones(2)}, tmp_path / "x.pt")
    assert isinstance(load_inert_torch(tmp_path / "x.pt")["danger"], Inert)
    assert not Path("/tmp/opened-by-a-pickle").exists()


def test_neither_torch_nor_nemo_is_imported_to_judge_a_checkpoint(run):
    code = (
        "import sys; from pathlib import Path; from tasks.training import nemo_checkpoints\n"
        f"assert nemo_checkpoints.latest_complete(Path({str(run)!r})).name == 'z--loss=2.0'\n"
        "sys.exit(bool({'torch', 'nemo', 'prefect', 'numpy'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


MEGATRON = """
import io, os, sys, torch
def main(folder):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0", RANK="0", WORLD_SIZE="1")
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    torch.cuda.current_device, torch.cuda.synchronize = lambda: "cpu", lambda *unused: None
    from megatron.core import dist_checkpointing
    from megatron.core.dist_checkpointing import ShardedObject, ShardedTensor
    os.makedirs(folder + "/weights")
    state = {
        "w": ShardedTensor.from_rank_offsets("decoder.w", torch.randn(64, 32)),
        "extra": ShardedObject("decoder._extra_state", io.BytesIO(b"x"), (1,), (0,)),
        "optimizer": {"param_groups": [{"lr": 0.1, "betas": (0.9, 0.95)}]},
        "global_step": 7, "PreTrainingDataModule": {"consumed_samples": 56},
    }
    dist_checkpointing.save(state, folder + "/weights", content_metadata={"kind": "test"})
if __name__ == "__main__":
    main(sys.argv[1])
"""


def test_what_megatron_core_itself_saves_is_whole_until_it_is_cut(tmp_path):
    python = Path(__file__).parents[3] / ".venv-nemo" / "bin" / "python"
    if not python.is_file():
        pytest.skip("no NeMo environment (.venv-nemo) beside the tests")
    script, path = tmp_path / "save.py", tmp_path / "run" / "seven"
    script.write_text(MEGATRON)
    subprocess.run([python, script, path], check=True, capture_output=True, timeout=120)
    assert "context/io.json is missing" in (nemo_checkpoints.damage(path) or "")
    (path / "context").mkdir()
    (path / "context/io.json").write_text(json.dumps({"root": 1}))
    assert nemo_checkpoints.damage(path) is None
    assert nemo_checkpoints.position(path) == (7, 56)
    cut(next((path / "weights").glob("*.distcp")), 1)
    assert "bytes, expected" in (nemo_checkpoints.damage(path) or "")
