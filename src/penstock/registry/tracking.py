"""What one round measured, written to MLflow and to TensorBoard event files.

Metrics go to MLflow in batches (one request costs milliseconds, however many values it carries) and to
home/tensorboard/<round_id>. A round that was killed and resumed goes on in the same MLflow run,
unless its settings were changed meanwhile.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from penstock.errors import DependencyMissing, RegistryError
from penstock.registry.mlflow_backend import MlflowBackend, Point, now_ms
from penstock.settings import Settings

ROUND_TAG = "penstock.round_id"
FLUSH_AT = 500
ROUND_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class RoundTracker:
    """Context of one round: finished when its block ends, failed when the block raises.

    Args:
        settings: registry and state sections are used.
        round_id: letters, digits, dot, dash and underscore; also the name of the TensorBoard folder.
        backend: an opened one, as Registry.backend; opened here when it is None.

    Raises:
        RegistryError: a round id that cannot name a folder, or MLflow failed.
        DependencyMissing: the tensorboard package is not installed.
    """

    def __init__(self, settings: Settings, round_id: str, backend: MlflowBackend | None = None) -> None:
        if not ROUND_ID.fullmatch(round_id):
            raise RegistryError(
                f"round id {round_id!r} cannot name a folder; expected letters, digits, dot, dash and underscore"
            )
        self.round_id = round_id
        self.tensorboard_dir: Path = settings.state.home.absolute() / "tensorboard" / round_id
        self._backend = backend or MlflowBackend(settings.registry)
        self._pending: list[Point] = []
        self.run_id = ""

    def __enter__(self) -> "RoundTracker":
        self._writer = _open_writer(self.tensorboard_dir)
        self.run_id = self._backend.start_run(self.round_id, (ROUND_TAG, self.round_id))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        try:
            self.flush()
        finally:
            self._backend.end_run(self.run_id, finished=error is None)

    def metric(self, name: str, value: float, step: int = 0) -> None:
        """Note one value; written with the next batch. A value that is not finite is kept as such."""
        point = Point(name, float(value), step, now_ms())
        self._writer.add_event(_scalar(point))
        self._pending.append(point)
        if len(self._pending) >= FLUSH_AT:
            self.flush()

    def params(self, params: Mapping[str, Any]) -> None:
        """Note parameters; nested groups get dotted names. A round taken up again with others goes on in a new run."""
        named = _dotted(params)
        if self._backend.has_other_params(self.run_id, named):
            self._backend.end_run(self.run_id, finished=False)
            self.run_id = self._backend.start_run(self.round_id, (ROUND_TAG, self.round_id), anew=True)
        self._backend.log_params(self.run_id, named)

    def tag(self, key: str, value: str) -> None:
        """Note one fact about the run."""
        self._backend.set_run_tag(self.run_id, key, value)

    def artifact(self, path: Path) -> None:
        """Copy a file, or a folder under its own name, to the run.

        Raises:
            RegistryError: there is nothing at `path`.
        """
        if not path.exists():
            raise RegistryError(f"round {self.round_id}: no file or folder at {path} to keep with the run")
        self._backend.log_artifact(self.run_id, path)

    def flush(self) -> None:
        """Write what was noted so far."""
        points, self._pending = self._pending, []
        self._backend.log_metrics(self.run_id, points)


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _dotted(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _open_writer(folder: Path) -> Any:
    try:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        raise DependencyMissing(
            f"tensorboard cannot be imported ({error}); it writes the event files of a round, "
            "install it with pip install 'penstock[learn]'"
        ) from error
    return EventFileWriter(str(folder))


def _scalar(point: Point) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    summary = Summary(value=[Summary.Value(tag=point.name, simple_value=point.value)])
    return Event(wall_time=point.at_ms / 1000, step=point.step, summary=summary)
