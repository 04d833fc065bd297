"""The page at /docs, made from the OpenAPI document: one HTML file, no scripts, nothing fetched from elsewhere."""

import json
from html import escape
from typing import Any

METHODS = ("get", "post", "put", "delete")


def docs_page(openapi: dict[str, Any]) -> str:
    """Every operation with its parameters, body, example and answers."""
    parts = [
        _operation(path, method, operation, openapi)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    ]
    links = "".join(
        f'<li><a href="#{_anchor(*key)}">{escape(key[0].upper())} {escape(key[1])}</a></li>' for key in _keys(openapi)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>penstock: HTTP API</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="/console/icon.svg" type="image/svg+xml">'
        '<link rel="stylesheet" href="/console/console.css"></head><body class="docs">'
        '<header class="bar"><a class="brand" href="/">penstock</a><span class="dim">HTTP API</span>'
        '<nav><a href="/openapi.json">openapi.json</a></nav></header><main>'
        f'<section class="panel"><h1>HTTP API, version {escape(openapi["info"]["version"])}</h1>'
        f'<p>{escape(openapi["info"].get("description", ""))}</p><ul class="index">{links}</ul></section>'
        f"{''.join(parts)}</main></body></html>"
    )


def _keys(openapi: dict[str, Any]) -> list[tuple[str, str]]:
    return [(m, path) for path, methods in openapi["paths"].items() for m in methods if m in METHODS]


def _anchor(method: str, path: str) -> str:
    return escape(method + path.replace("/", "-").replace("{", "").replace("}", ""))


def _operation(path: str, method: str, operation: dict[str, Any], openapi: dict[str, Any]) -> str:
    body = ""
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]["application/json"]
        body = f"<h3>Body</h3>{_schema(content['schema'], openapi)}{_examples(content, openapi)}"
    answers = "".join(
        f"<tr><th scope='row'><code>{escape(code)}</code></th><td>{escape(answer.get('description', ''))}</td></tr>"
        for code, answer in operation["responses"].items()
    )
    return (
        f'<section class="panel" id="{_anchor(method, path)}"><h2><span class="tag">{escape(method.upper())}</span> '
        f"<code>{escape(path)}</code></h2><p>{escape(operation.get('summary', ''))}</p>"
        f"{_parameters(operation.get('parameters', []), openapi)}{body}"
        f"<h3>Answers</h3><table>{answers}</table></section>"
    )


def _parameters(parameters: list[dict[str, Any]], openapi: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><th scope='row'><code>{escape(p['name'])}</code></th><td>{escape(p['in'])}, "
        f"{escape(_type(p['schema'], openapi))}</td><td>{escape(p.get('description', ''))}</td></tr>"
        for p in parameters
    )
    return f"<h3>Parameters</h3><table>{rows}</table>" if rows else ""


def _schema(schema: dict[str, Any], openapi: dict[str, Any]) -> str:
    kinds = [_resolved(part, openapi) for part in schema.get("anyOf", schema.get("oneOf", [schema]))]
    return "".join(_fields(kind, openapi) for kind in kinds)


def _fields(schema: dict[str, Any], openapi: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = "".join(
        f"<tr><th scope='row'><code>{escape(name)}</code></th><td>{escape(_type(field, openapi))}"
        f"{'' if name in required else ', optional'}</td><td>{escape(field.get('description', ''))}</td></tr>"
        for name, field in schema.get("properties", {}).items()
    )
    return f"<p class='dim'>{escape(schema.get('description', ''))}</p><table>{rows}</table>"


def _examples(content: dict[str, Any], openapi: dict[str, Any]) -> str:
    values = [example["value"] for example in content.get("examples", {}).values()]
    values += _resolved(content["schema"], openapi).get("examples", [])
    return "".join(
        f"<pre tabindex='0'>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>" for value in values
    )


def _resolved(schema: dict[str, Any], openapi: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = openapi["components"]["schemas"][name] if name else schema
    return found


def _type(schema: dict[str, Any], openapi: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(part, openapi) for part in schema["anyOf"] if part.get("type") != "null")
    found = _resolved(schema, openapi)
    if found.get("type") == "array":
        return f"list of {_type(found.get('items', {}), openapi)}"
    if "properties" in found:
        return "{" + ", ".join(found["properties"]) + "}"
    return str(found.get("type", "any")) + (f" ({found['format']})" if "format" in found else "")
