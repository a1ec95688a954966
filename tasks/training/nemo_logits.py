"""What the trained model answers to the first sample, put together from all processes that hold a part of it."""

# pyright: reportMissingImports=false
# megatron is of the environment of backend `nemo`.
from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tasks.training.batches import Batch
from tasks.training.config import NemoConfig
from tasks.training.nemo_data import as_nemo

COMPARED_TOKENS = 128
"""Of the first sample: those whose logits the exported model must give as well."""


def save_logits(module: Any, sample: Batch, nemo: NemoConfig, path: Path) -> None:
    """Leaves `input_ids` (1, tokens) and `logits` (1, tokens, vocabulary) fp32, as NeMo computes them.

    Every process must call it. Those that hold the first copy of the model compute; one of its last stage writes.
    """
    from megatron.core import parallel_state

    if parallel_state.get_data_parallel_rank() > 0:
        return
    width = min(COMPARED_TOKENS, sample.input_ids.shape[1])
    width -= width % _sequence_shares(nemo)
    cut = Batch(sample.input_ids[:1, :width], sample.targets[:1, :width])
    was_training = module.training
    module.eval()
    with torch.no_grad():
        logits = _logits(module, as_nemo(cut, with_mask=not nemo.transformer_engine))
    module.train(was_training)
    ranks = (parallel_state.get_tensor_model_parallel_rank(), parallel_state.get_context_parallel_rank())
    if logits is not None and ranks == (0, 0):
        tensors = {"input_ids": cut.input_ids.contiguous(), "logits": logits.float().cpu().contiguous()}
        save_file(tensors, path)


def _sequence_shares(nemo: NemoConfig) -> int:
    """What the number of tokens must be a multiple of."""
    pieces = 2 * nemo.context_parallel if nemo.context_parallel > 1 else 1
    return pieces * (nemo.tensor_parallel if nemo.sequence_parallel else 1)


def _logits(module: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor | None:
    """The whole logits in every process of the last stage, None in those of the stages before it."""
    from megatron.core import parallel_state
    from megatron.core.utils import get_attr_wrapped_model, get_batch_on_this_cp_rank

    device = next(module.parameters()).device
    names = ("tokens", "position_ids", "attention_mask")
    part = get_batch_on_this_cp_rank({name: inputs[name].to(device) for name in names if name in inputs})
    group: Any = parallel_state.get_pipeline_model_parallel_group()
    if not parallel_state.is_pipeline_first_stage():
        hidden = torch.empty(_hidden_shape(module.config, part["tokens"]), dtype=_dtype(module.config), device=device)
        torch.distributed.recv(hidden, parallel_state.get_pipeline_model_parallel_prev_rank(), group)
        get_attr_wrapped_model(module.module, "set_input_tensor")([hidden])
    output = module(
        input_ids=part["tokens"], position_ids=part["position_ids"], attention_mask=part.get("attention_mask")
    )
    if not parallel_state.is_pipeline_last_stage():
        output = output.to(_dtype(module.config)).contiguous()
        torch.distributed.send(output, parallel_state.get_pipeline_model_parallel_next_rank(), group)
        return None
    return _joined(output)


def _hidden_shape(config: Any, tokens: torch.Tensor) -> tuple[int, int, int]:
    """What goes from stage to stage: (tokens, samples, width)."""
    from megatron.core import parallel_state

    shares = parallel_state.get_tensor_model_parallel_world_size() if config.sequence_parallel else 1
    return (tokens.shape[1] // shares, tokens.shape[0], config.hidden_size)


def _dtype(config: Any) -> torch.dtype:
    return config.pipeline_dtype or config.params_dtype


def _joined(logits: torch.Tensor) -> torch.Tensor:
    """The shares of the vocabulary, then those of the sequence: process r has pieces r and 2n - 1 - r of 2n."""
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel import gather_from_tensor_model_parallel_region

    logits = gather_from_tensor_model_parallel_region(logits).contiguous()
    num_shares = parallel_state.get_context_parallel_world_size()
    if num_shares == 1:
        return logits
    shares = [torch.empty_like(logits) for _ in range(num_shares)]
    torch.distributed.all_gather(shares, logits, parallel_state.get_context_parallel_group())
    halves = [share.chunk(2, dim=1) for share in shares]
    return torch.cat([first for first, _ in halves] + [second for _, second in reversed(halves)], dim=1)
