"""The batches of a training as NeMo takes them: the same samples, in the same order, as backend transformers."""

# pyright: reportMissingImports=false
# lightning and nemo are of the environment of backend `nemo`.
from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from nemo.lightning import io
from nemo.lightning.data import WrappedDataLoader
from nemo.lightning.pytorch.plugins import MegatronDataSampler
from torch.utils.data import DataLoader, IterableDataset

from data_contracts.token_files import TokenFile
from tasks.models.nemo_folder import TOKENIZER, make_view
from tasks.training.backends import TrainingJob
from tasks.training.batches import IGNORED, Batch, PackedBatches, PairBatches, PairCounts, TrainingData, read_pairs
from tasks.training.config import OptimizationConfig
from tasks.training.nemo_job import folder_of, read_job
from tasks.training.packing import PackedDataset

FP8_MULTIPLE = 16
"""Matrix products in FP8 need that many rows, or a multiple."""


def packed_batches(job: TrainingJob) -> tuple[PackedBatches, PackedDataset]:
    """The batches of task pretrain, and the dataset they are made of. Raises DataError as PackedDataset does."""
    config, eod = job.config, job.eod_token_id
    assert eod is not None
    train = PackedDataset(TokenFile(job.train), config.sequence_length, config.seed, eod)
    validation = None
    if config.validation_batches:
        validation = PackedDataset(TokenFile(job.validation), config.sequence_length, config.seed, eod)
    sizes = (config.micro_batch_size, config.global_batch_size, config.validation_batches)
    return PackedBatches(train, validation, *sizes), train


def pair_batches(job: TrainingJob) -> tuple[PairBatches, tuple[PairCounts, PairCounts]]:
    """The batches of task lora, and what became of the rows (train, validation). Raises as read_pairs does."""
    from transformers import AutoTokenizer

    config = job.config
    folder = model_view(job) / TOKENIZER
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    train, train_counts = read_pairs(job.train, tokenizer, config.sequence_length)
    validation, validation_counts = read_pairs(job.validation, tokenizer, config.sequence_length)
    sizes = (config.micro_batch_size, config.global_batch_size, config.validation_batches, config.seed)
    return PairBatches(train, validation, *sizes), (train_counts, validation_counts)


def model_view(job: TrainingJob) -> Path:
    """The model's folder in the words of NeMo's transformers; the worker makes it before any process needs it."""
    view = folder_of(job) / "view"
    if not view.exists():
        aside = view.with_name("view-unfinished")
        shutil.rmtree(aside, ignore_errors=True)
        make_view(job.model, aside)
        aside.rename(view)
    return view


def batches_of(job: TrainingJob, num_steps: int) -> TrainingData:
    """What the job is trained on, in the order that its config asks for."""
    if job.task == "lora":
        return pair_batches(job)[0]
    batches, dataset = packed_batches(job)
    assert job.config.nemo is not None
    if job.config.nemo.data_order == "tsuzuki":
        return batches
    from tasks.training.nemo_megatron_data import MegatronBatches

    return MegatronBatches(job, dataset, model_view(job) / TOKENIZER, num_steps)


class JobDataModule(pl.LightningDataModule, io.IOMixin):
    """Training and validation batches of a NemoJob, cut over the data-parallel processes.

    job: path of the NemoJob's JSON. The position in the data is the step, so a resumed training needs to know nothing
    else.
    """

    def __init__(self, job: str) -> None:
        super().__init__()
        nemo_job = read_job(job)
        self.job, self.num_steps = nemo_job.training, nemo_job.num_steps
        config = self.job.config
        self.seq_length = config.sequence_length
        self.micro_batch_size, self.global_batch_size = config.micro_batch_size, config.global_batch_size
        self._checkpoint = nemo_job.checkpoint
        self.num_targets: dict[int, int] = {}
        """Targets over all processes of the steps whose batches were taken."""
        self.data_sampler = JobDataSampler(config, self)

    @cached_property
    def tokenizer(self) -> Any:
        """That of the model. NeMo cannot load it while it builds a recipe, so that it waits until it is asked for."""
        return io.load_context(self._checkpoint / "context", subpath="model.tokenizer")

    @cached_property
    def batches(self) -> TrainingData:
        """Made when first asked for, within the process group: Megatron's index mapping must find one."""
        return batches_of(self.job, self.num_steps)

    @cached_property
    def validation(self) -> list[Batch]:
        """The same micro-batches each time."""
        return self.batches.validation()

    def train_dataloader(self) -> Any:
        return WrappedDataLoader(mode="train", dataset=_Placeholder())

    def val_dataloader(self) -> Any:
        return WrappedDataLoader(mode="validation", dataset=_Placeholder())

    def reconfigure_limit_batches(self) -> None:
        """Tells Lightning how many micro-batches a validation has; NeMo calls it once the parallel sizes are known."""
        self.trainer.limit_val_batches = sum(map(len, self.validation_rounds(0, 1)))

    def validation_rounds(self, rank: int, num_ranks: int) -> list[list[Batch]]:
        """Micro-batches of each validation step of that process; the last round is filled up with empty ones."""
        batches = self.validation
        per_round = self.global_batch_size // self.micro_batch_size
        rounds = []
        for start in range(0, len(batches), per_round):
            whole = batches[start : start + per_round]
            empty = Batch(whole[0].input_ids, torch.full_like(whole[0].targets, IGNORED))
            whole += [empty] * (per_round - len(whole))
            rounds.append(whole[rank::num_ranks])
        return rounds

    def validation_targets(self) -> list[int]:
        """Targets of each validation step, over all processes."""
        return [sum(batch.num_targets for batch in whole) for whole in self.validation_rounds(0, 1)]


