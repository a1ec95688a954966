"""The steps of dedup that an engine may do its own way, with the same results."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tasks.curation.engines.device import Device
from tasks.curation.engines.device_scan import scan_on_device
from tasks.curation.engines.device_search import device_id_ranks, device_survival_rank
from tasks.curation.ranking import id_ranks, survival_rank
from tasks.curation.scanning import Scan, scan_corpus
from tasks.runtime import Runtime


class Steps(NamedTuple):
    """What stands for `scan_corpus`, `id_ranks` and `survival_rank`."""

    scan: Callable[..., Scan]
    id_ranks: Callable[[pa.LargeStringArray], np.ndarray]
    survival_rank: Callable[[Scan, np.ndarray], np.ndarray]


def steps_of(runtime: Runtime) -> Steps:
    """The steps on the engine of the runtime. Raises MissingPackage where `cudf` is not installed."""
    if runtime.engine != "cudf":
        return Steps(scan_corpus, id_ranks, survival_rank)
    from tasks.curation.engines.cuda_device import cuda_device

    return steps_on(cuda_device())


def steps_on(device: Device) -> Steps:
    """The steps on a device."""
    return Steps(
        partial(scan_on_device, device), partial(device_id_ranks, device), partial(device_survival_rank, device)
    )
