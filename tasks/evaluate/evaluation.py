"""Stage `evaluate`: base, continued and tuned model side by side on the same texts, questions and prompts."""

from __future__ import annotations

import json
from typing import Any

from data_contracts.artifacts import Corpus, HfModel, InstructionSet, RawCorpus
from data_contracts.files import canonical_json
from data_contracts.manifest import Summary
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.material import gather
from tasks.job import Event, run_worker
from tasks.workspace import Workspace

MEASUREMENTS = 5
"""Events of the worker for each model: Japanese, English, cloze, questions, prompts."""
DIGITS = 6


def evaluate(
    config: EvaluateConfig,
    workspace: Workspace,
    base: HfModel,
    continued: HfModel,
    tuned: HfModel,
    corpus: Corpus,
    raw: RawCorpus,
    instructions: InstructionSet,
) -> Summary:
    """`evaluation.json`, `generations.jsonl` and `logs/speed.json` of the three models.

    A killed evaluation continues with the first model that was not finished. Raises DataError when no held-out document
    is left, ModelError for a model that cannot be loaded.
    """
    material = workspace.scratch / "material.json"
    material.write_bytes(canonical_json(gather(config, corpus, raw, instructions)))
    models = {"base": base, "continued": continued, "tuned": tuned}
    done = 0

    def show(event: Event) -> None:
        nonlocal done
        done += event["steps"]
        workspace.progress(done, MEASUREMENTS * len(models), "measurements", model=event["model"])

    results = run_worker(
        "tasks.evaluate.measuring:measure_models",
        {
            "config": config.model_dump(mode="json"),
            "models": {name: str(model.path.resolve()) for name, model in models.items()},
            "material": str(material.resolve()),
            "folder": str(workspace.scratch.resolve()),
        },
        workspace,
        show,
    )
    _write(workspace, results)
    return _summary(results)


def _write(workspace: Workspace, results: dict[str, dict[str, Any]]) -> None:
    figures = {name: result["figures"] for name, result in results.items()}
    evaluation = {"models": figures, "changes": changes(figures)}
    workspace.write_bytes("evaluation.json", _json(evaluation))
    generations = [
        json.dumps({"model": name, **row}, ensure_ascii=False)
        for name, result in results.items()
        for row in result["generations"]
    ]
    workspace.write_bytes("generations.jsonl", "".join(f"{line}\n" for line in generations).encode())
    workspace.write_bytes("logs/speed.json", _json({name: result["speed"] for name, result in results.items()}))


def changes(figures: dict[str, dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """For each model but the base, how it differs from the base.

    japanese_gain: share of the base's Japanese bits per character that was saved. english_forgetting: share by which
    English bits per character grew (negative: it improved). cloze_gain, questions_gain: difference of the shares.
    """
    base = figures["base"]
    return {
        name: {
            "japanese_gain": -_growth(base, model, "japanese"),
            "english_forgetting": _growth(base, model, "english"),
            "cloze_gain": _difference(base["cloze"], model["cloze"], "accuracy"),
            "questions_gain": _difference(base["questions"], model["questions"], "exact_match"),
        }
        for name, model in figures.items()
        if name != "base"
    }


def _growth(base: dict[str, Any], model: dict[str, Any], language: str) -> float:
    before, after = (figures[language]["bits_per_character"] for figures in (base, model))
    return round(after / before - 1, DIGITS)


def _difference(base: dict[str, Any] | None, model: dict[str, Any] | None, name: str) -> float | None:
    return None if base is None or model is None else round(model[name] - base[name], DIGITS)


def _summary(results: dict[str, dict[str, Any]]) -> Summary:
    figures = {name: result["figures"] for name, result in results.items()}
    base = figures["base"]
    counts = {
        "japanese_documents": base["japanese"]["num_documents"],
        "japanese_tokens": base["japanese"]["num_tokens"],
        "japanese_characters": base["japanese"]["num_characters"],
        "english_characters": base["english"]["num_characters"],
        "cloze_questions": base["cloze"]["num_questions"] if base["cloze"] else 0,
        "questions": base["questions"]["num_questions"] if base["questions"] else 0,
    }
    headline = {
        name: {
            "japanese_perplexity": model["japanese"]["perplexity"],
            "japanese_bits_per_character": model["japanese"]["bits_per_character"],
            "english_bits_per_character": model["english"]["bits_per_character"],
            "cloze_accuracy": model["cloze"] and model["cloze"]["accuracy"],
            "questions_exact_match": model["questions"] and model["questions"]["exact_match"],
        }
        for name, model in figures.items()
    }
    examples = [{"model": name, **row} for name, result in results.items() for row in result["generations"]]
    return Summary(counts=counts, proofs={"models": headline, "changes": changes(figures)}, examples=examples)


def _json(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()
