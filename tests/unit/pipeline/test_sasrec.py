"""SASRec: causal, blind to its own moment, able to learn an order, its sampled softmax near the full one."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from core_bench import START_S, catalogue, event, small_settings, table

from penstock.data.requests import group_requests
from penstock.features.examples import Asked
from penstock.features.history import History
from penstock.features.state import CausalState, FeatureSpec
from penstock.pipeline.rivals.sasrec import NEVER, Past, Sasrec
from penstock.settings import Settings

SETTINGS = small_settings(Path()).override(
    {
        "baselines.sasrec.width": 16, "baselines.sasrec.length": 6, "baselines.sasrec.epochs": 25,
        "baselines.sasrec.dropout": 0.0, "baselines.sasrec.batch_sequences": 4,
        "baselines.sasrec.learning_rate": 0.01,
    }
)  # fmt: skip


def rival(settings: Settings = SETTINGS, items: int = 6, repeats: bool = True) -> Sasrec:
    state = CausalState(FeatureSpec.of(settings))
    state.add_items(catalogue(items))
    return Sasrec(state, settings.baselines.sasrec, repeats, 5)


def asked_after(*rows: int) -> Asked:
    at_s_L = START_S + np.arange(len(rows), dtype=np.float64)
    return Asked({"user_id": "x"}, START_S + 100, History(np.array(rows), np.zeros(len(rows), np.int64), at_s_L), None)


def give(model: Sasrec, events: pl.DataFrame, learns: bool = True) -> None:
    requests = group_requests(events, SETTINGS.data.gains, SETTINGS.data.positive_rating_min)
    model.window(events, requests, lambda asked: None, learns)


def cycles(users: int = 8, length: int = 9, start_hour: float = 0.0, step: int = 1) -> pl.DataFrame:
    """Every user goes round the six items in the same order, from a place of their own."""
    rows = [
        (start_hour + turn + user / 100, f"u{user}", f"i{(user + step * turn) % 6}")
        for turn in range(length)
        for user in range(users)
    ]
    return table([event(n, hour, user, item) for n, (hour, user, item) in enumerate(sorted(rows))])


def test_no_place_sees_a_later_one() -> None:
    model = rival()
    model.network.eval()
    short, longer = torch.tensor([[6, 1, 2]]), torch.tensor([[6, 1, 2, 5, 0]])
    assert torch.allclose(model.network(short)[0], model.network(longer)[0, :3], atol=1e-6)
    assert not torch.allclose(model.network(short)[0, 2], model.network(torch.tensor([[6, 2, 1]]))[0, 2], atol=1e-3)


def test_an_event_is_predicted_from_what_came_strictly_before_its_moment() -> None:
    past = Past([3, 4, 5, 1, 2], [1.0, 2.0, 2.0, 2.0, 9.0])
    (stretch, rest) = rival()._new(past)
    assert (stretch.row_L.tolist(), stretch.target_X.tolist()) == ([3, 4, 5, 1], [3, 4, 5, 1])
    assert stretch.source_X.tolist() == [0, 1, 1, 1]
    assert (rest.row_L.tolist(), rest.target_X.tolist(), rest.source_X.tolist()) == ([3, 4, 5, 1, 2], [2], [4])
    assert rival()._new(past) == []


def test_a_stretch_keeps_no_more_past_than_fits() -> None:
    past = Past(list(range(6)) * 2, list(np.arange(12.0)))
    stretches = rival()._new(past)
    assert [len(one.row_L) for one in stretches] == [4, 6, 6]
    assert [one.target_X.tolist() for one in stretches] == [[0, 1, 2, 3], [4, 5, 0, 1], [2, 3, 4, 5]]
    assert stretches[-1].source_X.tolist() == [2, 3, 4, 5]


def test_learns_an_order_on_the_warm_up_and_another_one_online() -> None:
    model = rival()
    give(model, cycles())
    model.warmed()
    rows = np.arange(6)
    assert [int(np.argmax(model.scores(asked_after((n - 1) % 6, n), rows))) for n in range(6)] == [1, 2, 3, 4, 5, 0]
    before = model.scores(asked_after(2), rows)
    give(model, cycles(start_hour=20.0), learns=False)
    assert model.scores(asked_after(2), rows).tolist() == before.tolist()
    for turn in range(12):
        give(model, cycles(start_hour=40.0 + 20 * turn, step=5))
    assert [int(np.argmax(model.scores(asked_after((n + 1) % 6, n), rows))) for n in range(6)] == [5, 0, 1, 2, 3, 4]


def test_scores_come_for_the_candidates_asked_about_and_for_a_stranger_too() -> None:
    model = rival(SETTINGS.override({"baselines.sasrec.epochs": 1}))
    give(model, cycles())
    model.warmed()
    some, every = model.scores(asked_after(1), np.array([4, 2])), model.scores(asked_after(1), np.arange(6))
    assert some == pytest.approx([every[4], every[2]])
    assert np.isfinite(model.scores(asked_after(), np.arange(6))).all()


def test_what_was_had_is_no_alternative_where_nothing_is_offered_twice() -> None:
    hidden_XW, target_X = torch.randn(1, 16), torch.tensor([4])
    had_XL = torch.tensor([[6, 0, 1, 6]])
    for repeats, left_out in ((True, []), (False, [0, 1])):
        model = rival(repeats=repeats)
        logit_N = model.network.logits(hidden_XW)[0].detach()
        logit_N[left_out] = NEVER
        expected = torch.logsumexp(logit_N, 0) - logit_N[4]
        assert model._loss(hidden_XW, target_X, had_XL).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_sampled_softmax_comes_near_the_full_one() -> None:
    full = rival(SETTINGS, items=60)
    sampled = rival(SETTINGS.override({"baselines.sasrec.softmax_items": 50}), items=60)
    hidden_XW, target_X = torch.randn(3, 16), torch.tensor([4, 50, 7])
    nothing_XL = torch.full((3, 1), 60)
    losses = [sampled._loss(hidden_XW, target_X, nothing_XL).item() for _ in range(300)]
    assert np.mean(losses) == pytest.approx(full._loss(hidden_XW, target_X, nothing_XL).item(), rel=0.03)
