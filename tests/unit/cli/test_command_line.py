"""What every command has in common: start-up, --json, errors, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from penstock.cli import main
from penstock.cli.answer import Answer, Output, as_text, command
from penstock.errors import DataError

HEAVY = (
    "torch", "polars", "numpy", "mlflow", "great_expectations", "prefect", "onnxruntime", "transformers", "pandas",
    "sqlalchemy", "fastapi", "pydantic", "rich",
)  # fmt: skip


def leaves(group: click.Group, words: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with the words that call it."""
    found = []
    for name, one in group.commands.items():
        found += leaves(one, (*words, name)) if isinstance(one, click.Group) else [((*words, name), one)]
    return found


LEAVES = leaves(main)


def test_building_the_group_and_its_help_imports_nothing_heavy() -> None:
    probe = (
        "import sys\nfrom penstock.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_help_names_every_command_and_the_completion() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    assert all(f"\n  {name} " in text for name in main.commands)
    assert "_PENSTOCK_COMPLETE=bash_source" in text
    assert sorted(name for names in main.sections.values() for name in names) == sorted(main.commands)


@pytest.mark.parametrize(("words", "one"), LEAVES, ids=[" ".join(words) for words, _ in LEAVES])
def test_every_command_has_help_and_json(words: tuple[str, ...], one: click.Command) -> None:
    result = CliRunner().invoke(main, [*words, "--help"])
    assert result.exit_code == 0
    assert "--json" in result.output
    assert one.help


def test_a_mistyped_command_is_a_usage_error_with_the_nearest_name() -> None:
    result = CliRunner().invoke(main, ["statsu", "--json"])
    assert result.exit_code == 2
    assert "did you mean status?" in result.stderr
    assert json.loads(result.stdout)["error"]["kind"] == "UsageError"


def test_an_unknown_setting_in_the_environment_is_named(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK__GATES__NOPE", "1")
    result = run("status", "--json")
    assert result.exit_code == 1
    error = json.loads(result.stdout)["error"]
    assert error["kind"] == "SettingsError"
    assert "gates.nope: no such setting" in error["message"]
    assert "gates.nope: no such setting" in result.stderr


def test_a_folder_without_params_says_where_to_go(answer, place: Path) -> None:
    (place / "params.yaml").unlink()
    assert "run from the project's folder" in answer("simulate", code=1)["error"]["message"]


def invoke(function, *words: str):
    group = type(main)(name="penstock")
    group.add_section("Test", [command("try")(function)])
    return CliRunner().invoke(group, ["try", *words], catch_exceptions=False)


def test_what_libraries_print_stays_off_stdout_under_json() -> None:
    def noisy(output: Output) -> Answer:
        print("a library says hello")
        return Answer({"value": float("nan"), "title": "Größe [red]"}, lambda screen: screen.line("done"))

    result = invoke(noisy, "--json")
    assert json.loads(result.stdout) == {"value": None, "title": "Größe [red]"}
    assert "a library says hello" in result.stderr
    assert invoke(noisy).stdout == "a library says hello\ndone\n"


def test_an_error_goes_to_stderr_and_is_the_one_object() -> None:
    def broken(output: Output) -> Answer:
        raise DataError("row 3 is odd")

    plain, as_json = invoke(broken), invoke(broken, "--json")
    assert (plain.exit_code, plain.stdout, plain.stderr) == (1, "", "DataError: row 3 is odd\n")
    assert json.loads(as_json.stdout) == {"error": {"kind": "DataError", "message": "row 3 is odd"}}


def test_after_the_answer_an_error_prints_no_second_object() -> None:
    def late(output: Output) -> None:
        output.print(Answer({"address": "here"}, lambda screen: None))
        raise DataError("later")

    result = invoke(late, "--json")
    assert json.loads(result.stdout) == {"address": "here"}
    assert result.exit_code == 1


def test_a_file_that_may_not_be_used_is_named() -> None:
    def unreadable(output: Output) -> Answer:
        Path("no-such-folder/file").read_bytes()
        raise AssertionError

    assert "no-such-folder/file: No such file" in invoke(unreadable).stderr


def test_a_package_that_is_not_installed_is_named_with_the_way_to_get_it() -> None:
    def learns(output: Output) -> Answer:
        import no_such_package  # type: ignore[import-not-found]

        raise AssertionError(no_such_package)

    error = json.loads(invoke(learns, "--json").stdout)["error"]
    assert error["kind"] == "DependencyMissing"
    assert "no_such_package is not installed" in error["message"]
    assert "make setup" in error["message"]


def test_ctrl_c_ends_with_130() -> None:
    def stopped(output: Output) -> Answer:
        raise KeyboardInterrupt

    result = invoke(stopped, "--json")
    assert result.exit_code == 130
    assert json.loads(result.stdout)["error"]["kind"] == "Interrupted"


def test_one_line_of_json() -> None:
    assert as_text({"path": Path("a/b"), "rows": (1, 2), "nested": {"x": float("inf")}}) == (
        '{"path": "a/b", "rows": [1, 2], "nested": {"x": null}}'
    )
