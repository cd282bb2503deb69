"""What core.http.Trigger gives to executions where an answer is large, or secret."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tercel.model import Execution
from tercel.store import ExecutionQuery
from tests.desks import Desk
from tests.flows import echo, flow
from tests.homes import Home, Ran, until
from tests.servers import Answer, http_server
from tests.triggers import poll

MEGABYTE = 1 << 20


class Polling:
    """A home with one flow whose trigger asks until an execution has started."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.desk = Desk(home)

    def first(self, say: str, answer: Answer, **properties: Any) -> Ran:
        with http_server(lambda *_: answer) as address:
            trigger = poll(uri=f"{address}/big.txt", interval="PT1H", **properties)
            self.desk.save(flow(echo("say", say), id="owner", namespace="company.team", triggers=[trigger]))
            self.home.engine.schedule()
            until(lambda: bool(self._executions()))
        [execution] = self._executions()
        return self.desk.wait(execution.id)

    def _executions(self) -> list[Execution]:
        engine = self.home.engine
        return list(engine.call(engine.queries.search_executions(ExecutionQuery(limit=10))))


@pytest.fixture
def polling(home: Home) -> Polling:
    return Polling(home)


def seen_by(ran: Ran) -> dict[str, Any]:
    return cast("dict[str, Any]", ran.execution.trigger)["variables"]


def test_given_a_large_answer_then_the_execution_has_it_as_a_file_of_its_own(polling: Polling) -> None:
    content = b"x" * (11 * MEGABYTE)

    ran = polling.first("{{ fileSize(trigger.bodyUri) }}", (200, {}, content))

    assert ran.state == "SUCCESS", ran.logs
    assert "body" not in seen_by(ran)
    assert ran.run_of("say").outputs["value"] == str(len(content))
    assert f"/executions/{ran.execution.id}/trigger/poll/big.txt" in seen_by(ran)["bodyUri"]


def test_given_a_secret_answer_then_the_condition_and_the_execution_see_it_and_nobody_else_does(
    polling: Polling,
) -> None:
    ran = polling.first(
        "{{ trigger.encryptedBody == 'open-' ~ 'sesame-4711' }} {{ trigger.encryptedBody }}",
        (200, {}, b"open-sesame-4711"),
        encryptBody=True,
        responseCondition="{{ response.body == 'open-' ~ 'sesame-4711' }}",
    )
    polling.home.close()

    assert ran.run_of("say").outputs["value"] == "true **masked********"
    assert "body" not in seen_by(ran)
    for path in polling.home.root.rglob("*"):
        assert not path.is_file() or b"open-sesame-4711" not in path.read_bytes(), path
