"""The worker's side of `tsuzuki generate` for NeMo checkpoints: megatron-core's inference engine, loaded once."""

# pyright: reportMissingImports=false
# nemo and megatron are of the environment of backend `nemo`.
from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from data_contracts.errors import ConfigError
from tasks.evaluate.answering import chosen_device, room_for_answer
from tasks.evaluate.generating import prompt_ids
from tasks.training.nemo_compat import prepare
from tasks.worker import Emit

PLAIN = {"cuda_graph_impl": "none", "fp8": None}
"""Settings of a training that a checkpoint remembers and that prompts of any length do not go with."""


def answer(
    folder: str,
    adapter: str | None,
    prompts: list[str],
    max_new_tokens: int,
    temperature: float,
    top_k: int,
    seed: int,
    device: str,
    cpu_threads: int,
    *,
    emit: Emit,
) -> None:
    """The events of `tasks.evaluate.answering.answer`, for a checkpoint of a model, or of an adapter of one.

    adapter: None; a NeMo adapter's checkpoint says itself where its base lies. Prompts are turned into tokens, and
    answers into text, as for Hugging Face folders. Raises ConfigError without a CUDA device.
    """
    assert adapter is None
    torch.set_num_threads(cpu_threads)
    device = chosen_device(device)
    _need_cuda()
    prepare()
    started = time.monotonic()
    answering = _Answering(Path(folder), device, seed)
    emit("loaded", seconds=time.monotonic() - started, device=device, engine=answering.engine_name)
    rooms = [
        room_for_answer(answering.context_length, answering.num_tokens(prompt), max_new_tokens, prompt, emit)
        for prompt in prompts
    ]
    answering.make_room(max(answering.num_tokens(prompt) + room for prompt, room in zip(prompts, rooms, strict=True)))
    for prompt, room in zip(prompts, rooms, strict=True):
        started = time.monotonic()
        text, num_tokens = answering(prompt, room, temperature, top_k)
        emit("answer", prompt=prompt, answer=text, num_tokens=num_tokens, seconds=time.monotonic() - started)


def _need_cuda() -> None:
    """Megatron makes its tensors on the current CUDA device, whatever it is asked for."""
    try:
        torch.cuda.current_device()
    except (AssertionError, RuntimeError) as error:
        raise ConfigError(
            f"`--device`: NeMo needs a CUDA device, found none ({str(error).splitlines()[0]})",
            hint="run on a machine with a GPU, or export the checkpoint to a Hugging Face folder and name that",
        ) from None


class _Answering:
    """The engine and tokenizer of a checkpoint."""

    def __init__(self, folder: Path, device: str, seed: int) -> None:
        import megatron.core
        import nemo
        from megatron.core.inference.engines.mcore_engine import MCoreEngine
        from megatron.core.inference.text_generation_controllers.text_generation_controller import (
            TextGenerationController,
        )
        from nemo.collections.llm import inference

        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        self._wrapped, wrapper = inference.setup_model_and_tokenizer(
            folder, _trainer(device, dtype), params_dtype=dtype, inference_sampling_seed=seed, **PLAIN
        )
        self._tokenizer = wrapper.tokenizer.tokenizer  # the one of transformers inside NeMo's
        self.context_length = int(self._wrapped.model.config.seq_length)
        self.engine_name = f"nemo {nemo.__version__}, megatron-core {megatron.core.__version__}"
        self._engine = MCoreEngine(TextGenerationController(self._wrapped, _Tokenizer(wrapper, self)), max_batch_size=1)

    def num_tokens(self, prompt: str) -> int:
        return len(self.tokenize(prompt))

    def tokenize(self, prompt: str) -> list[int]:
        return prompt_ids(self._tokenizer, prompt, self.context_length - 1)

    def detokenize(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True)

    def make_room(self, num_tokens: int) -> None:
        """Sets the length that keys and values are kept for."""
        self._wrapped.inference_wrapper_config.inference_max_seq_length = num_tokens
        self._wrapped.inference_context.max_sequence_length = num_tokens

    def __call__(self, prompt: str, max_new_tokens: int, temperature: float, top_k: int) -> tuple[str, int]:
        """The answer, and the number of tokens that were written for it."""
        from megatron.core.inference.common_inference_params import CommonInferenceParams

        greedy = temperature == 0 or top_k == 1
        wanted = CommonInferenceParams(
            temperature=1.0 if greedy else temperature,
            top_k=1 if greedy else top_k,
            num_tokens_to_generate=max_new_tokens,
        )
        [result] = self._engine.generate(prompts=[prompt], common_inference_params=wanted)
        assert result.generated_tokens is not None
        written = result.generated_tokens.tolist()
        return self.detokenize(written), len(written)


class _Tokenizer:
    """What the engine asks of a tokenizer, answered as for Hugging Face folders."""

    def __init__(self, wrapper: Any, answering: _Answering) -> None:
        self.eod, self.bos, self.vocab_size = wrapper.eod, None, wrapper.vocab_size
        self.tokenize, self.detokenize = answering.tokenize, answering.detokenize


def _trainer(device: str, dtype: torch.dtype) -> Any:
    from nemo import lightning as nl

    strategy = nl.MegatronStrategy(setup_optimizers=False, store_optimizer_states=False, ddp="pytorch")
    precision = nl.MegatronMixedPrecision(
        precision="bf16-mixed" if dtype == torch.bfloat16 else "32",
        params_dtype=dtype,
        pipeline_dtype=dtype,
        autocast_enabled=False,
        grad_reduce_in_fp32=False,
    )
    return nl.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        num_nodes=1,
        strategy=strategy,
        plugins=precision,
        logger=False,
        enable_checkpointing=False,
    )
