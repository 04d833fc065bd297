"""The kinds of requests that a challenger must not fail while the mean looks fine."""

from dataclasses import dataclass, field

import numpy as np

from penstock.evaluation.evidence import Bools
from penstock.features.examples import Asked
from penstock.features.state import CausalState
from penstock.settings import GateSettings

NEW_USERS, HEAVY_USERS, NEW_ITEMS = "new users", "heavy users", "new items"
EXPECTED = (NEW_USERS, HEAVY_USERS, NEW_ITEMS)
HOUR_S = 3600.0


@dataclass
class RequestKinds:
    """Notes of each request, as it is asked, what slices it belongs to: only from what came before it."""

    state: CausalState
    settings: GateSettings
    earlier: list[int] = field(default_factory=list)
    has_new_item: list[bool] = field(default_factory=list)
    categories: list[set[int]] = field(default_factory=list)

    def ask(self, asked: Asked) -> None:
        """Take one request that led to something."""
        rows = [self.state.row_of[item] for item in asked.request["relevant"] if item in self.state.row_of]
        born_s = self.state.born_s_N[rows]
        young = ~(born_s <= asked.at_s - self.settings.new_item_h * HOUR_S)
        self.earlier.append(len(asked.history))
        self.has_new_item.append(bool(young.any()) or len(rows) < len(asked.request["relevant"]))
        self.categories.append(set(self.state.category_N[rows].tolist()))

    def masks(self) -> dict[str, Bools]:
        """bool [R] by slice: new and heavy users, new items, and each category that led to something."""
        earlier_R = np.array(self.earlier, np.int64)
        found = {NEW_USERS: earlier_R <= self.settings.new_user_events}
        edge = np.quantile(earlier_R, 1 - self.settings.heavy_user_share) if len(earlier_R) else np.inf
        found[HEAVY_USERS] = earlier_R >= max(float(edge), self.settings.new_user_events + 1)
        found[NEW_ITEMS] = np.array(self.has_new_item, bool)
        for name, code in self.state.categories.items():
            mask_R = np.array([code in codes for codes in self.categories], bool)
            if name and mask_R.any():
                found[f"category {name}"] = mask_R
        return found
