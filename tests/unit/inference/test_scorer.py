"""The scorer on a bundle that a round made."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file, save_file

from penstock.errors import BundleError, DataError
from penstock.inference.bundle import MANIFEST, load_bundle, write_manifest
from penstock.inference.scorer import Scorer, UserContext
from penstock.records import CATALOGUE_COLUMNS, EVENT_COLUMNS


@pytest.fixture
def scorer(rounds) -> Scorer:  # type: ignore[no-untyped-def]
    return Scorer.load(rounds.bundle)


@pytest.fixture
def at(rounds) -> datetime:  # type: ignore[no-untyped-def]
    return rounds.shop.edges[1]


def click(item: str, at: datetime, user: str = "newcomer") -> pl.DataFrame:
    row = {"event_id": f"{user}{item}", "user_id": user, "item_id": item, "kind": "click", "at": at, "received_at": at}
    return pl.DataFrame([row], schema=EVENT_COLUMNS)


def test_the_best_first_all_finite_and_the_same_twice(scorer: Scorer, at: datetime) -> None:
    ranked = scorer.rank(UserContext("user-00003"), None, at, 10)
    assert len({one.item_id for one in ranked}) == 10
    scores = [one.score for one in ranked]
    assert scores == sorted(scores, reverse=True)
    assert np.isfinite(scores).all()
    assert ranked == scorer.rank(UserContext("user-00003"), None, at, 10)
    assert any(one.parts for one in ranked), "what stands out is named"
    assert set().union(*(one.parts for one in ranked)) <= set(scorer.state.spec.names)


def test_only_the_candidates_are_ranked_and_each_scores_as_among_all(scorer: Scorer, at: datetime) -> None:
    user = UserContext("user-00003")
    of_all = {one.item_id: one.score for one in scorer.rank(user, None, at, 99)}
    chosen = list(of_all)[5:9]
    ranked = scorer.rank(user, chosen, at, 99)
    assert {one.item_id for one in ranked} == set(chosen)
    assert [one.score for one in ranked] == pytest.approx([of_all[one.item_id] for one in ranked], abs=1e-5)
    assert scorer.rank(user, [], at, 5) == []


def test_an_unknown_item_is_an_error_that_names_it(scorer: Scorer, at: datetime) -> None:
    with pytest.raises(DataError, match="unknown item 'nothing'"):
        scorer.rank(UserContext("u"), ["nothing"], at, 3)
    with pytest.raises(DataError, match="unknown item 'nothing'"):
        scorer.similar("nothing", 3)


def test_an_event_changes_the_next_answer(scorer: Scorer, at: datetime) -> None:
    user = UserContext("newcomer")
    before = scorer.rank(user, None, at, 99)
    item = before[-1].item_id
    scorer.observe(click(item, at))
    after = scorer.rank(user, None, at + timedelta(seconds=1), 99)
    score = {one.item_id: one.score for one in before}, {one.item_id: one.score for one in after}
    assert score[0][item] != score[1][item]
    given = UserContext(history=((item, "click", at),))
    assert len(scorer.history_of(given)) == len(scorer.history_of(user)) == 1
    same = scorer.rank(given, None, at + timedelta(seconds=1), 99)
    assert [one.score for one in same] == pytest.approx([one.score for one in after], abs=1e-5)


def test_a_history_given_with_the_request_is_put_in_order_and_strangers_in_it_left_out(
    scorer: Scorer, at: datetime
) -> None:
    items = scorer.state.items[:2]
    rows = ((items[0], "click", at), ("gone", "click", at), (items[1], "purchase", at - timedelta(hours=1)))
    history = scorer.history_of(UserContext(history=rows))
    assert [scorer.state.items[row] for row in history.row_L] == [items[1], items[0]]


def test_a_query_changes_nothing_before_it_was_learned(scorer: Scorer, at: datetime) -> None:
    plain = scorer.rank(UserContext("user-00003"), None, at, 5)
    asked = scorer.rank(UserContext("user-00003", query="a warm wool scarf"), None, at, 5)
    assert [one.item_id for one in plain] == [one.item_id for one in asked]
    assert [one.score for one in plain] == pytest.approx([one.score for one in asked], abs=1e-5)


def test_similar_items_leave_out_the_item_itself(scorer: Scorer) -> None:
    item = scorer.state.items[0]
    found = scorer.similar(item, 5)
    cosines = [cosine for _, cosine in found]
    assert len(found) == 5
    assert item not in [name for name, _ in found]
    assert cosines == sorted(cosines, reverse=True)
    assert all(-1.0001 <= cosine <= 1.0001 for cosine in cosines)
    vectors = scorer.engine.vector_NE.astype(np.float64)
    other = scorer.state.row_of[found[0][0]]
    expected = vectors[0] @ vectors[other] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[other])
    assert cosines[0] == pytest.approx(expected, abs=1e-5)
    assert len(scorer.similar(item, 10_000)) == len(scorer.state.items) - 1


def test_a_new_item_can_be_ranked_from_its_text(scorer: Scorer, at: datetime) -> None:
    row = {"item_id": "brand-new", "title": "a warm wool scarf", "category": "knitwear", "published_at": at}
    fresh = pl.DataFrame([row], schema=CATALOGUE_COLUMNS)
    assert scorer.add_items(fresh) == 1
    assert scorer.add_items(fresh) == 0
    (one,) = scorer.rank(UserContext("user-00003"), ["brand-new"], at, 1)
    assert np.isfinite(one.score)
    expected = scorer.text.encode(["a warm wool scarf. knitwear"])[1][0]
    np.testing.assert_allclose(scorer.engine.vector_NE[-1], expected, atol=1e-5)
    assert scorer.titles[-1] == "a warm wool scarf"
    scorer.observe(click("brand-new", at))
    assert scorer.similar("brand-new", 3)


def test_the_nearest_by_dot_product(scorer: Scorer, at: datetime) -> None:
    vector = scorer.user_vector(scorer.history_of(UserContext("user-00003")), at.timestamp())
    rows = scorer.nearest(vector, 7)
    assert rows.tolist() == np.argsort(-(scorer.engine.vector_NE @ vector), kind="stable")[:7].tolist()


def test_texts_encode_to_unit_length(scorer: Scorer) -> None:
    encoded = scorer.encode(["one", "a longer text of several words", "two"])
    np.testing.assert_allclose(np.linalg.norm(encoded, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(encoded[1], scorer.encode(["a longer text of several words"])[0], atol=1e-5)


def test_vectors_that_do_not_match_the_items_are_refused(rounds, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "bundle"
    shutil.copytree(rounds.bundle, folder)
    vectors = load_file(folder / "vectors.safetensors")["vector"]
    save_file({"vector": vectors[:-1].copy()}, folder / "vectors.safetensors")
    facts = {k: v for k, v in load_bundle(rounds.bundle).manifest.items() if k not in ("schema", "digest", "files")}
    (folder / MANIFEST).unlink()
    write_manifest(folder, facts)
    with pytest.raises(BundleError, match="item vectors for"):
        Scorer.load(folder)


def test_vectors_that_are_no_numbers_are_refused(rounds, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "bundle"
    shutil.copytree(rounds.bundle, folder)
    vectors = load_file(folder / "vectors.safetensors")["vector"].copy()
    vectors[3, 0] = np.nan
    save_file({"vector": vectors}, folder / "vectors.safetensors")
    facts = {k: v for k, v in load_bundle(rounds.bundle).manifest.items() if k not in ("schema", "digest", "files")}
    (folder / MANIFEST).unlink()
    write_manifest(folder, facts)
    with pytest.raises(BundleError, match="not finite"):
        Scorer.load(folder)


def test_a_graph_that_is_none_is_refused(rounds, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "bundle"
    shutil.copytree(rounds.bundle, folder)
    (folder / "user.onnx").write_bytes(b"not a graph")
    facts = {k: v for k, v in load_bundle(rounds.bundle).manifest.items() if k not in ("schema", "digest", "files")}
    (folder / MANIFEST).unlink()
    write_manifest(folder, facts)
    with pytest.raises(BundleError, match="onnxruntime refuses"):
        Scorer.load(folder)
