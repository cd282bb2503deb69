"""The values that cross the store's protocols, the nouns of the model apart."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

import msgspec

from tercel.errors import TercelError
from tercel.model.execution import Execution, TaskRun
from tercel.model.logs import LogEntry
from tercel.model.search import AllOf
from tercel.model.state import State
from tercel.model.task import LogLevel


class StaleExecutionError(TercelError):
    """Somebody else has changed an execution since it was read; nothing was written."""


class StaleTriggerError(TercelError):
    """Somebody else has changed a trigger's state since it was read; nothing was written."""


class FlowRevision(msgspec.Struct, frozen=True, kw_only=True):
    """One saved revision of a flow.

    Attributes:
        source: the YAML text, as it was given.
        created_at: aware UTC.
        deleted: True for the revision that notes a deletion; numbering goes on after it.
    """

    namespace: str
    id: str
    revision: int
    source: str
    created_at: datetime
    deleted: bool = False


class Changes(msgspec.Struct, kw_only=True):
    """What one transaction writes.

    Attributes:
        created: executions that are new.
        changed: executions with the version each must still have in the database.
        removed: execution id and id of task runs to delete, before *runs* are written.
        runs: task runs, new or changed, in the order in which people should see new ones.
        owners: ids of executions in *created* that belong to another process than this one, each with that process;
            "" is nobody, until some process adopts the execution.
    """

    created: list[Execution] = []
    changed: list[tuple[Execution, int]] = []
    removed: list[tuple[str, str]] = []
    runs: list[TaskRun] = []
    owners: Mapping[str, str] = {}


class ExecutionQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which executions to find; newest first where nothing else is asked for.

    Attributes:
        states: any of them; empty for all.
        before: only executions older than the one with this id; the last id of the page before.
        open_only: only those that have not ended, or whose last tasks still run.
        where: what else has to hold. Fields are `id`, `namespace`, `flow_id`, `revision`, `state`, `created_at`,
            `ended_at`, `trigger_id`, `caller_id` (the execution that started it), `parent_id` (that it repeats),
            `kind`, and the map `labels`; every operation but REGEX.
        order: fields with True for a descending one, the most important first; besides those above `duration`. What
            has not ended comes last by `ended_at` and `duration`.
        skipped: how many to pass over.
    """

    namespace: str | None = None
    flow_id: str | None = None
    states: Collection[State] = ()
    before: str | None = None
    open_only: bool = False
    where: AllOf = AllOf()
    order: tuple[tuple[str, bool], ...] = ()
    skipped: int = 0
    limit: int = 25


class CountQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which executions to count, flow by flow.

    Attributes:
        flows: namespace and id of each flow to count for.
        namespaces: count for every flow of these, too; without *flows* and *namespaces* all flows are counted.
        states: any of them; empty for all.
        start: only executions made at or after it, aware.
        end: only executions made before it, aware.
    """

    flows: Sequence[tuple[str, str]] = ()
    namespaces: Collection[str] = ()
    states: Collection[State] = ()
    start: datetime | None = None
    end: datetime | None = None


class FlowCount(msgspec.Struct, frozen=True):
    """How many executions of a flow there are; zero where the flow was asked for and has none."""

    namespace: str
    flow_id: str
    count: int


class PurgeQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which executions, of those that have ended, are to go.

    Attributes:
        namespace: without *flow_id* those in namespaces below it are meant, too; None for all.
        states: any of them; empty for all.
        started_after: only executions made at or after it, aware.
        started_before: only executions made before it, aware.
        after: only executions newer than the one with this id; the last id of the batch before.
    """

    namespace: str | None = None
    flow_id: str | None = None
    states: Collection[State] = ()
    started_after: datetime | None = None
    started_before: datetime | None = None
    after: str | None = None


class LogPurge(msgspec.Struct, frozen=True, kw_only=True):
    """Which log lines are to go; each condition narrows it further.

    Attributes:
        execution_ids: of these executions; None for all.
        namespace: of executions in it; without *flow_id* also of those in namespaces below it. None for all.
        levels: any of them; empty for all.
        start: only lines at or after it, aware.
        end: only lines before it, aware.
        test: only lines that it says True of; None for all.
    """

    execution_ids: Collection[str] | None = None
    namespace: str | None = None
    flow_id: str | None = None
    levels: Collection[LogLevel] = ()
    start: datetime | None = None
    end: datetime | None = None
    test: Callable[[LogEntry], bool] | None = None


class LogPage(msgspec.Struct, frozen=True):
    """Some log lines, in the order of writing.

    Attributes:
        next: give it to `read` as *after* for the lines that follow.
        is_last: True where nothing followed when the page was read.
    """

    entries: list[LogEntry]
    next: int
    is_last: bool


TriggerKey = tuple[str, str, str]
"""Namespace, flow and id of a trigger."""


class TriggerState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a trigger stands.

    Attributes:
        type: of the trigger, as its flow names it.
        revision: of the flow that it was read from.
        next_at: when it is to be looked at next, aware UTC; None where time alone does nothing.
        execution_id: the execution that it started last and that holds it up; None where none does.
        detail: what its kind keeps besides, such as a backfill; values as in a task's outputs.
        updated_at: aware UTC.
        version: grows by one with every change, from 1.
    """

    namespace: str
    flow_id: str
    trigger_id: str
    type: str
    revision: int
    next_at: datetime | None = None
    execution_id: str | None = None
    disabled: bool = False
    detail: Mapping[str, object] = {}
    updated_at: datetime
    version: int = 1

    @property
    def key(self) -> TriggerKey:
        """What tells it from all others."""
        return self.namespace, self.flow_id, self.trigger_id


WindowKey = tuple[str, str, str, str]
"""Namespace, flow and id of a trigger, and the id of one of its windows."""


class TriggerWindow(msgspec.Struct, frozen=True, kw_only=True):
    """What a trigger that waits for several things has seen within one span of time.

    Attributes:
        window_id: unlike that of the trigger's other windows.
        start: when it begins, aware UTC.
        end: when it is over, aware UTC.
        results: by condition, whether it was met.
    """

    namespace: str
    flow_id: str
    trigger_id: str
    window_id: str
    start: datetime
    end: datetime
    results: Mapping[str, bool] = {}

    @property
    def key(self) -> WindowKey:
        """What tells it from all others."""
        return self.namespace, self.flow_id, self.trigger_id, self.window_id


class KeyValue(msgspec.Struct, frozen=True, kw_only=True):
    """A key-value pair of a namespace.

    Attributes:
        value: with its type: text, number, truth value, instant, date, duration, list, map, …; never None.
        created_at: aware UTC.
        updated_at: aware UTC.
        expires_at: from then on it is as if it were not there, aware UTC; None for never.
        version: grows by one with every change, from 1.
    """

    namespace: str
    key: str
    value: object
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None = None
    description: str = ""
    version: int = 1
