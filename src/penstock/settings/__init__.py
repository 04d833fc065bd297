"""Typed settings: params.yaml holds every value, the environment may override any.

Nothing here has a default: a value lives in params.yaml and nowhere else. An override is
PENSTOCK__SECTION__KEY=value, read as YAML, so lists and numbers keep their types.
"""

from penstock.settings.data import DataSettings, SourceSettings, StateSettings, SuspectSettings, ValidationSettings
from penstock.settings.learning import (
    ClassifierSettings,
    ExportSettings,
    FeatureSettings,
    ModelSettings,
    TextSettings,
    TrainingSettings,
)
from penstock.settings.measuring import (
    BacktestSettings,
    BaselineSettings,
    LinearSettings,
    SasrecSettings,
    SimulateSettings,
)
from penstock.settings.releasing import GateSettings, PromotionSettings, RegistrySettings, ScheduleSettings
from penstock.settings.serving import PolicySettings, RolloutSettings, ServiceSettings
from penstock.settings.tree import PARAMS_FILE, PREFIX, Settings, load_settings

__all__ = [
    "PARAMS_FILE",
    "PREFIX",
    "BacktestSettings",
    "BaselineSettings",
    "ClassifierSettings",
    "DataSettings",
    "ExportSettings",
    "FeatureSettings",
    "GateSettings",
    "LinearSettings",
    "ModelSettings",
    "PolicySettings",
    "PromotionSettings",
    "RegistrySettings",
    "RolloutSettings",
    "SasrecSettings",
    "ScheduleSettings",
    "ServiceSettings",
    "Settings",
    "SimulateSettings",
    "SourceSettings",
    "StateSettings",
    "SuspectSettings",
    "TextSettings",
    "TrainingSettings",
    "ValidationSettings",
    "load_settings",
]
