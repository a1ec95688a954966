"""NeMo's own connectors between Hugging Face folders and its checkpoints, with what they leave out put right.

They untie what the model ties, take the vocabulary from the tokenizer and the context length from the sliding window,
pass over the width of heads, and write every process's tokenizer to one folder of the machine.
"""

# pyright: reportMissingImports=false
# nemo is of the environment of backend `nemo`.
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from tasks.models.architectures import LOCAL, NemoConnector
from tasks.models.nemo_folder import TOKENIZER

HEADS = ("lm_head.weight", "output_layer.weight")
FOR_LOADING = {
    "enable_cuda_graph": False,
    "fp8": None,
    "fp8_param": False,
    "perform_initialization": False,
    "sequence_parallel": False,
    "tp_comm_overlap": False,
}
"""Settings of a training that say nothing about its weights, as a checkpoint is loaded on one CPU."""


def has_engine() -> bool:
    """Whether NeMo found Transformer Engine."""
    from nemo.collections.llm.gpt.model import base

    return base.HAVE_TE


def importer(connector: NemoConnector, view: Path) -> Any:
    """NeMo's importer of a view (`nemo_folder`): called with a folder, it writes the checkpoint there."""
    stock = type(_model_class(connector).importer(f"hf://{view}"))

    class Importer(stock):
        trust_remote_code = False

        @property
        def config(self) -> Any:
            _let_configs_record()
            return corrected(_property(stock, "config")(self), view)

        @property
        def tokenizer(self) -> Any:
            from nemo.collections.common.tokenizers.huggingface.auto_tokenizer import AutoTokenizer

            return AutoTokenizer(str(view / TOKENIZER))

        def apply(self, output_path: Path, **options: Any) -> Path:
            source, target = transformers_model(view), self.init()
            trainer = self.nemo_setup(target, _trainer(ckpt_save_optimizer=False, always_save_context=True))
            _cast_weights(target)
            with ties_kept(_is_tied(view)):
                self.convert_state(source, target)
            self.nemo_save(output_path, trainer)
            end(trainer)
            return output_path

    return Importer(str(view))


def converted(connector: NemoConnector, checkpoint: Path, view: Path) -> tuple[Any, int]:
    """The transformers model that a view describes with the weights of a NeMo checkpoint, and how many NeMo has.

    The checkpoint may come from a training; its optimizer is not read.
    """
    stock = type(_model_class(connector).exporter("hf", checkpoint))

    class Exporter(stock):
        trust_remote_code = False

        @property
        def config(self) -> Any:
            return _transformers_config(view)

    source, trainer = loaded(checkpoint)
    parameters = list(source.parameters())
    target = _empty_transformers_model(view, parameters[0].dtype)
    with ties_kept(_is_tied(view)):
        target = Exporter(str(checkpoint)).convert_state(source, target)
    end(trainer)
    return target, sum(parameter.numel() for parameter in parameters)


def corrected(nemo_config: Any, view: Path) -> Any:
    """The config that NeMo's importer made, with every field that it passed over as the view has it.

    Also in what NeMo writes beside the weights, so that the training sees the same.
    """
    from transformers import GenerationConfig

    source = _transformers_config(view)
    dtype = source.torch_dtype
    head_width = getattr(source, "head_dim", None) or source.hidden_size // source.num_attention_heads
    fields = {
        "vocab_size": source.vocab_size,
        "seq_length": source.max_position_embeddings,
        "share_embeddings_and_output_weights": _is_tied(view),
        "kv_channels": head_width,
        "num_query_groups": getattr(source, "num_key_value_heads", None) or source.num_attention_heads,
        "params_dtype": dtype,
        "bf16": dtype == torch.bfloat16,
        "fp16": dtype == torch.float16,
        "window_size": _window(source),
        "generation_config": GenerationConfig.from_pretrained(view, local_files_only=True),
        **_rope(source),
        **_experts(source),
    }
    if hasattr(nemo_config, "max_position_embeddings"):
        fields["max_position_embeddings"] = source.max_position_embeddings
    for name, value in fields.items():
        setattr(nemo_config, name, value)
        setattr(nemo_config.__io__, name, value)
    return nemo_config


def _window(source: Any) -> tuple[int, int] | None:
    """How many tokens before its own one a token sees; transformers counts its own, Megatron does not."""
    window = getattr(source, "sliding_window", None)
    if window is None or source.model_type.startswith("qwen") or window >= source.max_position_embeddings:
        return None
    return (window - 1, 0)


