"""A training as a job of NeMo-Run 0.11.1: its executor, its code, its experiment, and the text that it submits."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data_contracts.errors import ConfigError, MissingPackage
from tasks.training.executors import TOKENS, Docker, Skypilot, Slurm, Torchrun
from tasks.training.nemo_compat import stub_leptonai

PROJECT_ROOT = Path(__file__).resolve().parents[2]
CODE = ("tasks", "data_contracts", "infra")
"""Packages that the processes of a training import."""
TITLE, JOB_NAME = "tsuzuki", "training"
Launched = Torchrun | Docker | Slurm | Skypilot


@contextlib.contextmanager
def experiment(arguments: list[str], settings: Launched, home: Path, store: Path) -> Iterator[Any]:
    """A NeMo-Run experiment with one job, `python -m tasks.training.rank_process ARGUMENTS` under torchrun.

    home: where NeMo-Run keeps scripts and logs. store: the folder that the processes must see at its own path. Nothing
    is started yet. Raises MissingPackage, and ConfigError for a store that SkyPilot's machines would not see.
    """
    _require_packages(settings)
    _check_paths(arguments, settings)
    home.mkdir(parents=True, exist_ok=True)
    folder = PROJECT_ROOT if isinstance(settings, Torchrun) else _code_repository(home / "code")
    run = _nemo_run(home)
    script = run.Script(path="tasks.training.rank_process", m=True, entrypoint="python", args=arguments)
    # NeMo-Run starts processes in, and packs code from, the folder that it is called in.
    with (
        contextlib.chdir(folder),
        run.Experiment(
            TITLE,
            base_dir=str(home),
            clean_mode=True,
            enable_goodbye_message=False,
            skip_status_at_exit=True,
            log_level="WARNING",
        ) as made,
    ):
        made.add(script, _executor(run, settings, home, store), name=JOB_NAME)
        yield made


def earlier_experiment(name: str, home: Path) -> Any:
    """An experiment that another process started; None if it never came to that, or its job died with it."""
    jobs = home / "experiments" / TITLE / name / "_TASKS"
    if not jobs.exists():
        return None
    found = _nemo_run(home).Experiment.from_id(name)
    return None if isinstance(found.jobs[0].executor, found._RUNNER_DEPENDENT_EXECUTORS) else found


def start(made: Any) -> None:
    """Submits the job; leaving the experiment does not wait for it."""
    with _tokens_for_containers():
        made.run(detach=True)
    made.detach = True


def submitted_text(arguments: list[str], settings: Launched, home: Path, store: Path) -> str:
    """What NeMo-Run would submit: a command, an sbatch script or a SkyPilot task; nothing is left on disk."""
    with tempfile.TemporaryDirectory() as aside:
        with experiment(arguments, settings, Path(aside), store) as made:
            made.dryrun(log=False)
            planned = made.jobs[0]._dryrun_info
        return _text(planned, settings).replace(aside, str(home))


def log_files(made: Any) -> list[Path]:
    """Logs of the job on this machine: those of its processes before those of its script, the newest first."""
    folder, found = Path(made.jobs[0].executor.experiment_dir), []
    for pattern in ("combined.log", "log*.out", "sbatch*.out"):
        logs = [path for path in folder.rglob(pattern) if path.stat().st_size]
        found += sorted(logs, key=lambda path: path.stat().st_mtime, reverse=True)
    return found


def _nemo_run(home: Path) -> Any:
    """NeMo-Run, keeping its records below `home`."""
    os.environ.setdefault("NEMORUN_HOME", str(home))
    stub_leptonai()
    import nemo_run  # pyright: ignore[reportMissingImports]
    from nemo_run.config import set_nemorun_home  # pyright: ignore[reportMissingImports]

    set_nemorun_home(str(home))
    return nemo_run


def _require_packages(settings: Launched) -> None:
    needed = {"docker": "docker"} if isinstance(settings, Docker) else {}
    needed = {"sky": "skypilot"} if isinstance(settings, Skypilot) else needed
    for module, package in {"nemo_run": "nemo_run==0.11.1", **needed}.items():
        if find_spec(module) is None:
            raise _missing(settings, package, "found none")
    if isinstance(settings, Skypilot):
        try:
            import_module("sky.backends")
        except ImportError as error:  # NeMo-Run would say that it is not installed
            raise _missing(settings, "skypilot", f"and importing it failed: {error}") from error


def _missing(settings: Launched, package: str, found: str) -> MissingPackage:
    return MissingPackage(
        f"`executor {settings.kind}`: needs the package {package} beside NeMo, {found}",
        hint=f"{sys.executable} -m pip install {package}",
    )


def _check_paths(arguments: list[str], settings: Launched) -> None:
    """NeMo-Run replaces its container's folder in scripts for no container, wherever in a path it stands."""
    changed = [argument for argument in arguments if "/nemo_run" in argument]
    if changed and isinstance(settings, Slurm) and settings.container_image is None:
        raise ConfigError(
            f"`{changed[0]}`: found /nemo_run in it, which NeMo-Run replaces in scripts that use no container",
            hint="put the store elsewhere, or name a `container_image`",
        )


