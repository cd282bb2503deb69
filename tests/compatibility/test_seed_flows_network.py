"""The seed flows that reach out to the internet, as they are written: 003_18 and 003_03.

The internet is stood in for by a proxy that answers in place of the hosts that the flows ask, with certificates of an
authority of the test's own. Worker and container are told of both by environment variables, as an administrator would
do it, and of MongoDB's address by a forced plugin default. What `pip` fetches in the container is the real thing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import certifi
import pytest

from tercel.settings import read_settings
from tests.docker_engine import ensure_image
from tests.homes import Home
from tests.http_servers import Asked, Authority, Internet
from tests.mongodb import MongoServer
from tests.seeds import SEEDS, Seeds, outputs_of
from tests.servers import Answer

pytestmark = pytest.mark.skipif(not SEEDS.is_dir(), reason="no ../shared/seeds beside the project")

BUNDLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
"""Which may say what this machine trusts, `pip` in the container too."""

ORDERS = b"order_id,product\n1,tea\n2,coffee\n"
API = {"current_user_url": "https://api.github.com/user", "emojis_url": "https://api.github.com/emojis"}


def answer(host: str, asked: Asked) -> Answer:
    """What the two hosts have of what the flows ask for."""
    match host, asked.method, asked.target:
        case "raw.githubusercontent.com", "GET", "/kestra-io/examples/main/datasets/orders.csv":
            return 200, {"Content-Type": "text/plain; charset=utf-8"}, ORDERS
        case "api.github.com", "GET", "/":
            return 200, {"Content-Type": "application/json; charset=utf-8"}, json.dumps(API).encode()
        case _:
            return 404, {}, b""


@pytest.fixture
def internet(tmp_path: Path) -> Internet:
    return Internet(Authority(tmp_path), answer, ["raw.githubusercontent.com", "api.github.com"], is_open=True)


@pytest.fixture
def proxy(internet: Internet) -> Iterator[str]:
    with internet.open() as port:
        yield f"http://127.0.0.1:{port}"


def stored(home: Path, uri: str) -> bytes:
    """A file of internal storage, read when nobody works on the home any more."""
    with Home(home) as opened:
        assert opened.settings.storage_directory == read_settings({}, home=home).storage_directory
        return opened.read(uri)


def test_given_003_18_then_the_file_is_downloaded(tmp_path: Path, internet: Internet, proxy: str) -> None:
    trusted = {"HTTPS_PROXY": proxy, "NO_PROXY": "", "SSL_CERT_FILE": str(tmp_path / "authority.pem")}
    seeds = Seeds(tmp_path / "home", {**os.environ, **trusted}, "")

    result = seeds.run(SEEDS / "003_18_download.yaml")

    outputs = outputs_of(result, "http")
    assert (outputs["code"], outputs["length"]) == (200, len(ORDERS))
    assert outputs["uri"].endswith("/orders.csv")
    assert stored(seeds.home, outputs["uri"]) == ORDERS
    assert [(host, asked.method) for host, asked in internet.asked] == [("raw.githubusercontent.com", "GET")]


@pytest.mark.usefixtures("docker_engine")
def test_given_003_03_then_what_the_api_says_is_in_the_database(
    tmp_path: Path, internet: Internet, proxy: str, mongodb_server: MongoServer
) -> None:
    ensure_image("python:3.11-slim")
    bundle = tmp_path / "bundle.pem"
    trusted = next((os.environ[name] for name in BUNDLES if os.environ.get(name)), certifi.where())
    bundle.write_bytes(Path(trusted).read_bytes() + b"\n" + (tmp_path / "authority.pem").read_bytes())
    script: dict[str, Any] = {
        "docker": {"networkMode": "host", "volumes": [f"{bundle}:/etc/bundle.pem:ro"]},
        "env": {"HTTPS_PROXY": proxy, "NO_PROXY": "", "REQUESTS_CA_BUNDLE": "/etc/bundle.pem"},
    }
    defaults = [
        {"type": "io.kestra.plugin.scripts.python.Script", "forced": True, "values": script},
        {
            "type": "io.kestra.plugin.mongodb.Load",
            "forced": True,
            "values": {"connection": {"uri": "{{ secret('MONGODB') }}"}},
        },
    ]
    env = {
        **os.environ,
        "TERCEL_DOCKER_VOLUMES": "true",
        "TERCEL_PLUGIN_DEFAULTS": json.dumps(defaults),
        "SECRET_MONGODB": _base64(mongodb_server.uri),
    }
    seeds = Seeds(tmp_path / "home", env, "")
    mongodb_server.client["local"].drop_collection("github")

    result = seeds.run(SEEDS / "003_03_apiJSONtoMongoDB.yaml")

    assert outputs_of(result, "inlineScript")["vars"]["status"] == 200
    assert "FROM sales" in outputs_of(result, "inlineScript")["vars"]["receivedSQL"]
    assert outputs_of(result, "loadToMongoDB")["insertedCount"] == 1
    [document] = mongodb_server.documents("local", "github")
    assert {name: document[name] for name in API} == API
    assert [host for host, _ in internet.asked] == ["api.github.com"]


def _base64(text: str) -> str:
    from base64 import b64encode

    return b64encode(text.encode()).decode()
