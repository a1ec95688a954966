"""JSON schemas of the contracts, generated from the models; `python -m data_contracts.schemas` writes them anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_contracts.manifest import Manifest
from data_contracts.rows import DOCUMENTS, LEDGER, QUARANTINE, TOKENS

FOLDER = Path(__file__).parent / "schemas"
JSON_TYPES = {pa.string(): "string", pa.binary(): "string", pa.int64(): "integer", pa.float64(): "number"}


def schemas() -> dict[str, dict[str, Any]]:
    """JSON schema (draft 2020-12) of each contract, by file stem."""
    rows = {"document": DOCUMENTS, "ledger_row": LEDGER, "quarantine_row": QUARANTINE, "token_row": TOKENS}
    return {"manifest": Manifest.model_json_schema(), **{name: _of_rows(name, rows[name]) for name in rows}}


def _of_rows(name: str, schema: pa.Schema) -> dict[str, Any]:
    return {
        "title": name,
        "type": "object",
        "additionalProperties": False,
        "required": [field.name for field in schema if not field.nullable],
        "properties": {
            field.name: {"type": [JSON_TYPES[field.type], "null"] if field.nullable else JSON_TYPES[field.type]}
            for field in schema
        },
    }


def rendered(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, schema in schemas().items():
        (FOLDER / f"{name}.json").write_text(rendered(schema), encoding="utf-8")


if __name__ == "__main__":
    main()
