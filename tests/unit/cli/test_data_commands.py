"""simulate, import, ingest and quarantine."""

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from penstock.cli.data import KINDS
from penstock.data.dataset import read_dataset
from penstock.data.importers import IMPORTERS
from penstock.data.quarantine import quarantine_rows, quarantine_snapshot
from penstock.data.snapshot import close_snapshot, read_snapshot
from penstock.data.state import open_state
from penstock.settings import load_settings


def line(number: int, **changes: object) -> str:
    event = {"event_id": f"e{number}", "user_id": "u", "item_id": "i", "kind": "click", "at": "2026-01-05T12:00:00Z"}
    return json.dumps(event | changes)


def test_the_importers_offered_are_those_there_are() -> None:
    assert sorted(KINDS) == sorted(IMPORTERS)


def test_simulate_writes_a_dataset(answer, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK__SIMULATE__REQUESTS_PER_DAY", "50")
    said = answer("simulate", "--into", "market")
    dataset = read_dataset(place / "market")
    assert (said["events"], said["items"]) == (len(dataset.events), len(dataset.catalogue))
    assert Path(said["truth"]).is_file()


def test_import_prints_a_reconciliation_that_adds_up(run, answer, place: Path) -> None:
    (place / "log.csv").write_text("who,what,when\na,x,2026-01-05T12:00:00Z\n,y,2026-01-05T12:00:00Z\nb,x,never\n")
    words = ("import", "table", "log.csv", "--into", "mine", "--map", "who=user_id", "--map", "what=item_id")
    said = answer(*words, "--map", "when=at")
    assert (said["read"], said["kept"]) == (3, 1)
    assert said["rejected"] == {"no user_id": 1, "at cannot be read": 1}
    table = run(*words, "--map", "when=at").stdout
    assert "rejected: no user_id" in table
    assert "times are read as 2026-01-05T12:00:00Z" in table


@pytest.mark.parametrize("pair", ["who", "=user_id", "who="])
def test_a_mapping_that_is_none_is_a_usage_error(run, pair: str) -> None:
    result = run("import", "table", "log.csv", "--into", "mine", "--map", pair)
    assert result.exit_code == 2
    assert "expected column=field" in result.stderr


def test_a_column_mapped_twice_is_a_usage_error(run) -> None:
    result = run("import", "table", "x.csv", "--into", "m", "--map", "a=user_id", "--map", "a=item_id")
    assert "mapped twice, to user_id and item_id" in result.stderr


def test_ingest_accepts_what_it_can_and_names_the_rest(answer, place: Path) -> None:
    rows = [line(1), "", "not json", "[1]", line(2, kind="hover"), line(3, value=float("nan")), line(4), line(1)]
    (place / "events.jsonl").write_bytes("\n".join(rows).encode() + b"\n\xff\n")
    said = answer("ingest", "events.jsonl", code=1)
    assert (said["accepted"], said["duplicates"], said["pending"]) == (2, 1, 2)
    assert [(one["row"], one["event_id"]) for one in said["rejections"]] == [
        (2, None), (3, None), (4, "e2"), (5, "e3"), (8, None),
    ]  # fmt: skip
    assert "expected one of impression" in said["rejections"][2]["reason"]


def test_ingesting_twice_changes_nothing(answer, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.cli.data.BATCH_ROWS", 3)
    (place / "events.jsonl").write_text("\n".join(line(number) for number in range(8)))
    assert answer("ingest", "events.jsonl")["accepted"] == 8
    again = answer("ingest", "events.jsonl")
    assert (again["accepted"], again["duplicates"], again["pending"]) == (0, 8, 8)


def table_of(count: int) -> pl.DataFrame:
    rows = [json.loads(line(number)) | {"at": datetime(2026, 1, 5, 12, tzinfo=UTC)} for number in range(count)]
    return pl.DataFrame(rows)


def test_ingest_takes_parquet(answer, place: Path) -> None:
    table_of(5).write_parquet(place / "events.parquet")
    assert answer("ingest", "events.parquet")["accepted"] == 5


def test_a_missing_column_a_cut_file_and_another_ending_are_clear_errors(answer, place: Path) -> None:
    table_of(2).drop("kind").write_parquet(place / "short.parquet")
    assert "column kind is missing" in answer("ingest", "short.parquet", code=1)["error"]["message"]
    (place / "cut.parquet").write_bytes((place / "short.parquet").read_bytes()[:40])
    assert "no whole Parquet file" in answer("ingest", "cut.parquet", code=1)["error"]["message"]
    assert "expected .parquet" in answer("ingest", "events.xls", code=1)["error"]["message"]
    assert "No such file" in answer("ingest", "none.jsonl", code=1)["error"]["message"]


@pytest.fixture
def held(answer, place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A snapshot of four events, two of them in quarantine; its id."""
    for name in ("VALIDATION__MIN_ROWS", "DATA__ALLOWED_LATENESS_MINUTES", "DATA__LABEL_WAIT_MINUTES"):
        monkeypatch.setenv(f"PENSTOCK__{name}", "1" if name.endswith("ROWS") else "0")
    (place / "events.jsonl").write_text("\n".join(line(number) for number in range(4)))
    answer("ingest", "events.jsonl")
    settings = load_settings()
    state = open_state(settings.state.url)
    manifest = close_snapshot(state, settings, datetime.now(UTC))
    assert manifest is not None
    bad = read_snapshot(manifest).head(2).with_columns(reasons=pl.lit(["item is unknown"]).list.eval(pl.element()))
    quarantine_rows(state, manifest, bad)
    state.engine.dispose()
    return manifest.snapshot_id


def test_quarantine_lists_shows_and_replays(run, answer, held: str) -> None:
    listed = answer("quarantine", "list")
    assert [(one["event_id"], one["reasons"]) for one in listed["entries"]] == [
        ("e0", ["item is unknown"]), ("e1", ["item is unknown"]),
    ]  # fmt: skip
    first = listed["entries"][0]["id"]
    assert answer("quarantine", "show", str(first))["event"]["item_id"] == "i"
    assert "item is unknown" in run("quarantine", "list").stdout
    why = ("--reason", "item added", "--actor", "ann")
    assert answer("quarantine", "replay", str(first), *why) == {"status": "replayed", "entries": 1, "released": 1}
    assert answer("quarantine", "waive", "--snapshot", held, *why)["entries"] == 1
    assert answer("quarantine", "list")["count"] == 0
    assert [one["status"] for one in answer("quarantine", "list", "--status", "all")["entries"]] == [
        "replayed",
        "waived",
    ]
    assert "is replayed, expected held" in answer("quarantine", "replay", str(first), *why, code=1)["error"]["message"]
    audited = [(one["actor"], one["action"], one["details"]["reason"]) for one in answer("audit", "list")["entries"]]
    assert audited == [("ann", "quarantine replay", "item added"), ("ann", "quarantine waive", "item added")]


def test_quarantine_shows_each_reason_of_a_snapshot_with_sample_rows(run, answer, held: str) -> None:
    shown = answer("quarantine", "show", held)
    assert [(rule["rule"], rule["rows"]) for rule in shown["rules"]] == [("item is unknown", 2)]
    assert [one["event_id"] for one in shown["rules"][0]["samples"]] == ["e0", "e1"]
    assert "user_id=u" in run("quarantine", "show", held).stdout


def test_quarantine_shows_what_is_wrong_with_a_refused_snapshot(
    run, answer, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VALIDATION__MIN_ROWS", "DATA__ALLOWED_LATENESS_MINUTES", "DATA__LABEL_WAIT_MINUTES"):
        monkeypatch.setenv(f"PENSTOCK__{name}", "1" if name.endswith("ROWS") else "0")
    (place / "log.csv").write_text("who,what,when\nu,i,2026-01-05\n")
    mapping = ("--map", "who=user_id", "--map", "what=item_id", "--map", "when=at")
    answer("import", "table", "log.csv", "--into", "data/market", *mapping)
    rows = [line(number, user_id=f"u{number}", item_id="i" if number else "j") for number in range(4)]
    (place / "events.jsonl").write_text("\n".join(rows))
    answer("ingest", "events.jsonl")
    settings = load_settings()
    state = open_state(settings.state.url)
    manifest = close_snapshot(state, settings, datetime.now(UTC))
    assert manifest is not None
    quarantine_snapshot(state, manifest, ["bad rows: found 1 of 4"])
    state.engine.dispose()
    shown = answer("quarantine", "show", manifest.snapshot_id)
    assert shown["refused"] == ["bad rows: found 1 of 4"]
    (rule,) = shown["rules"]
    assert (rule["rule"], rule["rows"], rule["samples"][0]["event_id"]) == ("item known", 1, "e0")
    assert "item known: found j" in run("quarantine", "show", manifest.snapshot_id).stdout
    answer("quarantine", "fix", "--snapshot", manifest.snapshot_id, "--map", "item_id:j=i", "--reason", "a slip")
    assert answer("quarantine", "show", manifest.snapshot_id)["rules"] == []
    assert "no row breaks a rule" in run("quarantine", "show", manifest.snapshot_id).stdout


def test_quarantine_rows_are_fixed_by_a_mapping_or_a_file(answer, held: str, place: Path) -> None:
    why = ("--reason", "the exporter wrote i for i7", "--actor", "ann")
    first, second = (str(one["id"]) for one in answer("quarantine", "list")["entries"])
    done = answer("quarantine", "fix", first, "--map", "item_id:i=i7", *why)
    assert done == {"status": "fixed", "entries": 1, "released": 1, "changed": 1}
    (place / "corrected.csv").write_text("event_id,item_id,value\ne1,i8,2.5\n")
    assert answer("quarantine", "fix", second, "--file", "corrected.csv", *why)["changed"] == 1
    settings = load_settings()
    state = open_state(settings.state.url)
    manifest = close_snapshot(state, settings, datetime.now(UTC))
    assert manifest is not None
    rows = read_snapshot(manifest).select("event_id", "item_id", "value").rows()
    state.engine.dispose()
    assert rows == [("e0", "i7", None), ("e1", "i8", 2.5)]
    assert answer("audit", "list")["entries"][0]["details"]["map"] == "item_id:i=i7"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--map", "item_id:other=i7"), "changes none of 1 events"),
        (("--map", "event_id:e0=e9"), "field 'event_id' cannot be mapped"),
        (("--map", "kind:*=clik"), "would become no event: kind is 'clik'"),
        (("--map", "position:*=first"), "position: 'first' is no Int32"),
    ],
)
def test_a_wrong_correction_changes_nothing(answer, held: str, words: tuple[str, str], message: str) -> None:
    first = str(answer("quarantine", "list")["entries"][0]["id"])
    why = ("--reason", "r", "--actor", "ann")
    assert message in answer("quarantine", "fix", first, *words, *why, code=1)["error"]["message"]
    assert answer("quarantine", "list")["count"] == 2
    assert answer("audit", "list")["entries"] == []


def test_quarantine_says_what_is_not_there(answer) -> None:
    assert "no entry 9" in answer("quarantine", "show", "9", code=1)["error"]["message"]
    assert answer("quarantine", "replay", "--reason", "r", code=2)["error"]["kind"] == "UsageError"
