"""onnxruntime, and nothing else of it anywhere: sessions on the GPU where one works, on the CPU otherwise."""

import ctypes
import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.errors import BundleError, DependencyMissing

CPU = ["CPUExecutionProvider"]
GPU = ["CUDAExecutionProvider", *CPU]


@functools.cache
def gpu_present() -> bool:
    """True when the NVIDIA driver reports a device; onnxruntime's own list says CUDA on machines without one."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


class Session:
    """One graph, ready to run.

    Args:
        threads: that share one run; 0: as many as there are cores. A graph of some hundred microseconds is quicker
            with one: waking a second costs as much as it takes over.
    """

    def __init__(self, graph: bytes | Path, device: str = "auto", threads: int = 0) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        on_gpu = device == "cuda" or (device == "auto" and gpu_present())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Waiting threads sleep instead of spinning: a round, a service and a browser share these cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        source = graph if isinstance(graph, bytes) else str(graph)
        refused: tuple[type[Exception], ...] = (*_refusals(), RuntimeError, ValueError)
        try:
            self._session: Any = onnxruntime.InferenceSession(source, options, providers=GPU if on_gpu else CPU)
            if on_gpu and device == "auto" and _says_cpu(self._session):
                self._session = onnxruntime.InferenceSession(source, options, providers=CPU)
        except refused as error:
            raise BundleError(f"onnxruntime refuses {_name(graph)}: {error}") from error
        self.provider: str = self._session.get_providers()[0]
        if device == "cuda" and self.provider != GPU[0]:
            raise DependencyMissing(f"asked for CUDA, onnxruntime gave {self.provider}; check the CUDA libraries")
        self.inputs: tuple[str, ...] = tuple(value.name for value in self._session.get_inputs())

    def run(self, **inputs: NDArray[Any]) -> list[NDArray[np.float32]]:
        """All outputs; `inputs` by name, those the graph does not know are left out."""
        outputs: list[NDArray[np.float32]] = self._session.run(None, {name: inputs[name] for name in self.inputs})
        return outputs


def _says_cpu(session: Any) -> bool:
    """True for a graph whose operators the GPU lacks: between them, everything would be copied to and fro."""
    return bool(session.get_modelmeta().custom_metadata_map.get("device") == "cpu")


@functools.cache
def _refusals() -> tuple[type[Exception], ...]:
    """What onnxruntime raises at a graph it cannot take: classes of its own, without a common base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as raised

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented")
    return (*(getattr(raised, name) for name in names), raised.RuntimeException)


def _name(graph: bytes | Path) -> str:
    return f"a graph of {len(graph)} bytes" if isinstance(graph, bytes) else str(graph)
