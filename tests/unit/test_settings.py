"""params.yaml is read strictly, and the environment may override any of it."""

from pathlib import Path

import pytest

from penstock.errors import SettingsError
from penstock.settings import load_settings

PARAMS = Path(__file__).parents[2] / "params.yaml"


def test_every_value_of_the_file_is_taken() -> None:
    settings = load_settings(PARAMS, {})
    assert settings.task == "rank"
    assert settings.data.gains["impression"] == 0.0


def test_environment_overrides_keep_their_types() -> None:
    overrides = {
        "PENSTOCK__SERVICE__PORT": "9000",
        "PENSTOCK__FEATURES__HALF_LIVES_H": "[1, 2]",
        "PENSTOCK__TASK": "classify",
    }
    settings = load_settings(PARAMS, overrides)
    assert settings.service.port == 9000
    assert settings.features.half_lives_h == [1.0, 2.0]
    assert settings.task == "classify"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PENSTOCK__GATES__NDCG", "1", r"gates\.ndcg: no such setting.*found 1"),
        ("PENSTOCK__SERVICE__PORT", "many", r"service\.port: .*integer.*found 'many'"),
        ("PENSTOCK__SEED__DEEPER", "1", r"seed is a value, not a section"),
        ("PENSTOCK__SEED", "[", r"PENSTOCK__SEED='\['.*YAML"),
    ],
)
def test_an_override_that_cannot_be_used_names_its_key(name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(PARAMS, {name: value})


def test_all_mistakes_are_reported_together() -> None:
    with pytest.raises(SettingsError, match=r"2 setting\(s\)"):
        load_settings(PARAMS, {"PENSTOCK__SEED": "x", "PENSTOCK__NEW": "1"})


def test_a_missing_key_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.read_text().replace("seed: 7\n", ""))
    with pytest.raises(SettingsError, match="seed: Field required"):
        load_settings(path, {})


@pytest.mark.parametrize(("text", "message"), [("a: [", "not YAML"), ("- 1\n", "holds list"), (None, "cannot be read")])
def test_a_file_that_is_no_settings(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "params.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError, match=message):
        load_settings(path, {})


def test_equal_settings_have_equal_digests() -> None:
    one, other = load_settings(PARAMS, {}), load_settings(PARAMS, {"PENSTOCK__SEED": "8"})
    assert one.sha256() == load_settings(PARAMS, {}).sha256() != other.sha256()
    assert one.override({"seed": 8}).sha256() == other.sha256()
