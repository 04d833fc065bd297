"""A backtest that is killed goes on where it was and comes to the same; a folder belongs to one backtest."""

import json
from pathlib import Path

import polars as pl
import pytest
from core_bench import small_settings
from test_backtest import small_log

from penstock.errors import StateError
from penstock.pipeline import backtest_track
from penstock.pipeline.backtest_run import run_backtest
from penstock.pipeline.backtest_store import BacktestStore
from penstock.settings import Settings

CADENCES = ["2h", "fresh", "never"]
BASELINES = ["popularity", "decayed popularity"]
TIMES = ("learn_s", "score_s", "seconds", "extra_s", "compute_s", "measured")


class Killed(BaseException):
    """What stands for a process that is gone."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: str) -> Settings:
    """Four windows; weights move once six requests wait."""
    changes = {"backtest.windows": 4, "validation.min_rows": 6, "gates.bootstrap_resamples": 100}
    return small_settings(tmp_path_factory.mktemp("resume"), tiny_encoder, **changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small log."""
    folder = tmp_path_factory.mktemp("log") / "data"
    small_log(folder, repeats=True)
    return folder


def quiet(what: str, done: int, total: int) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def whole(settings: Settings, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run that nobody disturbed wrote."""
    out = tmp_path_factory.mktemp("whole")
    run_backtest(data, out, settings, CADENCES, quiet, BASELINES)
    return out


def without_times(tree: object) -> object:
    if isinstance(tree, dict):
        return {key: without_times(value) for key, value in tree.items() if key not in TIMES}
    return [without_times(one) for one in tree] if isinstance(tree, list) else tree


def assert_same(out: Path, whole: Path) -> None:
    files = sorted(path.relative_to(whole) for path in whole.rglob("*.parquet"))
    assert len(files) == 1 + 2 * (len(CADENCES) + len(BASELINES))
    assert files == sorted(path.relative_to(out) for path in out.rglob("*.parquet"))
    for file in files:
        assert pl.read_parquet(out / file).equals(pl.read_parquet(whole / file)), file
    mine, theirs = (json.loads((folder / "summary.json").read_text()) for folder in (out, whole))
    assert without_times(mine) == without_times(theirs)


@pytest.mark.parametrize(
    "moments",
    [
        [("warm-up", 2), ("2h", 0), ("2h", 2), ("fresh", 1)],
        [("fresh", 3), ("never", 2), ("popularity", 2), ("decayed popularity", 4)],
    ],
)
def test_killed_again_and_again_it_comes_to_the_same(
    moments: list[tuple[str, int]], settings: Settings, data: Path, whole: Path, tmp_path: Path
) -> None:
    for what, when in moments:
        seen: list[tuple[str, int]] = []

        def kill(name: str, done: int, total: int, at: tuple[str, int] = (what, when), seen: list = seen) -> None:
            seen.append((name, done))
            if (name, done) == at:
                raise Killed

        with pytest.raises(Killed):
            run_backtest(data, tmp_path, settings, CADENCES, kill, BASELINES)
        assert not (tmp_path / "summary.json").exists()
        if what == "fresh":  # the track before it was finished, so none of its windows is ranked again
            assert [done for name, done in seen if name == "2h"].count(4) >= 1
    run_backtest(data, tmp_path, settings, CADENCES, quiet, BASELINES)
    assert_same(tmp_path, whole)


def test_killed_between_a_part_and_its_checkpoint(
    settings: Settings, data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, count = backtest_track.save_checkpoint, 0

    def killed(*arguments: object) -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise Killed
        save(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(backtest_track, "save_checkpoint", killed)
    with pytest.raises(Killed):
        run_backtest(data, tmp_path, settings, CADENCES, quiet, BASELINES)
    kept = BacktestStore(tmp_path).cadence("2h")
    assert (kept.newest(), kept.parts_done()) == (1, 2)
    monkeypatch.setattr(backtest_track, "save_checkpoint", save)
    run_backtest(data, tmp_path, settings, CADENCES, quiet, BASELINES)
    assert_same(tmp_path, whole)


def test_a_finished_backtest_is_not_run_again(settings: Settings, data: Path, whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.glob("*/rankings.parquet")}
    seen: list[tuple[str, int]] = []
    run_backtest(data, whole, settings, CADENCES, lambda name, done, total: seen.append((name, done)), BASELINES)
    assert {path: path.stat().st_mtime_ns for path in whole.glob("*/rankings.parquet")} == before
    assert ("fresh", 1) not in seen
    assert not list((whole / ".progress").glob("*/"))


def test_another_log_other_settings_or_arguments_are_refused(
    settings: Settings, data: Path, whole: Path, tmp_path: Path
) -> None:
    small_log(tmp_path / "other", repeats=True, scramble_from=290)
    before = (whole / "summary.json").read_bytes()
    slower = settings.override({"training.learning_rate": 0.5})
    for folder, used, cadences, words in (
        (tmp_path / "other", settings, CADENCES, r"log\.dataset\.json was .*log\.events\.parquet was"),
        (data, slower, CADENCES, r"settings\.training\.learning_rate was 0\.003, is now 0\.5"),
        (data, settings, ["never"], r"arguments\.cadences was"),
    ):
        with pytest.raises(StateError, match=f"something else: {words}.*--restart"):
            run_backtest(folder, whole, used, cadences, quiet, BASELINES)
    assert (whole / "summary.json").read_bytes() == before


def test_restart_forgets_what_the_folder_held(settings: Settings, data: Path, tmp_path: Path) -> None:
    few = settings.override({"backtest.windows": 2})
    (tmp_path / "notes.txt").write_text("mine")
    run_backtest(data, tmp_path, settings, ["never"], quiet, ["popularity"])
    run_backtest(data, tmp_path, few, ["never"], quiet, [], restart=True)
    assert json.loads((tmp_path / "summary.json").read_text())["protocol"]["windows"] == 2
    assert not list(tmp_path.glob("baselines/*/*"))
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_two_backtests_do_not_share_a_folder(settings: Settings, data: Path, tmp_path: Path) -> None:
    with BacktestStore(tmp_path).lock(), pytest.raises(StateError, match="another backtest is writing here"):
        run_backtest(data, tmp_path, settings, ["never"], quiet, [])


def test_what_is_broken_in_the_folder_is_named(settings: Settings, data: Path, tmp_path: Path) -> None:
    (tmp_path / "backtest.json").write_text("{")
    with pytest.raises(StateError, match=r"backtest\.json cannot be read.*--restart"):
        run_backtest(data, tmp_path, settings, ["never"], quiet, [])
