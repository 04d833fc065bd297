"""Ids become pseudonyms that only the key explains; the key is its owner's; a user is found under every key kept."""

import hashlib
import hmac
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from stream_bench import NOW, event, settings_under

from penstock.data.erasure import erase_rows
from penstock.data.journal import Journal
from penstock.data.pseudonyms import FORM, Pseudonyms, names_of
from penstock.data.sources.feed import Fed, retry, take
from penstock.data.sources.ledger import list_refused
from penstock.data.sources.protocol import Batch, Message
from penstock.data.state import open_state
from penstock.errors import SettingsError
from penstock.settings import Settings


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


def test_a_key_made_by_another_process_is_used_at_once(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    service = Pseudonyms(path)
    before = service.of("ann")
    Pseudonyms(path).rotate(drop_earlier=True)
    assert service.of("ann") == Pseudonyms(path).of("ann") != before
    assert service.every("ann") == [service.of("ann")]
    path.rename(tmp_path / "away.json")
    assert service.of("ann") != before, "a file that is away for a moment stops nothing"


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
    settings = hashing(tmp_path)
    state = open_state(settings.state.url)
    journal = Journal(state, settings.data)
    assert journal.append([event(1, user_id="ann-of-kent"), event(2, user_id="bob")], NOW).accepted == 2
    stored = journal.read(0, 10)["user_id"].to_list()
    state.engine.dispose()
    assert stored == [journal.name_of("ann-of-kent"), journal.name_of("bob")]
    assert all(FORM.fullmatch(name) for name in stored)
    assert names_of(settings.data, "bob") == ["bob", stored[1]]
    assert not any(b"ann-of-kent" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_processes_that_make_the_first_key_at_once_agree_on_one(tmp_path: Path) -> None:
    path, gate = tmp_path / "keys" / "users.json", Barrier(8)

    def start(number: int) -> str:
        gate.wait()
        return Pseudonyms(path).of("ann")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(start, range(8)))) == 1
    assert [part.name for part in path.parent.iterdir()] == ["users.json"]


def test_a_journal_of_plain_ids_does_not_become_one_of_pseudonyms_unasked(tmp_path: Path) -> None:
    plain, settings = settings_under(tmp_path, **{"data.hash_users": False}), hashing(tmp_path)
    state = open_state(settings.state.url)
    Journal(state, plain.data).append([event(1, user_id="ann")], NOW)
    with pytest.raises(SettingsError, match=r"holds plain user ids, .* to false to go on as before"):
        Journal(state, settings.data)
    assert not settings.data.user_key_file.exists()
    Pseudonyms(settings.data.user_key_file)  # as `penstock rotate-user-key`: everybody starts anew
    Journal(state, settings.data).append([event(2, user_id="ann")], NOW)
    state.engine.dispose()


def test_pseudonyms_are_not_gone_on_from_without_their_key_or_with_plain_ids(tmp_path: Path) -> None:
    settings, plain = hashing(tmp_path), settings_under(tmp_path, **{"data.hash_users": False})
    key = settings.data.user_key_file
    state = open_state(settings.state.url)
    Journal(state, settings.data).append([event(1, user_id="ann")], NOW)
    with pytest.raises(SettingsError, match=r"data.hash_users is false .* set data.hash_users to true"):
        Journal(state, plain.data)
    key.rename(tmp_path / "away.json")
    with pytest.raises(SettingsError, match=r"the key file .* is not there.* restore it from a backup"):
        Journal(state, settings.data)
    assert not key.exists()
    assert Journal(state, plain.data).name_of("ann") == "ann"
    state.engine.dispose()


def test_what_is_no_event_is_kept_without_ids_and_taken_after_a_correction(tmp_path: Path) -> None:
    settings = hashing(tmp_path)
    state = open_state(settings.state.url)
    journal = Journal(state, settings.data)
    share = event(1, user_id="ann-of-kent", kind="share", at=NOW.isoformat())
    sent = [
        json.dumps(share).encode(), b'{"user_id": "ann-of-kent", "kind',
        json.dumps(share | {"uid": "ann-of-kent"}).encode(),
        b"ann-of-kent,i1,click", b'["ann-of-kent"]', json.dumps(share | {"user_id": ["ann-of-kent"]}).encode(),
    ]  # fmt: skip
    batch = Batch([Message(value, str(place)) for place, value in enumerate(sent)])
    assert take(journal, "broker", batch, NOW) == Fed(6, 0, 0, 6)
    held = list_refused(state)
    assert json.loads(held[0].value)["user_id"] == journal.name_of("ann-of-kent")
    assert [one.value for one in held[3:5]] == [b"", b""]
    assert "found 20 bytes" in held[3].reason
    everything = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"ann-of-kent" in path.read_bytes() for path in everything)
    corrected = settings.data.model_copy(update={"gains": settings.data.gains | {"share": 1.0}})
    assert retry(state, Journal(state, corrected), NOW).accepted == 1
    assert journal.read(0, 10)["user_id"].to_list() == [journal.name_of("ann-of-kent")]
    state.engine.dispose()


def test_an_erasure_reaches_what_was_no_event_however_the_id_is_written(tmp_path: Path) -> None:
    """Messages from before data.hash_users was set, and pseudonyms of those after it."""
    plain, settings = settings_under(tmp_path, **{"data.hash_users": False}), hashing(tmp_path)
    state = open_state(settings.state.url)
    values = [
        b'{"user_id": "caf\\u00e9", "kind\\u0041": 1}', "café;i1;click".encode(), b'[{"who": "caf\\u00e9"}]',
        json.dumps({"user_id": "café", "x": 1}).encode(), b'{"user_id": "cafe", "x": 1}', "cafés,i1".encode(),
    ]  # fmt: skip
    for name, before in (("before", plain), ("after", settings)):
        batch = Batch([Message(value, str(place)) for place, value in enumerate(values)])
        assert take(Journal(state, before.data), name, batch, NOW).refused == len(values)
    erase_rows(state, tmp_path, names_of(settings.data, "café"))
    left = [(one.source, int(one.place)) for one in list_refused(state)]
    state.engine.dispose()
    assert left == [("before", 4), ("before", 5), ("after", 1), ("after", 2), ("after", 4), ("after", 5)]


def hashing(root: Path) -> Settings:
    """Settings under which user ids are not stored."""
    return settings_under(root, **{"data.hash_users": True, "data.user_key_file": str(root / "keys" / "users.json")})
