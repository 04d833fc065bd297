"""What prefect.yaml needs to know from params.yaml, so that no schedule is written down twice."""

import os
from pathlib import Path

from penstock.errors import SettingsError
from penstock.settings import load_settings

HOUR = 60
DAY = 24 * HOUR


def from_params() -> dict[str, str]:
    """Schedules and folder for prefect.yaml: a build step, run once for each deployment by `prefect deploy`.

    Returns:
        round_cron, watch_cron, rebuild_cron: cron lines, UTC, because prefect.yaml takes templates for nothing else;
        folder: the project's folder, recorded so that a worker may be started from anywhere on the machine.

    Raises:
        SettingsError: params.yaml cannot be used, or a period cannot be written as a cron line.
    """
    schedule = load_settings().schedule
    return {
        "round_cron": every("schedule.round_minutes", schedule.round_minutes),
        "watch_cron": every("schedule.watch_minutes", schedule.watch_minutes),
        "rebuild_cron": schedule.rebuild_cron,
        "folder": os.fspath(Path.cwd()),
    }


def every(name: str, minutes: float) -> str:
    """A cron line for a period.

    Raises:
        SettingsError: the period divides neither an hour nor a day into whole minutes.
    """
    whole = int(minutes)
    if whole == minutes and 0 < whole < HOUR and HOUR % whole == 0:
        return f"*/{whole} * * * *"
    if whole == minutes and whole >= HOUR and whole % HOUR == 0 and DAY % whole == 0:
        return "0 0 * * *" if whole == DAY else f"0 */{whole // HOUR} * * *"
    raise SettingsError(
        f"{name} is {minutes:g}, and Prefect's schedules need minutes that divide an hour (1, 2, 3, 4, 5, 6, 10, 12, "
        "15, 20, 30) or hours that divide a day; take one of them, or run `make up`, which takes any period"
    )
