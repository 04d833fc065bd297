"""Estimators against sums worked out by hand, and against a bandit whose truth is known."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import GateError
from penstock.evaluation.off_policy import OffPolicyRules, effective_sample, estimate, predict_rewards

ANY = OffPolicyRules(min_effective_sample=0.0, max_weight_bias=10.0, resamples=100, confidence=0.95, seed=1)
STRICT = OffPolicyRules(min_effective_sample=100.0, max_weight_bias=0.1, resamples=200, confidence=0.95, seed=1)


def frame(rows: list[tuple]) -> pl.DataFrame:
    columns = ["request_id", "user_id", "position", "item_id", "propensity", "reward", "target", "predicted",
               "expected"]  # fmt: skip
    return pl.DataFrame(rows, schema=columns, orient="row")


BY_HAND = frame(
    [
        # request, user, position, item, p, r, q, predicted, expected
        ("a", "u1", 0, "x", 0.5, 1.0, 1.0, 0.4, 0.4),
        ("a", "u1", 1, "y", 0.25, 0.0, 1.0, 0.2, 0.2),
        ("b", "u2", 0, "y", 0.5, 0.0, 0.0, 0.3, 0.4),
        ("b", "u2", 1, "x", 0.25, 1.0, 0.5, 0.1, 0.2),
    ]
)


def test_values_worked_out_by_hand() -> None:
    found = estimate(BY_HAND, ANY)
    # weights: 2, 4, 0, 2
    assert found.effective_sample == pytest.approx(8**2 / (4 + 16 + 4))
    assert found.mean_weight.value == pytest.approx(8 / 4)
    assert found.logged.value == pytest.approx(2 / 2)
    assert found.ips.value == pytest.approx((2 * 1 + 2 * 1) / 2)
    assert found.snips.value == pytest.approx(2 * 1 / 2 + 2 * 1 / 6), "each position for itself, both always filled"
    dr = (0.4 + 2 * 0.6) + (0.2 + 4 * -0.2) + (0.4 + 0) + (0.2 + 2 * 0.9)
    assert found.dr.value == pytest.approx(dr / 2)
    assert found.gain.value == pytest.approx(dr / 2 - 1)
    assert (found.requests, found.users, found.placements) == (2, 2, 4)


class Bandit:
    """Three items, two contexts (the user's), one place; the log explores by softmax, the challenger is greedy."""

    rate_CI = np.array([[0.10, 0.30, 0.20], [0.40, 0.10, 0.15]])
    logging_CI = np.array([[0.6, 0.2, 0.2], [0.2, 0.5, 0.3]])
    challenger_C = np.array([1, 0])

    def log(self, requests: int, seed: int, challenger_C: np.ndarray | None = None) -> pl.DataFrame:
        rng = np.random.default_rng(seed)
        chosen_C = self.challenger_C if challenger_C is None else challenger_C
        context_R = rng.integers(2, size=requests)
        item_R = (rng.random(requests)[:, None] > self.logging_CI[context_R].cumsum(1)).sum(1)
        reward_R = (rng.random(requests) < self.rate_CI[context_R, item_R]).astype(float)
        best_R = chosen_C[context_R]
        return pl.DataFrame(
            {
                "request_id": [f"r{row}" for row in range(requests)],
                "user_id": [f"u{context}-{row // 4}" for row, context in enumerate(context_R)],
                "position": np.zeros(requests, np.int64),
                "item_id": [f"i{item}" for item in item_R],
                "propensity": self.logging_CI[context_R, item_R],
                "reward": reward_R,
                "target": (best_R == item_R).astype(float),
                "challenger_item": [f"i{item}" for item in best_R],
            }
        )

    @property
    def truth(self) -> float:
        return float(self.rate_CI[[0, 1], self.challenger_C].mean())


def test_a_bandit_with_known_value_is_recovered() -> None:
    bandit = Bandit()
    assert bandit.truth == pytest.approx(0.35)
    log = bandit.log(8000, seed=3)
    found = estimate(predict_rewards(log), STRICT)
    assert found.logged.high < bandit.truth, "the naive mean of the log is wrong, and sure of it"
    for estimated in (found.ips, found.snips, found.dr):
        assert estimated.low < bandit.truth < estimated.high
        assert estimated.high - estimated.low < 0.08
    assert found.gain.low > 0, "the challenger is better, and it shows"


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    bandit = Bandit()
    rules = OffPolicyRules(50.0, 0.3, 200, 0.9, 1)
    held = {"ips": 0, "snips": 0, "dr": 0}
    runs = 60
    for seed in range(runs):
        found = estimate(predict_rewards(bandit.log(600, seed)), rules)
        for name in held:
            one = getattr(found, name)
            held[name] += one.low <= bandit.truth <= one.high
    for name, count in held.items():
        assert 0.78 * runs <= count, f"{name} held the truth {count} times of {runs} at 90%"


def test_dr_stays_right_where_the_model_is_wrong() -> None:
    bandit = Bandit()
    log = bandit.log(20_000, seed=5)
    wrong = log.with_columns(predicted=pl.lit(0.9), expected=pl.lit(0.9))
    found = estimate(wrong, STRICT)
    assert found.dr.low < bandit.truth < found.dr.high


def test_dr_is_narrower_than_ips_where_the_model_helps() -> None:
    bandit = Bandit()
    log = bandit.log(4000, seed=6)
    rates = {(c, i): bandit.rate_CI[c, i] for c in range(2) for i in range(3)}
    context = [int(user[1]) for user in log["user_id"]]
    good = log.with_columns(
        predicted=pl.Series([rates[c, int(item[1])] for c, item in zip(context, log["item_id"], strict=True)]),
        expected=pl.Series([rates[c, int(item[1])] for c, item in zip(context, log["challenger_item"], strict=True)]),
    )
    found = estimate(good, STRICT)
    assert found.dr.high - found.dr.low < found.ips.high - found.ips.low


def test_too_small_an_effective_sample_is_refused() -> None:
    few = Bandit().log(40, seed=1)
    with pytest.raises(GateError, match=r"40 placements weigh as \d+\.\d .*at least 100"):
        estimate(predict_rewards(few), STRICT)
    one_rules_all = predict_rewards(Bandit().log(2000, seed=2)).with_columns(
        propensity=pl.when(pl.int_range(pl.len()) == 0).then(1e-6).otherwise(pl.col("propensity")), target=pl.lit(1.0)
    )
    with pytest.raises(GateError, match=r"2000 placements weigh as 1\.0"):
        estimate(one_rules_all, STRICT)


def test_a_challenger_that_shows_what_the_log_could_not_is_refused() -> None:
    log = Bandit().log(4000, seed=4)
    unseen = log.with_columns(target=pl.when(pl.col("user_id").str.starts_with("u0")).then(0.0).otherwise("target"))
    with pytest.raises(GateError, match="shows items that the log could not"):
        estimate(predict_rewards(unseen), STRICT)


def test_propensities_that_are_too_small_are_refused() -> None:
    log = Bandit().log(4000, seed=4).with_columns(propensity=pl.col("propensity") / 3)
    with pytest.raises(GateError, match="smaller than the chances"):
        estimate(predict_rewards(log), STRICT)


@pytest.mark.parametrize(
    ("column", "value"), [("propensity", 0.0), ("propensity", 1.2), ("target", float("nan")), ("reward", float("inf"))]
)
def test_a_value_that_cannot_be_is_refused(column: str, value: float) -> None:
    broken = BY_HAND.with_columns(pl.when(pl.int_range(pl.len()) == 1).then(value).otherwise(column).alias(column))
    with pytest.raises(GateError, match=f"1 of 4 values of {column}"):
        estimate(broken, ANY)


def test_nothing_logged_is_refused() -> None:
    with pytest.raises(GateError, match="switch exploration on"):
        estimate(BY_HAND.clear(), ANY)
    with pytest.raises(GateError, match="no column propensity"):
        estimate(BY_HAND.drop("propensity"), ANY)


def test_a_prediction_never_learned_its_own_reward() -> None:
    log = Bandit().log(400, seed=8)
    before = predict_rewards(log)
    changed = log.with_columns(
        reward=pl.when(pl.col("user_id") == log["user_id"][0]).then(1 - pl.col("reward")).otherwise("reward")
    )
    after = predict_rewards(changed)
    own = (log["user_id"] == log["user_id"][0]).to_numpy()
    assert before["predicted"].to_numpy()[own].tolist() == after["predicted"].to_numpy()[own].tolist()
    assert before["predicted"].to_list() != after["predicted"].to_list()


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=30))
def test_the_effective_sample_lies_between_one_and_all(weights: list[float]) -> None:
    assert 1 - 1e-9 <= effective_sample(weights) <= len(weights) + 1e-9
    assert effective_sample([weights[0]] * len(weights)) == pytest.approx(len(weights))
    assert effective_sample([0.0]) == 0
