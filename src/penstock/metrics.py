"""Ranking and classification metrics, one value per request, and bootstrap intervals over users.

Definitions: binary gain; the ideal DCG and the recall count every relevant item, so an item that no
method could know still costs. Ties count against the relevant item (a model that scores everything
alike gets no credit for the order of its input). The bootstrap draws whole users, because one user's
requests are correlated and drawing them apart makes the interval too narrow.

R requests; N scored candidates of all requests, flat; F found relevant items of all requests, flat;
B texts; L labels; C candidates of one request; U users.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from penstock.errors import GateError

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Interval: TypeAlias = tuple[float, float, float]

PROBABILITY_FLOOR = 1e-7


def relevant_ranks(score_C: npt.ArrayLike, relevant_C: npt.ArrayLike) -> Ints:
    """1-based ranks of one request's relevant candidates, best first; ties count against them.

    Args:
        score_C: higher is better; -inf is allowed (masked), NaN is not.
        relevant_C: bool.

    Raises:
        GateError: a NaN score, or lengths that differ.
    """
    request_N = np.zeros(np.shape(score_C), np.int64)
    return request_ranks(request_N, relevant_C, score_C)[1]


def request_ranks(request_N: npt.ArrayLike, label_N: npt.ArrayLike, score_N: npt.ArrayLike) -> tuple[Ints, Ints]:
    """Where each request's relevant candidates stand among its own candidates.

    Args:
        request_N: int, the request row each candidate belongs to.
        label_N: bool, True where the candidate is relevant.
        score_N: higher is better, no NaN.

    Returns:
        request_F, rank_F: request row and 1-based rank of each relevant candidate, by request, then rank.

    Raises:
        GateError: a NaN score, or lengths that differ.
    """
    request_N, positive_N, score_N = _aligned(request_N, label_N, score_N)
    order_N = np.lexsort((positive_N, -score_N, request_N))
    request_N, positive_N = request_N[order_N], positive_N[order_N]
    rank_N = np.arange(len(request_N)) - np.searchsorted(request_N, request_N) + 1
    return request_N[positive_N], rank_N[positive_N]


def ndcg_at(request_F: npt.ArrayLike, rank_F: npt.ArrayLike, n_relevant_R: npt.ArrayLike, k: int) -> Floats:
    """NDCG@k per request (Järvelin and Kekäläinen 2002, binary gain, logarithm of base 2).

    Args:
        request_F, rank_F: request row and 1-based rank of each relevant item that was ranked.
        n_relevant_R: number of relevant items of each request, ranked or not; at least 1.
        k: depth.

    Returns:
        ndcg_R: float64 in [0, 1].

    Raises:
        GateError: a request without a relevant item, a rank below 1, a request row out of range.
    """
    request_F, rank_F, n_relevant_R = _found(request_F, rank_F, n_relevant_R)
    gain_F = np.where(rank_F <= k, 1 / np.log2(rank_F + 1.0), 0.0)
    ideal_k = np.cumsum(1 / np.log2(np.arange(k) + 2.0))
    dcg_R = np.bincount(request_F, gain_F, minlength=len(n_relevant_R))
    return np.asarray(dcg_R / ideal_k[np.minimum(n_relevant_R, k) - 1], np.float64)


def hit_rate_at(request_F: npt.ArrayLike, rank_F: npt.ArrayLike, n_relevant_R: npt.ArrayLike, k: int) -> Floats:
    """1 where a relevant item stands among the first k, else 0; arguments and errors as `ndcg_at`."""
    return (_best_rank(request_F, rank_F, n_relevant_R) <= k).astype(np.float64)


def mrr_at(request_F: npt.ArrayLike, rank_F: npt.ArrayLike, n_relevant_R: npt.ArrayLike, k: int) -> Floats:
    """One over the best relevant rank, 0 beyond k; arguments and errors as `ndcg_at`."""
    best_R = _best_rank(request_F, rank_F, n_relevant_R)
    return np.where(best_R <= k, 1 / best_R, 0.0)


def recall_at(request_F: npt.ArrayLike, rank_F: npt.ArrayLike, n_relevant_R: npt.ArrayLike, k: int) -> Floats:
    """Share of all relevant items that stand among the first k; arguments and errors as `ndcg_at`."""
    request_F, rank_F, n_relevant_R = _found(request_F, rank_F, n_relevant_R)
    found_R = np.bincount(request_F[rank_F <= k], minlength=len(n_relevant_R))
    return np.asarray(found_R / n_relevant_R, np.float64)


def request_auc(request_N: npt.ArrayLike, label_N: npt.ArrayLike, score_N: npt.ArrayLike, n_requests: int) -> Floats:
    """Area under the ROC curve within each request (Mann-Whitney; a tie counts one half).

    Returns:
        auc_R: float64, NaN where a request has no relevant or nothing but relevant candidates.

    Raises:
        GateError: a NaN score, or lengths that differ.
    """
    request_N, positive_N, score_N = _aligned(request_N, label_N, score_N)
    order_N = np.lexsort((score_N, request_N))
    request_N, positive_N, score_N = request_N[order_N], positive_N[order_N], score_N[order_N]
    starts_N = np.ones(len(request_N), bool)
    starts_N[1:] = (request_N[1:] != request_N[:-1]) | (score_N[1:] != score_N[:-1])
    tie_N = np.cumsum(starts_N) - 1
    first_T = np.flatnonzero(starts_N)
    size_T = np.diff(np.append(first_T, len(request_N)))
    mid_rank_N = (first_T + (size_T + 1) / 2)[tie_N] - np.searchsorted(request_N, request_N)
    size_R = np.bincount(request_N, minlength=n_requests).astype(np.float64)
    positive_R = np.bincount(request_N, positive_N, minlength=n_requests)
    rank_sum_R = np.bincount(request_N, mid_rank_N * positive_N, minlength=n_requests)
    pairs_R = positive_R * (size_R - positive_R)
    won_R = rank_sum_R - positive_R * (positive_R + 1) / 2
    return _ratio(won_R, pairs_R)


def auc(label_N: npt.ArrayLike, score_N: npt.ArrayLike) -> float:
    """Area under the ROC curve of one list; NaN where only one class is present."""
    return float(request_auc(np.zeros(np.shape(score_N), np.int64), label_N, score_N, 1)[0])


def request_log_loss(
    request_N: npt.ArrayLike, label_N: npt.ArrayLike, probability_N: npt.ArrayLike, n_requests: int
) -> Floats:
    """Mean binary cross-entropy (nats) of each request's candidates; NaN where a request has none.

    Probabilities are clipped to [1e-7, 1 - 1e-7].

    Raises:
        GateError: a probability outside [0, 1] or NaN, or lengths that differ.
    """
    request_N, positive_N, probability_N = _aligned(request_N, label_N, probability_N)
    _check_probability(probability_N)
    clipped_N = np.clip(probability_N, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    loss_N = -np.log(np.where(positive_N, clipped_N, 1 - clipped_N))
    size_R = np.bincount(request_N, minlength=n_requests)
    loss_R = np.bincount(request_N, loss_N, minlength=n_requests)
    return _ratio(loss_R, size_R)


def log_loss(label_N: npt.ArrayLike, probability_N: npt.ArrayLike) -> float:
    """Mean binary cross-entropy (nats) of one list; as `request_log_loss`."""
    return float(request_log_loss(np.zeros(np.shape(probability_N), np.int64), label_N, probability_N, 1)[0])


def class_log_loss(probability_BL: npt.ArrayLike, label_B: npt.ArrayLike) -> Floats:
    """Cross-entropy (nats) of each text's true label.

    Args:
        probability_BL: rows over the labels, each value in [0, 1].
        label_B: int, the true label's column.

    Raises:
        GateError: a probability outside [0, 1] or NaN, or a label that is no column.
    """
    probability, label = np.asarray(probability_BL, np.float64), np.asarray(label_B, np.int64)
    _check_probability(probability)
    if label.size and (label.min() < 0 or label.max() >= probability.shape[1]):
        raise GateError(f"class_log_loss: labels {label.min()}..{label.max()}, expected 0..{probability.shape[1] - 1}")
    return np.asarray(-np.log(np.clip(probability[np.arange(len(label)), label], PROBABILITY_FLOOR, 1)), np.float64)


def correct(predicted_B: npt.ArrayLike, label_B: npt.ArrayLike) -> Floats:
    """1 where the prediction is the label, else 0."""
    predicted, label = np.asarray(predicted_B), np.asarray(label_B)
    if predicted.shape != label.shape:
        raise GateError(f"correct: {predicted.shape} predictions for {label.shape} labels; score the same texts")
    return np.asarray(predicted == label, np.float64)


def accuracy(predicted_B: npt.ArrayLike, label_B: npt.ArrayLike) -> float:
    """Share of predictions that are the label; NaN for no predictions."""
    hit_B = correct(predicted_B, label_B)
    return float(hit_B.mean()) if hit_B.size else float("nan")


def bootstrap_mean(
    value_R: npt.ArrayLike, user_R: npt.ArrayLike, resamples: int, seed: int, confidence: float
) -> Interval:
    """Mean over requests and its percentile interval when whole users are drawn with replacement.

    Returns:
        mean, low, high. With one user the interval has no width: the caller decides whether that will do.

    Raises:
        GateError: no values, a non-finite value, or lengths that differ.
    """
    value, user = np.asarray(value_R, np.float64), np.asarray(user_R)
    if value.ndim != 1 or value.shape != user.shape:
        raise GateError(f"bootstrap: values {value.shape}, users {user.shape}; expected one user per value")
    if not value.size:
        raise GateError("bootstrap: no values; a mean of nothing cannot be judged")
    if not np.isfinite(value).all():
        raise GateError(f"bootstrap: {np.count_nonzero(~np.isfinite(value))} of {value.size} values are not finite")
    _, owner_R = np.unique(user, return_inverse=True)
    sum_U, count_U = np.bincount(owner_R, value), np.bincount(owner_R)
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(sum_U), size=len(sum_U)) for _ in range(resamples))
    means = [sum_U[draw_U].sum() / count_U[draw_U].sum() for draw_U in draws]
    tail = round((1 - confidence) / 2 * 100, 9)
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(value.mean()), float(low), float(high)


def paired_bootstrap(
    a_R: npt.ArrayLike, b_R: npt.ArrayLike, user_R: npt.ArrayLike, resamples: int, seed: int, confidence: float
) -> Interval:
    """Mean of a minus b over the same requests, and its interval; as `bootstrap_mean`."""
    a, b = np.asarray(a_R, np.float64), np.asarray(b_R, np.float64)
    if a.shape != b.shape:
        raise GateError(f"paired bootstrap: {a.shape} values against {b.shape}; score both on the same requests")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise GateError("paired bootstrap: values that are not finite cannot be compared")
    return bootstrap_mean(a - b, user_R, resamples, seed, confidence)


def _aligned(request_N: npt.ArrayLike, label_N: npt.ArrayLike, value_N: npt.ArrayLike) -> tuple[Ints, Any, Floats]:
    request, positive = np.asarray(request_N, np.int64), np.asarray(label_N).astype(bool)
    value = np.asarray(value_N, np.float64)
    if not request.shape == positive.shape == value.shape:
        raise GateError(f"metrics: {request.shape} requests, {positive.shape} labels, {value.shape} scores differ")
    if np.isnan(value).any():
        raise GateError(f"metrics: {np.count_nonzero(np.isnan(value))} of {value.size} scores are NaN")
    return request, positive, value


def _ratio(above_R: npt.ArrayLike, below_R: npt.ArrayLike) -> Floats:
    below = np.asarray(below_R, np.float64)
    return np.asarray(np.divide(above_R, below, out=np.full(len(below), np.nan), where=below > 0), np.float64)


def _found(request_F: npt.ArrayLike, rank_F: npt.ArrayLike, n_relevant_R: npt.ArrayLike) -> tuple[Ints, Ints, Ints]:
    request, rank = np.asarray(request_F, np.int64), np.asarray(rank_F, np.int64)
    n_relevant = np.asarray(n_relevant_R, np.int64)
    if request.shape != rank.shape or (rank < 1).any():
        raise GateError(f"metrics: {request.shape} requests, {rank.shape} ranks; ranks start at 1")
    if (n_relevant < 1).any():
        raise GateError(f"metrics: {np.count_nonzero(n_relevant < 1)} requests without a relevant item; leave them out")
    if request.size and (request.min() < 0 or request.max() >= len(n_relevant)):
        raise GateError(f"metrics: request rows {request.min()}..{request.max()}, expected 0..{len(n_relevant) - 1}")
    return request, rank, n_relevant


def _best_rank(request_F: npt.ArrayLike, rank_F: npt.ArrayLike, n_relevant_R: npt.ArrayLike) -> Floats:
    request_F, rank_F, n_relevant_R = _found(request_F, rank_F, n_relevant_R)
    best_R = np.full(len(n_relevant_R), np.inf)
    np.minimum.at(best_R, request_F, rank_F.astype(np.float64))
    return best_R


def _check_probability(probability: Floats) -> None:
    bad = ~((probability >= 0) & (probability <= 1))
    if bad.any():
        raise GateError(f"log loss: {np.count_nonzero(bad)} of {bad.size} values are no probability in [0, 1]")
