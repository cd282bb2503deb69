"""The HTTP server of the API: errors, forms, logins and streams over a real connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest

import tercel.api
from tercel.api import Login, Options
from tercel.api.answers import file_answer, json_answer
from tercel.api.application import Api as Application
from tercel.api.call import Call, read_all
from tercel.api.routing import Route
from tercel.api.serving import HttpServer
from tercel.api.streams import Bridge, event_stream
from tercel.errors import UserError
from tests import apis
from tests.apis import Api, events
from tests.homes import Home

ME, SECRET = "me@example.com", "Secret123"


@pytest.fixture
def serve(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Serves routes of a test's own."""
    opened: list[Api] = []

    def begin(*routes: Route, **options: object) -> Api:
        monkeypatch.setattr(apis, "create_app", lambda engine, options: Application(engine, routes, options))
        opened.append(Api(home, **options).__enter__())
        return opened[-1]

    yield begin
    for api in opened:
        api.__exit__(None, None, None)


def test_given_requests_side_by_side_then_each_gets_its_own_answer(home: Home) -> None:
    with Api(home) as api:
        names = [api.save() for _ in range(8)]
        found: dict[str, str] = {}

        def ask(namespace: str) -> None:
            with httpx.Client(base_url=api.server.address, timeout=30) as client:
                for _ in range(5):
                    found[namespace] = client.get(f"/api/v1/flows/{namespace}/hello").json()["namespace"]

        threads = [Thread(target=ask, args=(namespace,)) for namespace, _ in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert found == {namespace: namespace for namespace, _ in names}


def test_given_a_mistake_of_ours_then_the_client_learns_nothing_of_it(
    serve: type[Api], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Call) -> None:
        raise ZeroDivisionError("the inner reason")

    api = serve(Route(method="GET", path="/fail", answer=fail))  # pyright: ignore[reportCallIssue]

    response = api.get("/api/v1/fail")

    assert response.status_code == 500
    assert response.json() == {
        "message": "Internal server error",
        "_links": {"self": [{"href": "/api/v1/fail", "templated": False}]},
    }
    assert "No answer to GET /api/v1/fail could be made." in caplog.text
    assert "ZeroDivisionError: the inner reason" in caplog.text


def test_given_a_form_then_its_parts_come_in_order_and_files_are_streamed(serve: type[Api]) -> None:
    def tell(call: Call) -> object:
        return json_answer([[one.name, one.file_name, read_all(one).decode()] for one in call.form])

    api = serve(
        Route(method="POST", path="/form", answer=tell, takes_form=True),  # pyright: ignore[reportCallIssue]
        most_upload_bytes=20_000,
    )

    parts = [("a", (None, "1")), ("files", ("data", b"x,y")), ("a", (None, "ä"))]
    assert api.post("/api/v1/form", files=parts).json() == [
        ["a", None, "1"],
        ["files", "data", "x,y"],
        ["a", None, "ä"],
    ]
    assert api.post("/api/v1/form").json() == []
    assert api.post("/api/v1/form", files={"a": b"x" * 30_000}).status_code == 413
    broken = api.post("/api/v1/form", content=b"x", headers={"Content-Type": "multipart/form-data"})
    assert broken.status_code == 422


def test_given_a_body_that_is_too_long_then_it_is_refused(serve: type[Api]) -> None:
    api = serve(
        Route(method="POST", path="/body", answer=lambda call: json_answer(len(call.body))),  # pyright: ignore[reportCallIssue]
        most_body_bytes=10,
    )

    assert api.post("/api/v1/body", content=b"0123456789").json() == 10
    assert api.post("/api/v1/body", content=b"0123456789a").status_code == 413


def test_given_a_file_in_pieces_then_it_comes_whole(serve: type[Api]) -> None:
    def send(_: Call) -> object:
        return file_answer(iter([b"one", b"two"]), "ä.txt", length=6)

    api = serve(Route(method="GET", path="/file", answer=send))  # pyright: ignore[reportCallIssue]

    response = api.get("/api/v1/file")

    assert response.content == b"onetwo"
    assert response.headers["content-length"] == "6"
    assert "filename*=UTF-8''%C3%A4.txt" in response.headers["content-disposition"]


class TestStreams:
    def test_given_events_from_a_thread_then_they_come_and_the_server_closes(self, serve: type[Api]) -> None:
        async def tell() -> AsyncIterator[tuple[str, object]]:
            bridge = Bridge[int]()
            Thread(target=lambda: [bridge.put(number) for number in range(3)]).start()
            for _ in range(3):
                yield "progress", {"number": await bridge.next(10)}
            yield "end", {"last": await bridge.next(0.01)}

        async def stream(_: Call) -> object:
            return event_stream(tell())

        api = serve(Route(method="GET", path="/stream", answer=stream))  # pyright: ignore[reportCallIssue]

        response = api.get("/api/v1/stream")

        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-accel-buffering"] == "no"
        found = [(name, json.loads(data)) for name, data in events(response)]
        assert found == [*(("progress", {"number": number}) for number in range(3)), ("end", {"last": None})]

    def test_given_a_client_that_goes_away_then_the_source_is_closed(
        self, serve: type[Api], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tercel.api.streams.SIGN_OF_LIFE_S", 0.01)
        closed = Event()

        async def tell() -> AsyncIterator[tuple[str, object]]:
            try:
                yield "start", {}
                await asyncio.sleep(60)
            finally:
                closed.set()

        async def stream(_: Call) -> object:
            return event_stream(tell())

        api = serve(Route(method="GET", path="/stream", answer=stream))  # pyright: ignore[reportCallIssue]
        with api.client.stream("GET", "/api/v1/stream") as response:
            assert next(response.iter_raw()).startswith(b"id: start")

        assert closed.wait(10)

    def test_given_a_bridge_that_is_full_then_the_oldest_are_dropped(self) -> None:
        async def cross() -> tuple[Sequence[int | None], bool]:
            bridge = Bridge[int](most=2)
            for number in range(3):
                bridge.put(number)
            return [await bridge.next(1), await bridge.next(1), await bridge.next(0.001)], bridge.has_dropped

        assert asyncio.run(cross()) == ([1, 2, None], True)


class TestLogin:
    def test_given_a_login_then_only_open_paths_go_without(self, home: Home) -> None:
        login = Login(username=ME, password=SECRET, tokens=["token-1"])
        with Api(home, login=login) as api:
            refused = api.get("/api/v1/configs")
            assert refused.status_code == 401
            assert refused.content == b""
            assert refused.headers["www-authenticate"] == "Basic realm=Kestra"
            assert api.get("/api/v1/nothing").status_code == 401
            assert api.get("/api/v1/main/executions/webhook/a/b/c").status_code == 404
            assert api.get("/api/v1/configs", auth=(ME, SECRET)).status_code == 200
            assert api.get("/api/v1/configs", headers={"Authorization": "Bearer token-1"}).status_code == 200
            assert api.get("/ping").status_code == 200

    def test_given_a_foreign_page_then_it_changes_nothing(self, home: Home) -> None:
        with Api(home) as api:
            evil = {"Origin": "https://evil.example"}
            assert api.delete("/api/v1/flows/delete/by-query", headers=evil).status_code == 403
            assert api.get("/api/v1/flows/search", headers={"Host": "evil.example"}).status_code == 403

    def test_given_an_allowed_page_then_its_browser_may_ask(self, home: Home) -> None:
        page = {"Origin": "https://tools.example"}
        with Api(home, login=Login(username=ME, password=SECRET), allowed_origins=("https://tools.example",)) as api:
            asked = api.request("OPTIONS", "/api/v1/flows", headers={**page, "Access-Control-Request-Method": "POST"})
            assert asked.status_code == 204
            assert asked.headers["access-control-allow-origin"] == "https://tools.example"
            assert api.get("/api/v1/configs", headers=page).headers["access-control-allow-origin"]


def test_given_a_context_path_then_everything_is_below_it(home: Home) -> None:
    with Api(home, context_path="/kestra") as api:
        assert api.get("/kestra/ping").text == "pong"
        assert api.get("/kestra/api/v1/main/configs").status_code == 200
        assert api.get("/ping").status_code == 404
        assert api.get("/kestrax/ping").status_code == 404


def test_given_a_port_that_is_taken_then_it_is_said(home: Home) -> None:
    with Api(home) as api:
        port = int(api.server.address.rpartition(":")[2])
        app = tercel.api.create_app(home.engine, Options(login=Login()))
        with pytest.raises(UserError, match="Nobody can listen on"):
            HttpServer(app, "127.0.0.1", port)


class TestCommand:
    def test_given_no_login_then_it_listens_only_on_this_machine(self, tmp_path: Path) -> None:
        from tests.command_line import tercel

        refused = tercel("server", "--host", "0.0.0.0", "--port", "0", home=tmp_path / "home")

        assert refused.returncode == 1
        assert "everybody could run programs here" in refused.stderr