def _rope(source: Any) -> dict[str, Any]:
    scaling = getattr(source, "rope_scaling", None) or {}
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    fields: dict[str, Any] = {"rotary_base": source.rope_theta}
    if kind == "linear":
        fields["seq_len_interpolation_factor"] = scaling["factor"]
    if kind == "llama3":
        fields |= {
            "scale_factor": scaling["factor"],
            "low_freq_factor": scaling["low_freq_factor"],
            "high_freq_factor": scaling["high_freq_factor"],
            "old_context_len": scaling["original_max_position_embeddings"],
        }
    return fields


def _experts(source: Any) -> dict[str, Any]:
    """What a mixture of experts needs: the weight of the balancing loss, which transformers adds if the model says."""
    if not hasattr(source, "num_local_experts"):
        return {}
    return {"moe_aux_loss_coeff": source.router_aux_loss_coef if source.output_router_logits else 0.0}


@contextlib.contextmanager
def ties_kept(tied: bool) -> Iterator[None]:
    """While it lasts, NeMo's conversions of a tied model leave the head out: it is the embedding."""
    from nemo.lightning import io

    convert = io.apply_transforms

    def without_head(source: Any, target: Any, mapping: dict[str, str], transforms: Any = (), **options: Any) -> Any:
        mapping = {left: right for left, right in mapping.items() if not {left, right} & set(HEADS)}
        transforms = [t for t in transforms or () if not {str(t.source_key), str(t.target_key)} & set(HEADS)]
        return convert(source, target, mapping, transforms, **options)

    io.apply_transforms = without_head if tied else convert
    try:
        yield
    finally:
        io.apply_transforms = convert


def transformers_model(view: Path) -> Any:
    """The model of a view as transformers loads it, in the type of its weights."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        view, torch_dtype="auto", local_files_only=True, use_safetensors=True, trust_remote_code=False
    )


def _empty_transformers_model(view: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.modeling_utils import no_init_weights

    with no_init_weights():
        return AutoModelForCausalLM.from_config(_transformers_config(view), torch_dtype=dtype)


def _transformers_config(view: Path) -> Any:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(view, local_files_only=True, trust_remote_code=False)


def _is_tied(view: Path) -> bool:
    return bool(_transformers_config(view).tie_word_embeddings)


def loaded(checkpoint: Path) -> tuple[Any, Any]:
    """NeMo's model with the checkpoint's weights, on the CPU in one process, and its trainer."""
    from nemo.collections.llm.gpt.model.base import default_layer_spec, local_layer_spec
    from nemo.lightning import _strategy_lib, io
    from nemo.lightning.ckpt_utils import ckpt_to_context_subdir

    model = io.load_context(ckpt_to_context_subdir(checkpoint), subpath="model")
    for name, value in FOR_LOADING.items():
        setattr(model.config, name, value)
    if model.config.transformer_layer_spec is local_layer_spec:
        model.config.transformer_layer_spec = default_layer_spec  # the names that the connectors were prepared for
    trainer = _trainer(ddp="pytorch", setup_optimizers=False)
    trainer.strategy.connect(model)
    trainer.strategy.setup_environment()
    with _strategy_lib.megatron_cpu_init_context(model.config):
        model.configure_model()
    _cast_weights(model)
    trainer.strategy.setup(trainer)
    trainer.strategy.load_checkpoint(checkpoint)
    return model, trainer


def _cast_weights(model: Any) -> None:
    """All weights in the type of the config; norms outside of Transformer Engine are made in fp32 whatever it says."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(model.config.params_dtype)


def _trainer(**strategy: Any) -> Any:
    from nemo.lightning import MegatronStrategy, Trainer

    return Trainer(
        devices=1, accelerator="cpu", logger=False, enable_checkpointing=False, strategy=MegatronStrategy(**strategy)
    )


def end(trainer: Any) -> None:
    """Leaves Megatron's process groups, so that another model can be made in this process."""
    from nemo.lightning import teardown

    teardown(trainer)


def _model_class(connector: NemoConnector) -> Any:
    return getattr(import_module(f"{LOCAL}.{connector.module}"), connector.model)


def _let_configs_record() -> None:
    """Lets each class of config keep the arguments it was made from, by which NeMo writes it beside the weights.

    NeMo takes a class for prepared when one it derives from is: Llama 3.1 after Llama 3 in one process kept nothing.
    """
    from nemo.collections.llm.gpt.model.base import GPTConfig

    classes = [GPTConfig]
    while classes:
        kind: Any = classes.pop()
        if "__wrapped_init__" not in vars(kind):
            kind.__wrapped_init__ = False
        classes += kind.__subclasses__()


def _property(owner: type, name: str) -> Callable[[Any], Any]:
    """The function behind a property or a cached property of a class."""
    found: Any = getattr(owner, name)
    function: Any = found.fget if isinstance(found, property) else found.func
    return function
