"""Configs of continual pretraining, LoRA and the instruction set; they import nothing heavier than pydantic."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.runtime import NOT_IDENTITY


class NemoConfig(BaseModel):
    """What only the backend `nemo` knows: its recipe, how a model is cut over GPUs, and which kernels run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str | None = Field(
        default=None, description="Module of nemo.collections.llm.recipes; null: the one of the model's shape."
    )
    data_order: Literal["tsuzuki", "megatron"] = Field(
        default="tsuzuki",
        description="tsuzuki: the samples of backend transformers, in their order; megatron: NeMo's own data module"
        " with its index mapping (pretraining only).",
    )
    num_nodes: int = Field(default=1, ge=1, description="Machines.")
    num_gpus: int = Field(default=1, ge=1, description="Processes and GPUs on each machine.")
    tensor_parallel: int = Field(default=1, ge=1, description="GPUs that share each matrix.")
    pipeline_parallel: int = Field(default=1, ge=1, description="GPUs that share the layers, one after the other.")
    context_parallel: int = Field(default=1, ge=1, description="GPUs that share each sequence (pretraining only).")
    sequence_parallel: bool = Field(default=False, description="Norms shared too; needs tensor_parallel above 1.")
    transformer_engine: bool = Field(
        default=True, description="NVIDIA's kernels; without them the slower layers of Megatron Core are used."
    )
    distributed_optimizer: bool = Field(default=False, description="Optimizer state shared by the data-parallel GPUs.")
    fused_cross_entropy: bool = Field(
        default=True, description="Head's loss by the kernels of transformer_engine, or Megatron Core's without it."
    )
    cuda_graphs: bool = Field(default=False, description="Each layer as a CUDA graph; needs transformer_engine.")
    fp8: bool = Field(default=False, description="Matrix products in FP8 (hybrid, delayed scaling); needs bf16.")

    @property
    def model_parallel(self) -> int:
        """GPUs that hold one copy of the model."""
        return self.tensor_parallel * self.pipeline_parallel * self.context_parallel

    @property
    def data_parallel(self) -> int:
        return self.num_nodes * self.num_gpus // self.model_parallel

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_nodes * self.num_gpus % self.model_parallel:
            raise ValueError(
                f"{self.num_nodes} x {self.num_gpus} GPUs are no multiple of tensor x pipeline x context parallel = "
                f"{self.model_parallel}"
            )
        if self.sequence_parallel and self.tensor_parallel == 1:
            raise ValueError("sequence_parallel needs tensor_parallel above 1")
        if (self.cuda_graphs or self.fp8) and not self.transformer_engine:
            raise ValueError("cuda_graphs and fp8 need transformer_engine")
        return self


class OptimizationConfig(BaseModel):
    """What every training has in common: batches, schedule, AdamW, precision, checkpoints, guards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: str = Field(default="transformers", description="Training backend; see tasks/training/backends.py.")
    sequence_length: int = Field(default=2048, ge=2, description="Tokens that one sample is trained on.")
    micro_batch_size: int = Field(default=4, ge=1, description="Samples per forward pass; lower it if memory is short.")
    global_batch_size: int = Field(
        default=64,
        ge=1,
        description="Samples per optimizer step, a multiple of micro_batch_size; accumulated.",
    )
    max_steps: int | None = Field(default=1000, ge=1, description="Optimizer steps; null if `epochs` is given.")
    epochs: float | None = Field(
        default=None, gt=0, description="Passes over the data, turned into steps by the data's own count; or max_steps."
    )
    learning_rate: float = Field(default=1e-4, gt=0, description="Peak learning rate, reached after the warm-up.")
    min_learning_rate: float = Field(default=1e-5, ge=0, description="Learning rate at the end of the cosine.")
    warmup_steps: int = Field(default=50, ge=0, description="Steps of linear warm-up; at most half of all steps.")
    weight_decay: float = Field(default=0.1, ge=0, description="AdamW decay of matrices; norms and biases have none.")
    adam_beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW's first moment.")
    adam_beta2: float = Field(default=0.95, ge=0, lt=1, description="AdamW's second moment.")
    adam_epsilon: float = Field(default=1e-8, gt=0, description="AdamW's epsilon.")
    gradient_clip_norm: float = Field(default=1.0, gt=0, description="Largest global gradient norm.")
    precision: Literal["fp32", "bf16"] = Field(
        default="bf16", description="bf16 is autocast over fp32 master weights; fp32 computes all in fp32."
    )
    device: Literal["cpu", "cuda"] = Field(default="cuda", description="Device; identity, as it changes the bits.")
    cpu_threads: int = Field(
        default=2, ge=1, description="Threads of torch on CPU; identity, as the order of sums changes the bits."
    )
    attention: Literal["sdpa", "eager", "flash_attention_2"] = Field(
        default="sdpa", description="Attention implementation of transformers."
    )
    compile: bool = Field(default=False, description="torch.compile the model; worth it on long GPU runs.")
    seed: int = Field(default=1234, ge=0, description="Seed of data order, adapter weights and dropout.")
    log_every_steps: int = Field(default=10, ge=1, description="Steps between rows of metrics.jsonl.")
    validate_every_steps: int = Field(default=100, ge=1, description="Steps between validations.")
    validation_batches: int = Field(
        default=16, ge=0, description="Micro-batches of each validation, always the same; 0 switches it off."
    )
    checkpoint_every_steps: int = Field(
        default=100,
        ge=1,
        json_schema_extra=NOT_IDENTITY,
        description="Steps between checkpoints; changes no bit.",
    )
    keep_checkpoints: int = Field(
        default=2, ge=1, json_schema_extra=NOT_IDENTITY, description="Checkpoints kept while the training runs."
    )
    loss_spike_limit: float = Field(
        default=3.0, gt=1, description="A loss above this many times the running median is a spike."
    )
    loss_spike_steps: int = Field(default=20, ge=1, le=50, description="Consecutive spikes that stop the training.")
    nemo: NemoConfig | None = Field(default=None, description="For backend nemo, which fills it; null for others.")

    @model_validator(mode="before")
    @classmethod
    def _fill_nemo(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("backend") == "nemo" and values.get("nemo") is None:
            return {**values, "nemo": {}}
        return values

    @model_validator(mode="after")
    def _check_nemo(self) -> Self:
        if self.nemo is None:
            return self
        if self.backend != "nemo":
            raise ValueError(f"`nemo` is given, and backend is {self.backend}")
        if self.compile or self.attention != "sdpa":
            raise ValueError("attention and compile are of backend transformers; leave them out with backend nemo")
        if self.global_batch_size % (self.micro_batch_size * self.nemo.data_parallel):
            raise ValueError(
                f"global_batch_size {self.global_batch_size} is no multiple of micro_batch_size "
                f"{self.micro_batch_size} x {self.nemo.data_parallel} data-parallel GPUs"
            )
        if self.nemo.fp8 and self.precision != "bf16":
            raise ValueError(f"fp8 needs precision bf16, not {self.precision}")
        if self.sequence_length % (2 * self.nemo.context_parallel) and self.nemo.context_parallel > 1:
            raise ValueError("sequence_length must be a multiple of 2 x context_parallel")
        if self.nemo.transformer_engine and self.device == "cpu":
            raise ValueError("nemo.transformer_engine needs device cuda; set it to false on a CPU")
        return self

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.global_batch_size % self.micro_batch_size:
            raise ValueError(
                f"global_batch_size {self.global_batch_size} is no multiple of micro_batch_size {self.micro_batch_size}"
            )
        if (self.max_steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of max_steps and epochs, and null for the other")
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(f"min_learning_rate {self.min_learning_rate} is above learning_rate {self.learning_rate}")
        if self.attention == "flash_attention_2" and (self.device, self.precision) != ("cuda", "bf16"):
            raise ValueError("attention flash_attention_2 needs device cuda and precision bf16")
        return self


class PretrainConfig(OptimizationConfig):
    """Continual pretraining of every weight on the packed token files; defaults are the workshop's."""

    expect_pretrained: bool = Field(
        default=True,
        description="Stop unless the loss at step 0 is below ln(vocabulary) - 1: no random weights by accident.",
    )


