"""Settings of this machine, read from the environment once, here and nowhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from data_contracts.errors import UsageError

PREFECT_DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # A server may be away for four minutes: 2 + 4 + ... + 128 s between the attempts. Prefect's 5 are a minute.
    "PREFECT_CLIENT_MAX_RETRIES": "7",
    # What the server answers while its PostgreSQL restarts.
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # our own lines on stderr say it better; the API gets all
    # The first start makes the tables, which takes longer than Prefect's 20 s on a busy machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "DO_NOT_TRACK": "1",
    "WANDB_ERROR_REPORTING": "false",
}


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_block(value: Any) -> Any:
    """The mapping that a variable holds as JSON, or that the YAML or JSON file holds which it names."""
    if not isinstance(value, str):
        return value
    import yaml

    try:
        found = yaml.safe_load(value if value.lstrip().startswith("{") else Path(value).expanduser().read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{error}; expected JSON, or the path of a YAML or JSON file") from None
    if not isinstance(found, dict):
        raise ValueError(f"found a {type(found).__name__} there, expected a mapping with `kind`")
    return found


class Settings(BaseSettings):
    """`TSUZUKI_*` variables; tokens keep the names that their own tools use."""

    model_config = SettingsConfigDict(env_prefix="TSUZUKI_", extra="ignore", frozen=True)

    store: Path = Field(default=Path("tsuzuki-store"), description="Folder of the sealed artifacts.")
    workers: int = Field(default_factory=available_cores, ge=1, description="Processes a stage may use.")
    engine: Literal["local", "dask", "curator", "cudf"] = Field(
        default="local", description="What runs the jobs of the corpus half."
    )
    scheduler_address: str | None = Field(default=None, description="Dask scheduler; none starts one on this machine.")
    curator_python: Path | None = Field(default=None, description="Interpreter with NeMo Curator, for its engine.")
    ray_address: str | None = Field(default=None, description="Ray cluster; none starts Ray on this machine.")
    memory_bytes: int = Field(default=4 << 30, ge=1 << 28, description="Memory that dedup and split may take.")
    worker_python: Path = Field(default=Path(sys.executable), description="Interpreter of training workers.")
    nemo_python: Path | None = Field(default=None, description="Interpreter with NeMo, for the backend of that name.")
    executor: Annotated[dict[str, Any], NoDecode, BeforeValidator(read_block)] = Field(
        default={"kind": "inline"},
        description="How NeMo's processes are started: JSON, or a file as in infra/executors.",
    )
    cancel_grace_seconds: float = Field(
        # Prefect kills a cancelled flow 30 s after it told it to end; by then its workers must be gone.
        default=20.0,
        ge=0,
        description="Between SIGTERM and SIGKILL for a worker.",
    )
    spark_submit: Path | None = Field(default=None, description="The program spark-submit, for the real Uzushio.")
    uzushio_jar: Path | None = Field(default=None, description="The jar of Uzushio.")
    gpu_limit: str = Field(
        default="tsuzuki-gpu", min_length=1, description="Prefect global concurrency limit of this machine's GPU."
    )
    service_lock: Path | None = Field(
        default=None, description="Lock of the `tsuzuki serve` that a run belongs to; set by it alone."
    )
    lock_folder: Path | None = Field(
        default=None, description="Folder of the locks of this machine's GPUs; none for /run/lock or /tmp."
    )
    cuda_visible_devices: str | None = Field(
        default=None, validation_alias="CUDA_VISIBLE_DEVICES", description="GPUs that a run uses; none for all."
    )
    server_auth: SecretStr | None = Field(
        default=None, validation_alias="PREFECT_SERVER_API_AUTH_STRING", description="`user:password` of the server."
    )
    reports_url: str | None = Field(
        default=None,
        pattern="^(https?://|/)",
        description="Where a server shows the reports of this store: an address, or a path beside the Prefect UI.",
    )
    notify_url: SecretStr | None = Field(
        default=None, description="Webhook that failures are told to, for `tsuzuki setup`; it may hold a token."
    )
    gitlab_token: SecretStr | None = Field(
        default=None, validation_alias="GITLAB_TOKEN", description="Token for the LLM-JP GitLab."
    )


def load_settings() -> Settings:
    """Settings from the environment. Raises UsageError naming the variable that does not fit."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(map(str, first["loc"])).upper()
        raise UsageError(
            f"`TSUZUKI_{name}`: found {first['input']!r}: {first['msg'].removeprefix('Value error, ')}",
            hint="set or unset that variable",
        ) from None


def prepare_prefect() -> None:
    """Sets what Prefect reads at import, where the user has not said otherwise: no telemetry, no second log."""
    for name, value in PREFECT_DEFAULTS.items():
        os.environ.setdefault(name, value)


def environment_values(names: Iterable[str]) -> dict[str, str]:
    """Those of the variables that are set and not empty."""
    return {name: value for name in names if (value := os.environ.get(name))}


def add_to_environment(values: Mapping[str, str]) -> None:
    """Sets variables for this process and those that it starts."""
    os.environ.update(values)
