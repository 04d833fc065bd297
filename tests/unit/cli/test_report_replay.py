import json
import socket
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from click.testing import CliRunner
from console_bench import EVIL, make, with_a_past

from penstock.cli import main
from penstock.cli.replay import _need_known_items
from penstock.cli.screen import rate
from penstock.data.dataset import write_dataset
from penstock.data.simulate import simulate
from penstock.errors import PenstockError
from penstock.settings import load_settings

ROOT = Path(__file__).parents[3]
SMALL = {"simulate.items": 40, "simulate.users": 10, "simulate.days": 1, "simulate.requests_per_day": 20}


def test_a_version_becomes_one_page(tmp_path: Path, empty_mlflow: Path) -> None:
    (tmp_path / "loop").mkdir()
    bench = with_a_past(make(tmp_path / "loop", empty_mlflow))
    changes = {
        "PENSTOCK__STATE__URL": bench.settings.state.url,
        "PENSTOCK__STATE__HOME": str(bench.settings.state.home),
        "PENSTOCK__REGISTRY__TRACKING_URI": bench.settings.registry.tracking_uri,
        "PENSTOCK__REGISTRY__ARTIFACTS": str(bench.settings.registry.artifacts),
        "PENSTOCK_PARAMS": str(ROOT / "params.yaml"),
    }
    out = tmp_path / "new" / "one.html"
    done = CliRunner().invoke(main, ["report", "1", "--out", str(out), "--json"], env=changes)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["report"] == str(out)
    page = out.read_text(encoding="utf-8")
    assert "Approved by Ada" in page
    assert "<script" not in page.replace(EVIL, "")
    unknown = CliRunner().invoke(main, ["report", "99", "--json"], env=changes)
    assert unknown.exit_code == 1
    assert "no version '99'" in json.loads(unknown.stdout)["error"]["message"]
    bench.state.engine.dispose()


def test_replay_says_what_to_do_where_nobody_listens(tmp_path: Path) -> None:
    dataset, _ = simulate(load_settings(ROOT / "params.yaml", {}).override(SMALL).simulate, 7)
    write_dataset(dataset, tmp_path / "market")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
        arguments = ["replay", "--data", str(tmp_path / "market"), "--address", address, "--json"]
        done = CliRunner().invoke(main, arguments, env={"PENSTOCK_PARAMS": str(ROOT / "params.yaml")})
        arguments[4] = address.removeprefix("http://")
        bare = CliRunner().invoke(main, arguments, env={"PENSTOCK_PARAMS": str(ROOT / "params.yaml")})
    assert done.exit_code == 1
    assert "start one with `penstock serve`" in json.loads(done.stdout)["error"]["message"]
    assert "(ConnectError)" in json.loads(bare.stdout)["error"]["message"], "http:// may be left out"


def test_replay_goes_at_one_pace() -> None:
    done = CliRunner().invoke(main, ["replay", "--rate", "5", "--speed", "10"])
    assert done.exit_code == 2
    assert "give one" in done.output


@pytest.mark.parametrize(("per_s", "text"), [(0.05, "3.0/min"), (2.5, "2.5/s"), (12_345.0, "12,345/s")])
def test_rates_as_one_says_them(per_s: float, text: str) -> None:
    assert rate(per_s) == text


@pytest.mark.parametrize(("known", "refused"), [((), True), (("i/7",), False)])
def test_a_log_of_items_that_the_service_does_not_know_is_not_replayed(known: tuple[str, ...], refused: bool) -> None:
    asked: list[str] = []

    def answered(request: httpx.Request) -> httpx.Response:
        item = unquote(request.url.raw_path.decode().split("/")[3])
        asked.append(item)
        return httpx.Response(200 if item in known else 404)

    items = [f"i/{number}" for number in range(9)] if refused else ["i/7", "i/8"]
    with httpx.Client(base_url="http://localhost", transport=httpx.MockTransport(answered)) as client:
        if refused:
            with pytest.raises(PenstockError, match="knows none of 5 items"):
                _need_known_items(client, items)
        else:
            _need_known_items(client, items)
    assert set(asked) <= set(items)
