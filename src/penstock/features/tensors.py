"""Arrays from a safetensors file, read so that other threads go on meanwhile.

The format's own library holds the interpreter from the first byte to the last: a service that loads the counters of
65,000 items answered nobody for 35 ms. Here each array is copied out of a mapped file, which numpy does without it.
Format: https://github.com/huggingface/safetensors#format.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.errors import BundleError

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "<u1"}
LENGTH_BYTES = 8


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of the file, in memory of its own.

    Raises:
        BundleError: the file cannot be read, or is no safetensors file of numbers.
    """
    try:
        byte_N: NDArray[np.uint8] = np.memmap(path, np.uint8, "r")
        start = LENGTH_BYTES + int(byte_N[:LENGTH_BYTES].view("<u8")[0])
        if start > len(byte_N):
            raise ValueError(f"{len(byte_N)} bytes, a header of {start}")
        header = json.loads(byte_N[LENGTH_BYTES:start].tobytes())
        return {name: _array(byte_N[start:], entry) for name, entry in header.items() if name != "__metadata__"}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} cannot be read as safetensors ({error!r}); export the version again") from error


def _array(byte_N: NDArray[np.uint8], entry: dict[str, Any]) -> NDArray[Any]:
    dtype, (first, stop) = np.dtype(DTYPES[entry["dtype"]]), entry["data_offsets"]
    if not 0 <= first <= stop <= len(byte_N) or stop - first != dtype.itemsize * math.prod(entry["shape"]):
        raise ValueError(f"bytes {first} to {stop} of {len(byte_N)} for {entry['shape']} of {entry['dtype']}")
    out = np.empty(entry["shape"], dtype)
    out.reshape(-1).view(np.uint8)[:] = byte_N[first:stop]
    return out
