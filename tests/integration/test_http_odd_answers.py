"""core.http.* and servers that do not do what they should: a clear message, and nothing half-written."""

from __future__ import annotations

import socket
import subprocess
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tercel.settings import Settings, read_settings
from tests import homes
from tests.flows import flow, sh
from tests.homes import Home
from tests.http_servers import Asked, Authority, odd_server, said, tls_server
from tests.servers import Answer, http_server

HTTP = "io.kestra.plugin.core.http"
KINDS = pytest.mark.parametrize("kind", ["Request", "Download"])
MEGABYTE = 1 << 20


def zipped(content: bytes) -> bytes:
    """*content* as gzip, the same at all times."""
    return zlib.compress(content, wbits=31)


def ask(kind: str, uri: str, **properties: Any) -> str:
    return flow({"id": "http", "type": f"{HTTP}.{kind}", "uri": uri, **properties})


def stored(home: Home) -> list[str]:
    """The files of internal storage, whole or not."""
    folder = home.root / "storage"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def failure(home: Home, text: str) -> str:
    """What a run says that fails, after checking that it left nothing."""
    ran = home.run(text)
    assert ran.state == "FAILED", ran.logs
    assert stored(home) == []
    return ran.run_of("http").message


class TestCutAndBroken:
    @KINDS
    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            (b"", "Server disconnected without sending a response."),
            (b"HTTP/1.1 200 O", "Server disconnected without sending a response."),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc",
                "Invalid size, got 3, expected 1000. The connection was cut in the middle.",
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
                "the connection was cut in the middle of the answer.",
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello world\r\n0\r\n\r\n",
                "malformed",
            ),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nhello\r\n0\r\n\r\n", "illegal chunk header"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", "bad Content-Length"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "conflicting Content-Length"),
            (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "illegal status line"),
        ],
    )
    def test_given_an_answer_that_is_none_then_it_says_what_is_wrong(
        self, home: Home, kind: str, answer: bytes, message: str
    ) -> None:
        with said(answer) as address:
            told = failure(home, ask(kind, f"{address}/x?token=abc"))

        assert told.startswith(f"GET {address}/x failed: ")
        assert message in told

    @KINDS
    def test_given_more_than_the_length_says_then_the_rest_is_left(self, home: Home, kind: str) -> None:
        with said(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello world") as address:
            ran = home.run(ask(kind, address))

        assert ran.state == "SUCCESS"
        assert ran.run_of("http").outputs.get("length", 5) == 5

    @KINDS
    def test_given_no_length_then_the_end_of_the_connection_is_the_end(self, home: Home, kind: str) -> None:
        with said(b"HTTP/1.0 200 OK\r\n\r\nhel", b"lo") as address:
            ran = home.run(ask(kind, address))

        assert ran.state == "SUCCESS"
        assert ran.run_of("http").outputs.get("body", "hello") == "hello"


class TestSlow:
    @KINDS
    def test_given_bytes_that_come_one_by_one_then_the_idle_timeout_is_not_for_the_whole(
        self, home: Home, kind: str
    ) -> None:
        gone = threading.Event()

        def drip(connection: socket.socket, asked: Asked) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n")
            for _ in range(15):
                gone.wait(0.1)
                connection.sendall(b"x")

        with odd_server(drip) as address:
            ran = home.run(ask(kind, address, options={"timeout": {"readIdleTimeout": "PT1S"}}))

        assert ran.state == "SUCCESS", ran.logs

    @KINDS
    @pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\nabc"])
    @pytest.mark.parametrize(
        "options",
        [{"readTimeout": "PT0.3S"}, {"readIdleTimeout": "PT0.3S"}, {"timeout": {"readIdleTimeout": "PT0.3S"}}],
    )
    def test_given_nothing_more_then_the_idle_timeout_ends_it(
        self, home: Home, kind: str, start: bytes, options: dict[str, Any]
    ) -> None:
        ended = threading.Event()

        def stall(connection: socket.socket, asked: Asked) -> None:
            connection.sendall(start)
            ended.wait(30)

        with odd_server(stall) as address:
            try:
                told = failure(home, ask(kind, address, options=options))
            finally:
                ended.set()

        assert told == (f"GET {address} failed: nothing came for 0.3 s. options.timeout.readIdleTimeout allows more.")


class TestRedirects:
    @KINDS
    def test_given_a_loop_then_it_ends(self, home: Home, kind: str) -> None:
        asked: list[str] = []

        def again(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
            asked.append(path)
            return 302, {"Location": f"/{len(asked)}"}, b""

        with http_server(again) as address:
            told = failure(home, ask(kind, f"{address}/0"))

        assert "it is redirected again and again, more than 20 times" in told
        assert len(asked) == 21

    def test_given_no_redirects_wanted_then_the_redirect_is_the_answer(self, home: Home) -> None:
        with http_server(lambda *_: (302, {"Location": "/other"}, b"moved")) as address:
            ran = home.run(ask("Request", address, options={"followRedirects": "{{ 1 > 2 }}"}))

        outputs: Any = ran.run_of("http").outputs
        assert (outputs["code"], outputs["headers"]["location"], outputs["body"]) == (302, ["/other"], "moved")

    @pytest.mark.parametrize("to", ["file:///etc/passwd", "http://[bad/", "gopher://127.0.0.1/"])
    def test_given_another_scheme_or_no_address_then_it_is_not_followed(self, home: Home, to: str) -> None:
        with http_server(lambda *_: (302, {"Location": to}, b"")) as address:
            told = failure(home, ask("Download", address))

        assert " failed: " in told

    def test_given_a_file_as_body_then_it_is_sent_again_where_the_redirect_says_so(self, home: Home) -> None:
        uri = home.put("tests/scenario/executions/x/f.csv", b"a,b\n1,2\n")
        seen: list[tuple[str, dict[str, str], bytes]] = []

        def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
            seen.append((path, headers, body))
            return (307, {"Location": "/two"}, b"") if path == "/one" else (200, {}, b"ok")

        with http_server(answer) as address:
            ran = home.run(ask("Request", f"{address}/one", method="POST", body=uri))

        assert ran.state == "SUCCESS", ran.logs
        assert [(path, body) for path, _, body in seen] == [("/one", b"a,b\n1,2\n"), ("/two", b"a,b\n1,2\n")]
        assert {headers["content-type"] for _, headers, _ in seen} == {"text/csv"}
        assert {headers["content-length"] for _, headers, _ in seen} == {"8"}


class TestEncodings:
    CONTENT = b"a,b\n" + b"1,2\n" * 100_000

    @pytest.mark.parametrize(
        ("encoding", "encoded"),
        [
            ("gzip", zipped(CONTENT)),
            ("GZIP", zipped(CONTENT[:10]) + zipped(CONTENT[10:])),
            ("x-gzip", zipped(CONTENT)),
            ("deflate", zlib.compress(CONTENT)),
            ("identity", CONTENT),
        ],
    )
    def test_given_an_encoding_then_it_is_undone_and_the_length_is_not_compared(
        self, home: Home, encoding: str, encoded: bytes
    ) -> None:
        with http_server(lambda *_: (200, {"Content-Encoding": encoding}, encoded)) as address:
            loaded = home.run(
                flow(
                    {"id": "http", "type": f"{HTTP}.Download", "uri": address},
                    sh("n", "wc -l < {{ outputs.http.uri }}"),
                )
            )
            asked = home.run(ask("Request", address))

        assert loaded.run_of("http").outputs["length"] == len(self.CONTENT)
        assert loaded.output_lines("n") == ["100001"]
        assert asked.run_of("http").outputs["body"] == self.CONTENT.decode()

    @KINDS
    @pytest.mark.parametrize(
        ("encoded", "message"),
        [
            (zipped(b"abc" * 1000)[:-12], "ends in the middle of its gzip content"),
            (b"plain text", "is not gzip, as it says"),
            (zipped(b"abc") + b"garbage", "is not gzip, as it says"),
        ],
    )
    def test_given_what_is_no_gzip_then_nothing_is_stored(
        self, home: Home, kind: str, encoded: bytes, message: str
    ) -> None:
        with http_server(lambda *_: (200, {"Content-Encoding": "gzip"}, encoded)) as address:
            assert message in failure(home, ask(kind, address))

    @KINDS
    def test_given_a_bomb_then_a_limit_stops_it(self, home: Home, kind: str) -> None:
        bomb = zipped(bytes(200 * MEGABYTE))
        with http_server(lambda *_: (200, {"Content-Encoding": "gzip"}, bomb)) as address:
            told = failure(home, ask(kind, address, options={"maxContentLength": 20 * MEGABYTE}))

        assert told.endswith("has more than the 20,971,520 bytes that maxContentLength allows.")


class TestLargeBodies:
    def test_given_more_than_outputs_can_hold_then_it_is_in_a_file(self, home: Home) -> None:
        content = b"x" * (12 * MEGABYTE)
        task = {"id": "http", "type": f"{HTTP}.Request"}
        with http_server(lambda *_: (200, {}, content)) as address:
            ran = home.run(flow({**task, "uri": f"{address}/a/big.txt"}, sh("n", "wc -c < {{ outputs.http.bodyUri }}")))

        outputs: Any = ran.run_of("http").outputs
        assert ran.state == "SUCCESS", ran.logs
        assert "body" not in outputs
        assert outputs["bodyUri"].endswith("/big.txt")
        assert ran.output_lines("n") == [str(len(content))]
        assert "it is in the file that the output bodyUri names" in ran.log_of("http")
        assert [metric.value for metric in ran.metrics if metric.name == "response.length"] == [len(content)]

    @pytest.mark.parametrize("content", [b'"' * (6 * MEGABYTE), b"x" * (10 * MEGABYTE)])
    def test_given_a_body_that_is_too_large_only_as_json_then_it_is_in_a_file_too(
        self, home: Home, content: bytes
    ) -> None:
        with http_server(lambda *_: (200, {}, content)) as address:
            ran = home.run(ask("Request", address))

        assert ran.state == "SUCCESS", ran.logs
        [path] = stored(home)
        assert (home.root / "storage" / path).read_bytes() == content
        assert path.endswith("/body")

    def test_given_a_body_that_just_fits_then_it_is_an_output(self, home: Home) -> None:
        with http_server(lambda *_: (200, {}, b"x" * (10 * MEGABYTE - 1000))) as address:
            ran = home.run(ask("Request", address))

        assert len(str(ran.run_of("http").outputs["body"])) == 10 * MEGABYTE - 1000
        assert stored(home) == []

    def test_given_a_file_in_a_form_then_it_travels_and_no_json_type_does(self, home: Home) -> None:
        uri = home.put("tests/scenario/executions/x/big.bin", b"z" * (3 * MEGABYTE))
        seen: list[tuple[dict[str, str], int]] = []

        def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
            seen.append((headers, body.count(b"z")))
            return 200, {}, b"ok"

        with http_server(answer) as address:
            ran = home.run(
                ask(
                    "Request",
                    address,
                    method="POST",
                    headers={"content-TYPE": "multipart/form-data"},
                    formData={"file": uri, "more": {"a": 1}, "named": {"name": "n.json", "content": {"b": 2}}},
                )
            )

        [(headers, count)] = seen
        assert ran.state == "SUCCESS", ran.logs
        assert headers["content-type"].startswith("multipart/form-data; boundary=")
        assert count >= 3 * MEGABYTE


class TestEmptyAndNoText:
    @pytest.mark.parametrize("status", [200, 204])
    def test_given_nothing_then_the_body_is_empty(self, home: Home, status: int) -> None:
        with http_server(lambda *_: (status, {}, b"")) as address:
            ran = home.run(ask("Request", address))

        assert ran.run_of("http").outputs["body"] == ""

    @pytest.mark.parametrize("content", [b"\xff\xfe\x00", zipped(b"abc")])
    def test_given_no_text_then_download_is_advised(self, home: Home, content: bytes) -> None:
        with http_server(lambda *_: (200, {}, content)) as address:
            assert "is not text. Use io.kestra.plugin.core.http.Download" in failure(home, ask("Request", address))

    @pytest.mark.parametrize(
        ("content_type", "options"),
        [("text/plain; charset=iso-8859-1", {}), ("text/plain", {"defaultCharset": "ISO-8859-1"})],
    )
    def test_given_a_charset_then_the_text_is_read_by_it(
        self, home: Home, content_type: str, options: dict[str, Any]
    ) -> None:
        with http_server(lambda *_: (200, {"Content-Type": content_type}, "é".encode("latin-1"))) as address:
            ran = home.run(ask("Request", address, options=options))

        assert ran.run_of("http").outputs["body"] == "é"

    def test_given_a_charset_that_nobody_knows_then_it_is_no_text(self, home: Home) -> None:
        with http_server(lambda *_: (200, {"Content-Type": "text/plain; charset=klingon"}, b"x")) as address:
            assert "is not text" in failure(home, ask("Request", address, options={"defaultCharset": "klingon"}))

    def test_given_headers_then_they_are_found_as_written_and_in_lower_case(self, home: Home) -> None:
        with said(b"HTTP/1.1 200 OK\r\nX-Told: one\r\nx-told: two\r\nContent-Length: 0\r\n\r\n") as address:
            ran = home.run(ask("Request", address))

        headers: Any = ran.run_of("http").outputs["headers"]
        assert (headers["X-Told"], headers["x-told"], headers["content-length"]) == (["one"], ["one", "two"], ["0"])


class TestNobodyThere:
    @KINDS
    def test_given_nobody_who_listens_then_it_says_so(self, home: Home, kind: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]

        told = failure(home, ask(kind, f"http://127.0.0.1:{port}/x"))

        assert told == f"GET http://127.0.0.1:{port}/x failed: [Errno 111] Connection refused."

    @KINDS
    def test_given_no_such_host_then_it_says_so(self, home: Home, kind: str) -> None:
        told = failure(home, ask(kind, "https://nowhere.invalid/x"))

        assert told == "GET https://nowhere.invalid/x failed: there is no host 'nowhere.invalid'."


class TestTls:
    @KINDS
    def test_given_a_certificate_of_nobody_then_it_is_refused_unless_all_are_trusted(
        self, home: Home, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authority = Authority(tmp_path)
        with tls_server(authority.context_for("127.0.0.1"), (200, {}, b"hello")) as port:
            address = f"https://127.0.0.1:{port}/x"
            told = failure(home, ask(kind, address))
            trusting = [
                home.run(ask(kind, address, **properties))
                for properties in (
                    {"sslOptions": {"insecureTrustAllCertificates": True}},
                    {"options": {"ssl": {"insecureTrustAllCertificates": True}}},
                )
            ]
            monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
            knowing = home.run(ask(kind, address))

        assert told.startswith(f"GET {address} failed: the server's certificate is not trusted: unable to get local")
        assert told.endswith("An issuer of your own is trusted by SSL_CERT_FILE in the worker's environment.")
        assert [ran.state for ran in (*trusting, knowing)] == ["SUCCESS"] * 3

    def test_given_a_certificate_of_another_host_then_it_is_refused(
        self, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authority = Authority(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
        with tls_server(authority.context_for("other.example"), (200, {}, b"hello")) as port:
            told = failure(home, ask("Request", f"https://127.0.0.1:{port}/x"))

        assert "certificate is not valid for '127.0.0.1'" in told


class TestLogins:
    def test_given_a_basic_login_that_is_refused_then_it_says_so_and_the_password_is_nowhere(self, home: Home) -> None:
        def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
            return 401, {"WWW-Authenticate": "Basic"}, f"You sent {headers['authorization']}".encode()

        options = {"auth": {"type": "BASIC", "username": "me", "password": "open-sesame"}}
        with http_server(answer) as address:
            told = failure(home, ask("Request", f"{address}/x", options=options))

        assert told.startswith(f"The server answered 401 Unauthorized to GET {address}/x: You sent Basic bWU6")
        assert "b3Blbi1zZXNhbWU" not in told

    def test_given_digest_then_the_challenge_is_answered_and_a_file_sent_again(self, home: Home) -> None:
        uri = home.put("tests/scenario/executions/x/f.txt", b"content")
        seen: list[tuple[str | None, bytes]] = []

        def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
            login = headers.get("authorization")
            seen.append((login, body))
            if login is None:
                return 401, {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}, b""
            return 200, {}, b"in"

        options = {"auth": {"type": "DIGEST", "username": "me", "password": "open-sesame"}}
        with http_server(answer) as address:
            ran = home.run(ask("Request", address, method="PUT", body=uri, options=options))

        assert ran.run_of("http").outputs["body"] == "in"
        assert [body for _, body in seen] == [b"content"] * 2
        assert str(seen[1][0]).startswith('Digest username="me", realm="r", nonce="n"')

    @pytest.mark.parametrize(
        "properties",
        [
            {"options": {"allowedResponseCodes": [404, 500]}},
            {"options": {"allowedResponseCodes": "{{ [404] }}"}},
            {"options": {"allowFailed": True}},
            {"allowFailed": "{{ 1 < 2 }}"},
        ],
    )
    def test_given_a_status_that_is_allowed_then_it_is_an_answer(self, home: Home, properties: dict[str, Any]) -> None:
        with http_server(lambda *_: (404, {}, b"none")) as address:
            ran = home.run(ask("Request", address, **properties))

        assert (ran.state, ran.run_of("http").outputs["code"]) == ("SUCCESS", 404)


class TestFullDisk:
    @pytest.fixture
    def small(self, tmp_path: Path) -> Iterator[Home]:
        """A home whose internal storage has a few megabytes."""
        disk = tmp_path / "disk"
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting a small disk takes root")

        class Small(homes.Home):
            @property
            def settings(self) -> Settings:
                return read_settings({"TERCEL_STORAGE_DIR": str(disk)}, home=self.root)

        try:
            with Small(tmp_path / "home") as home:
                yield home
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)

    @KINDS
    def test_given_no_room_for_the_answer_then_it_says_so_and_nothing_is_left(self, small: Home, kind: str) -> None:
        disk = Path(small.settings.storage_directory)
        with http_server(lambda *_: (200, {}, b"x" * (12 * MEGABYTE))) as address:
            ran = small.run(ask(kind, f"{address}/big"))

        assert ran.state == "FAILED"
        assert ran.run_of("http").message == "The answer cannot be stored: No space left on device."
        assert [path for path in disk.rglob("*") if path.is_file()] == []
