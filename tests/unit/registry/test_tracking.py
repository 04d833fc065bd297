"""What a round measured is found again, in MLflow and in TensorBoard files."""

import math
from pathlib import Path

import pytest
from registry_bench import Bench

from penstock.errors import RegistryError
from penstock.registry.tracking import FLUSH_AT, RoundTracker


def test_a_round_is_written_to_mlflow_and_tensorboard(bench: Bench, tmp_path: Path) -> None:
    report = tmp_path / "gate-report.html"
    report.write_text("<h1>passed</h1>")
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "a.txt").write_text("a")
    steps = FLUSH_AT + 20
    with RoundTracker(bench.settings, "round-1", bench.registry.backend) as tracker:
        tracker.params({"seed": 7, "training": {"learning_rate": 0.003, "optimizer": "adamw"}, "long": "x" * 9000})
        for step in range(steps):
            tracker.metric("loss", 1 / (step + 1), step)
        tracker.metric("ndcg@10", 0.25)
        tracker.tag("snapshot", "s1")
        tracker.artifact(report)
        tracker.artifact(tmp_path / "pages")

    client = bench.registry.backend._client
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["snapshot"] == "s1"
    assert run.data.params["training.learning_rate"] == "0.003"
    assert len(run.data.params["long"]) == 6000
    assert run.data.metrics["ndcg_at_10"] == 0.25
    history = client.get_metric_history(tracker.run_id, "loss")
    assert [(point.step, point.value) for point in sorted(history, key=lambda p: p.step)] == [
        (step, 1 / (step + 1)) for step in range(steps)
    ]
    assert sorted(item.path for item in client.list_artifacts(tracker.run_id)) == ["gate-report.html", "pages"]
    assert list((tmp_path / "artifacts" / "runs").rglob("gate-report.html"))
    scalars = _scalars(tmp_path / "tensorboard" / "round-1")
    assert len(scalars["loss"]) == steps
    assert scalars["loss"][3] == (3, pytest.approx(0.25))
    assert scalars["ndcg@10"] == [(0, pytest.approx(0.25))]


def test_a_round_taken_up_again_with_other_settings_goes_on_in_a_new_run(bench: Bench) -> None:
    def taken_up(rate: float) -> str:
        with RoundTracker(bench.settings, "round-1", bench.registry.backend) as tracker:
            tracker.params({"training": {"learning_rate": rate}})
            tracker.metric("loss", rate)
        return tracker.run_id

    first = taken_up(0.003)
    assert taken_up(0.003) == first, "the same settings go on in the same run"
    second = taken_up(0.03)
    assert second != first
    assert taken_up(0.03) == second
    client = bench.registry.backend._client
    found = [client.get_run(run) for run in (first, second)]
    assert [run.data.params["training.learning_rate"] for run in found] == ["0.003", "0.03"]
    assert bench.registry.backend.metric_history(second, "loss")[0].value == 0.03


def test_a_round_that_raises_is_failed_and_keeps_what_it_measured(bench: Bench) -> None:
    tracker = RoundTracker(bench.settings, "round-1", bench.registry.backend)

    def run() -> None:
        with tracker:
            tracker.metric("loss", math.nan, 4)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    client = bench.registry.backend._client
    assert client.get_run(tracker.run_id).info.status == "FAILED"
    assert math.isnan(client.get_metric_history(tracker.run_id, "loss")[0].value)


def test_a_resumed_round_goes_on_in_its_run(bench: Bench) -> None:
    with pytest.raises(KeyboardInterrupt), RoundTracker(bench.settings, "round-1", bench.registry.backend) as first:
        raise KeyboardInterrupt
    with RoundTracker(bench.settings, "round-1", bench.registry.backend) as second:
        assert bench.registry.backend._client.get_run(second.run_id).info.status == "RUNNING"
    with RoundTracker(bench.settings, "round-2", bench.registry.backend) as other:
        pass
    assert first.run_id == second.run_id != other.run_id
    assert bench.registry.backend._client.get_run(first.run_id).info.status == "FINISHED"


@pytest.mark.parametrize("round_id", ["", "../escape", "a/b", ".hidden", "a b", "a'b"])
def test_a_round_id_must_be_able_to_name_a_folder(bench: Bench, round_id: str) -> None:
    with pytest.raises(RegistryError, match="cannot name a folder"):
        RoundTracker(bench.settings, round_id)


def test_what_cannot_be_kept_says_why(bench: Bench, tmp_path: Path) -> None:
    with RoundTracker(bench.settings, "round-1", bench.registry.backend) as tracker:
        with pytest.raises(RegistryError, match=r"no file or folder at .*nothing"):
            tracker.artifact(tmp_path / "nothing")
        tracker.metric("bad\nname", 1.0)
        with pytest.raises(RegistryError, match="MLflow failed while logging metrics"):
            tracker.flush()


def _scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    (path,) = folder.iterdir()
    for raw in RawEventFileLoader(str(path)).Load():
        event = Event.FromString(raw)
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found
