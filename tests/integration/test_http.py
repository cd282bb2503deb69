"""core.http.* against a real server on loopback."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from tests.flows import flow, sh
from tests.homes import Home
from tests.servers import Answer, http_server, stalling_server

HTTP = "io.kestra.plugin.core.http"


def request(id: str = "http", **properties: Any) -> dict[str, Any]:
    return {"id": id, "type": f"{HTTP}.Request", **properties}


def echo(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
    said = {"method": method, "path": path, "headers": headers, "body": body.decode("latin-1")}
    return 200, {"Content-Type": "application/json"}, json.dumps(said).encode()


class TestRequest:
    def said(self, home: Home, **properties: Any) -> dict[str, Any]:
        answers: list[bytes] = []

        def kept(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
            answer = echo(method, path, headers, body)
            answers.append(answer[2])
            return answer

        with http_server(kept) as address:
            ran = home.run(flow(request(uri=f"{address}/x", **properties)))
        assert ran.state == "SUCCESS", ran.logs
        # By the server, as the answer in the outputs has its secrets masked.
        return json.loads(answers[-1])

    def test_given_a_body_then_it_is_sent_as_json(self, home: Home) -> None:
        said = self.said(home, method="POST", body='{"a": "{{ flow.id }}"}')

        assert said["body"] == '{"a": "scenario"}'
        assert said["headers"]["content-type"] == "application/json"

    def test_given_form_data_then_it_is_urlencoded(self, home: Home) -> None:
        said = self.said(home, method="POST", formData={"a": "1 2", "b": "é"})

        assert said["body"] == "a=1+2&b=%C3%A9"

    def test_given_multipart_then_fields_and_files_travel(self, home: Home) -> None:
        uri = home.put("tests/scenario/executions/x/f.txt", b"content")

        said = self.said(
            home,
            method="POST",
            contentType="multipart/form-data",
            formData={"field": "value", "file": {"name": "n.txt", "content": uri}},
        )

        assert 'name="field"' in said["body"]
        assert 'filename="n.txt"' in said["body"]
        assert "content" in said["body"]

    def test_given_headers_params_and_login_then_they_are_sent(self, home: Home) -> None:
        said = self.said(
            home,
            headers={"X-A": "{{ flow.namespace }}"},
            params={"q": "a b"},
            options={"basicAuthUser": "me", "basicAuthPassword": "secret"},
        )

        assert said["headers"]["x-a"] == "tests"
        assert said["path"] in {"/x?q=a%20b", "/x?q=a+b"}
        assert said["headers"]["authorization"] == "Basic bWU6c2VjcmV0"

    def test_given_a_bearer_token_then_it_is_sent_and_never_logged(self, home: Home) -> None:
        said = self.said(home, options={"auth": {"type": "BEARER", "token": "s3cret-token"}})

        assert said["headers"]["authorization"] == "Bearer s3cret-token"

    def test_given_values_with_a_line_break_at_their_end_or_other_letters_then_they_are_sent(self, home: Home) -> None:
        said = self.said(
            home,
            headers={"X-Key": "open-sesame\n", "X-Name": "Zoë"},
            options={"auth": {"type": "BEARER", "token": "s3cret-token\n"}},
        )

        assert said["headers"]["x-key"] == "open-sesame"
        assert said["headers"]["x-name"].encode("latin-1").decode() == "Zoë"
        assert said["headers"]["authorization"] == "Bearer s3cret-token"

    @pytest.mark.parametrize(
        ("properties", "why"),
        [
            ({"headers": {"X ü": "no"}}, "The header 'X ü' cannot be sent."),
            ({"uri": "http://xn--/"}, "The uri is no address: its host is none"),
            ({"uri": ""}, "The uri is no address. Begin it with http:// or https:// and a host."),
            ({"uri": "me:geheim-ü@host/x"}, "The uri is no address. Begin it with http:// or https:// and a host."),
            ({"uri": "http://[::1]:1/x"}, "GET http://[::1]:1/x failed: "),
            ({"options": {"readTimeout": "PT0S"}}, "readIdleTimeout is not longer than nothing."),
            ({"options": {"timeout": {"connectTimeout": "-PT1S"}}}, "connectTimeout is not longer than nothing."),
            ({"options": {"connectTimeout": "soon"}}, "connectTimeout: 'soon' is not a duration"),
            ({"options": {"proxyAddress": "127.0.0.1", "proxyPort": "x"}}, "proxyPort is 'x', which is not a whole"),
        ],
    )
    def test_given_what_cannot_be_sent_then_it_says_why_and_shows_no_value(
        self, home: Home, properties: dict[str, Any], why: str
    ) -> None:
        ran = home.run(flow(request(**{"uri": "http://127.0.0.1:1/", **properties})))

        assert why in ran.run_of("http").message
        assert "geheim" not in ran.log_of("http")
        assert "Traceback" not in ran.log_of("http")

    def test_given_a_line_break_inside_a_header_then_it_is_not_sent_and_not_shown(self, home: Home) -> None:
        with http_server(echo) as address:
            ran = home.run(flow(request(uri=address, headers={"X-Key": "geheim-ü\nno"})))

        said = "the value of a header has a line break or another character that no header may have."
        assert ran.run_of("http").message == f"GET {address} failed: {said}"
        assert "geheim" not in ran.log_of("http")

    def test_given_a_status_of_404_then_the_task_fails_saying_so(self, home: Home) -> None:
        with http_server(lambda *_: (404, {}, b"not here")) as address:
            failed = home.run(flow(request(uri=f"{address}/gone?token=abc")))
            allowed = home.run(flow(request(uri=f"{address}/gone", allowFailed=True)))

        assert failed.state == "FAILED"
        assert f"The server answered 404 Not Found to GET {address}/gone: not here" in failed.log_of("http")
        assert "abc" not in failed.log_of("http")
        assert allowed.run_of("http").outputs["code"] == 404

    def test_given_no_server_then_the_address_is_named(self, home: Home) -> None:
        ran = home.run(flow(request(uri="http://127.0.0.1:9/x")))

        assert ran.state == "FAILED"
        assert "GET http://127.0.0.1:9/x failed" in ran.log_of("http")

    def test_given_another_scheme_then_it_is_refused(self, home: Home) -> None:
        ran = home.run(flow(request(uri="file:///etc/passwd")))

        assert "'file:///etc/passwd' is not an http or https address." in ran.log_of("http")

    def test_given_bytes_then_download_is_advised(self, home: Home) -> None:
        with http_server(lambda *_: (200, {"Content-Type": "text/plain; charset=utf-8"}, b"\xff\xfe\x00")) as address:
            ran = home.run(flow(request(uri=address)))

        assert "is not text" in ran.log_of("http")
        assert "core.http.Download" in ran.log_of("http")


class TestDownload:
    def run(self, home: Home, answer: Answer, **properties: Any) -> Any:
        task = {"id": "http", "type": "io.kestra.plugin.fs.http.Download", **properties}
        with http_server(lambda *_: answer) as address:
            return home.run(
                flow({**task, "uri": f"{address}/datasets/orders.csv"}, sh("read", "cat {{ outputs.http.uri }}"))
            )

    def test_given_a_file_then_it_is_stored_under_its_name(self, home: Home) -> None:
        ran = self.run(home, (200, {}, b"a,b\n1,2\n"))

        outputs = ran.run_of("http").outputs
        assert (outputs["code"], outputs["length"]) == (200, 8)
        assert str(outputs["uri"]).endswith("/orders.csv")
        assert ran.output_lines("read") == ["a,b", "1,2"]
        assert [metric.value for metric in ran.metrics if metric.name == "response.length"] == [8]

    @pytest.mark.parametrize(
        ("disposition", "name"),
        [
            ('attachment; filename="my data.csv"', "my%20data.csv"),
            ("attachment; filename*=UTF-8''%C3%A9.csv; filename=e.csv", "%C3%A9.csv"),
            ('attachment; filename="../../evil"', "evil"),
        ],
    )
    def test_given_a_suggested_name_then_its_last_part_counts(self, home: Home, disposition: str, name: str) -> None:
        ran = self.run(home, (200, {"Content-Disposition": disposition}, b"x"))

        assert str(ran.run_of("http").outputs["uri"]).rpartition("/")[2] == name

    def test_given_nothing_then_it_fails_unless_allowed(self, home: Home) -> None:
        failed = self.run(home, (200, {}, b""))
        warned = self.run(home, (200, {}, b""), failOnEmptyResponse="{{ 1 > 2 }}")

        assert "No response from server" in failed.log_of("http")
        assert warned.run_of("http").state == "SUCCESS"

    def test_given_a_short_body_then_it_fails(self, home: Home) -> None:
        ran = self.run(home, (200, {"Content-Length": "100"}, b"short"))

        assert ran.state == "FAILED"


class TestWhatHoldsUp:
    @pytest.mark.parametrize("kind", ["Request", "Download"])
    @pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc"])
    def test_given_a_server_that_stalls_then_a_kill_does_not_wait_for_it(
        self, home: Home, kind: str, said: bytes
    ) -> None:
        with stalling_server(said) as (address, has_asked):
            task = {"id": "http", "type": f"{HTTP}.{kind}", "uri": address, "options": {"readTimeout": "PT30S"}}
            began = time.monotonic()
            ran = home.run_and_kill(flow(task), has_asked)

        assert ran.state == "KILLED"
        assert time.monotonic() - began < 10


class TestWhatIsNotTold:
    def test_given_a_login_in_the_address_then_it_is_sent_but_not_kept(self, home: Home) -> None:
        with http_server(echo) as address:
            ran = home.run(flow(request(uri=address.replace("://", "://me:open-sesame@") + "/x?a=b")))

        outputs = ran.run_of("http").outputs
        assert outputs["uri"] == f"{address}/x?a=b"
        assert '"authorization"' in str(outputs["body"])
        assert "open-sesame" not in f"{ran.runs}{ran.logs}"

    @pytest.mark.parametrize("uri", ["http://me:open/sesame@host/x", "http://[bad/x", "http:///x", "http://h:99999/"])
    def test_given_no_address_then_the_message_says_so_and_quotes_no_password(self, home: Home, uri: str) -> None:
        ran = home.run(flow(request(uri=uri)))

        assert ran.state == "FAILED"
        assert re.search("is no address|is not an http or https address", ran.run_of("http").message)
        assert "open" not in ran.run_of("http").message

    @pytest.mark.parametrize(
        "properties",
        [
            {"headers": {"Authorization": "Bearer open-sesame", "Cookie": "a=open-sesame"}},
            {"options": {"basicAuthUser": "me", "basicAuthPassword": "open-sesame"}},
            {"options": {"auth": {"type": "BEARER", "token": "open-sesame"}}},
        ],
    )
    def test_given_a_redirect_to_another_host_then_it_gets_no_login(
        self, home: Home, properties: dict[str, Any]
    ) -> None:
        seen: list[dict[str, str]] = []

        def other(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
            seen.append(headers)
            return 200, {}, b"ok"

        with http_server(other) as two:
            elsewhere = two.replace("127.0.0.1", "localhost")
            with http_server(lambda *_: (302, {"Location": elsewhere}, b"")) as one:
                ran = home.run(flow(request(uri=one, **properties)))

        assert ran.state == "SUCCESS", ran.logs
        assert len(seen) == 1
        assert {"authorization", "cookie"}.isdisjoint(seen[0])


def test_given_a_name_longer_than_files_can_have_then_it_is_cut(home: Home) -> None:
    sent = {"Content-Disposition": f'attachment; filename="{"x" * 300}.csv"'}
    with http_server(lambda *_: (200, sent, b"hi")) as address:
        ran = home.run(flow({"id": "http", "type": f"{HTTP}.Download", "uri": address}))

    assert ran.state == "SUCCESS", ran.logs
    assert str(ran.run_of("http").outputs["uri"]).endswith(f"/{'x' * 196}.csv")
