"""Where the service's candidates come from; see inference.candidates, which the backtest measures too."""

from penstock.inference.candidates import (
    AGAIN,
    FRESH,
    POPULAR,
    REST,
    TASTE,
    TOGETHER,
    Allowed,
    Candidates,
    again,
    find_candidates,
    merged,
    source_lists,
    together,
)

__all__ = [
    "AGAIN",
    "FRESH",
    "POPULAR",
    "REST",
    "TASTE",
    "TOGETHER",
    "Allowed",
    "Candidates",
    "again",
    "find_candidates",
    "merged",
    "source_lists",
    "together",
]
