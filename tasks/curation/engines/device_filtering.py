"""The stage filter with scores by a GPU: each process that works on shards sends its batches there."""

from __future__ import annotations

from functools import cache

from tasks.curation.engines.cuda_device import cuda_kernels
from tasks.curation.engines.device_scores import DeviceScores
from tasks.curation.filtering import ShardJob, ShardResult, filter_shard


@cache
def scores_by_device() -> DeviceScores:
    """The scores of this process by its first GPU. Raises MissingPackage without the extra `gpu`, ConfigError without
    a GPU."""
    return DeviceScores(cuda_kernels())


def filter_shard_on_device(job: ShardJob) -> ShardResult:
    """As `filter_shard`; steps that the GPU cannot score are scored by the core beside it."""
    return filter_shard(job, scores_by_device())
