"""A backtest's folder: whose results it holds, how far each track is, and what is finished.

OUT/backtest.json     what the results belong to: log, settings, arguments, versions
OUT/<cadence>/, OUT/baselines/<name>/   a finished method: rankings.parquet, scores.parquet, backtest-track.json (last)
OUT/.progress/        warm-up and, per unfinished track, a part for each finished window and the newest checkpoint

A part is written before the checkpoint that counts it. After a kill the newest whole checkpoint says which parts
count; later ones are written again.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from penstock.data.tables import replace_file
from penstock.errors import DataError, StateError
from penstock.pipeline.backtest_fingerprint import differences

FINGERPRINT, PROGRESS, FACTS = "backtest.json", ".progress", "backtest-track.json"
RANKINGS, SCORES, REQUESTS = "rankings.parquet", "scores.parquet", "requests.parquet"
BASELINES = "baselines"
REQUESTS_FILE: dict[str, pl.DataType] = {
    "request_id": pl.Int64(),
    "user": pl.String(),
    "at": pl.Datetime("us"),
    "relevant": pl.List(pl.String()),
}
RANKINGS_FILE: dict[str, pl.DataType] = {"request_id": pl.Int64(), "items": pl.List(pl.String())}
SCORES_FILE: dict[str, pl.DataType] = {
    "request_id": pl.Int64(),
    "ranks": pl.List(pl.Int32()),  # of each relevant item, from 1; 0 where not among the first 100
    "widened": pl.List(pl.Int32()),  # the same with unseen items as candidates; null where not measured
    "auc": pl.Float64(),
    "earlier": pl.Int64(),
}
PART_FILE = RANKINGS_FILE | SCORES_FILE


class BacktestStore:
    """See the module. Hold `lock` while writing."""

    def __init__(self, out: Path) -> None:
        self.out, self.progress = out, out / PROGRESS

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second backtest out of this folder for as long as this process works in it.

        Raises:
            StateError: another process holds it.
        """
        self.progress.mkdir(parents=True, exist_ok=True)
        with (self.progress / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StateError(
                    f"{self.out}: another backtest is writing here, expected one at a time; wait for it or name "
                    "another --out"
                ) from error
            yield

    def claim(self, mine: dict[str, Any], restart: bool) -> None:
        """Take the folder for results of `mine`, or go on with it.

        Raises:
            StateError: it holds results of something else, or a fingerprint that cannot be read.
        """
        path = self.out / FINGERPRINT
        if restart:
            self.clear()
        if path.exists():
            changed = differences(_read_fingerprint(path), mine)
            if changed:
                raise StateError(
                    f"{self.out} holds a backtest of something else: {'; '.join(changed[:5])}"
                    f"{f' and {len(changed) - 5} more' if len(changed) > 5 else ''}; start anew with --restart, or "
                    "name another --out"
                )
            return
        self.clear()
        write_json(path, mine)

    def clear(self) -> None:
        """Forget every result and all progress; files that no backtest writes stay."""
        for facts in (*self.out.glob(f"*/{FACTS}"), *self.out.glob(f"{BASELINES}/*/{FACTS}")):
            for name in (FACTS, SCORES, RANKINGS):
                (facts.parent / name).unlink(missing_ok=True)
        for part in self.progress.glob("*/"):
            shutil.rmtree(part)
        for name in (FINGERPRINT, REQUESTS, "summary.json", "curves.png", "report.html"):
            (self.out / name).unlink(missing_ok=True)

    @property
    def warm_up(self) -> Path:
        """Where the warm-up's checkpoint is kept."""
        return self.progress / "warm-up"

    def cadence(self, name: str) -> "MethodStore":
        """Where one cadence is kept."""
        return MethodStore(self.out / name, self.progress / f"cadence-{name}")

    def baseline(self, name: str) -> "MethodStore":
        """Where one baseline is kept."""
        slug = "-".join("".join(sign if sign.isalnum() else " " for sign in name.lower()).split())
        return MethodStore(self.out / BASELINES / slug, self.progress / f"baseline-{slug}")


@dataclass(frozen=True)
class MethodStore:
    """One method's results, and its parts until it is finished."""

    folder: Path
    parts: Path

    @property
    def finished(self) -> bool:
        """Whether every window is done and merged."""
        return (self.folder / FACTS).exists()

    def checkpoint(self, done: int) -> Path:
        """Folder of the checkpoint after `done` groups of windows."""
        return self.parts / f"checkpoint-{done:06d}"

    def newest(self) -> int:
        """How many groups of windows the newest whole checkpoint counts; 0 when there is none."""
        return max((int(path.name.rpartition("-")[2]) for path in self.parts.glob("checkpoint-*")), default=0)

    def parts_done(self) -> int:
        """How many groups in a row have their part and facts: where a track needs no checkpoint."""
        done = 0
        while self._part(done).with_suffix(".json").exists():
            done += 1
        return done

    def write_moment(self, moment: str, auc: dict[int, float]) -> None:
        """Keep the first window's AUC by request (null where it has none) as some model ranked it."""
        self.parts.mkdir(parents=True, exist_ok=True)
        plain = {str(number): None if value != value else value for number, value in auc.items()}
        write_json(self.parts / f"first-window-{moment}.json", plain)

    def moment(self, moment: str) -> dict[str, float | None]:
        """What `write_moment` kept."""
        return read_json(self.parts / f"first-window-{moment}.json")

    def drop_older(self, done: int) -> None:
        """Remove the checkpoints before `done`."""
        for path in self.parts.glob("checkpoint-*"):
            if int(path.name.rpartition("-")[2]) < done:
                shutil.rmtree(path)

    def write_part(self, index: int, part: pl.DataFrame, facts: dict[str, Any]) -> None:
        """Keep the rankings (columns PART_FILE) and the facts of group `index`."""
        self.parts.mkdir(parents=True, exist_ok=True)
        replace_file(self._part(index), part.write_parquet)
        write_json(self._part(index).with_suffix(".json"), facts)

    def part_facts(self, count: int) -> list[dict[str, Any]]:
        """The facts of the first `count` groups."""
        return [read_json(self._part(index).with_suffix(".json")) for index in range(count)]

    def finish(self, count: int, facts: dict[str, Any]) -> None:
        """Merge the first `count` parts, one in memory at a time, and drop them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, schema in ((RANKINGS, RANKINGS_FILE), (SCORES, SCORES_FILE)):
            replace_file(self.folder / name, partial(self._merge, schema=schema, count=count))
        write_json(self.folder / FACTS, facts)
        self.drop_parts()

    def drop_parts(self) -> None:
        """Remove what only an unfinished method needs."""
        shutil.rmtree(self.parts, ignore_errors=True)

    def facts(self) -> dict[str, Any]:
        """The facts of a finished method."""
        return read_json(self.folder / FACTS)

    def scores(self) -> pl.DataFrame:
        """SCORES_FILE of a finished method, by request."""
        return pl.read_parquet(self.folder / SCORES).sort("request_id")

    def _part(self, index: int) -> Path:
        return self.parts / f"part-{index:06d}.parquet"

    def _merge(self, path: Path, schema: dict[str, pl.DataType], count: int) -> None:
        arrow = pl.DataFrame(schema=schema).to_arrow().schema
        with pq.ParquetWriter(path, arrow, compression="zstd") as writer:
            for index in range(count):
                part = pl.read_parquet(self._part(index), columns=list(schema))
                if len(part):
                    writer.write_table(part.select(list(schema)).to_arrow().cast(arrow))


def write_json(path: Path, tree: dict[str, Any]) -> None:
    """Write one JSON object, whole or not at all."""
    replace_file(path, lambda part: _write_text(part, json.dumps(tree, indent=1, sort_keys=True) + "\n"))


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        DataError: it is missing or does not parse.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); start the backtest anew with --restart") from error
    if not isinstance(tree, dict):
        raise DataError(f"{path} holds {type(tree).__name__}, expected an object; start anew with --restart")
    return tree


def _read_fingerprint(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except DataError as error:
        raise StateError(str(error)) from error


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
