"""Business rules: what they do, and what a faulty file is told."""

from pathlib import Path

import polars as pl
import pytest

from penstock.errors import SettingsError
from penstock.serving.rules import JudgedItems, read_rules

ITEMS = pl.DataFrame(
    {
        "item_id": ["a", "b", "c", "d"],
        "category": ["books", "outdoor", None, "books"],
        "attributes": ['{"in_stock": false, "tags": ["new", "red"]}', '{"brand": "ours"}', None, '{"in_stock": 0}'],
    }
)


def judge(tmp_path: Path, text: str, items: pl.DataFrame = ITEMS) -> JudgedItems:
    (tmp_path / "rules.yaml").write_text(text)
    return JudgedItems.of(read_rules(tmp_path / "rules.yaml"), items)


def test_forbid_require_boost_and_bury(tmp_path: Path) -> None:
    judged = judge(
        tmp_path,
        """
rules:
  - {name: sold out, effect: forbid, when: {attributes: {in_stock: false}}}
  - {name: shelves, effect: require, when: {category: [books, outdoor]}}
  - {name: ours, effect: boost, amount: 0.5, when: {attributes: {brand: ours}}}
  - {name: less red, effect: bury, amount: 2, when: {attributes: {tags: red}}}
  - {name: that one, effect: bury, amount: 1, when: {item_id: [d, x], category: books}}
""",
    )
    assert judged.barred_N.tolist() == [True, False, True, False], "0 is not false; c has no category"
    assert judged.lift_N.tolist() == [-2.0, 0.5, 0.0, -1.0]


def test_items_that_come_in_later_are_judged_too(tmp_path: Path) -> None:
    judged = judge(tmp_path, "rules: [{name: n, effect: forbid, when: {category: books}}]", ITEMS[:2])
    judged.extend(ITEMS)
    assert judged.barred_N.tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rules: [{name: n, effect: hide, when: {category: a}}]", "rules.0.effect .n.: .*'boost'.*found 'hide'"),
        ("rules: [{name: n, effect: boost, when: {category: a}}]", "boost needs an amount"),
        ("rules: [{name: n, effect: forbid, amount: 1, when: {category: a}}]", "forbid takes no amount"),
        ("rules: [{name: n, effect: forbid, when: {}}]", "names no item_id, category or attributes"),
        ("rules: [{name: n, effect: forbid, when: {colour: a}}]", "rules.0.when.colour .n.: no such key"),
        ("rules: [{effect: forbid, when: {category: a}}]", "rules.0.name: is missing"),
        ("rules: [{name: n, effect: boost, amount: -1, when: {category: a}}]", "greater than 0, found -1"),
        (
            "rules:\n- {name: n, effect: forbid, when: {category: a}}\n- {name: n, effect: forbid, when: {item_id: b}}",
            "two rules are called 'n'",
        ),
        ("- a list", "holds list, expected `rules:`"),
        ("rules: [", "is not YAML"),
    ],
)
def test_a_faulty_file_is_told_what_is_wrong_and_where(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        judge(tmp_path, text)


def test_every_fault_is_named_at_once_and_a_missing_file_too(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="2 fault"):
        judge(tmp_path, "rules: [{name: n, effect: hide, when: {category: a}}, {name: m, effect: forbid, when: {}}]")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_rules(tmp_path / "none.yaml")
