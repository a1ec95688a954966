"""NeMo's recipes by the shape of a model, and one of them with everything that our config says."""

# pyright: reportMissingImports=false
# nemo and nemo_run are of the environment of backend `nemo`, and imported only where they are used.
from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from data_contracts.errors import ConfigError, ModelError
from tasks.training.config import LoraConfig, NemoConfig, OptimizationConfig

RECIPES: dict[str, dict[tuple[int, int], str]] = {
    "gemma": {(2048, 18): "gemma_2b", (3072, 28): "gemma_7b"},
    "gemma2": {(2304, 26): "gemma2_2b", (3584, 42): "gemma2_9b", (4608, 46): "gemma2_27b"},
    "gemma3_text": {(1152, 26): "gemma3_1b"},
    "llama": {
        (2048, 16): "llama32_1b",
        (3072, 28): "llama32_3b",
        (4096, 32): "llama31_8b",
        (8192, 80): "llama31_70b",
        (16384, 126): "llama31_405b",
    },
    "mistral": {(4096, 32): "mistral_7b", (5120, 40): "mistral_nemo_12b"},
    "mixtral": {(4096, 32): "mixtral_8x7b", (6144, 56): "mixtral_8x22b"},
    "phi3": {(3072, 32): "phi3_mini_4k_instruct"},
    "qwen2": {
        (896, 24): "qwen25_500m",
        (1536, 28): "qwen25_1p5b",
        (3584, 28): "qwen25_7b",
        (5120, 48): "qwen25_14b",
        (5120, 64): "qwen25_32b",
        (8192, 80): "qwen25_72b",
    },
    "qwen3": {
        (2048, 28): "qwen3_1p7b",
        (2560, 36): "qwen3_4b",
        (4096, 36): "qwen3_8b",
        (5120, 40): "qwen3_14b",
        (5120, 64): "qwen3_32b",
    },
}
"""Modules of nemo.collections.llm.recipes (2.7.3) by model_type and (hidden_size, num_hidden_layers). A shape that is
not there takes the first of its architecture: the model itself comes from the checkpoint, never from the recipe."""

PRECISIONS = {"bf16": "bf16-mixed", "fp32": "32"}
LORA_TARGETS = {
    "linear_qkv": ("q_proj", "k_proj", "v_proj"),
    "linear_proj": ("o_proj",),
    "linear_fc1": ("gate_proj", "up_proj"),
    "linear_fc2": ("down_proj",),
}
"""NeMo's linear layers, and those of transformers that each holds."""


def recipe_name(config: NemoConfig, model: Path) -> str:
    """The recipe that the config names, or that of the model folder's shape.

    Raises ModelError for an architecture without any recipe.
    """
    if config.recipe:
        return config.recipe
    shape = json.loads((model / "config.json").read_text(encoding="utf-8"))
    try:
        known = RECIPES[shape["model_type"]]
    except KeyError:
        raise ModelError(
            f"`{model}`: NeMo has no recipe for {shape.get('model_type')}, expected one of {', '.join(RECIPES)}",
            hint="use backend transformers for this architecture",
        ) from None
    return known.get((shape["hidden_size"], shape["num_hidden_layers"]), next(iter(known.values())))


def lora_targets(asked: tuple[str, ...] | None) -> list[str]:
    """NeMo's names of the layers to adapt; all if none were asked for.

    Raises ConfigError for names it does not know, and for a part of a matrix that NeMo keeps in one piece.
    """
    if asked is None:
        return list(LORA_TARGETS)
    targets = [name for name, parts in LORA_TARGETS.items() if set(parts) <= set(asked)]
    covered = {part for name in targets for part in LORA_TARGETS[name]}
    if left := sorted(set(asked) - covered):
        groups = "; ".join(", ".join(parts) for parts in LORA_TARGETS.values())
        raise ConfigError(
            f"`lora.target_modules`: {', '.join(left)} cannot be adapted alone, expected whole groups of {groups}",
            hint="backend nemo keeps each group in one matrix; name all of a group, or use backend transformers",
        )
    return targets


def build_recipe(
    *, task: str, config: OptimizationConfig, model: Path, checkpoint: Path, data: Any, watch: Any, num_steps: int,
    folder: Path, resume_from: Path | None,
) -> Any:  # fmt: skip
    """NeMo's recipe as a run.Partial, with our model, data, optimizer, parallelism, precision and checkpoints.

    task: pretrain or lora. model: the Hugging Face folder. checkpoint: the same as a NeMo checkpoint, where weights
    come from unless resume_from, a checkpoint of this training, is given. data: run.Config of the data module. watch:
    run.Config of the callback that follows the training and saves checkpoints. folder: for logs and checkpoints.
    """
    assert config.nemo is not None
    recipe = _named_recipe(task, config, recipe_name(config.nemo, model), folder)
    recipe.model = str(checkpoint)
    recipe.data = data
    _set_trainer(recipe.trainer, config, watch, num_steps)
    _set_optimizer(recipe.optim, config)
    _set_files(recipe, checkpoint, folder, resume_from)
    if task == "lora":
        _set_lora(recipe, config)
    return recipe


