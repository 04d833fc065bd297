"""Our reader of safetensors against the format's own library; damaged files are refused by name."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from penstock.errors import BundleError
from penstock.features.tensors import DTYPES, read_tensors


def test_it_reads_what_the_library_wrote(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = {name: (random.random((3, 5)) * 100).astype(dtype) for name, dtype in DTYPES.items()}
    arrays |= {"empty": np.zeros((0, 4)), "one": np.array([2.5])}
    save_file(arrays, tmp_path / "some.safetensors", {"made": "here"})
    found = read_tensors(tmp_path / "some.safetensors")
    assert set(found) == set(arrays)
    for name, values in arrays.items():
        assert (found[name].dtype, found[name].shape) == (values.dtype, values.shape)
        np.testing.assert_array_equal(found[name], values)
        found[name][...] = 0  # memory of its own
    np.testing.assert_array_equal(read_tensors(tmp_path / "some.safetensors")["one"], [2.5])


def header(**entry: object) -> bytes:
    text = json.dumps({"a": entry}).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        (99).to_bytes(8, "little") + b"{}",
        (2**62).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        header(dtype="F64", shape=[1], data_offsets=[0, 8]) + b"1234567",
        header(dtype="F64", shape=[2], data_offsets=[0, 8]) + b"12345678",
        header(dtype="F64", shape=[1], data_offsets=[-8, 0]) + b"12345678",
        header(dtype="BOOL", shape=[8], data_offsets=[0, 8]) + b"12345678",
        header(dtype="F64", shape=[1]) + b"12345678",
    ],
)
def test_what_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(BundleError, match=r"bad\.safetensors cannot be read as safetensors"):
        read_tensors(tmp_path / "bad.safetensors")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be read as safetensors"):
        read_tensors(tmp_path / "none.safetensors")