def _executor(run: Any, settings: Launched, home: Path, store: Path) -> Any:
    if isinstance(settings, Torchrun):
        path = str(Path(sys.executable).parent)
        return run.LocalExecutor(
            ntasks_per_node=settings.num_gpus, launcher="torchrun", env_vars={"PATH": path, **settings.environment}
        )
    made = {Docker: _docker, Slurm: _slurm, Skypilot: _skypilot}[type(settings)](run, settings, home, store)
    made.packager = run.GitArchivePackager()
    made.launcher = "torchrun"
    return made


def _docker(run: Any, settings: Docker, home: Path, store: Path) -> Any:
    user = {"user": settings.user} if settings.user else {}
    home_there = {"HOME": "/tmp", "USER": "tsuzuki"} if settings.user else {}  # noqa: S108 - of the container
    return run.DockerExecutor(
        container_image=settings.image,
        ntasks_per_node=settings.num_gpus,
        num_gpus=settings.num_gpus,
        runtime=settings.runtime,
        shm_size=settings.shm_size,
        ipc_mode=settings.ipc_mode,
        ulimits=list(settings.ulimits),
        network=settings.network,
        volumes=[*settings.mounts, f"{store}:{store}"],
        additional_kwargs=user,
        env_vars={**home_there, **settings.environment},
    )


def _slurm(run: Any, settings: Slurm, home: Path, store: Path) -> Any:
    in_container = settings.container_image is not None
    # What is neither in a container nor found by `setup_lines` is run by this machine's interpreter.
    path = {} if in_container else {"PATH": f"{Path(sys.executable).parent}:$PATH"}
    no_requeue = () if settings.requeue else ("scontrol update JobId=$SLURM_JOB_ID Requeue=0",)
    return run.SlurmExecutor(
        account=settings.account,
        partition=settings.partition,
        nodes=settings.nodes,
        ntasks_per_node=1,
        torchrun_nproc_per_node=settings.gpus_per_node,
        gpus_per_node=None if settings.gres else settings.gpus_per_node,
        gres=f"gpu:{settings.gpus_per_node}" if settings.gres else None,
        time=settings.time,
        exclusive=settings.exclusive or None,
        container_image=settings.container_image,
        container_mounts=[*settings.mounts, f"{store}:{store}"] if in_container else [],
        container_env=([name for name in TOKENS if name in os.environ] or None) if in_container else None,
        additional_parameters={**({"requeue": True} if settings.requeue else {}), **settings.sbatch},
        setup_lines="\n".join((*no_requeue, *settings.setup_lines)) or None,
        retries=settings.max_retries,
        env_vars={**path, **{name: shlex.quote(value) for name, value in settings.environment.items()}},
        tunnel=_tunnel(run, settings, home),
        poll_estimated_start_time=False,
    )


def _tunnel(run: Any, settings: Slurm, home: Path) -> Any:
    if settings.tunnel is None:
        return run.LocalTunnel(job_dir=str(home / "experiments"))
    tunnel = settings.tunnel
    return run.SSHTunnel(
        job_dir=str(settings.job_dir),
        host=tunnel.host,
        user=tunnel.user,
        port=tunnel.port,
        identity=str(tunnel.identity.expanduser()) if tunnel.identity else None,
        pre_command=tunnel.pre_command,
    )


