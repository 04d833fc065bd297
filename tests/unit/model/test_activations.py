"""The file of kept activations: it outlives its process, takes a crash, a second writer and a limit."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from core_bench import small_settings

from penstock.model.activations import ENTRY, ActivationCache, FileStore, open_store
from penstock.model.text_encoder import TextEncoder, tokenizer_of
from penstock.settings import Settings

WIDTH = 4


def part(number: int, rows: int) -> np.ndarray:
    return np.full((rows, WIDTH), number, np.float16)


def store_at(folder: Path, max_mb: int = 1) -> FileStore:
    return FileStore(folder / "a", WIDTH, max_mb)


def test_it_is_there_for_the_next_process(tmp_path: Path) -> None:
    store_at(tmp_path).put(["x", "longer"], [part(1, 2), part(2, 3)])
    again = store_at(tmp_path)
    assert "x" in again
    assert "y" not in again
    assert again.rows("longer") == 3
    np.testing.assert_array_equal(again.get("longer"), part(2, 3))


def test_two_writers_see_each_other_and_nothing_is_kept_twice(tmp_path: Path) -> None:
    one, two = store_at(tmp_path), store_at(tmp_path)
    one.put(["x"], [part(1, 2)])
    two.put(["x", "y"], [part(9, 2), part(3, 1)])
    one.put(["z"], [part(4, 1)])
    np.testing.assert_array_equal(two.get("x"), part(1, 2))
    np.testing.assert_array_equal(one.get("y"), part(3, 1))
    assert (tmp_path / "a.f16").stat().st_size == 4 * WIDTH * 2
    assert (tmp_path / "a.index").stat().st_size == 3 * ENTRY.itemsize


def test_what_a_crash_left_is_not_read(tmp_path: Path) -> None:
    store_at(tmp_path).put(["x"], [part(1, 2)])
    for name in ("a.f16", "a.index"):
        with (tmp_path / name).open("ab") as file:
            file.write(b"torn")
    again = store_at(tmp_path)
    np.testing.assert_array_equal(again.get("x"), part(1, 2))
    again.put(["y"], [part(5, 1)])
    np.testing.assert_array_equal(store_at(tmp_path).get("y"), part(5, 1))


def test_beyond_its_limit_it_is_begun_anew_and_an_open_reader_goes_on(tmp_path: Path) -> None:
    rows = 2**20 // (2 * WIDTH) + 1
    old = store_at(tmp_path)
    old.put(["x"], [part(1, rows)])
    new = store_at(tmp_path)
    assert "x" not in new
    new.put(["y"], [part(2, 1)])
    np.testing.assert_array_equal(old.get("x"), part(1, rows))
    old.put(["z"], [part(3, 1)])
    np.testing.assert_array_equal(old.get("z"), part(3, 1))
    assert "z" not in store_at(tmp_path)


def write_forty(path: Path, number: int) -> None:
    store = FileStore(path, WIDTH, 1)
    for n in range(40):
        store.put([f"{number}-{n}"], [part(number * 100 + n, 1)])


def test_writers_in_several_processes_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_forty, args=(tmp_path / "a", number)) for number in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    store = store_at(tmp_path)
    for number in (1, 2):
        for n in range(40):
            assert store.get(f"{number}-{n}").tolist() == [[number * 100 + n] * WIDTH]


@pytest.fixture
def small(tmp_path: Path, tiny_encoder: str) -> Settings:
    return small_settings(tmp_path, tiny_encoder)


def test_a_restart_does_not_run_the_frozen_part_again(
    small: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, tokenizer = TextEncoder(small.text), tokenizer_of(small.text)
    first = ActivationCache(encoder, tokenizer, torch.device("cpu"), tmp_path, 1)
    before = first.vectors(["a blue hat", "scarf", "hat"])
    monkeypatch.setattr(TextEncoder, "lower", lambda *_: pytest.fail("encoded again"))
    other = TextEncoder(small.text)
    again = ActivationCache(other, tokenizer, torch.device("cpu"), tmp_path, 1)
    assert torch.equal(again.vectors(["a blue hat", "scarf", "hat"]), before)


def test_other_frozen_weights_or_another_cut_have_another_file(small: Settings, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(small.text)
    encoders = [TextEncoder(small.text), TextEncoder(small.text), TextEncoder(small.text)]
    with torch.no_grad():
        encoders[1].tuned_parameters()[0].add_(1.0)
        encoders[2].bert.encoder.layer[0].output.dense.weight.add_(1.0)
    frozen = small.override({"text.tuning": "frozen"})
    encoders.append(TextEncoder(frozen.text))
    stores = [open_store(encoder, tokenizer, tmp_path, 1) for encoder in encoders]
    assert stores[1] is stores[0], "what is tuned does not matter"
    assert stores[2] is not stores[0]
    assert stores[3] is not stores[0]
