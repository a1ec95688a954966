"""The steps of dedup that an engine may do its own way, with the same results."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from tasks.curation.engines.device import Device
from tasks.curation.engines.device_scan import scan_on_device
from tasks.curation.engines.device_search import device_id_ranks, device_survival_rank
from tasks.curation.ranking import id_ranks, survival_rank
from tasks.curation.scanning import Scan, scan_corpus
from tasks.runtime import Runtime

if TYPE_CHECKING:
    from tasks.curation.engines.device_cluster import DeviceCluster


class Steps(NamedTuple):
    """What stands for `scan_corpus`, `id_ranks` and `survival_rank`."""

    scan: Callable[..., Scan]
    id_ranks: Callable[[pa.LargeStringArray], np.ndarray]
    survival_rank: Callable[[Scan, np.ndarray], np.ndarray]


def steps_of(runtime: Runtime) -> Steps:
    """The steps on the engine of the runtime; `cudf` takes all GPUs that this process sees, or those of a scheduler.

    Raises MissingPackage where `cudf`, or for several GPUs Dask, is not installed.
    """
    if runtime.engine != "cudf":
        return Steps(scan_corpus, id_ranks, survival_rank)
    from tasks.curation.engines.cuda_device import cuda_device, num_gpus

    if not runtime.scheduler_address and num_gpus() == 1:
        return steps_on(cuda_device())
    from tasks.curation.engines.device_cluster import gpu_cluster

    return steps_on_several(gpu_cluster(runtime.scheduler_address))


def steps_on_several(cluster: DeviceCluster) -> Steps:
    """The steps on a cluster of devices; ids and ranks are sorted on the host."""
    from tasks.curation.engines.parted_search import scan_on_devices

    return Steps(partial(scan_on_devices, cluster), id_ranks, survival_rank)


def steps_on(device: Device) -> Steps:
    """The steps on a device."""
    return Steps(
        partial(scan_on_device, device), partial(device_id_ranks, device), partial(device_survival_rank, device)
    )
