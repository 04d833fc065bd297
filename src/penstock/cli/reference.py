"""docs/settings.md and docs/endpoints.md, written from params.yaml, its types and the OpenAPI document."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from penstock.cli.answer import FAILED, Answer, Output, command
from penstock.cli.screen import Screen

LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w-]+):(?P<value>[^#\n]*?)(?:\s+#\s*(?P<comment>.*))?$")
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
GENERATED = "<!-- Written by `penstock reference`; change params.yaml, src/penstock/settings or the routes instead. -->"


@command(
    "reference",
    click.option("--into", type=click.Path(file_okay=False, path_type=Path), default="docs", show_default=True,
                 help="Folder to write."),
    click.option("--check", is_flag=True, help="Write nothing; end with 1 where a page is not current."),
)  # fmt: skip
def reference(output: Output, into: Path, check: bool) -> Answer:
    """Write the pages of every setting and every endpoint from the code."""
    stale = []
    for name, text in pages(Path("params.yaml")).items():
        path = into / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            into.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    data = {"into": into, "checked" if check else "written": stale, "current": not stale}
    words = f"not current: {', '.join(stale)}; run `penstock reference`" if check and stale else ""
    line = words or (f"written: {', '.join(stale)}" if stale else "both pages are current")
    return Answer(data, lambda screen: _show(screen, line), FAILED if check and stale else 0)


def _show(screen: Screen, line: str) -> None:
    screen.line(line)


def pages(params: Path) -> dict[str, str]:
    """The text of both pages, by file name."""
    from penstock.serving.app import create_app
    from penstock.serving.runtime import Runtime
    from penstock.settings import Settings, load_settings

    nothing: Any = None
    app = create_app(Runtime(nothing, nothing, nothing, 1.0), load_settings(params, {}))
    schema = Settings.model_json_schema()
    return {
        "settings.md": settings_page(params.read_text(encoding="utf-8"), schema),
        "endpoints.md": endpoints_page(app.openapi()),
    }


def settings_page(text: str, schema: dict[str, Any]) -> str:
    """Every line of params.yaml with its value, its kind and bounds by `schema`, and its comment."""
    parts = [
        "# Settings",
        GENERATED,
        "Every setting is in `params.yaml`, once. The environment overrides any of them: `service.port` is "
        "`PENSTOCK__SERVICE__PORT=9000`, read as YAML. An unknown name or a value out of bounds ends the command with "
        "the setting's name. Units stand in the names: `_s` seconds, `_ms` milliseconds, `_h` hours, `_mb` mebibytes.",
    ]
    head = "| setting | value | kind | what it is |\n|---|---|---|---|"
    open_section: str | None = None
    for dotted, value, comment, is_section in _lines(text):
        section = dotted.partition(".")[0] if "." in dotted or is_section else ""
        if section != open_section:
            open_section = section
            note = f"\n\n{_sentence(comment)}" if is_section and comment else ""
            parts.append(f"## {section or 'Top'}{note}\n\n{head}")
        if is_section:
            if "." in dotted:
                parts[-1] += f"\n| `{dotted}` | | group | {_cell(comment)} |"
            continue
        parts[-1] += f"\n| `{dotted}` | `{value}` | {_cell(_kind_of(schema, dotted))} | {_cell(comment)} |"
    return "\n\n".join(parts) + "\n"


def _lines(text: str) -> Iterator[tuple[str, str, str, bool]]:
    """(dotted name, value, comment, whether it opens a group) of every setting, in the file's order."""
    names: list[str] = []
    for line in text.splitlines():
        found = LINE.match(line)
        if found is None:
            continue
        depth = len(found["indent"]) // 2
        names = [*names[:depth], found["key"]]
        value = found["value"].strip()
        yield ".".join(names), value, (found["comment"] or "").strip(), not value


def _kind_of(schema: dict[str, Any], dotted: str) -> str:
    here: dict[str, Any] = schema
    for name in dotted.split("."):
        here = _resolved(here, schema)
        here = here.get("properties", {}).get(name) or here.get("additionalProperties") or {}
    return kind(here, schema)


def kind(part: dict[str, Any], whole: dict[str, Any]) -> str:
    """A JSON schema's type in a few words, with its bounds."""
    if "anyOf" in part or "oneOf" in part:
        kinds = [kind(one, whole) for one in part.get("anyOf", part.get("oneOf", []))]
        return " or ".join(dict.fromkeys(one for one in kinds if one != "null"))
    found = _resolved(part, whole)
    if "enum" in found:
        return " or ".join(str(value) for value in found["enum"])
    if found.get("type") == "array":
        return f"list of {kind(found.get('items', {}), whole)}"
    word = str(found.get("format") or found.get("type") or "any")
    bounds = ", ".join(f"{sign} {found[name]}" for name, sign in BOUNDS.items() if name in found)
    return f"{word} {bounds}".strip()


def endpoints_page(openapi: dict[str, Any]) -> str:
    """Every operation with its parameters, body, example and answers."""
    parts = [
        "# Endpoints",
        GENERATED,
        f"{openapi['info'].get('description', '')} The same is at `/docs` and `/openapi.json` of a running service. "
        'Every answer names the version that made it; an error is `{"error": {"code", "message", "details"}}` '
        "with the same names beside it.",
    ]
    found = [
        (method.upper(), path, operation)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
        if method in ("get", "post", "put", "delete")
    ]
    rows = [f"| `{method} {path}` | {_cell(one.get('summary', ''))} |" for method, path, one in found]
    parts.append("| endpoint | what it does |\n|---|---|\n" + "\n".join(rows))
    parts += [_operation(method, path, one, openapi) for method, path, one in found]
    return "\n\n".join(parts) + "\n"


def _operation(method: str, path: str, operation: dict[str, Any], openapi: dict[str, Any]) -> str:
    parts = [f"## {method} {path}", _sentence(operation.get("summary", ""))]
    asked = [
        f"| `{one['name']}` | {one['in']} | {_cell(kind(one['schema'], openapi))} "
        f"| {_cell(one.get('description', ''))} |"
        for one in operation.get("parameters", [])
    ]
    if asked:
        parts.append("| parameter | in | kind | |\n|---|---|---|---|\n" + "\n".join(asked))
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content:
        parts += _body(content, openapi)
    answers = [f"- `{code}` {_cell(one.get('description', ''))}" for code, one in operation["responses"].items()]
    return "\n\n".join([*parts, "\n".join(answers)])


def _body(content: dict[str, Any], openapi: dict[str, Any]) -> Iterator[str]:
    schema = content["schema"]
    for form in schema.get("anyOf", schema.get("oneOf", [schema])):
        found = _resolved(form, openapi)
        required = found.get("required", [])
        rows = [
            f"| `{name}` | {_cell(kind(field, openapi))}{'' if name in required else ', optional'} "
            f"| {_cell(field.get('description', ''))} |"
            for name, field in found.get("properties", {}).items()
        ]
        yield _sentence(" ".join(found.get("description", "").split()))
        yield "| field | kind | |\n|---|---|---|\n" + "\n".join(rows)
        for example in found.get("examples", [])[:1]:
            yield f"```json\n{json.dumps(example, indent=2, ensure_ascii=False)}\n```"


def _resolved(part: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    reference = part.get("$ref")
    if not reference:
        return part
    found: Any = whole
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return dict(found)


def _sentence(text: str) -> str:
    return text if not text or text.endswith((".", ":")) else f"{text}."


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


COMMANDS = (reference,)
