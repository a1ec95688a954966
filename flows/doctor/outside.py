"""What the doctor asks others: another interpreter for its packages, a Prefect server for its version."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path

from data_contracts.errors import TsuzukiError
from infra import credentials as credentials_module
from infra.credentials import SECRET_BLOCKS, Credentials

INTERPRETER_SECONDS = 60
SERVER_SECONDS = 10
NEMO_PACKAGES = ("nemo_toolkit", "megatron-core", "nemo_run", "transformers", "torch")
CONSTRAINTS = Path(credentials_module.__file__).parent / "nemo" / "constraints.txt"
ASK = """
import json, sys
from importlib import metadata
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def packages_of(python: Path, packages: tuple[str, ...]) -> dict[str, str]:
    """Versions of those packages that the interpreter has. Raises TsuzukiError where it does not run."""
    try:
        done = subprocess.run(
            [python, "-c", ASK, *packages], capture_output=True, text=True, timeout=INTERPRETER_SECONDS, check=True
        )
        return json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, json.JSONDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise TsuzukiError(
            f"`{python}`: {reason}, expected a Python interpreter that starts",
            hint="make nemo-env, and set TSUZUKI_NEMO_PYTHON as it says",
        ) from None


def tested_versions() -> dict[str, str]:
    """The versions that infra/nemo pins, by package; none outside of a checkout."""
    if not CONSTRAINTS.is_file():
        return {}
    return dict(re.findall(r"^([\w.-]+)==(\S+)", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE))


def server_version(credentials: Credentials) -> str:
    """Version of the server at PREFECT_API_URL. Raises TsuzukiError where none answers or it lets nobody in."""
    import httpx

    url = f"{(credentials.prefect_api_url or '').rstrip('/')}/admin/version"
    shown = without_password(url)
    try:
        response = httpx.get(url, headers=_authorization(credentials), timeout=SERVER_SECONDS)
        response.raise_for_status()
        return str(response.json())
    except httpx.HTTPStatusError as error:
        code = error.response.status_code
        hint = "set PREFECT_API_AUTH_STRING or PREFECT_API_KEY" if code in (401, 403) else "is it the /api address?"
        raise TsuzukiError(f"`{shown}`: status {code}, expected a version", hint=hint) from None
    except (httpx.HTTPError, httpx.InvalidURL, json.JSONDecodeError) as error:
        raise TsuzukiError(
            f"`{shown}`: {error}, expected a Prefect server", hint="start it, or unset PREFECT_API_URL"
        ) from None


def saved_blocks(credentials: Credentials) -> set[str]:
    """Variables whose Secret block the server at PREFECT_API_URL holds; none where none answers."""
    import httpx

    if credentials.prefect_api_url is None:
        return set()
    url = f"{credentials.prefect_api_url.rstrip('/')}/block_documents/filter"
    wanted = {"block_documents": {"name": {"any_": [*SECRET_BLOCKS.values()]}}}
    try:
        answer = httpx.post(url, json=wanted, headers=_authorization(credentials), timeout=SERVER_SECONDS)
        names = {block["name"] for block in answer.raise_for_status().json()}
    except (httpx.HTTPError, httpx.InvalidURL, json.JSONDecodeError):
        return set()  # the finding about the server tells why
    return {variable for variable, name in SECRET_BLOCKS.items() if name in names}


def without_password(url: str) -> str:
    """The address without `user:password@`."""
    return re.sub(r"//[^/@]*@", "//", url)


def _authorization(credentials: Credentials) -> dict[str, str]:
    if (basic := credentials.prefect_api_auth_string) is not None:
        return {"Authorization": f"Basic {base64.b64encode(basic.get_secret_value().encode()).decode()}"}
    if (key := credentials.prefect_api_key) is not None:
        return {"Authorization": f"Bearer {key.get_secret_value()}"}
    return {}
