"""What other tools read from the environment: tokens and the address of the Prefect server."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

SECRET_BLOCKS = {"GITLAB_TOKEN": "gitlab-token", "HF_TOKEN": "hf-token", "WANDB_API_KEY": "wandb-api-key"}
"""The Secret block on the Prefect server that stands in for each variable where it is not set."""


class Credentials(BaseSettings):
    """Variables under the names of their own tools; an empty one counts as none."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, env_ignore_empty=True)

    hf_token: SecretStr | None = Field(default=None, description="Hugging Face: private and gated models and data.")
    wandb_api_key: SecretStr | None = Field(default=None, description="Weights & Biases.")
    gitlab_token: SecretStr | None = Field(default=None, description="The GitLab of LLM-JP.")
    prefect_api_url: str | None = Field(default=None, description="The Prefect server; none: one for each run.")
    prefect_api_key: SecretStr | None = Field(default=None, description="Key of Prefect Cloud.")
    prefect_api_auth_string: SecretStr | None = Field(default=None, description="`user:password` of the server.")

    def holds(self, variable: str) -> bool:
        """Whether that variable is set."""
        return getattr(self, variable.lower()) is not None
