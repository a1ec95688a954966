"""The `huggingface` source: a data set of the hub, or a folder in one of its layouts, streamed by `datasets`.

`datasets` finds the token of a private data set itself, in HF_TOKEN or where `hf auth login` put it; it is never ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_contracts.errors import SourceError, TransientSourceError
from data_contracts.files import write_whole
from data_contracts.manifest import DataSource
from tasks.acquire.config import HuggingFaceSource
from tasks.acquire.reading import SourceFile
from tasks.workspace import Workspace

ROWS_AT_ONCE = 256


def find(config: HuggingFaceSource, workspace: Workspace) -> tuple[list[SourceFile], DataSource]:
    """The split as one file to stream, and the data set at the commit that its revision means now.

    Raises SourceError for a data set, configuration, split or revision that is not there, TransientSourceError for a
    hub that does not answer.
    """
    folder = Path(config.dataset)
    with _named_failures(config.dataset):
        revision = (config.revision or "") if folder.is_dir() else _commit(config, workspace)
        config_name = _check_names(config, revision or None)
    source = DataSource(
        name=folder.name if folder.is_dir() else config.dataset,
        url="" if folder.is_dir() else f"https://huggingface.co/datasets/{config.dataset}",
        revision=revision,
        licence=config.licence,
        attribution=config.attribution,
    )
    split = "validation" if config.dataset_split.startswith("validation") else "train"
    name = f"{config_name}/{config.dataset_split}"
    return [SourceFile(path=folder, name=name, split=split, reader="huggingface", revision=revision)], source


def rows_of(source: SourceFile, config: HuggingFaceSource) -> Iterator[list[dict[str, Any]]]:
    """The rows of the split in order, some at a time. Raises like `find`."""
    from datasets import load_dataset

    with _named_failures(config.dataset):
        rows = load_dataset(
            config.dataset,
            config.config_name,
            split=config.dataset_split,
            revision=source.revision or None,
            streaming=True,
        )
        batch: list[dict[str, Any]] = []
        for row in rows:
            batch.append(dict(row))
            if len(batch) == ROWS_AT_ONCE:
                yield batch
                batch = []
        yield batch


def _commit(config: HuggingFaceSource, workspace: Workspace) -> str:
    """The commit of a branch or tag, noted so that a killed attempt goes on with the same one."""
    from huggingface_hub import HfApi

    if re.fullmatch("[0-9a-f]{40}", config.revision or ""):
        return str(config.revision)
    noted = workspace.scratch / "huggingface-commit.txt"
    if not noted.is_file():
        write_whole(noted, str(HfApi().dataset_info(config.dataset, revision=config.revision).sha))
    return noted.read_text(encoding="utf-8")


def _check_names(config: HuggingFaceSource, revision: str | None) -> str:
    """Name of the configuration that is read. Raises SourceError that lists the valid names."""
    from datasets import get_dataset_config_names, get_dataset_default_config_name, get_dataset_split_names

    name = config.config_name or get_dataset_default_config_name(config.dataset, revision=revision)
    names = get_dataset_config_names(config.dataset, revision=revision)
    if name not in names:
        raise SourceError(
            f"`{config.dataset}`: found no configuration {config.config_name!r}, expected one of {', '.join(names)}",
            hint="set `source.config_name` to one of them",
        )
    splits = get_dataset_split_names(config.dataset, name, revision=revision)
    if config.dataset_split not in splits:
        raise SourceError(
            f"`{config.dataset}`: found no split {config.dataset_split!r}, expected one of {', '.join(splits)}",
            hint="set `source.dataset_split` to one of them",
        )
    return name


@contextmanager
def _named_failures(dataset: str) -> Iterator[None]:
    """What `datasets` raises, as errors of ours that name the data set."""
    import httpx
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except (FileNotFoundError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise SourceError(
            f"`{dataset}`: {_first_line(error)}; expected a data set of the hub or a folder that holds one",
            hint="check `source.dataset` and `source.revision`; a private or gated one needs HF_TOKEN",
        ) from error
    except (OSError, httpx.HTTPError) as error:
        raise TransientSourceError(
            f"`{dataset}`: {_first_line(error)}; expected an answer of the hub",
            hint="check the network and HF_HUB_OFFLINE, then run again",
        ) from error
    except (ValueError, DatasetsError, pa.ArrowException) as error:
        raise SourceError(
            f"`{dataset}`: {type(error).__name__}: {_first_line(error)}; expected rows that `datasets` can read",
            hint="repair the file that it names, or read the files themselves as a `local` source",
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