class LoraConfig(OptimizationConfig):
    """A LoRA adapter trained on the responses of the instruction set; defaults are the workshop's."""

    sequence_length: int = Field(default=2048, ge=2, description="Tokens of prompt and response; longer ones are cut.")
    global_batch_size: int = Field(default=16, ge=1, description="Samples per optimizer step.")
    max_steps: int | None = Field(default=500, ge=1, description="Optimizer steps; null if `epochs` is given.")
    learning_rate: float = Field(default=2e-4, gt=0, description="Peak learning rate, reached after the warm-up.")
    min_learning_rate: float = Field(default=2e-5, ge=0, description="Learning rate at the end of the cosine.")
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW decay of the adapter's matrices.")
    validate_every_steps: int = Field(default=10, ge=1, description="Steps between validations.")
    rank: int = Field(default=16, ge=1, description="Rank of the adapter's matrices.")
    alpha: float = Field(default=32.0, gt=0, description="Scale of the adapter: its output times alpha / rank.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Dropout before the adapter.")
    target_modules: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Names of the linear layers to adapt; null: those of the architecture."
    )
    base_name: str = Field(default="", description="Name of the base model in adapter_config.json, as on the hub.")

    @model_validator(mode="after")
    def _check_lora_on_nemo(self) -> Self:
        if self.nemo and (self.nemo.context_parallel > 1 or self.nemo.data_order == "megatron"):
            raise ValueError("LoRA on backend nemo runs with context_parallel 1 and data_order tsuzuki")
        return self


class InstructionsConfig(BaseModel):
    """Where prompt and response pairs come from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["auto", "sample", "template", "jsonl"] = Field(
        default="auto",
        description="sample: the bundled sample's questions; template: sentences of held-out documents; jsonl: "
        "your file; auto: your file if `path` is given, else the sample's questions if there are any, else template.",
    )
    path: Path | None = Field(
        default=None,
        json_schema_extra=NOT_IDENTITY,
        description="JSONL of {instruction, input, output} or {messages: [{role, content}]}; its content counts.",
    )
    validation_share: float = Field(
        default=0.1, gt=0, lt=1, description="Share of the pairs held out (jsonl, template)."
    )
    template_share: float = Field(
        default=0.5, gt=0, le=1, description="Largest share of the validation documents that the template may use up."
    )
    seed: int = Field(default=1234, ge=0, description="Seed of the hash that picks documents and held-out pairs.")
    max_pairs: int | None = Field(default=None, ge=2, description="At most so many pairs, picked by hash; null: all.")
    min_pairs: int = Field(default=8, ge=2, description="Fewer pairs than this stop the stage.")
    max_bad_rows: int = Field(default=0, ge=0, description="Rows of the JSONL that may be unreadable (counted).")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "jsonl" and self.path is None:
            raise ValueError("kind jsonl needs path")
        if self.path is not None and self.kind not in ("jsonl", "auto"):
            raise ValueError(f"path is only read with kind jsonl or auto, not {self.kind}")
        return self
