"""What prefect.yaml needs to know from params.yaml, so that no schedule is written down twice."""

import os
from pathlib import Path
from typing import Any

from penstock.settings import load_settings


def from_params() -> dict[str, Any]:
    """Schedules and folder for prefect.yaml: a build step, run once for each deployment by `prefect deploy`.

    Returns:
        round_s, watch_s: seconds between two runs; rebuild_cron: a cron line, UTC; folder: the project's folder,
        recorded in the deployment so that a worker may be started from anywhere on the machine.

    Raises:
        SettingsError: params.yaml cannot be used.
    """
    schedule = load_settings().schedule
    return {
        "round_s": schedule.round_minutes * 60,
        "watch_s": schedule.watch_minutes * 60,
        "rebuild_cron": schedule.rebuild_cron,
        "folder": os.fspath(Path.cwd()),
    }
