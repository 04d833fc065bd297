from collections.abc import Callable
from pathlib import Path

import yaml
from click.testing import Result

from penstock.cli.reference import kind, pages, settings_page
from penstock.settings import Settings

ROOT = Path(__file__).parents[3]


def test_the_pages_in_docs_are_current() -> None:
    for name, text in pages(ROOT / "params.yaml").items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, f"run `penstock reference`: {name} is stale"


def test_every_setting_is_there_with_its_value() -> None:
    page = pages(ROOT / "params.yaml")["settings.md"]

    def leaves(tree: dict[str, object], prefix: str = "") -> list[str]:
        found: list[str] = []
        for name, value in tree.items():
            found += leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]
        return found

    for name in leaves(yaml.safe_load((ROOT / "params.yaml").read_text())):
        assert f"| `{name}` |" in page, name
    assert "| `service.port` | `8321` | integer ≥ 0, ≤ 65535 |" in page
    assert "| `task` | `rank` | rank or classify |" in page


def test_a_bar_in_a_comment_stays_in_its_cell() -> None:
    page = settings_page("seed: 7   # one | two\n", Settings.model_json_schema())
    assert "| `seed` | `7` | integer | one \\| two |" in page


def test_kinds_in_words() -> None:
    assert kind({"anyOf": [{"type": "string"}, {"type": "null"}]}, {}) == "string"
    assert kind({"type": "array", "items": {"$ref": "#/x/Y"}}, {"x": {"Y": {"type": "number", "minimum": 0}}}) == (
        "list of number ≥ 0"
    )


def test_check_says_what_is_stale(run: Callable[..., Result]) -> None:
    assert run("reference", "--into", "out", "--check").exit_code == 1
    assert run("reference", "--into", "out").exit_code == 0
    assert "current" in run("reference", "--into", "out", "--check").output
    page = Path("out/settings.md")
    page.write_text(page.read_text() + "by hand")
    stale = run("reference", "--into", "out", "--check")
    assert stale.exit_code == 1
    assert "settings.md" in stale.output
