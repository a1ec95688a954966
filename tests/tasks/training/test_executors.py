"""The settings of executors, their examples, and what each would submit."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from data_contracts.errors import ConfigError, UsageError
from flows.configuration import load_config
from flows.running import runtime_of
from infra.settings import load_settings
from tasks.job import run_worker
from tasks.runtime import Runtime
from tasks.training import executors
from tasks.training.executors import Inline, Slurm, SshTunnel, Torchrun, executor_of
from tasks.workspace import Workspace

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted((ROOT / "infra" / "executors").glob("*.yaml"))
NEMO_PYTHON = ROOT / ".venv-nemo" / "bin" / "python"
TOKENS = {"HF_TOKEN": "hf_geheim-0123456789", "WANDB_API_KEY": "wandb-geheim-0123456789"}
needs_nemo = pytest.mark.skipif(not NEMO_PYTHON.is_file(), reason="no environment with NeMo-Run: `make nemo-env`")


def example(name: str) -> dict:
    return yaml.safe_load((ROOT / "infra" / "executors" / f"{name}.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid_and_survive_json(path):
    block = executor_of(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert executor_of(json.loads(block.model_dump_json())) == block
    assert executor_of(block.model_dump(mode="json")) == block


def test_there_is_an_example_of_every_kind_but_inline():
    kinds = {yaml.safe_load(path.read_text(encoding="utf-8"))["kind"] for path in EXAMPLES}
    assert kinds == set(executors.KINDS) - {"inline"}


def test_layouts_are_those_of_the_examples():
    layouts = {path.stem: executor_of(yaml.safe_load(path.read_text("utf-8"))).layout for path in EXAMPLES}
    assert {name: (layout.nodes, layout.processes_per_node) for name, layout in layouts.items()} == {
        "docker-nemo-25.04": (1, 8),
        "skypilot": (2, 8),
        "slurm": (2, 8),
        "torchrun-8gpu": (1, 8),
    }
    assert Inline().layout.nodes * Inline().layout.processes_per_node == 1


def test_every_field_is_described():
    blocks = [block for block in vars(executors).values() if isinstance(block, type) and issubclass(block, BaseModel)]
    blocks = [block for block in blocks if block not in (BaseModel, executors.Layout)]
    assert len(blocks) >= 6
    assert [f"{b.__name__}.{n}" for b in blocks for n, field in b.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({}, "`executor.kind`: found None, expected one of inline, torchrun", "infra/executors/"),
        ({"kind": "kubernetes"}, "found 'kubernetes'", "infra/executors/"),
        ({"kind": "slurm"}, "`executor.slurm.account`: Field required", "fields of slurm:"),
        ({"kind": "torchrun", "num_gpus": 0}, "`executor.torchrun.num_gpus`: found 0", "infra/executors/"),
        ({"kind": "torchrun", "num_gpus": 1, "gpus": 2}, "`executor.torchrun.gpus`: found 2", "num_gpus"),
        ({"kind": "docker", "mounts": ["/data"]}, "SOURCE:TARGET", "example of docker"),
        ({"kind": "slurm", "account": "a", "time": "4 hours"}, "`executor.slurm.time`: found '4 hours'", "slurm"),
        ({"kind": "slurm", "account": "a", "tunnel": {"host": "h", "user": "u"}}, "a tunnel needs `job_dir`", "slurm"),
        ({"kind": "slurm", "account": "a", "job_dir": "jobs"}, "absolute path", "slurm"),
        ({"kind": "skypilot", "cloud": "aws", "accelerators": "H100"}, "found 'H100'", "skypilot"),
    ],
)
def test_what_a_block_refuses_is_named_with_a_hint(values, message, hint):
    with pytest.raises(ConfigError) as refused:
        executor_of(values)
    assert message in refused.value.message
    assert hint in refused.value.hint


@pytest.mark.parametrize("name", ["HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "db_password"])
def test_a_secret_in_a_block_is_refused_and_not_shown(name):
    with pytest.raises(ConfigError, match="would be written into scripts") as refused:
        executor_of({"kind": "torchrun", "num_gpus": 1, "environment": {name: "geheim"}})
    assert "geheim" not in str(refused.value)
    harmless = {"TOKENIZERS_PARALLELISM": "false", "NCCL_IB_PKEY": "1", "KEYBOARD": "jp"}
    executor_of({"kind": "torchrun", "num_gpus": 1, "environment": harmless})


def test_the_setting_is_a_file_or_json_and_reaches_the_runtime(tmp_path, monkeypatch):
    monkeypatch.delenv("TSUZUKI_EXECUTOR", raising=False)
    config = load_config("demo")
    assert runtime_of(config).executor == Inline()
    monkeypatch.setenv("TSUZUKI_EXECUTOR", str(ROOT / "infra" / "executors" / "torchrun-8gpu.yaml"))
    assert runtime_of(config).executor == Torchrun(kind="torchrun", num_gpus=8, environment={"NCCL_DEBUG": "WARN"})
    monkeypatch.setenv("TSUZUKI_EXECUTOR", '{"kind": "torchrun", "num_gpus": 2}')
    assert runtime_of(config).executor == Torchrun(kind="torchrun", num_gpus=2)
    for value, told in {"nowhere.yaml": "No such file", "[1]": "No such file", "{": "expected JSON"}.items():
        monkeypatch.setenv("TSUZUKI_EXECUTOR", value)
        with pytest.raises(UsageError, match=re.escape(told)):
            load_settings()
    (tmp_path / "list.yaml").write_text("- kind: slurm\n", encoding="utf-8")
    monkeypatch.setenv("TSUZUKI_EXECUTOR", str(tmp_path / "list.yaml"))
    with pytest.raises(UsageError, match="found a list there"):
        load_settings()


@needs_nemo
def test_dry_runs_say_what_would_be_submitted_and_no_token(tmp_path, monkeypatch):
    """One worker for all of them."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "support"))
    for name, value in TOKENS.items():
        monkeypatch.setenv(name, value)
    bare = Slurm(kind="slurm", account="a", gpus_per_node=4, gres=True, requeue=False, max_retries=3, exclusive=False)
    ssh = bare.model_copy(update={"tunnel": SshTunnel(host="login", user="me"), "job_dir": Path("/lustre/me/jobs")})
    elsewhere = {**example("skypilot"), "storage_mounts": {}}
    blocks = [example("torchrun-8gpu"), example("docker-nemo-25.04"), example("slurm"), example("skypilot"), elsewhere]
    blocks += [bare.model_dump(mode="json"), ssh.model_dump(mode="json")]
    arguments = {"job_path": "/mnt/tsuzuki-store/.partial/pretrain-0/.scratch/job.json", "executors": blocks}
    workspace = Workspace(tmp_path / "w", Runtime(store=tmp_path))
    texts = run_worker("stand_in_process:dry_runs", arguments, workspace, python=NEMO_PYTHON)
    assert not any(token in text for text in texts for token in TOKENS.values())
    torchrun, docker, slurm, skypilot, skypilot_without_store, bare_slurm, ssh_slurm = texts
    check_torchrun(torchrun)
    check_docker(docker)
    check_slurm(slurm)
    check_skypilot(skypilot, skypilot_without_store)
    check_bare_slurm(bare_slurm)
    assert "#SBATCH --output=/lustre/me/jobs/tsuzuki/tsuzuki_" in ssh_slurm


