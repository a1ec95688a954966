"""The committed JSON schemas are those of the models, and real rows fit them."""

from __future__ import annotations

import json

import jsonschema
import pyarrow as pa
import pytest

from data_contracts.rows import DOCUMENTS
from data_contracts.schemas import FOLDER, rendered, schemas


@pytest.mark.parametrize("name", sorted(schemas()))
def test_committed_schema_is_the_generated_one(name):
    committed = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert committed == rendered(schemas()[name]), "run `make schemas` and bump the contract's version"


def test_no_schema_is_left_over():
    assert {p.stem for p in FOLDER.glob("*.json")} == set(schemas())


def test_a_document_row_fits_its_schema_and_a_foreign_field_does_not():
    row = {"id": "a", "text": "本文", "source": "s", "url": "", "title": "", "meta": "{}"}
    assert pa.Table.from_pylist([row], DOCUMENTS).num_rows == 1
    schema = json.loads((FOLDER / "document.json").read_text(encoding="utf-8"))
    jsonschema.validate(row, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**row, "score": 1}, schema)
