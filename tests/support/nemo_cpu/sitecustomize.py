"""Emulates the parts of torch.cuda that NeMo and Megatron touch, on the CPU; found by Python through PYTHONPATH.

`torch.cuda.is_available()` stays False, so that Lightning and gloo run on the CPU. What Megatron asks of a CUDA device
regardless is answered by the CPU: tensors for `cuda` are made here, and the CUDA generator is the CPU's, so that
Megatron's tracker of random states really tracks them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class CudaIsCpu(TorchFunctionMode):
    """Sends whatever is meant for a CUDA device to the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.cuda:
            return args[0]
        if func is torch.Tensor.type and len(args) == 1 and not kwargs:  # Megatron asserts the name it expects
            return func(*args).replace("torch.", "torch.cuda.")
        if func is torch.Tensor.to and len(args) > 1:
            args = (args[0], _on_cpu(args[1]), *args[2:])
        if "device" in kwargs:
            kwargs["device"] = _on_cpu(kwargs["device"])
        kwargs.pop("pin_memory", None)
        return func(*args, **kwargs)


def _on_cpu(device: Any) -> Any:
    """The device, or `cpu` for a CUDA one; anything that is no device (a dtype, a tensor) as it is."""
    if isinstance(device, str) and device.startswith("cuda"):
        return "cpu"
    if isinstance(device, torch.device) and device.type == "cuda":
        return torch.device("cpu")
    return torch.device("cpu") if isinstance(device, int) and not isinstance(device, bool) else device


class Stream:
    """A stream or event that has nothing to wait for."""

    cuda_stream = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.device = torch.device("cpu")

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exception: Any) -> None:
        return None

    def record(self, *args: Any, **kwargs: Any) -> None:
        return None

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: Stream) -> float:
        return 0.0

    def record_event(self, event: Stream | None = None) -> Stream:
        return event or self

    wait_stream = wait_event = wait = synchronize = record


class Generator(torch.Generator):
    """A generator on the CPU, for whatever device it is asked."""

    def __new__(cls, device: Any = None) -> Generator:
        return super().__new__(cls)


def _answering(value: Any) -> Callable[..., Any]:
    """A new function that gives that value: dynamo refuses one function under two names of torch."""
    return lambda *args, **kwargs: value


def emulate() -> None:
    """Replaces those names of torch.cuda for the rest of the process."""
    cuda: Any = torch.cuda
    for name in ("synchronize", "empty_cache", "set_device", "reset_peak_memory_stats", "ipc_collect", "init"):
        setattr(cuda, name, _answering(None))
    for name in (
        "current_device",
        "memory_allocated",
        "max_memory_allocated",
        "memory_reserved",
        "max_memory_reserved",
    ):
        setattr(cuda, name, _answering(0))
    cuda.Stream = cuda.Event = Stream
    cuda.current_stream = cuda.default_stream = Stream
    cuda.stream = cuda.device = contextlib.nullcontext
    cuda.memory_stats = _answering({})
    cuda.mem_get_info = _answering((1 << 33, 1 << 33))
    cuda.get_device_capability = _answering((8, 0))
    cuda.get_device_properties = _answering(SimpleNamespace(name="cpu", major=8, minor=0, total_memory=1 << 33))
    cuda.is_initialized = _answering(True)
    cuda.device_count = _answering(1)  # asked by NeMo before it seeds
    cuda.get_device_name = _answering("cpu")
    cuda.FloatTensor = lambda values: torch.tensor(values, dtype=torch.float32)
    cuda.default_generators = (torch.default_generator,)
    cuda._lazy_init = _answering(None)
    cuda._lazy_call = lambda function, **kwargs: function()
    for module in (cuda, cuda.random):
        module.manual_seed = lambda seed: torch.default_generator.manual_seed(seed)
        module.manual_seed_all = lambda seed: torch.default_generator.manual_seed(seed)
        module.get_rng_state = lambda device=None: torch.get_rng_state()
        module.set_rng_state = lambda state, device=None: torch.set_rng_state(state)
    torch.nn.Module.cuda = lambda self, device=None: self
    torch.Generator = Generator
    CudaIsCpu().__enter__()


emulate()
