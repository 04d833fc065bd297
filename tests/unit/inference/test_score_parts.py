"""What a score is made of, on a bundle that a round made."""

from datetime import datetime

import numpy as np
import pytest

from penstock.features.state import seconds
from penstock.inference.score_parts import FAMILIES, TEXT, score_parts
from penstock.inference.scorer import Scorer, UserContext


@pytest.fixture
def scorer(rounds) -> Scorer:  # type: ignore[no-untyped-def]
    return Scorer.load(rounds.bundle)


def test_every_feature_is_in_one_family(scorer: Scorer) -> None:
    for name in scorer.state.spec.names:
        assert sum(name.startswith(beginnings) for beginnings in FAMILIES.values()) == 1, name


def test_a_part_is_what_the_score_loses_without_it(scorer: Scorer, rounds) -> None:  # type: ignore[no-untyped-def]
    at: datetime = rounds.shop.edges[1]
    user, every = UserContext("user-00003"), np.arange(len(scorer.state.items))
    row_C = every[3:8]
    parts = score_parts(scorer, user, row_C, at)
    assert set(parts) == {*FAMILIES, TEXT}

    # The slow obvious way, one item and one column at a time.
    feature_NF = scorer.state.features(scorer.history_of(user), every, seconds(at))
    whole_N = scorer.score(user, every, at).score_C
    usual_F = np.array([column.sum() / len(column) for column in feature_NF.T], np.float32)
    for place, row in enumerate(row_C):
        changed = feature_NF[row].copy()
        for column, name in enumerate(scorer.state.spec.names):
            if name.startswith("popularity_"):
                changed[column] = usual_F[column]
        without = scorer.score(user, row_C[place : place + 1], at, feature_CF=changed[None]).score_C[0]
        assert parts["popularity"][place] == pytest.approx(whole_N[row] - without, abs=1e-4)
    same = [scorer.score(user, every[n : n + 1], at, feature_CF=usual_F[None]).score_C[0] for n in every]
    assert parts[TEXT] == pytest.approx(np.array(same)[row_C] - np.mean(same), abs=1e-4)
