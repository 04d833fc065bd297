"""The service that the browser visits, and pictures of what it shows."""

import os
from dataclasses import dataclass
from typing import Any

from console_bench import ConsoleBench

SHOTS = "PENSTOCK_SHOTS"
"""A folder that keeps a picture of every path's end, to be looked at."""


@dataclass
class Site:
    """A running service over a loop with a past."""

    bench: ConsoleBench
    address: str


def keep(page: Any, name: str) -> None:
    """A picture of the whole page, where somebody wants to look."""
    if folder := os.environ.get(SHOTS):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)
