"""Items that are posted: recommendable at once, also after a restart and by the next version."""

from collections.abc import Callable

import pytest
from serving_fakes import FakeScorer, World, event, loader

from penstock.errors import SettingsError
from penstock.serving.policy import Policy
from penstock.serving.runtime import Runtime
from penstock.settings import Settings

LAMP = {"item_id": "lamp", "title": "A lamp of oak", "category": "outdoor", "attributes": {"in_stock": True}}


def shown(world: World, **body: object) -> list[str]:
    answer = world.client.post("/v1/recommendations", json={"k": 30, **body}).json()
    return [item["item_id"] for item in answer["items"]]


def test_a_new_item_is_recommendable_before_the_answer_leaves(world: World) -> None:
    assert "lamp" not in shown(world)
    answer = world.client.post("/v1/items", json={"items": [LAMP, LAMP, {"item_id": "i1", "title": "Known"}]})
    assert answer.status_code == 202
    assert (answer.json()["accepted"], answer.json()["known"]) == (1, 2)
    assert "lamp" in shown(world), "the newest item there is"
    world.client.post("/v1/events", json=event(1, item="lamp"))
    assert shown(world, user_id="u1")[0] == "lamp", "its counters move"


def test_the_next_version_and_another_process_know_it_too(world: World) -> None:
    world.client.post("/v1/items", json={"items": [LAMP]})
    world.registry.serve("2", "second")
    assert world.runtime.poll()
    assert "lamp" in world.scorers["second"].state.row_of
    restarted = Runtime(
        world.registry, world.journal, loader({"second": FakeScorer("second")}), 60.0, posted=world.runtime.posted
    )
    assert restarted.poll()
    assert "lamp" in restarted.current().scorer.state.row_of
    world.client.post("/v1/items", json={"items": [LAMP | {"item_id": "vase"}]})
    restarted.poll()
    assert "vase" in restarted.current().scorer.state.row_of


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ({"item_id": "x"}, "items.0.title: Field required"),
        (LAMP | {"item_id": " "}, "items.0.item_id"),
        (LAMP | {"colour": "red"}, "items.0.colour: Extra inputs"),
        (LAMP | {"title": "\u0000"}, "NUL character"),
        (LAMP | {"attributes": {"size": {"deep": 1}}}, "items.0.attributes.size"),
        (LAMP | {"body": "x" * 20_001}, "items.0.body"),
    ],
)
def test_what_is_no_item_is_refused_by_name(world: World, item: dict, told: str) -> None:
    answer = world.client.post("/v1/items", json={"items": [item]})
    assert answer.status_code == 422
    assert told in answer.json()["error"]["message"]
    assert world.client.post("/v1/items", json={"items": [LAMP] * 6}).status_code == 422


def test_rules_diversity_and_exploration_reach_the_answer(
    make_world: Callable[..., World], settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text("rules: [{name: no books, effect: forbid, when: {category: books}}]")
    world = make_world(changes={"policy.rules": str(path), "policy.exploration": "epsilon", "policy.epsilon": 0.5})
    found = set()
    for _ in range(12):
        items = world.client.post("/v1/recommendations", json={"k": 3, "user_id": "u1"}).json()["items"]
        assert "books" not in {item["category"] for item in items}
        assert all(item["propensity"] in (0.5, pytest.approx(0.5 / 6)) for item in items)
        found.add(tuple(item["item_id"] for item in items))
    assert len(found) > 1, "places are given away"
    world.client.post("/v1/items", json={"items": [LAMP | {"category": "books"}]})
    assert "lamp" not in shown(world), "a new item is judged too"
    with pytest.raises(SettingsError, match="propensities that nobody knows"):
        settings.override({"policy.exploration": "thompson", "policy.diversity": 0.3})
    with pytest.raises(SettingsError, match="cannot be read"):
        Policy.of(settings.override({"policy.rules": "nowhere.yaml"}).policy)


@pytest.mark.parametrize("changes", [{"policy.diversity": 0.5}, {"policy.exploration": "thompson"}])
def test_other_policies_answer_whole_lists(make_world: Callable[..., World], changes: dict) -> None:
    world = make_world(changes=changes)
    for number in range(4):
        world.client.post("/v1/events", json=event(number, user=f"u{number}", item=f"i{number}"))
    items = world.client.post("/v1/recommendations", json={"k": 6, "user_id": "u1"}).json()["items"]
    assert len({item["item_id"] for item in items}) == 6
    assert all(0 < item["propensity"] <= 1 for item in items)
    if "policy.diversity" in changes:
        assert len({item["category"] for item in items[:3]}) == 3, "unlike ones come up"
