"""What is dear to make and shared by the tests of learning: a tiny encoder, exported graphs, a shop with its rounds."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from core_bench import Shop, make_tiny_encoder, open_shop

from penstock.records import RoundResult


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a BERT small enough to be built in a test."""
    return str(make_tiny_encoder(tmp_path_factory.mktemp("encoder")))


@pytest.fixture(scope="session")
def graph_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where exported graph templates are kept for the session."""
    return tmp_path_factory.mktemp("graphs")


@dataclass
class Rounds:
    """A shop and what its rounds came to."""

    shop: Shop
    results: list[RoundResult]

    @property
    def bundle(self) -> Path:
        """The first round's bundle."""
        return self.shop.settings.registry.artifacts / "bundles" / str(self.results[0].bundle_digest)


@pytest.fixture(scope="session")
def rounds(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: str) -> Rounds:
    """Two rounds over the first two parts of a shop's log; the third part has not arrived."""
    from penstock.pipeline.online import run_round

    shop = open_shop(tmp_path_factory.mktemp("shop"), tiny_encoder, 3)
    results = []
    for index in range(2):
        result = run_round(shop.settings, shop.arrive(index))
        assert result is not None
        results.append(result)
    return Rounds(shop, results)