def _named_recipe(task: str, config: OptimizationConfig, name: str, folder: Path) -> Any:
    assert config.nemo is not None
    try:
        module = import_module(f"nemo.collections.llm.recipes.{name}")
    except ModuleNotFoundError:
        raise ConfigError(
            f"`nemo.recipe`: found {name}, expected a module of nemo.collections.llm.recipes",
            hint=f"such as {', '.join(sorted({known for sizes in RECIPES.values() for known in sizes.values()}))}",
        ) from None
    common = {"dir": str(folder), "name": "training", "num_nodes": config.nemo.num_nodes}
    common["num_gpus_per_node"] = config.nemo.num_gpus
    if task == "lora":
        return module.finetune_recipe(**common, peft_scheme="lora")
    return module.pretrain_recipe(**common)


def model_settings(task: str, config: NemoConfig) -> dict[str, Any]:
    """Fields of the model's config that a training sets anew; the rest is the checkpoint's."""
    settings: dict[str, Any] = {
        # Every target weighs the same, also where micro-batches hold unequal numbers of them, as pairs do.
        "calculate_per_token_loss": task == "lora",
        "cross_entropy_loss_fusion": config.fused_cross_entropy,
        "cross_entropy_fusion_impl": "te" if config.transformer_engine else "native",
    }
    if config.cuda_graphs:
        settings |= {"enable_cuda_graph": True, "use_te_rng_tracker": True}
    if not config.transformer_engine:
        from nemo.collections.llm.gpt.model.base import local_layer_spec

        settings["transformer_layer_spec"] = local_layer_spec
        settings["masked_softmax_fusion"] = False  # its kernel is Apex's, and Megatron imports it without asking
    return settings


def _set_trainer(trainer: Any, config: OptimizationConfig, watch: Any, num_steps: int) -> None:
    nemo = config.nemo
    assert nemo is not None
    trainer.accelerator = "cpu" if config.device == "cpu" else "gpu"
    trainer.devices, trainer.num_nodes = nemo.num_gpus, nemo.num_nodes
    trainer.max_steps, trainer.accumulate_grad_batches = num_steps, 1
    trainer.val_check_interval, trainer.check_val_every_n_epoch = config.validate_every_steps, None
    trainer.limit_test_batches, trainer.num_sanity_val_steps = 0, -1  # the sanity check is our validation at step 0
    trainer.log_every_n_steps = config.log_every_steps
    trainer.enable_progress_bar, trainer.logger = False, False
    trainer.plugins = _precision(config)
    trainer.callbacks = [watch]
    strategy = trainer.strategy
    strategy.tensor_model_parallel_size = nemo.tensor_parallel
    strategy.pipeline_model_parallel_size = nemo.pipeline_parallel
    strategy.pipeline_dtype = None
    strategy.virtual_pipeline_model_parallel_size = None
    strategy.context_parallel_size = nemo.context_parallel
    strategy.sequence_parallel = nemo.sequence_parallel
    strategy.use_te_rng_tracker = nemo.cuda_graphs
    strategy.ckpt_async_save = False  # a checkpoint counts when it is whole; LoRA cannot save otherwise at all
    strategy.ckpt_load_strictness = "log_all"
    strategy.ddp = "megatron"


def _precision(config: OptimizationConfig) -> Any:
    import nemo_run as run
    import torch
    from nemo.lightning.pytorch.plugins import MegatronMixedPrecision

    assert config.nemo is not None
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    fp8 = {"fp8": "hybrid", "fp8_recipe": "delayed", "fp8_amax_history_len": 1024, "fp8_amax_compute_algo": "max"}
    return run.Config(
        MegatronMixedPrecision,
        precision=PRECISIONS[config.precision],
        params_dtype=dtype,
        pipeline_dtype=dtype,
        autocast_enabled=False,
        grad_reduce_in_fp32=True,
        **(fp8 if config.nemo.fp8 else {}),
    )


def _set_optimizer(optim: Any, config: OptimizationConfig) -> None:
    assert config.nemo is not None
    optim.lr_scheduler = None  # the watch sets the learning rate of each step, also after max_steps was raised
    settings = optim.config
    settings.lr = config.learning_rate
    settings.weight_decay = config.weight_decay
    settings.adam_beta1, settings.adam_beta2 = config.adam_beta1, config.adam_beta2
    settings.adam_eps = config.adam_epsilon
    settings.clip_grad = config.gradient_clip_norm
    settings.bf16, settings.fp16 = config.precision == "bf16", False
    settings.use_distributed_optimizer = config.nemo.distributed_optimizer


def _set_files(recipe: Any, checkpoint: Path, folder: Path, resume_from: Path | None) -> None:
    import nemo_run as run
    from nemo import lightning as nl

    recipe.log = run.Config(
        nl.NeMoLogger,
        name="training",
        log_dir=str(folder),
        use_datetime_version=False,
        ckpt=run.Config(  # the watch says when; this says how
            nl.ModelCheckpoint,
            dirpath=str(folder / "checkpoints"),
            monitor=None,
            save_last=False,
            save_top_k=0,
            save_optim_on_train_end=True,
            always_save_context=True,
        ),
    )
    # The data module brings the tokenizer; NeMo looks for one nowhere when a training is resumed.
    restore = run.Config(nl.RestoreConfig, path=str(checkpoint), load_artifacts=False)
    recipe.resume = run.Config(nl.AutoResume, restore_config=restore)
    if resume_from:
        recipe.resume.resume_from_path = str(resume_from)


def _set_lora(recipe: Any, config: OptimizationConfig) -> None:
    assert isinstance(config, LoraConfig)
    recipe.tokenizer = "data"
    recipe.peft.target_modules = lora_targets(config.target_modules)
    recipe.peft.dim, recipe.peft.alpha = config.rank, config.alpha
    recipe.peft.dropout, recipe.peft.dropout_position = config.dropout, "pre"
