"""Logs over a real connection: followed while they are written, and read when they are long."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier, Event, Thread
from typing import Any

import httpx
import pytest

from tercel.model.logs import LogEntry
from tercel.model.task import LogLevel
from tercel.store.opening import open_store
from tests.apis import MAIN, Api
from tests.flows import CORE, echo, flow, sh
from tests.homes import Home, until

PAUSE = {"id": "pause", "type": f"{CORE}.flow.Pause"}


@pytest.fixture
def api(home: Home) -> Iterator[Api]:
    with Api(home) as served:
        yield served


def paused(api: Api) -> str:
    """An execution that stays open until it is resumed or killed."""
    execution_id = api.home.start(flow(PAUSE))
    operations = api.engine.operations
    until(lambda: api.engine.call(operations.get_execution(execution_id)).state == "PAUSED")
    return execution_id


def lines(execution_id: str, texts: Sequence[str], **properties: Any) -> list[LogEntry]:
    given: dict[str, Any] = {"level": LogLevel.INFO, "task_id": "pause", "task_run_id": "run", **properties}
    return [LogEntry(execution_id=execution_id, date=datetime.now(UTC), message=text, **given) for text in texts]


def followed(response: httpx.Response) -> Iterator[str]:
    """The messages of a stream of log lines, as they come."""
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))["message"]


class TestFollow:
    def test_given_a_running_script_then_lines_come_at_once_and_the_stream_ends_with_it(
        self, api: Api, tmp_path: Path
    ) -> None:
        go = tmp_path / "go"
        wait = f"echo begin; until [ -e {go} ]; do sleep 0.01; done; seq 1 3000"
        execution_id = api.home.start(flow(sh("script", wait)))

        with api.client.stream("GET", f"{MAIN}/logs/{execution_id}/follow", params={"minLevel": "INFO"}) as response:
            messages = followed(response)
            assert next(messages) == "begin"
            assert api.engine.call(api.engine.operations.get_execution(execution_id)).is_open
            go.touch()
            rest = list(messages)

        assert rest == [f"{number}" for number in range(1, 3001)]

    def test_given_writers_side_by_side_then_every_follower_gets_each_line_once(self, api: Api) -> None:
        execution_id = paused(api)
        write = api.engine._store.logs.write_logs
        begin = Barrier(5)
        found: list[list[str]] = []

        def say(name: str) -> None:
            begin.wait()
            for number in range(0, 2000, 20):
                write(lines(execution_id, [f"{name} {at}" for at in range(number, number + 20)]))

        def follow() -> None:
            with (
                httpx.Client(base_url=api.server.address, timeout=30) as client,
                client.stream("GET", f"{MAIN}/logs/{execution_id}/follow") as response,
            ):
                begin.wait()
                found.append(list(followed(response)))

        writers = [Thread(target=say, args=(name,)) for name in ("a", "b", "c")]
        followers = [Thread(target=follow) for _ in range(2)]
        for thread in writers + followers:
            thread.start()
        for thread in writers:
            thread.join()
        api.engine.call(api.engine.operations.kill(execution_id))
        for thread in followers:
            thread.join()

        expected = {name: [f"{name} {at}" for at in range(2000)] for name in ("a", "b", "c")}
        for messages in found:
            assert {name: [one for one in messages if one.startswith(name)] for name in expected} == expected

    def test_given_an_end_with_lines_still_to_be_written_then_those_written_do_not_wait_for_them(
        self, api: Api
    ) -> None:
        execution_id = paused(api)
        logs = api.engine._store.logs
        logs.write_logs(lines(execution_id, ["written"]))
        logs.flush().wait()
        api.engine.call(api.engine.operations.kill(execution_id))
        until(lambda: not api.engine.call(api.engine.operations.get_execution(execution_id)).is_open)
        is_read = Event()
        was_read: list[bool] = []
        stop = logs.listen(lambda _: was_read.append(is_read.wait(10)))
        logs.write_logs(lines(execution_id, ["to be written"]))

        with api.client.stream("GET", f"{MAIN}/logs/{execution_id}/follow") as response:
            messages = followed(response)
            first = next(messages)
            is_read.set()
            rest = list(messages)

        stop()
        assert (first, rest) == ("written", ["to be written"])
        assert set(was_read) == {True}

    def test_given_another_process_writes_then_its_lines_come_too(self, api: Api) -> None:
        execution_id = paused(api)
        settings = api.home.settings
        other = open_store(settings.database, settings.home, owner="other")
        try:
            with api.client.stream("GET", f"{MAIN}/logs/{execution_id}/follow") as response:
                messages = followed(response)
                other.logs.write_logs(lines(execution_id, ["from elsewhere"]))
                assert next(messages) == "from elsewhere"
                api.engine.call(api.engine.operations.kill(execution_id))
                assert list(messages) == []
        finally:
            other.close()

    def test_given_a_least_level_or_a_task_run_then_other_lines_are_left_out(self, api: Api) -> None:
        execution_id = api.home.run(flow(echo("say", "x"))).execution.id
        write = api.engine._store.logs.write_logs
        write(lines(execution_id, ["loud"], level=LogLevel.ERROR, task_run_id="other", attempt=1))
        write(lines(execution_id, ["calm", "calm"]))

        def messages(**query: str) -> list[str]:
            with api.client.stream("GET", f"{MAIN}/logs/{execution_id}/follow", params=query) as response:
                return list(followed(response))

        assert messages(minLevel="WARN") == ["loud"]
        assert messages(taskRunId="other") == ["loud"]
        assert messages(attempt="1") == ["loud"]
        assert api.get(f"{MAIN}/logs/{execution_id}/follow", params={"minLevel": "x"}).status_code == 422

    def test_given_no_such_execution_or_it_is_deleted_then_the_stream_ends(self, api: Api) -> None:
        assert api.get(f"{MAIN}/logs/none/follow").text == ""
        execution_id = paused(api)
        with api.client.stream("GET", f"{MAIN}/logs/{execution_id}/follow") as response:
            api.engine.call(api.engine.operations.kill(execution_id))
            until(lambda: not api.engine.call(api.engine.operations.get_execution(execution_id)).is_open)
            api.engine.call(api.engine.operations.delete_execution(execution_id))
            assert list(followed(response)) == []

    def test_given_a_client_that_goes_away_then_nothing_is_told_any_more(self, api: Api) -> None:
        execution_id = paused(api)
        readers = api.engine._store.logs._readers  # pyright: ignore[reportAttributeAccessIssue]
        with api.client.stream("GET", f"{MAIN}/logs/{execution_id}/follow"):
            until(lambda: len(readers) == 1)

        until(lambda: not readers)

    def test_given_silence_then_there_are_signs_of_life(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tercel.api.logs.SIGN_OF_LIFE_S", 0.0)
        monkeypatch.setattr("tercel.api.logs._POLL_S", 0.01)
        execution_id = paused(api)

        with api.client.stream("GET", f"{MAIN}/logs/{execution_id}/follow") as response:
            assert next(response.iter_lines()) == ":"


def test_given_lines_of_a_trigger_then_they_are_found_and_removed_by_it(api: Api) -> None:
    execution = api.home.run(flow(echo("say", "x"))).execution
    daily = lines(execution.id, ["it is time"], trigger_id="daily", task_id=None, task_run_id=None)
    api.engine._store.logs.write_logs(daily)

    found = api.get(f"{MAIN}/logs/search", params={"triggerId": "daily"}).json()
    api.delete(f"{MAIN}/logs/{execution.namespace}/{execution.flow_id}", params={"triggerId": "daily"})
    left = api.get(f"{MAIN}/logs/{execution.id}").json()

    assert [(one["message"], one["triggerId"], one["thread"]) for one in found["results"]] == [
        ("it is time", "daily", "executor")
    ]
    assert [one["message"] for one in left] == ["x"]


class TestLongLogs:
    def test_given_many_lines_then_they_come_in_pieces_and_whole(self, api: Api) -> None:
        execution_id = api.home.run(flow(echo("say", "x"))).execution.id
        texts = [f'{number} "ä" {"x" * 100}' for number in range(12_000)]
        api.engine._store.logs.write_logs(lines(execution_id, texts))

        listed = api.get(f"{MAIN}/logs/{execution_id}")
        text = api.get(f"{MAIN}/logs/{execution_id}/download").text
        none = api.get(f"{MAIN}/logs/{execution_id}", params={"minLevel": "ERROR"})
        rare = api.get(f"{MAIN}/logs/{execution_id}", params={"filters[q][EQUALS]": "11999 "})

        assert "content-length" not in listed.headers
        assert [one["message"] for one in listed.json()] == ["x", *texts]
        assert [line.split(" ", 2)[2] for line in text.splitlines()] == ["x", *texts]
        assert none.json() == []
        assert [one["message"] for one in rare.json()] == texts[-1:]
