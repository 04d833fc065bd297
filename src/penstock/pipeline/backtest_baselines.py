"""`penstock backtest --baselines`: by name, each on the requests, windows, candidates and live histories of the model.

Half-lives, weights and the rest are chosen on the last quarter of the warm-up (`baseline_tuning`), once for all.
A name with ", stale" behind it is the same ranker left as the warm-up made it.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.errors import SettingsError
from penstock.evaluation.baselines import (
    Baseline,
    Blend,
    CoOccurrence,
    DecayedPopularity,
    Ease,
    FrozenContent,
    NewcomerPopularity,
    OwnRepeats,
    Popularity,
)
from penstock.evaluation.prequential import RankedRequests
from penstock.pipeline.backtest import Backtest, make_track
from penstock.pipeline.baseline_tuning import Tuned, tune_baselines, variants_of
from penstock.pipeline.contenders import Contender, Counted, Run, empty_state, run_contender
from penstock.pipeline.linear_ranker import LinearRanker

STALE = ", stale"
DEFAULT_NAMES = ("popularity", "decayed popularity", "own repeats", "co-occurrence")
"""What a backtest shows beside the model when nothing else is asked for."""


def run_baselines(
    backtest: Backtest, names: Sequence[str], facts: dict[str, Any] | None = None
) -> dict[str, RankedRequests]:
    """The backtest's requests ranked by each of the named baselines, in the order of `names`.

    Args:
        names: of `CONTENDERS`, each also with ", stale" behind it. Own repeats are left out where repeats are no
            candidates.
        facts: takes, by name, the seconds that learning and ranking took, and what was chosen under "settings".

    Raises:
        SettingsError: a name that is none; EASE over more items than it can invert.
    """
    facts = {} if facts is None else facts
    facts["settings"] = {}
    ranked: dict[str, RankedRequests] = {}
    for name, run, chosen in each_baseline(backtest, names):
        ranked[name] = run.ranked
        facts[name] = {"learn_s": run.learn_s, "warm_up_s": run.warm_up_s, "score_s": run.score_s}
        facts["settings"] = chosen
    return ranked


def each_baseline(
    backtest: Backtest, names: Sequence[str], finished: Collection[str] = ()
) -> Iterator[tuple[str, Run, dict[str, Any]]]:
    """One baseline after the other, so that a caller may keep each and forget it; and what was chosen so far.

    Args:
        names: as `run_baselines`; the choice of settings depends on them all.
        finished: those of `names` that are not wanted again.

    Raises:
        SettingsError: as `run_baselines`.
    """
    unknown = [name for name in names if name.removesuffix(STALE) not in CONTENDERS]
    if unknown:
        raise SettingsError(f"baselines: {', '.join(unknown)} unknown, expected some of {', '.join(CONTENDERS)}")
    made = Made(backtest, {name.removesuffix(STALE) for name in names})
    for name in names:
        kind = name.removesuffix(STALE)
        if name in finished or (kind == OwnRepeats.name and not backtest.dataset.meta.repeats):
            continue
        run = run_contender(backtest, CONTENDERS[kind](made), learns=not name.endswith(STALE))
        yield name, run, made.facts


class Made:
    """Makes contenders of one backtest; settings are chosen together, when the first of them asks.

    Args:
        names: the contenders that will be made.
    """

    def __init__(self, backtest: Backtest, names: Collection[str]) -> None:
        self.backtest, self.settings = backtest, backtest.settings
        self.blends = Blend.name in names
        self.kinds = set(TUNED) if self.blends else set(names) & set(TUNED)
        if LinearRanker.name in names:
            self.kinds |= set(self.settings.baselines.linear.signals) & set(TUNED)

        if OwnRepeats.name in self.kinds:
            self.kinds.add(DecayedPopularity.name)

    @property
    def facts(self) -> dict[str, Any]:
        """What was chosen, as plain JSON values; empty while nothing was."""
        return self.tuned.facts if "tuned" in self.__dict__ else {}

    @cached_property
    def tuned(self) -> Tuned:
        """What the last quarter of the warm-up chose."""
        text_ND = frozen_vectors(self.backtest) if FrozenContent.name in self.kinds else None
        return tune_baselines(self.backtest, variants_of(self.backtest, self.kinds, text_ND), self.blends)

    def counted(self, baseline: Baseline) -> Contender:
        """A baseline with a state of its own."""
        return Counted(baseline, empty_state(self.backtest.dataset, self.settings))

    def best(self, name: str) -> Contender:
        """A baseline at the setting that was chosen for it."""
        if name not in self.tuned.best:
            raise SettingsError(
                f"{name}: {len(self.backtest.dataset.catalogue)} items, at most "
                f"{self.settings.baselines.ease_max_items}; leave it out or raise baselines.ease_max_items"
            )
        return self.counted(self.tuned.best[name].make())

    def newcomers(self) -> Baseline:
        """What people take when they arrive."""
        settings = self.settings.baselines
        return NewcomerPopularity(len(self.backtest.dataset.catalogue), settings.newcomer_events)

    def blend(self) -> Contender:
        """All kinds that apply, with the weights chosen."""
        tuned = self.tuned
        assert tuned.weighting is not None
        return self.counted(Blend([part.make() for part in tuned.parts], tuned.weighting))

    def linear(self) -> Contender:
        """The causal features, and the baselines that are none of them."""
        wanted = self.settings.baselines.linear.signals
        unknown = set(wanted) - {*TUNED, NewcomerPopularity.name}
        if unknown:
            raise SettingsError(
                f"baselines.linear.signals: {', '.join(sorted(unknown))} unknown, expected some of {TUNED}"
            )
        signals = [self.tuned.best[name].make() for name in wanted if name in self.tuned.best]
        if NewcomerPopularity.name in wanted:
            signals.append(self.newcomers())
        state = empty_state(self.backtest.dataset, self.settings)
        repeats = self.backtest.dataset.meta.repeats
        return LinearRanker(state, signals, self.settings.baselines.linear, repeats, self.settings.seed)

    def sasrec(self) -> Contender:
        """The rival; torch is imported here."""
        from penstock.pipeline.rivals.sasrec import Sasrec

        state = empty_state(self.backtest.dataset, self.settings)
        repeats = self.backtest.dataset.meta.repeats
        return Sasrec(state, self.settings.baselines.sasrec, repeats, self.settings.seed)


def frozen_vectors(backtest: Backtest) -> NDArray[np.float32]:
    """Text vectors [N, T] of the catalogue from the pretrained encoder, before anything was learned."""
    _, learner = make_track("frozen", backtest.dataset, backtest.settings.override({"text.tuning": "frozen"}))
    return np.array(learner.text_NT.cpu().numpy(), np.float32)


TUNED = (DecayedPopularity.name, OwnRepeats.name, CoOccurrence.name, Ease.name, FrozenContent.name)

CONTENDERS: dict[str, Callable[[Made], Contender]] = {
    Popularity.name: lambda made: made.counted(Popularity(len(made.backtest.dataset.catalogue))),
    NewcomerPopularity.name: lambda made: made.counted(made.newcomers()),
    **{name: (lambda made, name=name: made.best(name)) for name in TUNED},  # type: ignore[misc]
    Blend.name: Made.blend,
    LinearRanker.name: Made.linear,
    "SASRec": Made.sasrec,
}


def applicable(backtest: Backtest) -> list[str]:
    """The names of all baselines that this log allows: no repeats where they do not count, no EASE too large."""
    left_out = set() if backtest.dataset.meta.repeats else {OwnRepeats.name}
    if len(backtest.dataset.catalogue) > backtest.settings.baselines.ease_max_items:
        left_out.add(Ease.name)
    return [name for name in CONTENDERS if name not in left_out]
