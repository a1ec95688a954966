"""Tokens and the store's folder as Prefect holds them: Secret blocks and a Variable, for whom the environment has none."""

from __future__ import annotations

from collections.abc import Mapping

from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.variables import Variable

from infra.settings import add_to_environment, environment_values

SECRETS = {"GITLAB_TOKEN": "gitlab-token", "HF_TOKEN": "hf-token", "WANDB_API_KEY": "wandb-api-key"}
"""The Secret block of each environment variable."""
STORE = {"TSUZUKI_STORE": "tsuzuki_store"}
"""The Variable that holds the store's folder."""


def take_from_blocks() -> None:
    """Puts into this process's environment what the server holds and the environment lacks; its workers inherit it."""
    missing = {*SECRETS, *STORE} - environment_values([*SECRETS, *STORE]).keys()
    values: dict[str, str] = {}
    with get_client(sync_client=True) as client:
        if names := [SECRETS[name] for name in missing if name in SECRETS]:
            wanted = {
                "block_documents": {"name": {"any_": names}},
                "block_types": {"slug": {"any_": ["secret"]}},
                "include_secrets": True,
            }
            found = client.request("POST", "/block_documents/filter", json=wanted).json()
            held = {block["name"]: str(block["data"]["value"]) for block in found}
            values |= {name: held[SECRETS[name]] for name in missing if SECRETS.get(name) in held}
        if "TSUZUKI_STORE" in missing and (variable := client.read_variable_by_name(STORE["TSUZUKI_STORE"])):
            values["TSUZUKI_STORE"] = str(variable.value)
    add_to_environment(values)


def save_blocks(values: Mapping[str, str]) -> list[str]:
    """Keeps those variables' values on the server, in place of older ones. Returns the names of blocks and Variable."""
    saved = []
    for variable, value in values.items():
        if name := SECRETS.get(variable):
            Secret(value=value).save(name, overwrite=True)
        else:
            Variable.set(name := STORE[variable], value, overwrite=True)
        saved.append(name)
    return saved
