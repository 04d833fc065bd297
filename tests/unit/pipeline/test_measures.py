"""Parity, latency and size."""

from pathlib import Path

import numpy as np
import pytest

from penstock.errors import ExportError
from penstock.pipeline.measures import folder_mb, largest_difference, median_ms


def test_the_largest_difference_of_what_is_finite() -> None:
    a, b = np.array([1.0, -np.inf, 3.0]), np.array([1.5, -np.inf, 2.9])
    assert largest_difference(a, b) == 0.5
    assert largest_difference(np.array([-np.inf]), np.array([-np.inf])) == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_only_one_of_them_has_is_no_parity(bad: float) -> None:
    with pytest.raises(ExportError, match="disagree on which scores are finite"):
        largest_difference(np.array([1.0, bad]), np.array([1.0, 2.0]))


def test_the_first_call_is_not_timed() -> None:
    calls: list[int] = []
    assert median_ms(lambda: calls.append(1), 3) >= 0
    assert len(calls) == 4


def test_the_size_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"x" * 2**19)
    (tmp_path / "c").write_bytes(b"x" * 2**19)
    assert folder_mb(tmp_path) == 1.0
