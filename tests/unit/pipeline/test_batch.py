"""The batch stages over a small simulated log: time order, determinism, refusal, and what dvc.yaml promises of them."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml

from penstock.data.dataset import Dataset, DatasetMeta, write_dataset
from penstock.data.simulate import simulate_and_write
from penstock.errors import DataError, EmptyWindow, SchemaError, SnapshotRefused
from penstock.inference.bundle import load_bundle
from penstock.pipeline import batch
from penstock.records import CATALOGUE_COLUMNS, EVENT_COLUMNS
from penstock.settings import Settings, load_settings

ROOT = Path(__file__).parents[3]
STAGES = {
    "prepare": batch.prepare,
    "validate": batch.validate,
    "train": batch.train,
    "export": batch.export,
    "evaluate": batch.evaluate,
}
SMALL = {
    "simulate.items": 40,
    "simulate.users": 30,
    "simulate.days": 1.0,
    "simulate.requests_per_day": 120,
    "text.tuned_layers": 1,
    "text.max_tokens": 32,
    "training.warmup_epochs": 1,
    "training.holdout_share": 0.2,
    "gates.bootstrap_resamples": 100,
}


def small(root: Path, **changes: object) -> Settings:
    """params.yaml with a tiny marketplace and encoder, everything under `root`."""
    places = {"data.dir": str(root / "data/market"), "state.home": str(root / "var")}
    if (root / "encoder").exists():
        places["text.encoder"] = str(root / "encoder")
    return load_settings(ROOT / "params.yaml", {}).override(SMALL | places | changes)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: str) -> Path:
    """A folder where all five stages ran once."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(tiny_encoder, root / "encoder")
    settings = small(root)
    simulate_and_write(settings.simulate, settings.seed, settings.data.dir)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for stage in STAGES.values():
            stage(settings)
    return root


