"""Where the time of an answer goes: functions that are a stage of it tell whoever listens, and cost nothing else."""

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
Listener = Callable[[str, float, Any], None]
"""Told (stage, seconds, what the stage returned)."""

_listener: ContextVar[Listener | None] = ContextVar("penstock_stage_listener", default=None)


def staged(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function a stage. Nobody listens outside of the service, and then it is one look-up."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            listener = _listener.get()
            if listener is None:
                return function(*args, **kwargs)
            started_s = time.perf_counter()
            result = function(*args, **kwargs)
            listener(name, time.perf_counter() - started_s, result)
            return result

        return run

    return decorate


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hear of every stage that runs in this context."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
