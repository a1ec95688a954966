"""How the processes of a NeMo training are started: settings of a machine, never part of an artifact's identity.

One block, told apart by its `kind`. Secrets stand in none of them: `TOKENS` go to the processes by the environment.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from data_contracts.errors import ConfigError

TOKENS = ("HF_TOKEN", "WANDB_API_KEY")
"""Variables that are handed on by name alone; their values are written nowhere."""
SECRET_NAME = re.compile(r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|APIKEY|KEY)(_|$)", re.IGNORECASE)
NEMO_IMAGE = "nvcr.io/nvidia/nemo:25.04"
MOUNT = re.compile(r"[^:]+:/[^:]*(:(ro|rw))?")
SLURM_TIME = r"^(\d+-)?\d{1,3}(:\d{2}){0,2}$"


class Layout(BaseModel):
    """The processes of a training: `nodes` times `processes_per_node`, one a device."""

    model_config = ConfigDict(frozen=True)

    nodes: int
    processes_per_node: int


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Inline(_Block):
    """This process, on one device."""

    kind: Literal["inline"] = Field(default="inline", description="In the worker itself; one process, one device.")

    @property
    def layout(self) -> Layout:
        return Layout(nodes=1, processes_per_node=1)


class _Launched(_Block):
    environment: dict[str, str] = Field(
        default_factory=dict,
        description="Further variables of the processes, such as those of NCCL. Written into scripts: no secrets.",
    )

    @field_validator("environment")
    @classmethod
    def _refuse_secrets(cls, value: dict[str, str]) -> dict[str, str]:
        secrets = [name for name in value if SECRET_NAME.search(name)]
        if secrets:
            raise ValueError(
                f"{', '.join(secrets)} would be written into scripts; set it in the environment of `tsuzuki` instead"
                f" ({' and '.join(TOKENS)} are handed on)"
            )
        return value


class Torchrun(_Launched):
    """Processes of this machine, under torchrun."""

    kind: Literal["torchrun"] = Field(description="torchrun on this machine.")
    num_gpus: int = Field(ge=1, description="GPUs of this machine to use; one process each.")

    @property
    def layout(self) -> Layout:
        return Layout(nodes=1, processes_per_node=self.num_gpus)


class Docker(_Launched):
    """A container on this machine; code and store are mounted where they lie."""

    kind: Literal["docker"] = Field(description="A Docker container on this machine, with torchrun inside.")
    image: str = Field(default=NEMO_IMAGE, min_length=1, description="Image with NeMo; NVIDIA's NeMo container.")
    num_gpus: int = Field(default=1, ge=1, description="GPUs the container gets; one process each.")
    shm_size: str = Field(default="16g", pattern=r"^\d+[bkmg]?$", description="Size of /dev/shm, as in `16g`.")
    ipc_mode: str | None = Field(default=None, description="`host` to share the machine's memory segments.")
    runtime: str | None = Field(default="nvidia", description="Container runtime; none for Docker's default.")
    ulimits: tuple[str, ...] = Field(
        default=("memlock:-1", "stack:67108864"), description="Limits, `name:soft[:hard]`; NVIDIA's advice for NCCL."
    )
    network: str = Field(default="nemo_run", description="Docker network; a bridge is made where it does not exist.")
    user: str | None = Field(
        default=None, pattern=r"^\d+(:\d+)?$", description="`uid:gid` of the processes; the image's own, root, if none."
    )
    mounts: tuple[str, ...] = Field(
        default=(), description="Further mounts, `SOURCE:TARGET[:ro]`; the store is mounted at its own path."
    )

    @field_validator("mounts")
    @classmethod
    def _check_mounts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _checked_mounts(value)

    @property
    def layout(self) -> Layout:
        return Layout(nodes=1, processes_per_node=self.num_gpus)


class SshTunnel(_Block):
    """A login node that runs sbatch for us; it and the nodes see the store at the same path as this machine."""

    host: str = Field(min_length=1, description="Name of the login node.")
    user: str = Field(min_length=1, description="User there.")
    port: int | None = Field(default=None, ge=1, le=65535, description="Port; 22 if none.")
    identity: Path | None = Field(default=None, description="File with the private key; asked for a password if none.")
    pre_command: str | None = Field(
        default=None, description="Run there before each command, as in `module load slurm`; no secrets."
    )


class Slurm(_Launched):
    """Jobs of a Slurm cluster; its nodes see the store at the same path as this machine."""

    kind: Literal["slurm"] = Field(description="sbatch, with one torchrun a node.")
    account: str = Field(min_length=1, description="Account that the job is charged to.")
    partition: str | None = Field(default=None, description="Partition; the cluster's default if none.")
    nodes: int = Field(default=1, ge=1, description="Nodes of the job.")
    gpus_per_node: int = Field(default=8, ge=1, description="GPUs of each node; one process each.")
    gres: bool = Field(default=False, description="Ask for GPUs by `--gres=gpu:N`, for clusters without that by node.")
    time: str = Field(default="04:00:00", pattern=SLURM_TIME, description="Time limit, `[DAYS-]HOURS:MINUTES:SECONDS`.")
    container_image: str | None = Field(
        default=None, description="Image or .sqsh file, for clusters with Pyxis; this machine's interpreter if none."
    )
    mounts: tuple[str, ...] = Field(
        default=(), description="Further container mounts, `SOURCE:TARGET[:ro]`; the store is mounted at its own path."
    )
    requeue: bool = Field(default=True, description="Let Slurm queue the job again after preemption or a lost node.")
    max_retries: int = Field(default=0, ge=0, description="Times Slurm starts the job again after it failed itself.")
    exclusive: bool = Field(default=True, description="Have the nodes alone.")
    tunnel: SshTunnel | None = Field(default=None, description="Login node; sbatch of this machine if none.")
    poll_seconds: float = Field(default=15.0, gt=0, description="Seconds between two questions to sacct.")
    job_dir: Path | None = Field(
        default=None, description="Folder for scripts, code and logs of the jobs; in the job's scratch folder if none."
    )
    sbatch: dict[str, str | bool] = Field(
        default_factory=dict, description="Further `#SBATCH` lines: option without dashes, and its value or true."
    )
    setup_lines: tuple[str, ...] = Field(
        default=(), description="Lines of the script before the training, as in `module load cuda`; no secrets."
    )

    @field_validator("mounts")
    @classmethod
    def _check_mounts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _checked_mounts(value)

    @model_validator(mode="after")
    def _check_job_dir(self) -> Slurm:
        if self.tunnel is not None and self.job_dir is None:
            raise ValueError("a tunnel needs `job_dir`, the folder on the cluster for scripts, code and logs")
        if self.job_dir is not None and not self.job_dir.is_absolute():
            raise ValueError(f"job_dir is {self.job_dir}, expected an absolute path")
        return self

    @property
    def layout(self) -> Layout:
        return Layout(nodes=self.nodes, processes_per_node=self.gpus_per_node)


class Skypilot(_Launched):
    """Machines of a cloud or of Kubernetes through SkyPilot; the store lies in a bucket mounted at its own path.

    `TOKENS` are not handed on to them: NeMo-Run would write them into the task.
    """

    kind: Literal["skypilot"] = Field(description="A SkyPilot task, with one torchrun a node.")
    cloud: str = Field(min_length=1, description="`aws`, `gcp/us-central1`, `k8s/my-context`, as SkyPilot's `infra`.")
    accelerators: str = Field(pattern=r"^[\w.-]+:\d+$", description="GPU and how many a node, as in `H100:8`.")
    num_nodes: int = Field(default=1, ge=1, description="Machines.")
    image: str | None = Field(default=f"docker:{NEMO_IMAGE}", description="`docker:IMAGE` or a machine image.")
    setup: str = Field(default="", description="Shell lines that prepare a fresh machine; no secrets.")
    cluster_name: str | None = Field(default=None, description="Cluster to use or make; a new one each time if none.")
    use_spot: bool = Field(default=False, description="Take machines that may be reclaimed.")
    disk_size_gb: int | None = Field(default=None, ge=1, description="Disk of each machine, GB.")
    file_mounts: dict[str, str] = Field(default_factory=dict, description="Path there: path here or bucket, copied.")
    storage_mounts: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Path there: SkyPilot's storage mapping; one holds the store at its own path."
    )
    idle_minutes_to_autostop: int | None = Field(default=30, ge=0, description="Stop idle machines after that long.")
    autodown: bool = Field(default=True, description="Delete machines rather than stop them.")

    @property
    def layout(self) -> Layout:
        return Layout(nodes=self.num_nodes, processes_per_node=int(self.accelerators.rpartition(":")[2]))


ExecutorSettings = Annotated[Inline | Torchrun | Docker | Slurm | Skypilot, Field(discriminator="kind")]
KINDS = ("inline", "torchrun", "docker", "slurm", "skypilot")
_ADAPTER: TypeAdapter[Any] = TypeAdapter(ExecutorSettings)


def executor_of(values: dict[str, Any]) -> Inline | Torchrun | Docker | Slurm | Skypilot:
    """The block with these values. Raises ConfigError that names the first field refused."""
    kind = values.get("kind")
    if kind not in KINDS:
        raise ConfigError(
            f"`executor.kind`: found {kind!r}, expected one of {', '.join(KINDS)}",
            hint="examples lie in infra/executors/",
        )
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in ("executor", *first["loc"]))
        # What stands in `environment` may be a secret put there by mistake.
        shown = first["type"] != "missing" and "environment" not in first["loc"]
        found = f"found {first['input']!r}: " if shown else ""
        raise ConfigError(
            f"`{place}`: {found}{first['msg'].removeprefix('Value error, ')}", hint=_hint(kind, first["type"])
        ) from None


def _hint(kind: str, error_type: str) -> str:
    block = {"Inline": Inline, "Torchrun": Torchrun, "Docker": Docker, "Slurm": Slurm, "Skypilot": Skypilot}
    if error_type in ("extra_forbidden", "missing"):
        return f"fields of {kind}: {', '.join(block[kind.capitalize()].model_fields)}"
    return f"see the example of {kind} in infra/executors/, or unset TSUZUKI_EXECUTOR for one process"


def _checked_mounts(mounts: tuple[str, ...]) -> tuple[str, ...]:
    for mount in mounts:
        if not MOUNT.fullmatch(mount):
            raise ValueError(f"the mount {mount!r} is not SOURCE:TARGET or SOURCE:TARGET:ro with an absolute target")
    return mounts
