"""Ids become pseudonyms that only the key explains; the key is its owner's; a user is found under every key kept."""

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from stream_bench import NOW, event, settings_under

from penstock.data.journal import Journal
from penstock.data.pseudonyms import FORM, Pseudonyms, names_of
from penstock.data.state import open_state
from penstock.errors import SettingsError


def test_a_pseudonym_is_the_hmac_of_the_id_under_a_key_only_the_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "users.json"
    names = Pseudonyms(path)
    key = bytes.fromhex(json.loads(path.read_text())["keys"][-1]["key"])
    expected = "u_" + hmac.new(key, "änne".encode(), hashlib.sha256).hexdigest()
    assert names.of("änne") == expected == Pseudonyms(path).of("änne")
    assert FORM.fullmatch(expected)
    assert names.of(expected) == expected, "what is a pseudonym stays one"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [part.name for part in path.parent.iterdir()] == ["users.json"]


def test_another_key_gives_another_pseudonym_and_earlier_ones_are_known_until_dropped(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    names = Pseudonyms(path)
    before = names.of("ann")
    assert names.rotate() == 2
    after = names.of("ann")
    assert (before != after, names.every("ann")) == (True, [before, after])
    assert names.rotate(drop_earlier=True) == 1
    assert before not in names.every("ann")


def test_a_key_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    Pseudonyms(path)
    path.chmod(0o644)
    with pytest.raises(SettingsError, match=r"may be read by others \(mode 0644, expected 0600\)"):
        Pseudonyms(path)
    path.chmod(0o600)
    path.write_text("{}")
    with pytest.raises(SettingsError, match="holds no keys"):
        Pseudonyms(path)


def test_the_journal_holds_pseudonyms_and_no_id(tmp_path: Path) -> None:
    changes = {"data.hash_users": True, "data.user_key_file": str(tmp_path / "keys" / "users.json")}
    settings = settings_under(tmp_path, **changes)
    state = open_state(settings.state.url)
    journal = Journal(state, settings.data)
    assert journal.append([event(1, user_id="ann-of-kent"), event(2, user_id="bob")], NOW).accepted == 2
    stored = journal.read(0, 10)["user_id"].to_list()
    state.engine.dispose()
    assert stored == [journal.name_of("ann-of-kent"), journal.name_of("bob")]
    assert all(FORM.fullmatch(name) for name in stored)
    assert names_of(settings.data, "bob") == ["bob", stored[1]]
    assert not any(b"ann-of-kent" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
