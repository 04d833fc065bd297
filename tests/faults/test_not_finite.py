"""NaN and infinity, in data, loss and gradients: never in anything that is kept."""

import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from core_bench import event, learned_examples, small_settings
from fault_trials import Trials

from penstock.data.journal import Journal
from penstock.data.state import open_state
from penstock.errors import ExportError, TrainingError
from penstock.export.graphs import Template, template
from penstock.export.modules import rank_specs
from penstock.features.state import FeatureSpec
from penstock.training.learner import Learner

NOW = datetime(2026, 3, 9, tzinfo=UTC)
NUMBERS = (math.nan, math.inf, -math.inf)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("field", ["value", "propensity"])
def test_an_event_that_is_not_finite_is_refused_at_the_door(tmp_path: Path, field: str, number: float) -> None:
    settings = small_settings(tmp_path)
    state = open_state(settings.state.url)
    state.ensure()
    rows = [event(1, 1.0), event(2, 2.0, **{field: number})]
    came = Journal(state, settings.data).append(rows, NOW)
    assert (came.accepted, [row[1] for row in came.rejected]) == (1, ["e00002"])
    assert field in came.rejected[0][2]
    state.engine.dispose()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    from core_bench import make_tiny_encoder

    return str(make_tiny_encoder(tmp_path_factory.mktemp("tiny")))


@pytest.mark.parametrize("where", ["feature", "weight", "residual"])
def test_a_loss_or_gradient_that_is_not_finite_ends_the_round(
    tmp_path: Path, encoder: str, where: str, trials: Trials, figures: dict[str, dict[str, object]]
) -> None:
    settings = small_settings(tmp_path, encoder)
    state, examples = learned_examples(settings)
    learner = Learner(settings, FeatureSpec.of(settings))
    learner.add_texts([f"item {n}" for n in range(len(state.items))])
    if where == "feature":
        examples.feature_RCF[len(examples) // 2, 0, 0] = np.nan
    elif where == "weight":
        with torch.no_grad():
            for parameter in (*learner.task.head_parameters(), *learner.average.live):
                parameter.view(-1)[0] = math.inf
    else:
        with torch.no_grad():
            learner.task.residual[examples.row_RC[0, 0], 0] = math.nan
    with pytest.raises(TrainingError, match=r"nothing of this round was kept|not finite"):
        learner.learn(examples)
    figures["NaN or infinity in training"] = {"places": "feature, weight, residual", "rounds that went on": 0}


@pytest.mark.parametrize("number", NUMBERS)
def test_a_weight_that_is_not_finite_is_never_exported(tmp_path: Path, number: float) -> None:
    settings = small_settings(tmp_path)
    spec = rank_specs(settings, FeatureSpec.of(settings), 16)[0]
    made: Template = template(spec, tmp_path / "graphs")
    weights = {name: np.zeros(value.shape, np.float32) for name, value in spec.build().named_parameters()}
    made.patched(weights)
    next(iter(weights.values())).reshape(-1)[0] = number
    with pytest.raises(ExportError, match="not finite"):
        made.patched(weights)
