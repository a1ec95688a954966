"""Megatron's own order of samples, with its index mapping, as NeMo's PreTrainingDataModule would feed them."""

# pyright: reportMissingImports=false
# megatron and nemo are of the environment of backend `nemo`.
from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch

from tasks.training.backends import TrainingJob
from tasks.training.batches import IGNORED, Batch
from tasks.training.nemo_job import folder_of
from tasks.training.packing import PackedDataset

NO_TOKEN = -1


class MegatronBatches:
    """Micro-batches of Megatron's GPTDataset: documents in its order, cut where it cuts them.

    dataset: our own view of the training file, for its sizes. tokenizer: folder of the model's, which Megatron's index
    is made for. The index mapping lies in `<scratch>/nemo/index_mapping`.
    """

    def __init__(self, job: TrainingJob, dataset: PackedDataset, tokenizer: Path, num_steps: int) -> None:
        config = job.config
        self.samples_per_epoch = dataset.samples_per_epoch
        self._config = config
        self._num_train = num_steps * config.global_batch_size
        self._num_validation = config.validation_batches * config.micro_batch_size
        self._train, self._validation = _datasets(job, tokenizer, self._num_train, self._num_validation)

    def micro_batches(self, step: int) -> list[Batch]:
        first, micro = (step - 1) * self._config.global_batch_size, self._config.micro_batch_size
        return [self._batch(self._train, first + n, micro) for n in range(0, self._config.global_batch_size, micro)]

    def validation(self) -> list[Batch]:
        micro = self._config.micro_batch_size
        return [self._batch(self._validation, n, micro) for n in range(0, self._num_validation, micro)]

    def _batch(self, dataset: Any, start: int, count: int) -> Batch:
        samples = [dataset[number] for number in range(start, start + count)]
        targets = [sample["labels"].masked_fill(sample["loss_mask"] == 0, IGNORED) for sample in samples]
        return Batch(torch.stack([sample["tokens"] for sample in samples]), torch.stack(targets))


def _datasets(job: TrainingJob, tokenizer: Path, num_train: int, num_validation: int) -> tuple[Any, Any]:
    from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
    from megatron.core.datasets.utils import get_blend_from_list
    from nemo.collections.common.tokenizers.huggingface.auto_tokenizer import AutoTokenizer

    validation = get_blend_from_list([str(job.validation)])
    config = GPTDatasetConfig(
        random_seed=job.config.seed,
        sequence_length=job.config.sequence_length,
        # The validation documents are the test documents of a training too, and no sample of them is asked for.
        blend_per_split=[get_blend_from_list([str(job.train)]), validation, validation],
        path_to_cache=str(folder_of(job) / "index_mapping"),
        tokenizer=AutoTokenizer(str(tokenizer)),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
    )
    sizes = [num_train, max(1, num_validation), 1]
    everywhere = functools.partial(bool, True)
    datasets: Any = BlendedMegatronDatasetBuilder(GPTDataset, sizes, everywhere, config).build()
    train, held_out = datasets[:2]
    for dataset in (train, held_out):
        # It takes no loss for the tokenizer's padding token, which Qwen and others share with the end of a document:
        # the model would never learn to end. Samples are whole and hold no padding.
        dataset._pad_token_id = NO_TOKEN
    return train, held_out
