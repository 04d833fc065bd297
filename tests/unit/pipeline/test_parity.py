"""Bundle against torch: exactly in float32, within a cosine in int8."""

import numpy as np
import pytest

from penstock.errors import ExportError
from penstock.pipeline.parity import largest_difference, parity, text_difference
from penstock.settings import ExportSettings

FLOAT = ExportSettings(opset=18, text_precision="float32", min_text_cosine=0.98, max_parity_error=0.001)
INT8 = FLOAT.model_copy(update={"text_precision": "int8"})
EAST_12 = np.array([[1.0, 0.0]], np.float32)
NEAR_12 = np.array([[0.99, 0.141]], np.float32)
FAR_12 = np.array([[0.96, 0.28]], np.float32)


def test_the_largest_difference_of_what_is_finite() -> None:
    a, b = np.array([1.0, -np.inf, 3.0]), np.array([1.5, -np.inf, 2.9])
    assert largest_difference(a, b) == 0.5
    assert largest_difference(np.array([-np.inf]), np.array([-np.inf])) == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_only_one_of_them_has_is_no_parity(bad: float) -> None:
    with pytest.raises(ExportError, match="disagree on which scores are finite"):
        largest_difference(np.array([1.0, bad]), np.array([1.0, 2.0]))


def test_a_float_graph_is_held_to_the_difference() -> None:
    assert text_difference(NEAR_12, EAST_12, FLOAT) == pytest.approx(0.141)
    with pytest.raises(ExportError, match=r"differ from torch by 1.41e-01, at most 0.001"):
        parity([0.0, text_difference(NEAR_12, EAST_12, FLOAT)], FLOAT)
    assert parity([0.0002, 0.0001], FLOAT) == 0.0002


def test_an_int8_graph_is_held_to_the_cosine_of_the_worst_text() -> None:
    assert text_difference(NEAR_12, EAST_12, INT8) == 0.0
    with pytest.raises(ExportError, match=r"cosine 0.9600 with torch's, at least 0.98"):
        text_difference(np.concatenate([NEAR_12, FAR_12]), np.concatenate([EAST_12, EAST_12]), INT8)


def test_a_vector_that_is_not_finite_is_refused_in_both() -> None:
    for settings in (FLOAT, INT8):
        with pytest.raises(ExportError, match="disagree on which scores are finite"):
            text_difference(np.full((1, 2), np.nan, np.float32), EAST_12, settings)
