"""Small types to read flows with, and short ways to read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

import msgspec

from tercel.model.catalog import Catalog, plugin
from tercel.model.condition import Condition
from tercel.model.issue import Issue
from tercel.model.source import check_flow
from tercel.model.task import Dynamic, DynamicDuration, Labels, Part, Problem, Task

HEAD = "id: hello\nnamespace: dev\n"
FLOW = HEAD + "tasks:\n"


class Colour(StrEnum):
    """A choice by an enum."""

    RED = "RED"
    GREEN = "GREEN"


class Runner(Part, frozen=True, kw_only=True):
    """A family of its own."""

    family: ClassVar[str] = "task runner"

    type: str


@plugin("io.test.Fast", aliases=["io.test.old.Fast"])
class Fast(Runner, frozen=True, kw_only=True):
    """A member of it."""

    cores: int = 1
    image: str | None = None


class Options(Part, frozen=True, kw_only=True):
    """A part inside a task."""

    size: int
    depth: int = 1
    tags: dict[str, str] = {}


@plugin("io.test.Say", aliases=["io.test.old.Say"])
class Say(Task, frozen=True, kw_only=True):
    """Holds one property of every kind.

    Attributes:
        message: what is said,
            even over two lines.
        loud, soft: how.
    """

    former_names: ClassVar[dict[str, str]] = {"text": "message"}
    deprecated: ClassVar[dict[str, str]] = {"docker": "Use taskRunner."}

    message: list[Dynamic] | Dynamic
    loud: bool = False
    soft: bool | Dynamic = False
    count: int = 0
    share: float = 0.5
    limited: Annotated[int, msgspec.Meta(ge=1, le=10)] = 1
    open: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.5
    mode: Literal["FAST", "SLOW"] = "FAST"
    colour: Colour = Colour.RED
    wait: timedelta | None = None
    lasting: DynamicDuration | None = None
    at: datetime | None = None
    day: date | None = None
    clock: time | None = None
    data: object = None
    env: dict[str, str] = {}
    words: list[str] = []
    few: Annotated[list[str], msgspec.Meta(min_length=1, extra={"code": "say.few"})] | None = None
    short: Annotated[str, msgspec.Meta(min_length=1, max_length=5)] | None = None
    number_or_text: int | str | None = None
    files: dict[str, object] | Dynamic | None = None
    marks: Labels = {}
    options: Options | None = None
    many_options: list[Options] = []
    docker: Options | None = None
    task_runner: Runner | None = None
    timer_or_color: timedelta | Colour | float | None = None


@plugin("io.test.Group")
class Group(Task, frozen=True, kw_only=True):
    """Holds tasks."""

    deprecated: ClassVar[dict[str, str]] = {"type": "Use something newer."}

    tasks: list[Task] = []
    errors: list[Task] = []
    cases: dict[str, list[Task]] = {}

    def children(self) -> Sequence[Task]:
        return (*self.tasks, *self.errors, *(task for tasks in self.cases.values() for task in tasks))

    def problems(self) -> Iterator[Problem]:
        if not self.tasks:
            yield Problem("There are no tasks.", "Add one.", "group.empty", ("tasks",))
        for index, task in enumerate(self.tasks):
            if not isinstance(task, Say):
                yield Problem(f"{task.id} says nothing.", "", "group.child", ("tasks", index))
        if self.tasks and self.errors:
            yield Problem("Both are given.", "Choose.", "group.both")


@plugin("io.test.Never")
class Never(Condition, frozen=True, kw_only=True):
    """Does not hold."""


NAMES = ("io.test.Fast", "io.test.old.Fast", "io.test.Say", "io.test.old.Say", "io.test.Group", "io.test.Never")
CATALOG = Catalog(dict.fromkeys(NAMES, "tests.unit.model.samples"))


def issues(text: str) -> tuple[Issue, ...]:
    return check_flow(text, CATALOG).issues


def texts(text: str) -> list[str]:
    """Every issue of a flow, as people read it."""
    return [issue.text for issue in issues(text)]


def say(*lines: str) -> str:
    """A flow of one Say task with these lines; `message` is on line 6, the first of them on line 7."""
    return FLOW + "  - id: a\n    type: io.test.Say\n" + "".join(f"    {line}\n" for line in ("message: hi", *lines))


def said(*lines: str) -> Say:
    """The Say task of `say(*lines)`."""
    checked = check_flow(say(*lines), CATALOG)
    assert checked.flow is not None, [issue.text for issue in checked.issues]
    task = checked.flow.tasks[0]
    assert isinstance(task, Say)
    return task


def refused(*lines: str) -> str:
    """The one issue of `say(*lines)`, without the words before the message."""
    (issue,) = issues(say(*lines))
    return issue.text.partition(": ")[2]
