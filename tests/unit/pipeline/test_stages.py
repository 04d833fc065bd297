"""The watch of a round's stages."""

import pytest

from penstock.pipeline.stages import Stages


def test_stages_add_up_to_what_went_by_and_shares_are_named_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0, 7.0, 8.0])
    monkeypatch.setattr("penstock.pipeline.stages.time.perf_counter", lambda: next(clock))
    stages = Stages()
    stages.done("load")
    stages.split("features", {"learning": 3.0, "encoder": 0.5})
    stages.done("load")
    assert stages.seconds == {"load": 3.0, "features": 1.5, "learning": 3.0, "encoder": 0.5}
    assert sum(stages.seconds.values()) == 8.0