PROCESS = (
    "-m tasks.training.rank_process tasks.training.nemo_process"
    " /mnt/tsuzuki-store/.partial/pretrain-0/.scratch/job.json"
)


def check_torchrun(text: str) -> None:
    assert text.startswith("NCCL_DEBUG=WARN torchrun ")
    assert "--nnodes 1 --nproc-per-node 8" in text
    assert PROCESS in text


def check_docker(text: str) -> None:
    options = [line.strip(" \\") for line in text.splitlines()]
    assert options[0] == "docker run --detach --rm"
    expected = ["--gpus 8", "--runtime nvidia", "--ipc host", "--shm-size 64g", "--ulimit memlock=-1"]
    expected += ["--volume /mnt/tsuzuki-store:/mnt/tsuzuki-store", "--env HF_TOKEN", "--env WANDB_API_KEY"]
    assert set(expected) <= set(options)
    assert options[-2] == "nvcr.io/nvidia/nemo:25.04"
    assert "--nproc-per-node 8" in options[-1]
    assert PROCESS in options[-1]


def check_slurm(text: str) -> None:
    flags = set(re.findall(r"^#SBATCH --(.*)$", text, re.MULTILINE))
    expected = {"account=my_account", "partition=batch", "nodes=2", "gpus-per-node=8", "ntasks-per-node=1"}
    assert expected | {"time=04:00:00", "requeue", "exclusive", "mail-type=FAIL"} <= flags
    assert text.startswith("sbatch --requeue --parsable")
    [srun] = [line for line in text.splitlines() if line.startswith("srun --output")]
    assert "--container-image nvcr.io#nvidia/nemo:25.04" in srun
    assert "--container-mounts /lustre/models:/lustre/models:ro,/mnt/tsuzuki-store:/mnt/tsuzuki-store," in srun
    assert "--container-env HF_TOKEN,WANDB_API_KEY" in srun
    assert "--rdzv-endpoint $head_node_ip:29500" in srun
    assert "--nnodes 2 --nproc-per-node 8" in srun
    assert PROCESS in srun
    assert "\nexport NCCL_IB_SL=1\n" in text


