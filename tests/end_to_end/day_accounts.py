"""What came of a day: every start, each once, and every task run, counted and compared with what was to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Any, NamedTuple

from tercel.model import Execution, State, TaskRun
from tests.end_to_end.day_flows import DayFlow, step_of

_NOTICED = timedelta(seconds=10)
"""How long a busy scheduler may take to notice a flow; its dates count from then on."""


class Heard(StrEnum):
    """What a client knows of a request: it was answered, nobody was there, or the line was cut before an answer."""

    ANSWERED = "answered"
    REFUSED = "refused"
    CUT = "cut"


class Post(NamedTuple):
    """One try to post to a webhook.

    Attributes:
        number: of what is posted; tries that were not answered are followed by others with the same number.
        attempt: which try it is.
        execution_id: as the answer says; empty without one.
    """

    flow_id: str
    number: int
    attempt: int
    heard: Heard
    execution_id: str = ""


class Ran(NamedTuple):
    """An execution with its task runs."""

    execution: Execution
    runs: Sequence[TaskRun]

    @property
    def id(self) -> str:
        """Of the execution."""
        return self.execution.id

    @property
    def trigger_id(self) -> str:
        """Of the trigger, or the task, that started it."""
        return str((self.execution.trigger or {})["id"])

    @property
    def variables(self) -> Mapping[str, Any]:
        """What it sees as `trigger`."""
        variables: Any = (self.execution.trigger or {})["variables"]
        return variables


@dataclass(kw_only=True)
class Day:
    """What was done to a server, and what it has done.

    Attributes:
        saved_at: right before and right after the flow was saved, by flow.
        calm_at: when the last server was started, after which none was killed.
        kills: how often a server was killed.
        posts: all tries to post to webhooks.
        taken: numbers of the events that were said to be taken, by flow, in the order of that.
        ran: the executions, by flow.
        lines: those that scripts have left: execution, task run, task.
        slots: jobs that a server runs at once.
        left: what a server still has in work at the end.
    """

    flows: Sequence[DayFlow]
    saved_at: Mapping[str, tuple[datetime, datetime]]
    calm_at: datetime
    kills: int
    posts: Sequence[Post]
    taken: Mapping[str, Sequence[int]]
    ran: Mapping[str, Sequence[Ran]]
    lines: Sequence[tuple[str, str, str]]
    slots: int
    left: Sequence[str] = ()


@dataclass
class Report:
    """What was counted, and what is not as it is to be."""

    counts: Counter[str] = field(default_factory=Counter[str])
    problems: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        """For people: a line for each count, and for each problem."""
        counted = [f"{name}: {count:,}" for name, count in self.counts.items()]
        return "\n".join([*counted, f"problems: {len(self.problems)}", *self.problems])


def account(day: Day) -> Report:
    """Count every start of a day, and say which is missing or there twice, and what is not whole."""
    report = Report()
    report.counts["flows"] = len(day.flows)
    report.counts["kills"] = day.kills
    report.counts["executions"] = sum(map(len, day.ran.values()))
    report.problems += [f"left in work: {one}" for one in day.left]
    known = {flow.id for flow in day.flows}
    report.problems += [f"executions of an unknown flow {id}" for id in day.ran.keys() - known]
    accounted = 0
    for flow in day.flows:
        ran = day.ran.get(flow.id, ())
        for name, check in _CHECKS.items():
            triggers = [trigger for trigger in flow.triggers if trigger["type"].endswith(name)]
            for trigger in triggers:
                started = [one for one in ran if one.trigger_id == trigger["id"]]
                accounted += len(started)
                report.counts[f"started by {name.strip('.')}"] += len(started)
                report.problems += [
                    f"{flow.id}, {trigger['id']}: {problem}" for problem in check(day, flow, trigger, started)
                ]
        if not flow.triggers:
            accounted += len(ran)
            report.counts["started by Subflow"] += len(ran)
            calls = [one.id for one in day.ran.get("hook-subflow", ())]
            report.problems += [f"{flow.id}: {problem}" for problem in _one_for_each(calls, ran)]
        report.problems += [f"{flow.id}: {problem}" for one in ran for problem in _whole(flow, one)]
    if accounted != report.counts["executions"]:
        report.problems.append(f"{report.counts['executions'] - accounted} executions were started by nothing known")
    heard = Counter(post.heard for post in day.posts)
    for one in Heard:
        report.counts[f"posts {one}"] = heard[one]
    cut = {(post.flow_id, post.number, post.attempt) for post in day.posts if post.heard is Heard.CUT}
    report.counts["posts cut and accepted"] = sum(
        _post_of(flow.id, one) in cut for flow in day.flows if flow.gap_s for one in day.ran.get(flow.id, ())
    )
    report.counts["events taken"] = sum(len(set(taken)) for taken in day.taken.values())
    report.counts["events said to be taken once more"] = sum(
        len(taken) - len(set(taken)) for taken in day.taken.values()
    )
    _account_lines(day, report)
    return report


# What started them


def _dates(day: Day, flow: DayFlow, trigger: Mapping[str, Any], ran: Sequence[Ran]) -> Iterator[str]:
    """Each date has one execution, from the first after the flow was saved to one in the calm at least."""
    step = step_of(dict(trigger))
    dates = sorted(datetime.fromisoformat(one.variables["date"]) for one in ran)
    if not dates:
        yield "no date at all"
        return
    for date, later in pairwise(dates):
        if later == date:
            yield f"{date} twice"
        elif later - date > step:
            yield f"nothing between {date} and {later}"
        elif later - date < step:
            yield f"{later} is no date"
    before, after = day.saved_at[flow.id]
    if not before < dates[0] <= after + step + _NOTICED:
        yield f"the first date is {dates[0]}, saved at {before}"
    if dates[-1] < day.calm_at:
        yield f"the last date is {dates[-1]}, the calm began at {day.calm_at}"


def _requests(day: Day, flow: DayFlow, trigger: Mapping[str, Any], ran: Sequence[Ran]) -> Iterator[str]:
    """An answered try has the one execution that it was told of; one that was cut has none or one; all others none."""
    posts = {(post.flow_id, post.number, post.attempt): post for post in day.posts if post.flow_id == flow.id}
    started: dict[tuple[str, int, int], list[str]] = {key: [] for key in posts}
    for one in ran:
        key = _post_of(flow.id, one)
        if key in started:
            started[key].append(one.id)
        else:
            yield f"nobody has posted {key}"
    for key, post in posts.items():
        ids = started[key]
        if post.heard is Heard.ANSWERED and ids != [post.execution_id]:
            yield f"{key} was answered with {post.execution_id}, and has started {ids}"
        elif len(ids) > (0 if post.heard is Heard.REFUSED else 1):
            yield f"{key} was {post.heard}, and has started {ids}"
    numbers = {number for _, number, _ in posts}
    answered = {post.number for post in posts.values() if post.heard is Heard.ANSWERED}
    if not numbers or numbers != answered:
        yield f"never answered: {sorted(numbers - answered)}"


def _events(day: Day, flow: DayFlow, trigger: Mapping[str, Any], ran: Sequence[Ran]) -> Iterator[str]:
    """Each event that was taken has one execution; there is none for one that was not."""
    started = Counter(int(one.variables["body"]) for one in ran)
    taken = set(day.taken.get(flow.id, ()))
    if not taken or taken != set(range(1, max(taken) + 1)):
        yield f"events were passed over: {sorted(taken)[-1:]} is the last, {len(taken)} were taken"
    yield from (f"event {number} was taken, and has started nothing" for number in sorted(taken - started.keys()))
    yield from (f"event {number} has started one and was not taken" for number in sorted(started.keys() - taken))
    yield from (f"event {number} has started {count}" for number, count in started.items() if count > 1)


def _ends(day: Day, flow: DayFlow, trigger: Mapping[str, Any], ran: Sequence[Ran]) -> Iterator[str]:
    """Each end of an execution of the upstream flow has one."""
    yield from _one_for_each([one.id for one in day.ran.get(trigger["id"], ())], ran)


def _one_for_each(upstream: Sequence[str], ran: Sequence[Ran]) -> Iterator[str]:
    started = Counter(one.variables["executionId"] for one in ran)
    if not upstream:
        yield "nothing that could have started it"
    yield from (f"nothing was started by {id}" for id in upstream if id not in started)
    yield from (f"{id} has started {count}" for id, count in started.items() if count > 1)
    yield from (f"started by {id}, which is not there" for id in started.keys() - set(upstream))


def _post_of(flow_id: str, one: Ran) -> tuple[str, int, int]:
    body = one.variables["body"]
    return flow_id, body["number"], body["attempt"]


_CHECKS = {".Schedule": _dates, ".Webhook": _requests, "http.Trigger": _events, "trigger.Flow": _ends}


# What they did


def _whole(flow: DayFlow, ran: Ran) -> Iterator[str]:
    """It has ended well, and so has each of its task runs, of which none is missing or there twice."""
    if ran.execution.state is not State.SUCCESS:
        reasons = [run.message for run in ran.runs if run.message]
        yield f"{ran.id} is {ran.execution.state}: {ran.execution.message} {reasons}"
    for run in ran.runs:
        if run.state is not State.SUCCESS:
            yield f"{run.task_id} of {ran.id} is {run.state}: {run.message}"
    tasks = Counter(run.task_id for run in ran.runs)
    if tasks != flow.runs:
        yield f"{ran.id} has the task runs {dict(tasks)}"


def _account_lines(day: Day, report: Report) -> None:
    """Each script has left its line; more than one only where a server was killed."""
    by_run = Counter((execution_id, run_id) for execution_id, run_id, _ in day.lines)
    report.counts["lines of scripts"] = len(day.lines)
    wanted: set[tuple[str, str]] = set()
    for flow in day.flows:
        runs = {(one.id, run.id) for one in day.ran.get(flow.id, ()) for run in one.runs if run.task_id in flow.scripts}
        wanted |= runs
        again = sum(by_run[run] - 1 for run in runs if by_run[run])
        report.counts["lines of scripts that ran again"] += again
        report.problems += [f"{flow.id}: {run} has left no line" for run in runs if not by_run[run]]
        # What ran, and what had run and was not written yet.
        most = day.kills if flow.is_serial else 2 * day.slots * day.kills
        if again > most:
            report.problems.append(f"{flow.id}: {again} lines more than scripts, after {day.kills} kills")
    report.problems += [f"{run} has left a line and is not there" for run in by_run.keys() - wanted]
