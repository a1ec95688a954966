"""`tsuzuki generate`: what a model, an adapter or a checkpoint of either backend answers, and how fast."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

from data_contracts.errors import DamagedArtifact, MissingArtifact, MissingPackage, SourceError, UsageError
from data_contracts.manifest import read_manifest
from flows.checkpoints import finding
from flows.checkpoints.finding import Checkpoint, describe
from infra.settings import available_cores, load_settings
from tasks.job import Event, run_worker
from tasks.models.folders import read_json
from tasks.runtime import Runtime, WandbConfig
from tasks.store import Store
from tasks.training import nemo_checkpoints
from tasks.training.tracking import tracking
from tasks.workspace import Workspace

PROMPTS = (
    "日本の四季について説明してください。",
    "人工知能の未来について教えてください。",
    "おいしい料理の作り方を教えてください。",
)
WANDB_PROJECT = "qwen25-demo-live"
WORKERS = {"hf": "tasks.evaluate.answering:answer", "nemo": "tasks.evaluate.nemo_answering:answer"}


class Source(NamedTuple):
    """What is loaded. folder: a Hugging Face model, or a NeMo checkpoint. adapter: a peft folder laid over it."""

    format: Literal["hf", "nemo"]
    folder: Path
    adapter: Path | None = None


class Options(NamedTuple):
    max_new_tokens: int = 512
    temperature: float = 0.1
    top_k: int = 1
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"


def find_source(model: Path, base: Path | None = None) -> Source:
    """What to load for a path: a model folder, an adapter, a NeMo checkpoint, or an artifact of such a kind.

    base: model of an adapter that does not say where its base lies. Raises SourceError for what is none of these,
    DamagedArtifact for what is not whole, UsageError where the base is missing.
    """
    model = model.absolute()
    found = describe(model) if model.is_dir() else None
    if found is None or found.kind == finding.TRANSFORMERS:
        what = "weights without a model's config" if found else "no model, adapter or NeMo checkpoint"
        raise SourceError(
            f"`{model}`: found {what}, expected one that can be loaded",
            hint="`tsuzuki checkpoints list` names those there are; a training that runs on leaves a whole model",
        )
    if found.damage:
        raise DamagedArtifact(f"`{model}`: {found.damage}", hint="take another one; see `tsuzuki checkpoints list`")
    if base and found.kind != finding.ADAPTER:
        raise UsageError(f"`--base`: given for a {found.kind}, expected an adapter", hint="leave it out")
    if found.kind in (finding.NEMO, finding.NEMO_ADAPTER):
        return Source("nemo", _with_its_base(found))
    if found.kind == finding.ADAPTER:
        return Source("hf", _base_of(found, base), model)
    return Source("hf", model / "model" if found.kind == finding.DELIVERY else model)


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file: one a line, or, where it is called *.jsonl, the `prompt` of each row.

    Raises UsageError for a file that cannot be read or holds none.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"`{path}`: {error}", hint="name a UTF-8 text file") from None
    prompts = [_prompt_of(path, line) for line in lines] if path.suffix == ".jsonl" else lines
    if not prompts:
        raise UsageError(f"`{path}`: found no prompt, expected one a line", hint="or name prompts with --prompt")
    return prompts


def generate(
    source: Source,
    prompts: list[str],
    options: Options,
    on_event: Callable[[Event], None],
    wandb: WandbConfig | None = None,
    wandb_folder: Path | None = None,
) -> None:
    """Runs the prompts in a worker; on_event gets its `loaded`, `warning` and `answer` events as they come.

    Every answer is also a step of a WandB run, where that is asked for; an offline run is left in
    `<wandb_folder>/wandb/`. Raises what the worker raises, and MissingPackage without an interpreter that has NeMo.
    """
    wandb = wandb or WandbConfig()
    with TemporaryDirectory(prefix="tsuzuki-") as folder:
        values = {**load_settings().model_dump(include=set(Runtime.model_fields)), "store": Path(folder)}
        workspace = Workspace(Path(folder) / "work", Runtime(**values))
        described = {"model": str(source.folder), "adapter": source.adapter and str(source.adapter)}
        described |= {"task": "generate", **options._asdict()}
        try:
            with tracking(wandb, wandb.project, described, workspace) as track:
                _run(source, prompts, options, workspace, _teller(on_event, track))
        finally:
            _keep_offline_runs(workspace.path, wandb_folder or Path.cwd())


def _run(
    source: Source, prompts: list[str], options: Options, workspace: Workspace, on_event: Callable[[Event], None]
) -> None:
    arguments = {
        "folder": str(source.folder),
        "adapter": source.adapter and str(source.adapter),
        "prompts": prompts,
        **options._asdict(),
        "cpu_threads": available_cores(),
    }
    python = _nemo_python(workspace.runtime) if source.format == "nemo" else None
    run_worker(WORKERS[source.format], arguments, workspace, on_event, python)


def _nemo_python(runtime: Runtime) -> Path:
    if runtime.nemo_python is None:
        raise MissingPackage(
            "`TSUZUKI_NEMO_PYTHON`: is not set, expected an interpreter with NeMo for a NeMo checkpoint",
            hint="`make nemo-env` makes one; or export the checkpoint to a Hugging Face folder first",
        )
    return runtime.nemo_python.absolute()


def _teller(on_event: Callable[[Event], None], track: Callable[[int, dict[str, Any]], None]) -> Callable[[Event], None]:
    """Passes events on, those of answers with their speed, and to WandB as well."""
    loaded: Event = {}
    num_answers = 0

    def tell(event: Event) -> None:
        nonlocal num_answers
        if event["event"] == "loaded":
            loaded.update({f"load_{name}" if name == "seconds" else name: value for name, value in event.items()})
            del loaded["event"]
        if event["event"] == "answer":
            num_answers += 1
            speed = event["num_tokens"] / event["seconds"] if event["seconds"] else 0.0
            event = {**event, **loaded, "tokens_per_second": speed, "num_characters": len(event["answer"])}
            track(num_answers, {name: value for name, value in event.items() if name != "event"})
        on_event(event)

    return tell


def _keep_offline_runs(workspace: Path, folder: Path) -> None:
    for run in workspace.glob("logs/wandb/offline-run-*"):
        (folder / "wandb").mkdir(parents=True, exist_ok=True)
        shutil.move(run, folder / "wandb")


def _with_its_base(found: Checkpoint) -> Path:
    """Folder of a NeMo checkpoint. Raises DamagedArtifact for an adapter's one whose base is not where it says."""
    if found.kind == finding.NEMO_ADAPTER:
        try:
            base = nemo_checkpoints.adapter_base(found.path)
            damage = f"`{base}`: {lack}" if (lack := nemo_checkpoints.damage(base)) else None
        except (OSError, ValueError) as error:
            damage = str(error)
        if damage:
            raise DamagedArtifact(
                f"`{found.path}`: its base cannot be used: {damage}",
                hint="NeMo loads it from where weights/adapter_metadata.json says; put it there, or note another place",
            )
    return found.path


