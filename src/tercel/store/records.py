"""The values that cross the store's protocols, the nouns of the model apart."""

from collections.abc import Collection
from datetime import datetime

import msgspec

from tercel.errors import TercelError
from tercel.model.execution import Execution, TaskRun
from tercel.model.logs import LogEntry
from tercel.model.state import State


class StaleExecutionError(TercelError):
    """Somebody else has changed an execution since it was read; nothing was written."""


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
    """

    created: list[Execution] = []
    changed: list[tuple[Execution, int]] = []
    removed: list[tuple[str, str]] = []
    runs: list[TaskRun] = []


class ExecutionQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which executions to find; newest first.

    Attributes:
        states: any of them; empty for all.
        before: only executions older than the one with this id; the last id of the page before.
    """

    namespace: str | None = None
    flow_id: str | None = None
    states: Collection[State] = ()
    before: str | None = None
    limit: int = 25


class LogPage(msgspec.Struct, frozen=True):
    """Some log lines, in the order of writing.

    Attributes:
        next: give it to `read` as *after* for the lines that follow.
        is_last: True where nothing followed when the page was read.
    """

    entries: list[LogEntry]
    next: int
    is_last: bool
