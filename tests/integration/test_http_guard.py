"""What an administrator denies to core.http.*: by addresses, names, redirects, and proxies; and proxies themselves."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tercel.errors import MissingToolError, TaskFailedError
from tercel.plugins.http import Download, Request, Trigger
from tercel.plugins.http.options import HttpOptions, HttpProxy
from tercel.settings import Settings, read_settings
from tests import homes
from tests.flows import flow
from tests.http_servers import Asked, Authority, Internet
from tests.run_contexts import DirectoryContext
from tests.servers import Answer, http_server

REQUEST = "io.kestra.plugin.core.http.Request"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


class Seen:
    """A server that keeps the paths it was asked for."""

    def __init__(self, answer: Answer = (200, {}, b"hello")) -> None:
        self.paths: list[str] = []
        self._answer = answer

    def __call__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        self.paths.append(path)
        return self._answer


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def address(seen: Seen) -> Iterator[str]:
    with http_server(seen) as address:
        yield address


class Asking:
    """Sends requests from a worker with these rules."""

    def __init__(self, folder: Path, deny: str = "", allow: str = "") -> None:
        settings = {"http.deny": tuple(deny.split()), "http.allow": tuple(allow.split())}
        self.context = DirectoryContext(folder / "work", settings=settings)

    def get(self, uri: str, **options: Any) -> object:
        task = Request(id="http", type=REQUEST, uri=uri, options=HttpOptions(**options))
        return task.run(self.context)["body"]

    def refusal(self, uri: str, **options: Any) -> str:
        with pytest.raises(TaskFailedError) as caught:
            self.get(uri, **options)
        assert caught.value.hint == "An administrator can allow it by the setting TERCEL_HTTP_ALLOW."
        return caught.value.message


class TestAddresses:
    @pytest.mark.parametrize(
        "host",
        [
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "[::ffff:169.254.169.254]",
            "[::ffff:a9fe:a9fe]",
            "169.254.43518",
        ],
    )
    def test_given_nothing_set_then_the_metadata_of_clouds_cannot_be_had(self, home: homes.Home, host: str) -> None:
        ran = home.run(flow({"id": "http", "type": REQUEST, "uri": f"http://{host}/latest/meta-data/"}))

        assert ran.state == "FAILED"
        assert ran.run_of("http").message.endswith(
            "the rule 'metadata' denies it. An administrator can allow it by the setting TERCEL_HTTP_ALLOW."
        )

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "127.1", "LOCALHOST"])
    @pytest.mark.parametrize("deny", ["loopback", "all", "127.0.0.0/8 0.0.0.0 ::1"])
    def test_given_loopback_denied_then_no_way_of_writing_it_helps(
        self, tmp_path: Path, seen: Seen, address: str, deny: str, host: str
    ) -> None:
        asking = Asking(tmp_path, deny)

        told = asking.refusal(address.replace("127.0.0.1", host))

        assert "HTTP tasks may not reach " in told
        assert seen.paths == []

    @pytest.mark.parametrize(
        ("deny", "allow"),
        [("", ""), ("private", ""), ("all", "127.0.0.1"), ("loopback", "127.0.0.0/30"), ("all", "loopback")],
    )
    def test_given_what_is_allowed_then_it_is_asked(self, tmp_path: Path, address: str, deny: str, allow: str) -> None:
        assert Asking(tmp_path, deny, allow).get(address) == "hello"

    def test_given_a_name_then_it_is_denied_or_allowed_by_it(self, tmp_path: Path, address: str) -> None:
        by_name = address.replace("127.0.0.1", "localhost")

        assert Asking(tmp_path, "localhost").get(address) == "hello"
        assert Asking(tmp_path, "loopback", "localhost").get(by_name) == "hello"
        assert "the rule 'localhost' denies it" in Asking(tmp_path, "localhost").refusal(by_name)

    def test_given_a_redirect_then_it_is_looked_at_too(self, tmp_path: Path, seen: Seen, address: str) -> None:
        elsewhere = address.replace("127.0.0.1", "localhost")
        with http_server(lambda *_: (302, {"Location": f"{elsewhere}/inside"}, b"")) as outside:
            told = Asking(tmp_path, "localhost").refusal(outside)
            metadata = address.replace("127.0.0.1", "169.254.169.254")
            with http_server(lambda *_: (307, {"Location": metadata}, b"")) as other:
                refused = Asking(tmp_path, "metadata").refusal(other)

        assert told == "HTTP tasks may not reach localhost: the rule 'localhost' denies it."
        assert refused == "HTTP tasks may not reach 169.254.169.254: the rule 'metadata' denies it."
        assert seen.paths == []

    def test_given_a_download_and_a_trigger_then_they_are_bound_too(
        self, tmp_path: Path, seen: Seen, address: str
    ) -> None:
        asking = Asking(tmp_path, "loopback")

        for task in (Download(id="a", type="x", uri=address), Request(id="a", type="x", uri=address)):
            with pytest.raises(TaskFailedError, match="may not reach"):
                task.run(asking.context)
        with pytest.raises(TaskFailedError, match="may not reach"):
            Trigger(id="a", type="x", uri=address).evaluate(asking.context)  # type: ignore[arg-type]

        assert seen.paths == []


class TestNames:
    """What a name leads to is looked up once, and that is what is connected to."""

    def answers(self, monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
        asked: list[str] = []
        real = socket.getaddrinfo

        def lookup(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
            if host != "rebind.example":
                return real(host, port, *rest, **more)
            asked.append(host)
            found = answers[min(len(asked), len(answers)) - 1]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        return asked

    def test_given_a_name_that_changes_then_the_address_that_was_looked_at_is_used(
        self, tmp_path: Path, seen: Seen, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = self.answers(monkeypatch, ["127.0.0.1"], ["127.0.0.9"])

        body = Asking(tmp_path, "127.0.0.9").get(address.replace("127.0.0.1", "rebind.example"))

        assert (body, len(asked), len(seen.paths)) == ("hello", 1, 1)

    def test_given_a_redirect_to_a_name_that_has_changed_then_it_is_denied(
        self, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.answers(monkeypatch, ["127.0.0.1"], ["127.0.0.9"])
        with http_server(lambda *_: (302, {"Location": address.replace("127.0.0.1", "rebind.example")}, b"")) as first:
            told = Asking(tmp_path, "127.0.0.9").refusal(first.replace("127.0.0.1", "rebind.example"))

        assert told == "HTTP tasks may not reach rebind.example at 127.0.0.9: the rule '127.0.0.9' denies it."

    def test_given_several_addresses_then_only_the_allowed_ones_are_tried(
        self, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.answers(monkeypatch, ["127.0.0.9", "127.0.0.2", "127.0.0.1"])  # nobody listens at the second

        assert Asking(tmp_path, "127.0.0.9").get(address.replace("127.0.0.1", "rebind.example")) == "hello"


@pytest.fixture
def internet(tmp_path: Path) -> Internet:
    def answer(host: str, asked: Asked) -> Answer:
        return 200, {}, f"{host} {asked.target} {asked.headers.get('authorization')}".encode()

    return Internet(Authority(tmp_path), answer, ["api.example", "127.0.0.1", "169.254.169.254"])


class TestProxies:
    @pytest.mark.parametrize("way", ["flat", "grouped", "environment", "all", "without scheme"])
    def test_given_a_proxy_then_requests_go_through_it(
        self, tmp_path: Path, internet: Internet, monkeypatch: pytest.MonkeyPatch, way: str
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        login = "Basic " + base64.b64encode(b"me:open sesame").decode()
        with internet.open() as port:
            options: dict[str, Any] = {}
            given = f"http://me:open%20sesame@127.0.0.1:{port}"
            match way:
                case "flat":
                    options = {"proxy_type": "HTTP", "proxy_address": "127.0.0.1", "proxy_port": port}
                    options |= {"proxy_username": "me", "proxy_password": "open sesame"}
                case "grouped":
                    options["proxy"] = HttpProxy(
                        address="127.0.0.1", port=str(port), username="me", password="open sesame"
                    )
                case "environment":
                    monkeypatch.setenv("HTTPS_PROXY", given)
                    monkeypatch.setenv("http_proxy", given)
                case "all":
                    monkeypatch.setenv("ALL_PROXY", given)
                case _:
                    monkeypatch.setenv("ALL_PROXY", given.removeprefix("http://"))
            asking = Asking(tmp_path, "metadata")
            secure = asking.get("https://api.example/x?y=z", **options)
            plain = asking.get("http://api.example/x", **options)

        assert (secure, plain) == ("api.example /x?y=z None", "api.example /x None")
        assert internet.logins == [login, login]
        assert "open sesame" in asking.context.logger.secrets

    def test_given_direct_or_no_proxy_then_the_environments_proxy_is_passed_by(
        self, tmp_path: Path, internet: Internet, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asking = Asking(tmp_path)
        with internet.open() as port:
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
            through = asking.get(f"{address}/x")
            direct = asking.get(f"{address}/x", proxy_type="DIRECT")
            monkeypatch.setenv("NO_PROXY", "example.org,127.0.0.1")
            excepted = asking.get(f"{address}/x")

        assert (through, direct, excepted) == ("127.0.0.1 /x None", "hello", "hello")
        assert len(internet.asked) == 1

    def test_given_a_proxy_that_is_denied_then_a_flow_cannot_take_it(self, tmp_path: Path, internet: Internet) -> None:
        with internet.open() as port:
            told = Asking(tmp_path, "loopback").refusal(
                "http://api.example/x", proxy_address="127.0.0.1", proxy_port=port
            )

        assert told == "HTTP tasks may not reach 127.0.0.1: the rule 'loopback' denies it."
        assert internet.asked == []

    def test_given_the_administrators_proxy_then_it_is_taken_though_its_address_is_denied(
        self, tmp_path: Path, internet: Internet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with internet.open() as port:
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
            body = Asking(tmp_path, "loopback").get("http://api.example/x")

        assert body == "api.example /x None"

    @pytest.mark.parametrize("whose", ["flow", "environment"])
    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_given_a_denied_address_then_no_proxy_is_asked_for_it(
        self, tmp_path: Path, internet: Internet, monkeypatch: pytest.MonkeyPatch, whose: str, scheme: str
    ) -> None:
        with internet.open() as port:
            options: dict[str, Any] = {}
            if whose == "flow":
                options = {"proxy_address": "127.0.0.1", "proxy_port": port}
            else:
                monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{port}")
            told = Asking(tmp_path, "metadata").refusal(f"{scheme}://2852039166/x", **options)

        assert told == "HTTP tasks may not reach 2852039166 at 169.254.169.254: the rule 'metadata' denies it."
        assert internet.asked == []

    def test_given_a_proxy_that_refuses_then_it_says_so(self, tmp_path: Path, internet: Internet) -> None:
        with (
            internet.open() as port,
            pytest.raises(TaskFailedError, match=r"https://other\.example/x failed: 502 Said"),
        ):
            Asking(tmp_path).get("https://other.example/x", proxy_address="127.0.0.1", proxy_port=port)

    def test_given_a_proxy_that_cannot_be_reached_then_it_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(TaskFailedError, match=r"the proxy 127\.0\.0\.1:1 cannot be reached: .*Connection refused"):
            Asking(tmp_path).get("http://api.example/x", proxy_address="127.0.0.1", proxy_port=1)

    def test_given_socks_without_its_library_then_the_message_names_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(__import__("sys").modules, "socksio", None)

        with pytest.raises(MissingToolError, match=r"pip install 'httpx\[socks\]'"):
            Asking(tmp_path).get("http://api.example/", proxy_type="SOCKS", proxy_address="127.0.0.1", proxy_port=1080)


class TestSettings:
    def test_given_the_settings_then_a_worker_keeps_to_them(self, tmp_path: Path, seen: Seen, address: str) -> None:
        class Guarded(homes.Home):
            @property
            def settings(self) -> Settings:
                rules = {"TERCEL_HTTP_DENY": "metadata, loopback", "TERCEL_HTTP_ALLOW": "localhost"}
                return read_settings(rules, home=self.root)

        with Guarded(tmp_path / "home") as home:
            denied = home.run(flow({"id": "http", "type": REQUEST, "uri": f"{address}/one"}))
            by_name = address.replace("127.0.0.1", "localhost")
            allowed = home.run(flow({"id": "http", "type": REQUEST, "uri": f"{by_name}/two"}))

        assert denied.run_of("http").message.startswith("HTTP tasks may not reach 127.0.0.1: the rule 'loopback'")
        assert allowed.state == "SUCCESS"
        assert seen.paths == ["/two"]
