"""Tokens and the store from Prefect: Secret blocks and a Variable, for what a run's environment does not hold."""

from __future__ import annotations

from collections.abc import Mapping

from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.variables import Variable
from pydantic import SecretStr

from infra.credentials import SECRET_BLOCKS
from infra.settings import add_to_environment, environment_values

STORE = {"TSUZUKI_STORE": "tsuzuki_store"}
"""The Variable that holds the store's folder."""


def take_from_blocks() -> None:
    """Puts into this process's environment what the server holds and the environment lacks; its workers inherit it."""
    missing = {*SECRET_BLOCKS, *STORE} - environment_values([*SECRET_BLOCKS, *STORE]).keys()
    values: dict[str, str] = {}
    with get_client(sync_client=True) as client:
        if names := [SECRET_BLOCKS[name] for name in missing if name in SECRET_BLOCKS]:
            wanted = {
                "block_documents": {"name": {"any_": names}},
                "block_types": {"slug": {"any_": ["secret"]}},
                "include_secrets": True,
            }
            found = client.request("POST", "/block_documents/filter", json=wanted).json()
            held = {block["name"]: str(block["data"]["value"]) for block in found}
            values |= {name: held[SECRET_BLOCKS[name]] for name in missing if SECRET_BLOCKS.get(name) in held}
        if "TSUZUKI_STORE" in missing and (variable := client.read_variable_by_name(STORE["TSUZUKI_STORE"])):
            values["TSUZUKI_STORE"] = str(variable.value)
    add_to_environment(values)


def save_blocks(values: Mapping[str, str]) -> list[str]:
    """Keeps those variables' values on the server, in place of older ones. Returns the names of blocks and Variable."""
    saved = []
    for variable, value in values.items():
        if name := SECRET_BLOCKS.get(variable):
            Secret(value=SecretStr(value)).save(name, overwrite=True)
        else:
            Variable.set(name := STORE[variable], value, overwrite=True)
        saved.append(name)
    return saved
