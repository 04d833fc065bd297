"""The nightly rebuild: replay the batch pipeline of dvc.yaml. It never promotes anything.

Run it with no server as `python -m flows.batch_rebuild`.
"""

import os
import sys
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE


@task(name="dvc repro", cache_policy=NO_CACHE)
def reproduce(project: Path) -> list[str]:
    """Run the stages whose inputs changed and return their names."""
    from dvc.repo import Repo

    # The stages call `penstock`: this interpreter's, whether or not somebody activated its environment.
    own = str(Path(sys.executable).parent)
    if own not in os.environ.get("PATH", "").split(os.pathsep):
        os.environ["PATH"] = own + os.pathsep + os.environ.get("PATH", "")
    with Repo(str(project)) as repo:
        return [str(stage.addressing) for stage in repo.reproduce()]


@flow(name="batch_rebuild")
def batch_rebuild(project: Path = Path()) -> list[str]:
    """Bring every stage of dvc.yaml up to date; the names of those that ran."""
    return reproduce(project)


if __name__ == "__main__":
    print(batch_rebuild())
