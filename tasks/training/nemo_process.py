"""One process of a NeMo training: `python -m tasks.training.nemo_process JOB.json`; alone, or a rank under torchrun."""

# pyright: reportMissingImports=false
# nemo and nemo_run are of the environment of backend `nemo`.
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from data_contracts.errors import MissingPackage
from tasks.training.config import OptimizationConfig
from tasks.training.nemo_compat import prepare
from tasks.training.nemo_job import read_job


def main(job_path: str) -> None:
    """Runs the recipe of the NemoJob in that file, from its newest whole checkpoint if there is one.

    Raises UnprovenWeightsError, ModelError, TrainingDiverged, and WorkerLost when told to stop by SIGTERM.
    """
    prepare()
    import nemo_run as run

    from tasks.training.nemo_checkpoints import latest_complete
    from tasks.training.nemo_data import JobDataModule
    from tasks.training.nemo_recipes import build_recipe
    from tasks.training.nemo_watch import Watch

    job = read_job(job_path)
    training = job.training
    check_transformer_engine(training.config)
    resume_from = latest_complete(job.checkpoints, lambda message: None)
    resumed = str(resume_from) if resume_from else None
    recipe: Any = build_recipe(
        task=training.task,
        config=training.config,
        model=training.model,
        checkpoint=job.checkpoint,
        data=run.Config(JobDataModule, job=job_path),
        watch=run.Config(Watch, job=job_path, resume_from=resumed),
        num_steps=job.num_steps,
        folder=job.folder,
        resume_from=resume_from,
    )
    run.run(recipe, direct=True)


def check_transformer_engine(config: OptimizationConfig) -> None:
    """Raises MissingPackage unless the kernels that the config names are here."""
    from nemo.collections.llm.gpt.model.base import HAVE_TE

    nemo = config.nemo
    assert nemo is not None
    if nemo.transformer_engine and not HAVE_TE:
        raise MissingPackage(
            "`nemo.transformer_engine`: found true, and transformer_engine cannot be imported",
            hint="pip install --no-build-isolation 'transformer_engine[pytorch]', or set nemo.transformer_engine=false "
            "(slower, the same losses within rounding)",
        )


if __name__ == "__main__":
    main(str(Path(sys.argv[1])))
