"""The only module that knows MLflow: runs, model versions, aliases, behind plain values.

mlflow is imported when a backend is first opened (seconds), never before. Its telemetry is off, its migration
logs are silenced, and artefacts go where the settings say, never to ./mlruns.
"""

import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from penstock.errors import RegistryError
from penstock.settings import RegistrySettings

SQLITE = "sqlite:///"
BATCH_METRICS, BATCH_PARAMS, PARAM_CHARS = 1000, 100, 6000
"""MLflow's own limits for one request."""


@dataclass(frozen=True)
class Point:
    """One value of a metric. `at_ms`: UTC milliseconds since 1970."""

    name: str
    value: float
    step: int
    at_ms: int


@dataclass(frozen=True)
class RawVersion:
    """A model version as MLflow holds it."""

    number: str
    created_ms: int
    run_id: str | None
    tags: dict[str, str]


class MlflowBackend:
    """A tracking and registry database at `settings.tracking_uri`, created when it is not there.

    Raises:
        RegistryError: the database or the artefact folder cannot be used; any later MLflow failure as well.
    """

    def __init__(self, settings: RegistrySettings) -> None:
        self._name = settings.name
        self._root = settings.artifacts.absolute()
        _make_folders(settings, self._root)
        with _translated(f"opening {settings.tracking_uri}"):
            self._client = _open_client(settings.tracking_uri)
            self._experiment = self._ensure_experiment()
            self._ensure_model()

    def create_version(self, source: Path, run_id: str | None, tags: Mapping[str, str]) -> RawVersion:
        """Add a version with all its tags at once: it exists whole or not at all."""
        with _translated(f"creating a version of {self._name}"):
            return _raw(self._client.create_model_version(self._name, str(source), run_id=run_id, tags=dict(tags)))

    def versions(self) -> list[RawVersion]:
        """All versions, oldest first."""
        found: list[Any] = []
        token = None
        with _translated(f"listing versions of {self._name}"):
            while True:
                page = self._client.search_model_versions(f"name = '{self._name}'", page_token=token)
                found += page
                token = page.token
                if not token:
                    return sorted((_raw(item) for item in found), key=lambda version: int(version.number))

    def version(self, number: str) -> RawVersion | None:
        """One version, None when there is none of that number."""
        from mlflow.exceptions import MlflowException

        if not (number.isascii() and number.isdecimal()):
            return None
        with _translated(f"reading version {number} of {self._name}"):
            try:
                return _raw(self._client.get_model_version(self._name, number))
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise

    def aliases(self) -> dict[str, str]:
        """Version number by alias."""
        with _translated(f"reading aliases of {self._name}"):
            found = self._client.get_registered_model(self._name).aliases
        return {alias: str(number) for alias, number in found.items()}

    def set_alias(self, alias: str, number: str | None) -> None:
        """Let `alias` name a version, or nothing."""
        with _translated(f"setting alias {alias} of {self._name}"):
            if number is None:
                self._client.delete_registered_model_alias(self._name, alias)
            else:
                self._client.set_registered_model_alias(self._name, alias, number)

    def set_version_tag(self, number: str, key: str, value: str) -> None:
        """Set one tag of a version."""
        with _translated(f"tagging version {number} of {self._name}"):
            self._client.set_model_version_tag(self._name, number, key, value)

    def model_tags(self) -> dict[str, str]:
        """Tags of the registered model itself."""
        with _translated(f"reading tags of {self._name}"):
            return dict(self._client.get_registered_model(self._name).tags)

    def set_model_tag(self, key: str, value: str) -> None:
        """Set one tag of the registered model."""
        with _translated(f"tagging {self._name}"):
            self._client.set_registered_model_tag(self._name, key, value)

    def start_run(self, name: str, tag: tuple[str, str], anew: bool = False) -> str:
        """The id of the run that carries `tag`: the newest there already is, resumed, or (always with `anew`) a new
        one."""
        key, value = tag
        with _translated(f"starting run {name}"):
            found = self._client.search_runs([self._experiment], f"tags.`{key}` = '{value}'", max_results=1)
            if found and not anew:
                self._client.set_terminated(found[0].info.run_id, "RUNNING")
                return str(found[0].info.run_id)
            return str(self._client.create_run(self._experiment, run_name=name, tags={key: value}).info.run_id)

    def end_run(self, run_id: str, finished: bool) -> None:
        """Mark a run as finished or failed."""
        with _translated(f"ending run {run_id}"):
            self._client.set_terminated(run_id, "FINISHED" if finished else "FAILED")

    def log_metrics(self, run_id: str, points: Sequence[Point]) -> None:
        """Write metric values; `@` in a name becomes _at_, which MLflow can hold."""
        from mlflow.entities import Metric

        metrics = [Metric(p.name.replace("@", "_at_"), p.value, p.at_ms, p.step) for p in points]
        with _translated(f"logging metrics of run {run_id}"):
            for start in range(0, len(metrics), BATCH_METRICS):
                self._client.log_batch(run_id, metrics=metrics[start : start + BATCH_METRICS])

    def metric_history(self, run_id: str, name: str) -> list[Point]:
        """Every value of one metric of a run, in the order of its steps; none where it was never noted."""
        with _translated(f"reading {name} of run {run_id}"):
            found = self._client.get_metric_history(run_id, name)
        return sorted((Point(name, one.value, one.step, one.timestamp) for one in found), key=lambda point: point.step)

    def log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        """Write parameters, each as text cut at what MLflow can hold. MLflow refuses to change one."""
        from mlflow.entities import Param

        rows = [Param(key, text) for key, text in _texts(params).items()]
        with _translated(f"logging parameters of run {run_id}"):
            for start in range(0, len(rows), BATCH_PARAMS):
                self._client.log_batch(run_id, params=rows[start : start + BATCH_PARAMS])

    def has_other_params(self, run_id: str, params: Mapping[str, Any]) -> bool:
        """Whether the run holds one of these parameters with another value."""
        with _translated(f"reading run {run_id}"):
            held = self._client.get_run(run_id).data.params
        return any(held.get(key, text) != text for key, text in _texts(params).items())

    def set_run_tag(self, run_id: str, key: str, value: str) -> None:
        """Set one tag of a run."""
        with _translated(f"tagging run {run_id}"):
            self._client.set_tag(run_id, key, value)

    def log_artifact(self, run_id: str, path: Path) -> None:
        """Copy a file, or a folder under its own name, to the run's artefacts."""
        with _translated(f"storing {path} with run {run_id}"):
            if path.is_dir():
                self._client.log_artifacts(run_id, str(path), artifact_path=path.name)
            else:
                self._client.log_artifact(run_id, str(path))

    def _ensure_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self._name)
        if found is None:
            try:
                return str(self._client.create_experiment(self._name, artifact_location=(self._root / "runs").as_uri()))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self._client.get_experiment_by_name(self._name)
        return str(found.experiment_id)

    def _ensure_model(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(self._name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def now_ms() -> int:
    """The wall clock in UTC milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def _open_client(uri: str) -> Any:
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # mlflow 3.17 declares its tables with a loader strategy that SQLAlchemy 2.1 will drop.
        warnings.filterwarnings("ignore", message=r"[\s\S]*``noload`` loader strategy", category=DeprecationWarning)
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _make_folders(settings: RegistrySettings, root: Path) -> None:
    folders = [root]
    if settings.tracking_uri.startswith(SQLITE):
        folders.append(Path(settings.tracking_uri.removeprefix(SQLITE)).absolute().parent)
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RegistryError(
                f"registry: folder {folder} cannot be made ({error.strerror}); "
                "set registry.artifacts and registry.tracking_uri to a place that can be written"
            ) from error


def _raw(version: Any) -> RawVersion:
    return RawVersion(str(version.version), version.creation_timestamp, version.run_id or None, dict(version.tags))


def _texts(params: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value)[:PARAM_CHARS] for key, value in params.items()}


@contextmanager
def _translated(what: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise RegistryError(f"MLflow failed while {what}: {error}; is registry.tracking_uri right?") from error
    except sa.exc.DBAPIError as error:  # from where MLflow opens its database, which it does not wrap
        raise RegistryError(
            f"MLflow's database failed while {what}: {error.orig}; see that it is there, not held by another writer "
            "and its disk not full, then try again; what serves is not touched"
        ) from error
