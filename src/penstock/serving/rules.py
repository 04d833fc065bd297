"""Business rules: a YAML file that says what must, must not, should or should rather not be shown.

    rules:
      - name: nothing that is sold out
        effect: forbid            # forbid | require | boost | bury
        when:                     # every line must hold; a list: any of its values
          attributes: {in_stock: false}
      - name: own brand first
        effect: boost
        amount: 0.5               # of boost and bury: deviations of the candidates' scores
        when: {category: [outdoor, books], attributes: {brand: ours}}

`require` leaves only items that it holds for; several must all hold. Rules are judged once per item when a version is
loaded or an item comes in, so a request does not pay for them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from penstock.errors import SettingsError

Value = str | bool | int | float


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Values = Annotated[list[Value], BeforeValidator(_listed), Field(min_length=1)]


class Part(BaseModel):
    """A section of the rules file; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class When(Part):
    """Which items: all given conditions hold, each by any of its values."""

    item_id: Values = []
    category: Values = []
    attributes: dict[str, Values] = {}

    @model_validator(mode="after")
    def _something(self) -> "When":
        if not (self.item_id or self.category or self.attributes):
            raise ValueError("names no item_id, category or attributes; a rule for every item is none")
        return self


class Rule(Part):
    """One rule; see the module."""

    name: str = Field(min_length=1)
    effect: Literal["forbid", "require", "boost", "bury"]
    when: When
    amount: float | None = Field(default=None, gt=0, le=100, strict=False)

    @model_validator(mode="after")
    def _amount_fits(self) -> "Rule":
        moves = self.effect in ("boost", "bury")
        if moves and self.amount is None:
            raise ValueError(f"{self.effect} needs an amount, in deviations of the scores")
        if not moves and self.amount is not None:
            raise ValueError(f"{self.effect} takes no amount; it is all or nothing")
        return self


class RulesFile(Part):
    """The whole file."""

    rules: list[Rule]

    @model_validator(mode="after")
    def _named_once(self) -> "RulesFile":
        names = [rule.name for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two rules are called {twice[0]!r}; give each a name of its own")
        return self


def read_rules(path: Path) -> list[Rule]:
    """The rules in a file.

    Raises:
        SettingsError: it cannot be read, is not YAML, or a rule is not one; the message names every fault.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}); see service.rules") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise SettingsError(f"{path} holds {type(tree).__name__}, expected `rules:` and a list; see docs/service.md")
    try:
        return RulesFile.model_validate(tree).rules
    except ValidationError as error:
        faults = [_fault(item, tree) for item in error.errors()]
        raise SettingsError(f"{path}: {len(faults)} fault(s) in the rules\n" + "\n".join(faults)) from error


def _fault(item: Any, tree: dict[str, Any]) -> str:
    where = list(item["loc"])
    named = ""
    if len(where) > 1 and where[0] == "rules" and isinstance(where[1], int):
        rule = tree["rules"][where[1]]
        if isinstance(rule, dict) and isinstance(rule.get("name"), str):
            named = f" ({rule['name']})"
    reason = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        reason = "no such key"
    elif item["type"] == "missing":
        reason = "is missing"
    tells = item["type"] == "missing" or "error" in item.get("ctx", {})
    found = "" if tells else f", found {item['input']!r}"
    return f"  {'.'.join(str(part) for part in where) or 'rules'}{named}: {reason}{found}"


@dataclass
class JudgedItems:
    """What the rules say of each item: `barred_N`, never shown; `lift_N`, added to its score in deviations."""

    rules: list[Rule]
    barred_N: NDArray[np.bool_]
    lift_N: NDArray[np.float64]

    @classmethod
    def of(cls, rules: list[Rule], items: pl.DataFrame) -> "JudgedItems":
        """Judge every item; columns item_id, category, and attributes (a JSON object) where there are any."""
        judged = cls(rules, np.zeros(0, bool), np.zeros(0))
        judged.extend(items)
        return judged

    def extend(self, items: pl.DataFrame) -> None:
        """Judge the items that came in behind those judged already."""
        fresh = items[len(self.barred_N) :]
        barred_F, lift_F = np.zeros(len(fresh), bool), np.zeros(len(fresh))
        attributes = _attributes(fresh) if any(rule.when.attributes for rule in self.rules) else []
        for rule in self.rules:
            held_F = _holds(rule.when, fresh, attributes)
            if rule.effect == "forbid":
                barred_F |= held_F
            elif rule.effect == "require":
                barred_F |= ~held_F
            else:
                assert rule.amount is not None
                lift_F += held_F * (rule.amount if rule.effect == "boost" else -rule.amount)
        self.barred_N = np.concatenate([self.barred_N, barred_F])
        self.lift_N = np.concatenate([self.lift_N, lift_F])


def _holds(when: When, items: pl.DataFrame, attributes: list[dict[str, Any]]) -> NDArray[np.bool_]:
    held_N = np.ones(len(items), bool)
    for column in ("item_id", "category"):
        values = getattr(when, column)
        if values:
            named = items[column].is_in([str(value) for value in values]).fill_null(False)
            held_N &= named.to_numpy()
    for key, values in when.attributes.items():
        held_N &= np.array([_has(row.get(key), values) for row in attributes], bool)
    return held_N


def _has(found: Any, values: list[Value]) -> bool:
    """Whether an attribute, or one of its values where it is a list, is any of `values`; true is not 1."""
    several = found if isinstance(found, list) else [found]
    return any(one == value and isinstance(one, bool) == isinstance(value, bool) for one in several for value in values)


def _attributes(items: pl.DataFrame) -> list[dict[str, Any]]:
    if "attributes" not in items.columns:
        return [{}] * len(items)
    parsed = [json.loads(text) if text else {} for text in items["attributes"].to_list()]
    return [row if isinstance(row, dict) else {} for row in parsed]