@pytest.fixture
def project(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that a test may change, as the working folder."""
    shutil.copytree(done, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def metrics(root: Path, stage: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((root / "artifacts" / stage / "metrics.json").read_text())
    return found


def test_prepare_splits_by_time_and_loses_nothing(done: Path) -> None:
    folder = done / "artifacts/prepare"
    train, holdout = pl.read_parquet(folder / "train.parquet"), pl.read_parquet(folder / "holdout.parquet")
    whole = pl.read_parquet(done / "data/market/events.parquet")
    assert train["at"].max() < holdout["at"].min()  # type: ignore[operator]
    assert sorted([*train["event_id"], *holdout["event_id"]]) == sorted(whole["event_id"])
    assert len(holdout) / len(whole) == pytest.approx(0.2, abs=0.01)


def test_every_stage_leaves_its_folder_and_nothing_half_made(done: Path) -> None:
    assert sorted(path.name for path in (done / "artifacts").iterdir()) == sorted(STAGES)
    assert (done / "artifacts/validate/data-docs/index.html").exists()
    bundle = load_bundle(done / "artifacts/export/bundle")
    assert bundle.manifest["lineage"]["parent_version"] is None
    assert not (done / "var/state.db").exists(), "nothing is registered"


def test_the_holdout_is_measured_beside_popularity_and_the_possible(done: Path) -> None:
    found = metrics(done, "evaluate")
    assert found["requests"] > 5  # type: ignore[operator]
    for name in ("model", "popularity", "popularity_24h"):
        row = found[name]
        assert isinstance(row, dict)
        assert row["ndcg_at_10_low"] <= row["ndcg_at_10"] <= row["ndcg_at_10_high"]
        assert 0 < row["auc"] < 1
        assert row["log_loss"] > 0
    assert found["model"]["ndcg_at_10"] <= found["oracle"]["ndcg_at_10"] + 0.2  # type: ignore[index]


def test_requests_begun_before_the_split_are_not_measured(done: Path) -> None:
    folder = done / "artifacts/prepare"
    begun = set(pl.read_parquet(folder / "train.parquet")["request_id"])
    later = pl.read_parquet(folder / "holdout.parquet").filter(~pl.col("request_id").is_in(begun))
    led = later.filter(pl.col("kind").is_in(["click", "purchase"]))["request_id"].n_unique()
    assert 0 < metrics(done, "evaluate")["requests"] <= led  # type: ignore[operator]


def test_the_same_inputs_give_the_same_metrics_byte_for_byte(done: Path, project: Path) -> None:
    shutil.rmtree(project / "artifacts")
    for stage in STAGES.values():
        stage(small(done))
    for name in ("validate", "train", "export", "evaluate"):
        path = Path("artifacts") / name / "metrics.json"
        assert path.read_bytes() == (done / path).read_bytes(), name


def test_a_refused_snapshot_stops_the_pipeline_and_keeps_its_page(project: Path) -> None:
    strict = small(project, **{"validation.max_abs_value": 1.0, "validation.max_bad_row_share": 0.0})
    with pytest.raises(SnapshotRefused, match=r"max_bad_row_share.*artifacts/validate/data-docs/.*\.html"):
        batch.validate(strict)
    assert (project / "artifacts/validate/data-docs/index.html").exists()
    assert metrics(project, "validate")["refused"] is True
    with pytest.raises(SchemaError, match=r"good\.parquet cannot be read"):
        batch.train(strict)


def test_bad_rows_are_set_aside_with_their_reasons(project: Path) -> None:
    batch.validate(small(project, **{"validation.max_abs_value": 5.0}))
    bad = pl.read_parquet(project / "artifacts/validate/bad.parquet")
    good = pl.read_parquet(project / "artifacts/validate/good.parquet")
    assert len(bad) == metrics(project, "validate")["bad"] > 0  # type: ignore[operator]
    assert len(bad) + len(good) == metrics(project, "validate")["rows"]
    assert bad["reasons"].list.len().min() > 0  # type: ignore[operator]


def test_an_altered_input_is_noticed(project: Path) -> None:
    path = project / "artifacts/prepare/train.parquet"
    pl.read_parquet(path).head(100).write_parquet(path)
    with pytest.raises(SchemaError, match="altered"):
        batch.validate(small(project))


def test_a_stage_out_of_order_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="run the stages in order"):
        batch.validate(small(tmp_path))


def test_a_split_that_leaves_nothing_to_learn_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = small(tmp_path)
    at = datetime(2026, 1, 5, tzinfo=UTC)
    write_dataset(clicks([at] * 5), settings.data.dir)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EmptyWindow, match="leave 0 to learn from"):
        batch.prepare(settings)
    assert not (tmp_path / "artifacts/prepare").exists()


def test_a_failed_stage_leaves_the_folder_of_the_last_good_run(project: Path) -> None:
    before = metrics(project, "train")
    with pytest.raises(EmptyWindow, match="nothing to learn from"):
        batch.train(small(project, **{"data.gains": dict.fromkeys(small(project).data.gains, 0.0)}))
    assert metrics(project, "train") == before
    assert not (project / "artifacts/.train.part").exists()


def test_classification_goes_through_the_same_stages(
    tmp_path: Path, tiny_encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small(tmp_path, task="classify", **{"text.encoder": tiny_encoder})
    write_dataset(moods(60), settings.data.dir)
    monkeypatch.chdir(tmp_path)
    for stage in STAGES.values():
        stage(settings)
    found = metrics(tmp_path, "evaluate")
    assert found["texts"] == 12
    for name in ("model", "commonest_label"):
        assert 0.4 <= found[name]["accuracy"] <= 1  # type: ignore[index]
        assert 0 < found[name]["log_loss"] < 3  # type: ignore[index]
    assert load_bundle(tmp_path / "artifacts/export/bundle").task == "classify"


def test_dvc_yaml_names_every_stage_and_only_what_exists() -> None:
    tree = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert list(tree) == list(STAGES)
    made: set[str] = set()
    params = load_settings(ROOT / "params.yaml", {}).model_dump(mode="json")
    for name, stage in tree.items():
        assert stage["cmd"] == f"penstock stage {name}"
        for dep in stage["deps"]:
            assert dep == "${data.dir}" or (ROOT / dep).exists() or any(dep.startswith(out) for out in made), dep
        for param in stage["params"]:
            section, _, key = param.partition(".")
            assert section in params, param
            assert not key or key in params[section], param
        for out in [*stage.get("outs", []), *stage.get("metrics", [])]:
            (path, options), *_ = out.items()
            assert path.startswith("artifacts/")
            assert options == {"cache": False}, f"{path} would fill the remote, and `dvc pull` would miss it"
            made.add(path)


def clicks(times: list[datetime]) -> Dataset:
    """One item, clicked at `times`."""
    events = pl.DataFrame(
        [
            {"event_id": f"e{n}", "user_id": "u", "item_id": "i", "kind": "click", "at": at, "received_at": at}
            for n, at in enumerate(times)
        ],
        schema=EVENT_COLUMNS,
    )
    catalogue = pl.DataFrame([{"item_id": "i", "title": "A lamp"}], schema=CATALOGUE_COLUMNS)
    return Dataset(events, catalogue, DatasetMeta("clicks", "rank", True, "positives", ["click"], "by hand"))


def moods(count: int) -> Dataset:
    """Short texts, glad and cross ones."""
    said = {"glad": "A wonderful day, all of us laughed and won", "cross": "A terrible loss, everybody is angry"}
    start = datetime(2026, 1, 5, tzinfo=UTC)
    rows = []
    for number in range(count):
        label = ("glad", "cross")[number % 2]
        at = start + timedelta(minutes=number)
        text = f"{said[label]}, says number {number}"
        rows.append(
            {"event_id": f"e{number:03}", "user_id": "-", "item_id": label, "kind": "label", "query": text}
            | {"at": at, "received_at": at}
        )
    catalogue = pl.DataFrame([{"item_id": name, "title": name} for name in said], schema=CATALOGUE_COLUMNS)
    meta = DatasetMeta("moods", "classify", True, "positives", ["label"], "by hand")
    return Dataset(pl.DataFrame(rows, schema=EVENT_COLUMNS), catalogue, meta)
