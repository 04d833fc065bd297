"""Data Docs that read well on a machine without a network.

Great Expectations writes pages that load their styles and scripts from seven hosts and bring 4 MB of fonts along. Here
each page gets one small stylesheet, loses everything remote, and carries a policy that forbids loading anything else:
values of events stand in these pages, and none of them can become a script.
"""

import re
import shutil
from functools import partial
from html import escape
from pathlib import Path
from urllib.parse import quote

from penstock.data.tables import replace_file
from penstock.errors import DataError

STYLE = Path(__file__).parent / "templates" / "data_docs.css"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
KINDS = {"validations": "What was found", "expectations": "What was expected"}

SCRIPT = re.compile(r"<script\b.*?</script\s*>", re.IGNORECASE | re.DOTALL)
LINK = re.compile(r"<link\b[^>]*>", re.IGNORECASE)
IMAGE = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
STYLE_BLOCK = re.compile(r"<style\b.*?</style\s*>", re.IGNORECASE | re.DOTALL)
REMOTE_ANCHOR = re.compile(r"<a\b[^>]*\bhref\s*=\s*[\"']?https?://[^>]*>(.*?)</a\s*>", re.IGNORECASE | re.DOTALL)
HEAD = re.compile(r"<head\b[^>]*>", re.IGNORECASE)
HANDLER = re.compile(r"""\son[a-z]+\s*=\s*("[^"]*"|'[^']*')""", re.IGNORECASE)


def make_offline(site: Path) -> Path:
    """Rewrite every page of a Data Docs site in place and drop its fonts and pictures.

    Returns:
        The page of the validation result, or the site's index when there are several.

    Raises:
        DataError: the site holds no page.
    """
    style = STYLE.read_text(encoding="utf-8")
    shutil.rmtree(site / "static", ignore_errors=True)
    for page in sorted(site.rglob("*.html")):
        text = offline_page(page.read_text(encoding="utf-8"), style)
        replace_file(page, partial(_write, text))
    pages = sorted(page for folder in ("validations", "expectations") for page in (site / folder).rglob("*.html"))
    if not pages:
        raise DataError(f"{site} holds no page, expected Great Expectations to write some; run validation again")
    replace_file(site / "index.html", partial(_write, _index(site, pages, style)))
    results = [page for page in pages if page.is_relative_to(site / "validations")]
    return results[0] if len(results) == 1 else site / "index.html"


def _index(site: Path, pages: list[Path], style: str) -> str:
    """Great Expectations fills its own index by a script; this one needs none."""
    names = [page.relative_to(site) for page in pages]
    lines = [
        f'<li><a href="{quote(name.as_posix())}">{KINDS[name.parts[0]]}</a>: {escape(Path(name.parts[1]).stem)}</li>'
        for name in sorted(names, key=lambda name: list(KINDS).index(name.parts[0]))
    ]
    head = '<head><meta charset="utf-8"><title>Data Docs</title></head>'
    body = f'<body><main class="container-fluid"><h1>Data Docs</h1><ul>{"".join(lines)}</ul></main></body>'
    return offline_page(f'<!DOCTYPE html><html lang="en">{head}{body}</html>', style)


def move_site(source: Path, target: Path) -> None:
    """Put a finished site in place of an earlier one; other files of `target` stay."""
    target.mkdir(parents=True, exist_ok=True)
    for child in sorted(source.iterdir()):
        earlier = target / child.name
        if earlier.is_dir():
            shutil.rmtree(earlier)
        child.replace(earlier)


def offline_page(html: str, style: str) -> str:
    """One page without scripts, remote styles, pictures and remote links."""
    for pattern in (SCRIPT, STYLE_BLOCK, LINK, IMAGE, HANDLER):
        html = pattern.sub("", html)
    html = REMOTE_ANCHOR.sub(r"\1", html)
    head = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n<style>\n{style}</style>'
    return HEAD.sub(lambda match: f"{match.group(0)}\n{head}", html, count=1)


def _write(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")