def check_bare_slurm(text: str) -> None:
    flags = set(re.findall(r"^#SBATCH --(.*)$", text, re.MULTILINE))
    assert "gres=gpu:4" in flags
    assert not flags & {"requeue", "exclusive", "gpus-per-node=4"}
    assert "\nscontrol update JobId=$SLURM_JOB_ID Requeue=0\n" in text
    assert "export TORCHX_MAX_RETRIES=3" in text
    assert f"export PATH={NEMO_PYTHON.parent}:$PATH" in text
    assert "--container" not in text
    assert "--chdir /mnt/tsuzuki-store/.partial/pretrain-0/.scratch/nemo-run/experiments/tsuzuki/" in text


def check_skypilot(text: str, without_store: str) -> None:
    if text.startswith("MissingPackage"):
        assert "`executor skypilot`: needs the package skypilot beside NeMo, found none" in text
        assert re.search(r"hint: \S+ -m pip install skypilot$", text)
        return
    task = yaml.safe_load(text)
    assert task["num_nodes"] == 2
    assert task["resources"]["accelerators"] == {"H100": 8}
    assert "docker:nvcr.io/nvidia/nemo:25.04" in json.dumps(task["resources"]["image_id"])
    assert PROCESS in task["run"]
    assert "/mnt/tsuzuki-store" in task["file_mounts"]
    assert "expected one at /mnt/tsuzuki-store" in without_store


def test_the_command_prints_the_block_in_force(tsuzuki, monkeypatch):
    monkeypatch.delenv("TSUZUKI_EXECUTOR", raising=False)
    assert yaml.safe_load(tsuzuki("executor").stdout) == {"kind": "inline"}
    assert "nothing is submitted" in tsuzuki("executor", "--dry-run").stdout
    monkeypatch.setenv("TSUZUKI_EXECUTOR", str(ROOT / "infra" / "executors" / "slurm.yaml"))
    printed = yaml.safe_load(tsuzuki("executor").stdout)
    assert executor_of(printed) == executor_of(example("slurm"))
    monkeypatch.delenv("TSUZUKI_NEMO_PYTHON", raising=False)
    assert "hint: make nemo-env" in tsuzuki("executor", "--dry-run", code=2).stderr


@needs_nemo
def test_the_command_prints_what_would_be_submitted(tsuzuki, monkeypatch):
    monkeypatch.setenv("TSUZUKI_NEMO_PYTHON", str(NEMO_PYTHON))
    monkeypatch.setenv("TSUZUKI_STORE", "/mnt/store")
    monkeypatch.setenv("TSUZUKI_EXECUTOR", '{"kind": "torchrun", "num_gpus": 2}')
    assert "--nproc-per-node 2" in (text := tsuzuki("executor", "--dry-run").stdout)
    assert "/mnt/store/.partial/pretrain-KEY/.scratch/JOB.json" in text
