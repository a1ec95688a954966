"""The model card: Hugging Face front matter and Markdown without times, so that equal inputs give equal bytes."""

from __future__ import annotations

import re
from typing import Any

import yaml
from markupsafe import Markup

from data_contracts.manifest import DataSource
from tasks.deliver.comparison import MODELS, Comparison, forgetting_sentence, gain_sentence
from tasks.deliver.config import DeliverConfig
from tasks.deliver.formats import DASH, is_link, number, short
from tasks.deliver.funnel import funnel
from tasks.deliver.lineage import Lineage
from tasks.deliver.templates import environment

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")

SETTINGS = (
    "backend", "precision", "device", "sequence_length", "micro_batch_size", "global_batch_size", "max_steps", "epochs",
    "learning_rate", "min_learning_rate", "warmup_steps", "weight_decay", "adam_beta1", "adam_beta2",
    "gradient_clip_norm", "rank", "alpha", "dropout", "target_modules", "seed",
)  # fmt: skip
"""Settings that the card names: all of them shape the weights. Paths and log intervals stay out."""

TOKEN_COUNTS = (
    ("Tokens of one pass over the training split", "tokens", "num_tokens_train"),
    ("Tokens held out for validation", "tokens", "num_tokens_validation"),
    ("Steps of continued pretraining", "continued", "steps"),
    ("Tokens consumed by continued pretraining", "continued", "tokens_consumed"),
    ("Steps of LoRA tuning", "adapter", "steps"),
    ("Tokens consumed by LoRA tuning", "adapter", "tokens_consumed"),
    ("Parameters", "tuned", "parameters"),
)


def render_card(config: DeliverConfig, lineage: Lineage, comparison: Comparison) -> bytes:
    """`README.md` of the delivery and of its model folder."""
    template = environment(md=markdown, link=markdown_link, number=number, short=short).get_template("card.md.j2")
    text = template.render(
        front_matter=front_matter(config, lineage),
        config=config,
        lineage=lineage,
        base_names=", ".join(source.name for source in lineage.weight_sources) or "a base model",
        funnel=funnel(lineage),
        settings=_settings(lineage),
        token_counts=[(label, lineage.count(role, name)) for label, role, name in TOKEN_COUNTS],
        models=MODELS,
        measures=comparison.rows(),
        gain=gain_sentence(comparison),
        forgetting=forgetting_sentence(comparison),
    )
    return text.strip().encode() + b"\n"


def front_matter(config: DeliverConfig, lineage: Lineage) -> Markup:
    """The YAML head that the Hugging Face hub reads."""
    head: dict[str, Any] = {"language": ["ja"], "library_name": "transformers", "pipeline_tag": "text-generation"}
    head.update(_licence(lineage.weight_sources))
    on_hub = [source.name for source in lineage.weight_sources if HUB_NAME.fullmatch(source.name)]
    if on_hub:
        head["base_model"] = on_hub[0]
    datasets = [source.name for source in lineage.data_sources if HUB_NAME.fullmatch(source.name)]
    if datasets:
        head["datasets"] = datasets
    head["tags"] = ["japanese", "continued-pretraining", "lora", "tsuzuki"]
    head["model_name"] = config.name
    # The text is our own YAML of plain values, not HTML: escaping it again would break it.
    return Markup(yaml.safe_dump(head, allow_unicode=True, sort_keys=False, default_flow_style=False).strip())  # noqa: S704


def _licence(sources: list[DataSource]) -> dict[str, str]:
    """The licence of the weights, which need not be that of the data; `other` names what is no single SPDX word."""
    found = list(dict.fromkeys(source.licence for source in sources))
    if not found or found == ["unknown"]:
        return {"license": "unknown"}
    if len(found) == 1 and SPDX.fullmatch(found[0]):
        return {"license": found[0].lower()}
    return {"license": "other", "license_name": " AND ".join(found)}


def _settings(lineage: Lineage) -> list[tuple[str, str, str]]:
    """(name, value in pretraining, value in LoRA) of every setting that either of them has."""
    pretrain, lora = (lineage[role].manifest.config for role in ("continued", "adapter"))
    names = [name for name in SETTINGS if name in pretrain or name in lora]
    return [(name, _setting(pretrain.get(name)), _setting(lora.get(name))) for name in names]


def _setting(value: Any) -> str:
    if value is None:
        return DASH
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def markdown(value: Any) -> Markup:
    """Text from outside as one line of Markdown that is shown as it is: no markup, table border or HTML in it works."""
    flat = " ".join(str(value).split())
    escaped = re.sub(r"([\\`*_{}\[\]<>#|~!$])", r"\\\1", flat.replace("&", "&amp;"))
    # A bare address would become a link on the hub.
    return Markup(escaped.replace("://", ":\u200b//").replace("www.", "www\u200b."))  # noqa: S704


def markdown_link(source: DataSource) -> Markup:
    """A source's name, linked to where it is published if that is a plain web address."""
    name = markdown(source.name)
    if not is_link(source.url):
        return name
    return Markup("[{}](<{}>)").format(name, Markup(source.url))  # noqa: S704 - is_link allows no `<`, `>` or space
