"""The accounts of a day find each start that is missing, or there twice, and each execution that is not whole."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.builders import a_task_run, an_execution
from tests.end_to_end.day_accounts import Day, Heard, Post, Ran, account
from tests.end_to_end.day_flows import DayFlow, flows

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
FLOWS = {flow.id: flow for flow in flows("http://127.0.0.1:9", Path("lines"))}
TICKS = ("tick-three", "after-tick")


def ran(flow_id: str, id: str, trigger_id: str = "", **variables: Any) -> Ran:
    """An execution that has ended well."""
    flow = FLOWS[flow_id]
    trigger = {"id": trigger_id or flow.triggers[0]["id"], "type": "any", "variables": variables}
    runs = [
        a_task_run(task_id, "CREATED", "RUNNING", "SUCCESS", id=f"{id}-{task_id}-{number}", execution_id=id)
        for task_id, count in flow.runs.items()
        for number in range(count)
    ]
    return Ran(an_execution("CREATED", "RUNNING", "SUCCESS", id=id, flow_id=flow_id, trigger=trigger), runs)


def date(seconds: int) -> str:
    return (START + timedelta(seconds=seconds)).isoformat()


def a_day(*flow_ids: str, **properties: Any) -> Day:
    used: list[DayFlow] = [FLOWS[id] for id in flow_ids]
    values: dict[str, Any] = {"posts": [], "taken": {}, "lines": [], "kills": 1, "slots": 4}
    return Day(
        flows=used,
        saved_at={id: (START, START) for id in flow_ids},
        calm_at=START + timedelta(seconds=8),
        **(values | properties),
    )


def ticks(*seconds: int) -> list[Ran]:
    return [ran("tick-three", f"tick-{number}", date=date(second)) for number, second in enumerate(seconds)]


def ends(*numbers: int) -> list[Ran]:
    return [ran("after-tick", f"end-{number}-{n}", executionId=f"tick-{number}") for n, number in enumerate(numbers)]


def test_given_all_starts_once_then_there_is_no_problem_and_they_are_counted() -> None:
    report = account(a_day(*TICKS, ran={"tick-three": ticks(3, 6, 9), "after-tick": ends(0, 1, 2)}))

    assert report.problems == []
    assert report.counts["executions"] == 6
    assert report.counts["started by Schedule"] == report.counts["started by trigger.Flow"] == 3


@pytest.mark.parametrize(
    ("dates", "problem"),
    [
        ((3, 6, 6, 9), "12:00:06+00:00 twice"),
        ((3, 9), "nothing between 2030-01-01 12:00:03+00:00 and 2030-01-01 12:00:09+00:00"),
        ((3, 5, 6, 9), "12:00:05+00:00 is no date"),
        ((15, 18), "the first date is 2030-01-01 12:00:15+00:00"),
        ((3, 6), "the last date is 2030-01-01 12:00:06+00:00"),
        ((), "no date at all"),
    ],
)
def test_given_dates_that_do_not_follow_each_other_then_it_is_told(dates: tuple[int, ...], problem: str) -> None:
    started = ticks(*dates)

    report = account(a_day(*TICKS, ran={"tick-three": started, "after-tick": ends(*range(len(started)))}))

    assert any(problem in one for one in report.problems), report.problems


@pytest.mark.parametrize(
    ("of", "problem"),
    [
        ((0, 1), "nothing was started by tick-2"),
        ((0, 1, 2, 2), "tick-2 has started 2"),
        ((0, 1, 2, 7), "started by tick-7, which is not there"),
    ],
)
def test_given_ends_that_are_not_followed_once_then_it_is_told(of: tuple[int, ...], problem: str) -> None:
    report = account(a_day(*TICKS, ran={"tick-three": ticks(3, 6, 9), "after-tick": ends(*of)}))

    assert report.problems == [f"after-tick, tick-three: {problem}"]


@pytest.mark.parametrize(
    ("heard", "count", "is_problem"),
    [
        (Heard.CUT, 0, False),
        (Heard.CUT, 1, False),
        (Heard.CUT, 2, True),
        (Heard.REFUSED, 0, False),
        (Heard.REFUSED, 1, True),
        (Heard.ANSWERED, 0, True),
        (Heard.ANSWERED, 1, False),
        (Heard.ANSWERED, 2, True),
    ],
)
def test_given_a_post_then_it_starts_what_its_client_was_told(heard: Heard, count: int, is_problem: bool) -> None:
    hook = "hook-plain"
    posts = [Post(hook, 1, 1, heard, "e0" if heard is Heard.ANSWERED else ""), Post(hook, 1, 2, Heard.ANSWERED, "e")]
    started = [ran(hook, f"e{number}", body={"number": 1, "attempt": 1}) for number in range(count)]

    report = account(a_day(hook, posts=posts, ran={hook: [*started, ran(hook, "e", body={"number": 1, "attempt": 2})]}))

    assert bool(report.problems) is is_problem, report.problems
    assert report.counts["posts cut and accepted"] == (count if heard is Heard.CUT else 0)


@pytest.mark.parametrize(
    ("taken", "bodies", "problems"),
    [
        ([1, 2, 2], "12", []),
        ([1, 2], "1", ["event 2 was taken, and has started nothing"]),
        ([1], "12", ["event 2 has started one and was not taken"]),
        ([1, 2], "122", ["event 2 has started 2"]),
        ([1, 3], "13", ["events were passed over: [3] is the last, 2 were taken"]),
    ],
)
def test_given_events_then_each_has_one_execution(taken: list[int], bodies: str, problems: list[str]) -> None:
    started = [ran("poll-last", f"e{number}", body=body) for number, body in enumerate(bodies)]

    report = account(a_day("poll-last", taken={"poll-last": taken}, ran={"poll-last": started}))

    assert report.problems == [f"poll-last, poll: {problem}" for problem in problems]


def test_given_executions_that_are_not_whole_then_it_is_told() -> None:
    bad, open_, missing, fine = ticks(3, 6, 9, 12)
    failed = msgspec.structs.replace(bad.execution, history=an_execution("CREATED", "FAILED").history, message="Why.")
    half = [msgspec.structs.replace(open_.runs[0], history=a_task_run("date", "CREATED").history), open_.runs[1]]
    started = [bad._replace(execution=failed), open_._replace(runs=half), missing._replace(runs=missing.runs[:1]), fine]

    report = account(a_day("tick-three", ran={"tick-three": started}, left=["tick-1"]))

    assert report.problems == [
        "left in work: tick-1",
        "tick-three: tick-0 is FAILED: Why. []",
        "tick-three: date of tick-1 is CREATED: ",
        "tick-three: tick-2 has the task runs {'date': 1}",
    ]


def test_given_executions_of_a_trigger_that_is_not_known_then_it_is_told() -> None:
    stray = ran("tick-three", "stray", "other", date=date(12))

    report = account(a_day("tick-three", ran={"tick-three": [*ticks(3, 6, 9), stray]}))

    assert report.problems == ["1 executions were started by nothing known"]


def test_given_lines_of_scripts_then_none_is_missing_and_only_as_many_are_too_many_as_kills_can_make() -> None:
    started = [ran("tick-script", "e", date=date(4)), ran("tick-script", "f", date=date(8))]
    day = a_day("tick-script", ran={"tick-script": started}, lines=[("e", "e-one-0", "one"), ("f", "f-one-0", "one")])
    again = ("f", "f-one-0", "one")

    assert account(day).problems == []
    assert account(replace(day, lines=[*day.lines, again])).problems == []
    assert account(replace(day, lines=[*day.lines, again, again])).problems == [
        "tick-script: 2 lines more than scripts, after 1 kills"
    ]
    assert account(replace(day, lines=day.lines[:1])).problems == ["tick-script: ('f', 'f-one-0') has left no line"]
    assert account(replace(day, lines=[*day.lines, ("g", "g-one-0", "one")])).problems == [
        "('g', 'g-one-0') has left a line and is not there"
    ]
