"""Latency and size."""

from pathlib import Path

from penstock.pipeline.measures import folder_mb, median_ms


def test_the_first_call_is_not_timed() -> None:
    calls: list[int] = []
    assert median_ms(lambda: calls.append(1), 3) >= 0
    assert len(calls) == 4


def test_the_size_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"x" * 2**19)
    (tmp_path / "c").write_bytes(b"x" * 2**19)
    assert folder_mb(tmp_path) == 1.0