class JobDataSampler(MegatronDataSampler):
    """NeMo's sampler, whose loaders yield the job's own micro-batches from the step that the training is at."""

    def __init__(self, config: OptimizationConfig, module: JobDataModule) -> None:
        super().__init__(
            seq_len=config.sequence_length,
            micro_batch_size=config.micro_batch_size,
            global_batch_size=config.global_batch_size,
            output_log=False,
        )
        self.module = module

    def transform_dataloader(self, dataloader: Any, consumed_samples: int = 0) -> DataLoader:
        from megatron.core import parallel_state

        rank, num_ranks = parallel_state.get_data_parallel_rank(), parallel_state.get_data_parallel_world_size()
        stream = MicroBatches(self.module, dataloader.mode, rank, num_ranks)
        return WrappedDataLoader(mode=dataloader.mode, dataset=stream, batch_size=None)


class MicroBatches(IterableDataset):
    """The micro-batches of one data-parallel process as dicts of tensors; see `as_nemo`."""

    def __init__(self, module: JobDataModule, mode: str, rank: int, num_ranks: int) -> None:
        self.module, self.mode, self.rank, self.num_ranks = module, mode, rank, num_ranks

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        module = self.module
        config = module.job.config
        assert config.nemo is not None
        pad, with_mask = padding(config), not config.nemo.transformer_engine
        for batches in self._rounds():
            yield from (as_nemo(batch, pad, with_mask=with_mask) for batch in batches)

    def _rounds(self) -> Iterator[list[Batch]]:
        module = self.module
        if self.mode == "train":
            for step in range(module.trainer.global_step + 1, module.num_steps + 1):
                batches = module.batches.micro_batches(step)
                module.num_targets[step] = sum(batch.num_targets for batch in batches)
                yield batches[self.rank :: self.num_ranks]
        else:
            yield from module.validation_rounds(self.rank, self.num_ranks)


class _Placeholder(IterableDataset):
    """Stands for a dataset until the sampler knows the process's rank."""

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return iter(())


def padding(config: OptimizationConfig) -> int:
    """Tokens that a micro-batch is padded to a multiple of.

    Stages of a pipeline and shares of a sequence must know its length beforehand; other trainings take it as it is.
    """
    nemo = config.nemo
    assert nemo is not None
    if nemo.model_parallel > 1:
        return config.sequence_length
    return FP8_MULTIPLE if nemo.fp8 else 1


def as_nemo(batch: Batch, multiple: int = 1, *, with_mask: bool = False) -> dict[str, torch.Tensor]:
    """tokens, labels, position_ids (samples, tokens) int64 and loss_mask fp32; attention_mask if asked for.

    The mask is (samples, 1, tokens, tokens) bool, true where a token must not look: the layers of Megatron Core take
    it, those of Transformer Engine know that they are causal.
    """
    missing = -batch.input_ids.shape[1] % multiple
    tokens = torch.nn.functional.pad(batch.input_ids, (0, missing))
    targets = torch.nn.functional.pad(batch.targets, (0, missing), value=IGNORED)
    length = tokens.shape[1]
    result = {
        "tokens": tokens,
        "labels": targets.clamp(min=0),
        "loss_mask": (targets != IGNORED).float(),
        "position_ids": torch.arange(length).expand(len(tokens), length).contiguous(),
    }
    if with_mask:
        mask = torch.ones(length, length, dtype=torch.bool).triu(1)
        result["attention_mask"] = mask.expand(len(tokens), 1, length, length).contiguous()
    return result