def _base_of(adapter: Checkpoint, base: Path | None) -> Path:
    """Folder of the model that an adapter was trained on: as named, as its manifest says, or as its config says."""
    hint = "name that model with --base"
    if base is None and adapter.sealed:
        reference = read_manifest(adapter.path).inputs.get("model")
        if reference and reference.stage and reference.key:
            base = Store(adapter.path.parent.parent).locate(reference.stage, reference.key, reference.digest)
    if base is None:
        named = read_json(adapter.path / "adapter_config.json").get("base_model_name_or_path") or "nothing"
        places = [place for place in (adapter.path / str(named), Path(str(named))) if place.is_dir()]
        if not places:
            raise MissingArtifact(f"`{adapter.path}`: its base is called `{named}`, which is no folder here", hint=hint)
        base = places[0]
    source = find_source(base)
    if source.format != "hf" or source.adapter:
        raise UsageError(f"`{base}`: is no Hugging Face model, expected the base of `{adapter.path}`", hint=hint)
    return source.folder


def _prompt_of(path: Path, line: str) -> str:
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, TypeError, KeyError):
        prompt = None
    if not isinstance(prompt, str):
        raise UsageError(f"`{path}`: found `{line[:60]}`, expected a row with a `prompt`", hint="or call it *.txt")
    return prompt
