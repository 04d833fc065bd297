"""Whether the graphs of a bundle compute what torch does."""

import numpy as np
from numpy.typing import NDArray

from penstock.errors import ExportError
from penstock.settings import ExportSettings


def largest_difference(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Largest absolute difference where both are finite.

    Raises:
        ExportError: one of them has a value that is not finite where the other has one.
    """
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        raise ExportError("torch and onnxruntime disagree on which scores are finite; the export is broken")
    return float(np.abs(a[finite] - b[finite]).max()) if finite.any() else 0.0


def text_difference(text_BT: NDArray[np.float32], reference_BT: NDArray[np.float32], settings: ExportSettings) -> float:
    """Largest difference between text vectors of the bundle and torch's, both of unit norm.

    An int8 graph rounds on purpose: it is held to a cosine instead, and 0 is returned.

    Raises:
        ExportError: a cosine below `export.min_text_cosine`, or values that are not finite.
    """
    difference = largest_difference(text_BT, reference_BT)
    if settings.text_precision == "float32":
        return difference
    smallest = float((text_BT * reference_BT).sum(1).min(initial=1.0))
    if not smallest >= settings.min_text_cosine:
        raise ExportError(
            f"a text's vector from the int8 graph has cosine {smallest:.4f} with torch's, at least "
            f"{settings.min_text_cosine:g} is expected (export.min_text_cosine); the bundle is not kept. "
            "With export.text_precision: float32 nothing is rounded"
        )
    return 0.0


def parity(differences: list[float], settings: ExportSettings) -> float:
    """The largest of `differences`.

    Raises:
        ExportError: it is above `export.max_parity_error`.
    """
    worst = max(differences)
    if not worst <= settings.max_parity_error:
        raise ExportError(
            f"the exported graphs differ from torch by {worst:.2e}, at most {settings.max_parity_error:g} is allowed "
            "(export.max_parity_error); the bundle is not kept"
        )
    return worst
