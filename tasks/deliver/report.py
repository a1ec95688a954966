"""`report.html`: one page that stands alone, with the funnel, the reasons, the curves, the models and their lineage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.deliver import formats
from tasks.deliver.charts import Line, bars, line_chart
from tasks.deliver.comparison import (
    CLOZE,
    ENGLISH,
    ENGLISH_BITS,
    JAPANESE,
    JAPANESE_BITS,
    MODELS,
    QUESTIONS,
    Comparison,
    Measure,
    forgetting_sentence,
    gain_sentence,
    verdict,
)
from tasks.deliver.config import DeliverConfig
from tasks.deliver.formats import change, duration, number
from tasks.deliver.funnel import FunnelStep, funnel, reconciles
from tasks.deliver.lineage import Lineage
from tasks.deliver.removals import quarantine, removals
from tasks.deliver.templates import environment
from tasks.deliver.thresholds import recall_chart, thresholds
from tasks.deliver.training_log import TrainingLog, read_training_log

LONGEST_LIST = 6
CHARTED = (JAPANESE_BITS, ENGLISH_BITS, CLOZE, QUESTIONS)


def render_report(
    config: DeliverConfig, lineage: Lineage, comparison: Comparison, truth: dict[str, Any] | None
) -> bytes:
    """The page as UTF-8; all text of corpora and models in it is escaped."""
    names = ("number", "percent", "duration", "short", "words", "excerpt", "or_dash", "is_link")
    template = environment(**{name: getattr(formats, name) for name in names}, shown=shown, width=width)
    steps = funnel(lineage)
    page = template.get_template("report.html.j2").render(
        config=config,
        lineage=lineage,
        tiles=_tiles(comparison, lineage, steps),
        gain=gain_sentence(comparison),
        forgetting=forgetting_sentence(comparison),
        base_names=", ".join(source.name for source in lineage.weight_sources) or "a base model",
        funnel=steps,
        reconciles=reconciles(steps),
        widest=max([step.num_in or 0 for step in steps] + [1]),
        removals=removals(lineage, config.examples_per_filter),
        thresholds=thresholds(lineage),
        recall_chart=recall_chart(lineage),
        quarantine=quarantine(lineage, config.examples_per_filter),
        truth=truth,
        trainings=_trainings(lineage),
        models=MODELS,
        measures=comparison.rows(),
        model_charts=[_model_chart(measure, comparison) for measure in CHARTED],
        speeds=comparison.speeds() if comparison.speed else [],
        prompts=comparison.prompts(),
        questions=comparison.questions(),
    )
    return page.encode()


def _tiles(comparison: Comparison, lineage: Lineage, steps: list[FunnelStep]) -> list[dict[str, str]]:
    """The figures of the headline: label, figure, what it is compared with, and a verdict that colours it."""
    documents = next((step.num_kept for step in steps if step.role == "corpus"), None)
    lines_in = steps[0].num_in
    tiles = [_change_tile(measure, comparison) for measure in (JAPANESE, ENGLISH)]
    tiles += [_share_tile(measure, comparison) for measure in (CLOZE, QUESTIONS) if _has_value(comparison, measure)]
    tiles.append(_tile("Documents kept", number(documents), f"of {number(lines_in)} {steps[0].unit} read"))
    consumed, available = lineage.count("continued", "tokens_consumed"), lineage.count("tokens", "num_tokens_train")
    passes = f", {consumed / available:.2f} passes" if consumed and available else ""
    tiles.append(_tile("Tokens trained on", number(consumed), f"of {number(available)} in the corpus{passes}"))
    return tiles


def _has_value(comparison: Comparison, measure: Measure) -> bool:
    return any(value is not None for value in comparison.values(measure))


def _tile(label: str, figure: str, note: str, judged: str = "") -> dict[str, str]:
    return {"label": label, "figure": figure, "note": note, "verdict": judged}


def _change_tile(measure: Measure, comparison: Comparison) -> dict[str, str]:
    before, _, after = comparison.values(measure)
    note = f"{measure.show(before)} → {measure.show(after)}, lower is better"
    return _tile(measure.label, change(before, after), note, verdict(measure, before, after))


def _share_tile(measure: Measure, comparison: Comparison) -> dict[str, str]:
    before, _, after = comparison.values(measure)
    chance = comparison.value("tuned", "cloze", "chance") if measure.path[0] == "cloze" else None
    note = f"base {measure.show(before)}" + (f", by chance {measure.show(chance)}" if chance is not None else "")
    return _tile(measure.label, measure.show(after), note, verdict(measure, before, after))


def _model_chart(measure: Measure, comparison: Comparison) -> dict[str, Any]:
    values = comparison.values(measure)
    rows = [(model, value, measure.show(value)) for model, value in zip(MODELS, values, strict=True)]
    note = "lower is better" if measure.better == "lower" else "higher is better"
    return {"title": measure.label, "note": note, "svg": bars(measure.label, rows)}


def _trainings(lineage: Lineage) -> list[dict[str, Any]]:
    """Continued pretraining and LoRA: their charts and the figures under them."""
    result = []
    for role, title in (("continued", "Continued pretraining"), ("adapter", "LoRA tuning")):
        log = read_training_log(lineage[role].artifact.path)
        facts = [
            ("Steps", number(lineage.count(role, "steps"))),
            ("Tokens consumed", number(lineage.count(role, "tokens_consumed"))),
            ("Last training loss", number(log.last("loss"))),
            ("Last validation loss", number(log.last("validation_loss"))),
            ("Median tokens per second", number(log.median("tokens_per_second"))),
            ("Time of the last attempt", duration(lineage[role].manifest.seconds)),
        ]
        result.append({"title": title, "facts": facts, "charts": _charts(title, log)})
    return result


def _charts(title: str, log: TrainingLog) -> list[dict[str, Any]]:
    loss = [Line("training loss", "train", log["loss"]), Line("validation loss", "validation", log["validation_loss"])]
    rate = [Line("learning rate", "rate", log["learning_rate"])]
    speed = [Line("tokens per second", "speed", log["tokens_per_second"])]
    drawn = [
        ("Loss", loss, line_chart(f"{title}, loss", loss)),
        ("Learning rate", rate, line_chart(f"{title}, learning rate", rate, from_zero=True)),
        ("Tokens per second", speed, line_chart(f"{title}, tokens per second", speed, from_zero=True)),
    ]
    return [
        {"title": name, "lines": [line for line in lines if line.points] if len(lines) > 1 else [], "svg": svg}
        for name, lines, svg in drawn
    ]


def shown(value: Any) -> str:
    """A value of a proof or a setting as one short text."""
    if value is None or value == "" or value == [] or value == {}:
        return formats.DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, dict):
        return ", ".join(f"{formats.words(str(name))}: {shown(item)}" for name, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        rest = len(value) - LONGEST_LIST
        listed = "; ".join(shown(item) for item in value[:LONGEST_LIST])
        return f"{listed}; and {rest} more" if rest > 0 else listed
    text = str(value)
    is_digest = len(text) == 64 and all(digit in "0123456789abcdef" for digit in text)
    return formats.short(text) + "…" if is_digest else formats.excerpt(text, 300)


def width(part: int, whole: int) -> str:
    """A share as a CSS width."""
    return f"{100 * part / whole:.3f}%" if whole else "0%"
