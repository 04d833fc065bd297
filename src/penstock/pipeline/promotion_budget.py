"""What rounds spent of the budget of false promotions, kept in the state database; see evaluation.false_promotions."""

from datetime import datetime, timedelta

import sqlalchemy as sa

from penstock.data.state import METADATA, State, to_micros
from penstock.evaluation.false_promotions import WINDOW_DAYS, PromotionBudget, RoundBudget
from penstock.pipeline.ledger import check_lease
from penstock.settings import GateSettings, Settings

judged_rounds = sa.Table(
    "judged_rounds",
    METADATA,
    sa.Column("round_id", sa.Text, primary_key=True),
    sa.Column("judged_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("level", sa.Double, nullable=False),
    sa.Column("p_value", sa.Double, nullable=False),
    sa.Column("spent", sa.Double, nullable=False),
)
"""One row for each round that was compared with a champion; a round judged again replaces its row."""


def budget_of(settings: GateSettings) -> PromotionBudget:
    """The month's budget."""
    return PromotionBudget(settings.false_promotions_per_month, settings.first_round_share)


def round_budget(settings: GateSettings, state: State, round_id: str, now: datetime) -> RoundBudget:
    """What a round may judge at now, from what the others spent in the 30 days before."""
    since = to_micros(now - timedelta(days=WINDOW_DAYS))
    others = (judged_rounds.c.judged_at > since) & (judged_rounds.c.round_id != round_id)
    query = sa.select(sa.func.coalesce(sa.func.sum(judged_rounds.c.spent), 0.0), sa.func.count()).where(others)
    with state.read() as conn:
        spent, count = conn.execute(query).one()
    level = float(budget_of(settings).level(float(spent)))
    return RoundBudget(level, float(spent), int(count), settings.false_promotions_per_month)


def note_judgement(
    settings: Settings, state: State, round_id: str, budget: RoundBudget, p_value: float, now: datetime
) -> None:
    """Keep what a round spent.

    Raises:
        LeaseLost: this worker held the lease of rounds and lost it; nothing is written.
    """
    spent = float(budget_of(settings.gates).spent_by(budget.level, p_value))
    values = {"judged_at": to_micros(now), "level": budget.level, "p_value": p_value, "spent": spent}
    with state.write() as conn:
        check_lease(settings, conn)
        conn.execute(sa.delete(judged_rounds).where(judged_rounds.c.round_id == round_id))
        conn.execute(sa.insert(judged_rounds).values(round_id=round_id, **values))
