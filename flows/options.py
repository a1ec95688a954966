"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path

import click

store_option = click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the artifacts. [default: TSUZUKI_STORE, or ./tsuzuki-store]",
)