def _skypilot(run: Any, settings: Skypilot, home: Path, store: Path) -> Any:
    if not any(store.is_relative_to(target) for target in settings.storage_mounts):
        raise ConfigError(
            f"`executor.storage_mounts`: found {', '.join(settings.storage_mounts) or 'none'}, expected one at {store}",
            hint="put the store into a bucket that is mounted at the same path here and on the machines of the cloud",
        )
    accelerator, _, number = settings.accelerators.rpartition(":")
    return run.SkypilotExecutor(
        infra=settings.cloud,
        gpus=accelerator,
        gpus_per_node=int(number),
        num_nodes=settings.num_nodes,
        container_image=settings.image,
        setup=settings.setup or None,
        cluster_name=settings.cluster_name,
        use_spot=settings.use_spot or None,
        disk_size=settings.disk_size_gb,
        file_mounts=dict(settings.file_mounts),
        storage_mounts={target: dict(mount) for target, mount in settings.storage_mounts.items()},
        idle_minutes_to_autostop=settings.idle_minutes_to_autostop,
        autodown=settings.autodown,
        env_vars=dict(settings.environment),
    )


def _code_repository(folder: Path) -> Path:
    """Our code with one commit, which is what NeMo-Run packs for other machines; the checkout may change meanwhile."""
    if shutil.which("git") is None:
        raise MissingPackage(
            "`git`: found none, NeMo-Run packs the code of a job with it", hint="install git, as in `apt install git`"
        )
    shutil.rmtree(folder, ignore_errors=True)
    for package in CODE:
        ignored = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc")
        shutil.copytree(PROJECT_ROOT / package, folder / package, ignore=ignored)
    git = ["git", "-c", "user.name=tsuzuki", "-c", "user.email=tsuzuki@localhost", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "-A", "-f", "."], ["commit", "-q", "--no-verify", "-m", "Code of a job"]):
        subprocess.run([*git, *words], cwd=folder, check=True, capture_output=True)
    return folder


@contextlib.contextmanager
def _tokens_for_containers() -> Iterator[None]:
    """NeMo-Run writes every variable that it knows to disk; tokens join in Docker's own call, the last step."""
    if find_spec("docker") is None:
        yield
        return
    from docker.models.containers import ContainerCollection

    as_it_is = ContainerCollection.run

    def with_tokens(self: Any, image: str, command: Any = None, **options: Any) -> Any:
        tokens = {name: os.environ[name] for name in TOKENS if name in os.environ}
        return as_it_is(self, image, command, **{**options, "environment": {**options["environment"], **tokens}})

    ContainerCollection.run = with_tokens
    try:
        yield
    finally:
        ContainerCollection.run = as_it_is


def _text(planned: Any, settings: Launched) -> str:
    if isinstance(settings, Torchrun):
        [process] = planned.request.role_params[JOB_NAME]
        variables = [f"{name}={shlex.quote(value)}" for name, value in settings.environment.items()]
        return " ".join([*variables, shlex.join(process.args)]) + "\n"
    if isinstance(settings, Docker):
        return _docker_command(planned.request.containers[0], settings)
    if isinstance(settings, Skypilot):
        # What NeMo-Run would print needs a function that SkyPilot no longer has; this is what it writes at the start.
        return import_module("sky.utils.yaml_utils").dump_yaml_str(planned.request.task.to_yaml_config())
    return f"{planned}".rstrip() + "\n"


def _docker_command(container: Any, settings: Docker) -> str:
    """The `docker run` that says what NeMo-Run tells Docker's API."""
    made = container.executor
    options = [f"--name {container.name}", f"--network {made.network}", f"--gpus {made.num_gpus}"]
    options += [f"--runtime {made.runtime}"] if made.runtime else []
    options += [f"--ipc {made.ipc_mode}"] if made.ipc_mode else []
    options += [f"--user {settings.user}"] if settings.user else []
    options += [f"--shm-size {made.shm_size}", *(f"--ulimit {limit.replace(':', '=', 1)}" for limit in made.ulimits)]
    options += [f"--volume {shlex.quote(volume)}" for volume in (*made.volumes, f"{made.job_dir}:/nemo_run")]
    variables = {**made.env_vars, **container.extra_env}
    options += [f"--env {shlex.quote(f'{name}={value}')}" for name, value in variables.items()]
    options += [f"--env {name}" for name in TOKENS if name in os.environ]
    command = f'bash -c "{" ".join(container.command)}"'
    return " \\\n  ".join(["docker run --detach --rm", *options, "--workdir /nemo_run/code", made.container_image]) + (
        f" \\\n  {command}\n"
    )
