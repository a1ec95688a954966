"""Brings a Prefect server in line with infra/automations.yaml: what it does by itself about runs and stale data."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import AutomationCore
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_contracts.errors import ConfigError
from tasks.job import PROJECT_ROOT

FILE = PROJECT_ROOT / "infra" / "automations.yaml"
TAG = "tsuzuki-setup"
"""Marks the automations that this module made, and may delete."""
NOTIFY_BLOCK = "tsuzuki-notify"
NOTHING_YET = UUID(int=0)


class AutomationsFile(BaseModel):
    """What infra/automations.yaml holds; each entry is checked as Prefect's own schema, and its actions as well."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    automations: list[dict[str, Any]] = Field(description="Automations in Prefect's schema, blocks by name.")


def read_automations(file: Path, blocks: dict[str, UUID] | None = None) -> tuple[list[AutomationCore], list[str]]:
    """The automations of a file, and the names of those left out because nothing is left that they could do.

    blocks: ids of the server's notification blocks by name; None takes every block for known. Raises ConfigError.
    """
    try:
        entries = AutomationsFile.model_validate(yaml.safe_load(file.read_text(encoding="utf-8"))).automations
        found = [_automation(entry, blocks) for entry in entries]
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"`{file.name}`: {_words(error)}; expected automations in Prefect's schema") from None
    names = [automation.name for automation in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"`{file.name}`: found {', '.join(sorted(twice))} twice, expected a name of its own for each")
    return [a for a in found if a.actions], [a.name for a in found if not a.actions]


def apply_automations(client: SyncPrefectClient, file: Path) -> dict[str, list[str]]:
    """Creates and changes what differs from the file, deletes what it no longer has. Returns names by what was done.

    An automation that is as the file says is not touched: Prefect forgets what it has counted for one that is changed.
    One that was paused in the UI stays paused.
    """
    wanted, left_out = read_automations(file, _blocks(client))
    ours = {a.name: a for a in client.read_automations(limit=200) if TAG in a.tags}
    changed = []
    for automation in wanted:
        there = ours.pop(automation.name, None)
        if there is None:
            client.create_automation(automation)
        elif _content(there) != _content(automation):
            client.update_automation(there.id, automation.model_copy(update={"enabled": there.enabled}))
        else:
            continue
        changed.append(automation.name)
    for automation in ours.values():
        client.delete_automation(automation.id)
    names = [automation.name for automation in wanted]
    return {"automations": names, "changed": changed, "deleted": sorted(ours), "left_out": left_out}


def save_notify_block(url: str) -> None:
    """Keeps the webhook's address as a secret of the block that notifications go to: JSON `{"text": ...}` is posted."""
    from prefect.blocks.notifications import CustomWebhookNotificationBlock
    from prefect.types import SecretDict

    CustomWebhookNotificationBlock(
        name=NOTIFY_BLOCK,
        url="{{address}}",
        json_data={"text": "{{subject}}\n{{body}}"},
        headers=None,
        cookies=None,
        secrets=SecretDict({"address": url}),
    ).save(NOTIFY_BLOCK, overwrite=True)


def _blocks(client: SyncPrefectClient) -> dict[str, UUID]:
    """Ids of the server's blocks that can notify, by name."""
    wanted = {"block_schemas": {"block_capabilities": {"all_": ["notify"]}}}
    found = client.request("POST", "/block_documents/filter", json=wanted).json()
    return {block["name"]: UUID(block["id"]) for block in found if block["name"]}


def _automation(entry: dict[str, Any], blocks: dict[str, UUID] | None) -> AutomationCore:
    actions = []
    for action in entry["actions"]:
        if name := action.get("block"):
            if blocks is not None and name not in blocks:
                continue
            block = NOTHING_YET if blocks is None else blocks[name]
            action = {**{k: v for k, v in action.items() if k != "block"}, "block_document_id": block}
        actions.append(action)
    values = {**entry, "actions": actions, "tags": [*entry.get("tags", []), TAG]}
    automation = AutomationCore.model_validate(values)
    _refuse_unknown(values, automation)
    return automation


def _refuse_unknown(values: dict[str, Any], automation: AutomationCore) -> None:
    """Prefect's models pass over what they do not know; a misspelt `within` must not be passed over."""
    pairs = [(values, automation), (values["trigger"], automation.trigger)]
    for given, model in [*pairs, *zip(values["actions"], automation.actions, strict=True)]:
        if unknown := set(given) - set(type(model).model_fields):
            raise ValueError(f"{automation.name}: unknown {', '.join(sorted(unknown))}")


def _content(automation: AutomationCore) -> dict[str, Any]:
    """What an automation says, without what the server adds and the UI may switch."""
    said = set(AutomationCore.model_fields) - {"owner_resource", "enabled"}
    values = automation.model_dump(mode="json", include=said)
    trigger = {name: sorted(v) if isinstance(v, list) else v for name, v in values["trigger"].items() if name != "id"}
    return {**values, "trigger": trigger}


def _words(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)
