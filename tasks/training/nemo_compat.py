"""What NeMo 2.7.3 and NeMo-Run 0.11.1 need to run where a package they take for granted is absent.

Each shim says why it is there and when it switches itself off. None of them is for the CPU.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

LOCAL_NORMS = {
    "self_attention.linear_qkv.layer_norm_": "input_layernorm.",
    "mlp.linear_fc1.layer_norm_": "pre_mlp_layernorm.",
}
"""Where Transformer Engine's layers keep their norms, and where Megatron's own layers do."""


def prepare() -> list[str]:
    """Names of the shims that are on in this process, once they are; call it before anything imports NeMo.

    Calling it again changes nothing.
    """
    return [shim.__name__ for shim in SHIMS if shim()]


def stub_leptonai() -> bool:
    """NeMo-Run imports its executor for Lepton, and with it leptonai, on import; we offer no such executor.

    leptonai 0.47 has another interface and 0.27.3 asks for what Prefect cannot have, so that neither is installed.
    Off where a leptonai is installed. Touches no NeMo, so that a process that only launches may call this alone.
    """
    if any(isinstance(finder, _LeptonFinder) for finder in sys.meta_path):
        return True
    if importlib.util.find_spec("leptonai") is not None:
        return False
    sys.meta_path.append(_LeptonFinder())
    return True


def name_numpy_product() -> bool:
    """Megatron 0.15 shares out a checkpoint over several processes with `numpy.product`, which NumPy 2 dropped.

    Off where numpy has it.
    """
    import numpy

    if getattr(numpy, "product", numpy.prod) is not numpy.prod:
        return False
    numpy.product = numpy.prod  # pyright: ignore[reportAttributeAccessIssue]
    return True


def name_local_checkpoint_callback() -> bool:
    """NeMo's logger asks of every checkpoint callback whether it is one of nvidia-resiliency-ext, there or not.

    Its wheels need a newer glibc than most machines have. Off where it can be imported.
    """
    from nemo.lightning import nemo_logger

    if nemo_logger.HAVE_RES:
        return False
    nemo_logger.lcp = ModuleType("nvidia_resiliency_ext_is_absent")  # pyright: ignore[reportAttributeAccessIssue]
    nemo_logger.lcp.LocalCheckpointCallback = type("LocalCheckpointCallback", (), {})
    return True


def rename_local_norms() -> bool:
    """NeMo's connectors name the norms as Transformer Engine's layers do; Megatron's own layers name them otherwise.

    Off where Transformer Engine can be imported: NeMo then builds its layers. Checkpoints are the same on disk.
    """
    from nemo.collections.llm.gpt.model import base
    from nemo.lightning import io

    if base.HAVE_TE:
        return False
    if not getattr(io.apply_transforms, "renames_local_norms", False):
        io.apply_transforms = _with_local_norms(io.apply_transforms)
    return True


def tell_lora_of_absent_engine() -> bool:
    """NeMo's LoRA takes Megatron's stand-ins for Transformer Engine's layers for the real ones, and fails on them.

    Off where Transformer Engine can be imported.
    """
    from nemo.collections.llm.peft import lora, module_matcher, utils

    if lora.HAVE_TE:
        return False
    lora.te = ModuleType("transformer_engine_is_absent")  # pyright: ignore[reportAttributeAccessIssue]
    lora.te.Linear = type("Linear", (), {})
    utils.HAVE_TE = False
    for name in ("HAVE_TE_COL_LINEAR", "HAVE_TE_LN_COL_LINEAR", "HAVE_TE_ROW_LINEAR"):
        setattr(module_matcher, name, False)
    return True


def ask_for_no_absent_kernel() -> bool:
    """NeMo's configs of Llama and Mixtral ask for kernels of Transformer Engine and Apex, there or not, and fail.

    Rotary angles, norms and softmax are then Megatron's and torch's own, which give the same, unfused. Off where
    Transformer Engine can be imported.
    """
    from nemo.collections.llm.gpt.model import base

    if base.HAVE_TE:
        return False
    from megatron.core.transformer.transformer_config import TransformerConfig

    check = TransformerConfig.__post_init__
    if not getattr(check, "asks_for_no_absent_kernel", False):

        def unfused(config: Any) -> None:
            config.apply_rope_fusion = config.persist_layer_norm = config.masked_softmax_fusion = False
            check(config)

        unfused.asks_for_no_absent_kernel = True  # pyright: ignore[reportFunctionMemberAccess]
        TransformerConfig.__post_init__ = unfused
    return True


def route_experts_without_engine() -> bool:
    """Megatron's router of experts names a product of Transformer Engine that is not defined without it.

    It takes torch's where the name is None. Off where Transformer Engine can be imported.
    """
    from nemo.collections.llm.gpt.model import base

    if base.HAVE_TE:
        return False
    from megatron.core.transformer.moe import moe_utils

    moe_utils.te_general_gemm = None  # pyright: ignore[reportAttributeAccessIssue]
    return True


SHIMS = (
    stub_leptonai,
    name_numpy_product,
    name_local_checkpoint_callback,
    rename_local_norms,
    tell_lora_of_absent_engine,
    ask_for_no_absent_kernel,
    route_experts_without_engine,
)


def _with_local_norms(apply_transforms: Callable[..., Any]) -> Callable[..., Any]:
    def renamed(source: Any, target: Any, mapping: dict[str, str], transforms: Any = (), **options: Any) -> Any:
        mapping = {_local_name(left): _local_name(right) for left, right in mapping.items()}
        return apply_transforms(source, target, mapping, list(transforms or ()), **options)

    renamed.renames_local_norms = True  # pyright: ignore[reportFunctionMemberAccess]
    return renamed


def _local_name(name: str) -> str:
    for engine_name, local_name in LOCAL_NORMS.items():
        name = name.replace(engine_name, local_name)
    return name


class _Placeholder(type):
    """A class whose every attribute is another such class, so that enumerations can be read and types be named."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = _Placeholder(name, (), {})
        setattr(cls, name, value)  # so that reading twice gives one value, as members of an enumeration do
        return value


class _LeptonModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = _Placeholder(name, (), {})
        setattr(self, name, value)
        return value


class _LeptonFinder:
    """Finds `leptonai` and every module below it, all empty of code."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] != "leptonai":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)  # pyright: ignore[reportArgumentType]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _LeptonModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        return None
