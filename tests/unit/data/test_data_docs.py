"""The first page of Data Docs; the rewriting itself is tested where they are made, in test_expectations."""

from pathlib import Path

from penstock.data.data_docs import make_offline


def test_the_index_names_what_was_found_before_what_was_expected(tmp_path: Path) -> None:
    for name in ("expectations/snapshot-s1.html", "validations/snapshot-s1/run/page.html", "validations/two/b.html"):
        page = tmp_path / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("<html><head></head><body>x</body></html>", encoding="utf-8")
    index = make_offline(tmp_path)
    assert index == tmp_path / "index.html", "several results: their list comes first"
    text = index.read_text(encoding="utf-8")
    assert "<title>Data Docs</title>" in text
    found = '<a href="validations/snapshot-s1/run/page.html">What was found</a>: snapshot-s1'
    expected = '<a href="expectations/snapshot-s1.html">What was expected</a>: snapshot-s1'
    assert 0 < text.index(found) < text.index(expected)
