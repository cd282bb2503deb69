"""Executions and task runs as rows; only what changed is written.

An execution belongs to one process, its *owner*, which alone advances it. When that process is dead, another one
adopts what it left open. One that has ended belongs to whoever changes it next: of several that restart it the first
one wins, and the others find another version than they expect.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cache
from typing import Any, cast

import msgspec

from tercel.errors import NotFoundError
from tercel.model.execution import Attempt, Execution, TaskRun
from tercel.model.search import AllOf
from tercel.model.state import TERMINAL, State, StateChange
from tercel.store import Transaction
from tercel.store.database import AMONG, Conditions, Connection, Database, add_write, listed
from tercel.store.flows import LATEST
from tercel.store.records import (
    Changes,
    CountQuery,
    ExecutionQuery,
    FlowCount,
    PurgeQuery,
    StaleExecutionError,
)
from tercel.store.rows import Seals, Unpacker, instant, microseconds, pack, pack_value, pack_values, without_nul
from tercel.store.search import COLUMNS, OPEN, TERMINAL_STATES, KnownLabels, label_rows, order_by, where_term
from tercel.store.waiting import Promise

_NONE = b"\xc0"


class _ExecutionDetail(msgspec.Struct, array_like=True):
    history: tuple[StateChange, ...]
    outputs: msgspec.Raw
    attempt_number: int
    message: str
    from_scratch: bool = False  # came later, as all that follow: rows written before have no such item
    schedule_date: datetime | None = None
    ends_as: State | None = None
    after: tuple[str, ...] = ()
    violated: tuple[str, ...] = ()
    first_created: datetime | None = None
    keeps_failures: bool = False
    has_variables: bool = False


class _ExecutionStart(msgspec.Struct, array_like=True):
    inputs: msgspec.Raw
    variables: msgspec.Raw
    trigger: msgspec.Raw
    parent_id: str | None
    original_id: str | None
    kind: str | None = None  # came later


class _RunDetail(msgspec.Struct, array_like=True):
    history: tuple[StateChange, ...]
    attempts: tuple[Attempt, ...]
    message: str
    value: msgspec.Raw = msgspec.Raw(_NONE)  # came later; in place of the column, where that cannot have the text
    past_attempts: int = 0


_EXECUTION = "id, namespace, flow_id, revision, version, labels, detail, due_us, closing, variables"
_RUN = "execution_id, id, task_id, parent_id, value, iteration, fence, lost, due_us, worker, detail, outputs, plan"
_WITH_START = f"SELECT {_EXECUTION}, body FROM executions LEFT JOIN execution_starts ON execution_id = id"
_ENDED = f"(state IN {TERMINAL_STATES} AND closing = 0)"

_INSERT = (
    "INSERT INTO executions (id, namespace, flow_id, revision, state, version, owner, created_us, ended_us, labels, "
    "detail, due_us, closing, trigger_id, caller_id, parent_id, kind) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_LABEL = "INSERT INTO execution_labels (execution_id, key, value) VALUES (?, ?, ?)"
_DELETE_LABELS = "DELETE FROM execution_labels WHERE execution_id = ?"
_INSERT_START = "INSERT INTO execution_starts (execution_id, body) VALUES (?, ?)"
_UPDATE = (
    "UPDATE executions SET revision = ?, state = ?, version = ?, owner = ?, ended_us = ?, labels = ?, detail = ?, "
    f"due_us = ?, closing = ?, variables = ? WHERE id = ? AND version = ? AND (owner = ? OR {_ENDED})"
)
_UPSERT_RUN = (
    f"INSERT INTO task_runs (state, {_RUN}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (execution_id, id) DO UPDATE SET state = excluded.state, fence = excluded.fence, "
    "lost = excluded.lost, due_us = excluded.due_us, worker = excluded.worker, detail = excluded.detail, "
    "outputs = excluded.outputs, plan = excluded.plan"
)


class StoredExecutions:
    """Executions in a database.

    Args:
        owner: the process that new executions belong to.
        seals: keeps texts that hold a secret from being stored readably.
    """

    def __init__(self, database: Database, owner: str, seals: Seals | None = None) -> None:
        self._database = database
        self._owner = owner
        self._seals = seals
        self._masked = Unpacker(seals)
        self._revealed = Unpacker(seals, reveal=True)
        self._labels = KnownLabels()

    def save(self, tx: Transaction, changes: Changes) -> None:
        """Write *changes* with *tx*, all or none of them; executions among them then belong to this process.

        The transaction fails with StaleExecutionError where an execution has another version than said, or belongs to
        another process while it is open.
        """
        owner, seals = self._owner, self._seals
        owners = changes.owners
        created = [_execution_row(execution, owners.get(execution.id, owner), seals) for execution in changes.created]
        starts = [(execution.id, _start(execution, seals)) for execution in changes.created]
        changed = [_changed_row(execution, version, owner, seals) for execution, version in changes.changed]
        removed = list(changes.removed)
        runs = [_run_row(run, seals) for run in changes.runs]
        beside = {run.execution_id for run in changes.runs}.union(execution_id for execution_id, _ in removed)
        beside.difference_update(execution.id for execution in changes.created)
        beside.difference_update(execution.id for execution, _ in changes.changed)
        relabelled = [
            execution for execution, version in changes.changed if not self._labels.are_written(execution, version)
        ]
        old_labels = [(execution.id,) for execution in relabelled]
        labels = [row for execution in (*changes.created, *relabelled) for row in label_rows(execution)]

        def write(connection: Connection) -> None:
            if created:
                connection.executemany(_INSERT, created)
                connection.executemany(_INSERT_START, starts)
            if changed and connection.executemany(_UPDATE, changed).rowcount != len(changed):
                raise StaleExecutionError("An execution was changed by somebody else meanwhile.")
            if beside and not _own_all(connection, beside, owner):
                raise StaleExecutionError("An execution belongs to another process by now, or was deleted.")
            if removed:
                connection.executemany("DELETE FROM task_runs WHERE execution_id = ? AND id = ?", removed)
            if runs:
                connection.executemany(_UPSERT_RUN, runs)
            if old_labels:
                connection.executemany(_DELETE_LABELS, old_labels)
            if labels:
                connection.executemany(_INSERT_LABEL, labels)

        add_write(tx, write)
        executions = (*changes.created, *(execution for execution, _ in changes.changed))
        if executions:
            tx.after_commit(lambda: self._labels.keep(executions))

    async def find(self, execution_id: str, *, reveal: bool = False) -> Execution | None:
        """The execution, without its task runs; None where there is none."""
        with self._database.reading() as connection:
            row = connection.execute(f"{_WITH_START} WHERE id = ?", (execution_id,)).fetchone()
        return None if row is None else _execution(row, self._revealed if reveal else self._masked)

    async def get(self, execution_id: str, *, reveal: bool = False) -> Execution:
        """As `find`. Raises NotFoundError."""
        found = await self.find(execution_id, reveal=reveal)
        if found is None:
            raise NotFoundError(f"There is no execution {execution_id}.", "`tercel execution list` shows the latest.")
        return found

    async def task_runs(self, execution_id: str, *, reveal: bool = False) -> list[TaskRun]:
        """Its task runs, oldest first; empty where it has none or does not exist."""
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {_RUN} FROM task_runs WHERE execution_id = ? ORDER BY rowid", (execution_id,)
            ).fetchall()
        unpack = self._revealed if reveal else self._masked
        return [_run(row, unpack) for row in rows]

    async def search(self, query: ExecutionQuery) -> list[Execution]:
        """A page of executions, in the order asked for."""
        conditions = _asked(query)
        order = order_by(query.order)
        with self._database.reading() as connection:
            if not (query.order or query.where.parts or query.skipped):
                rows = connection.execute(
                    f"{_WITH_START} {conditions} ORDER BY {order} LIMIT ?", (*conditions.values, query.limit)
                ).fetchall()
                return [_execution(row, self._masked) for row in rows]
            # By ids, which an index gives: sorting whole rows, or passing over them, takes much longer.
            found = connection.execute(
                f"SELECT id FROM executions {conditions} ORDER BY {order} LIMIT ? OFFSET ?",
                (*conditions.values, query.limit, query.skipped),
            ).fetchall()
            rows = connection.execute(
                f"{_WITH_START} WHERE id IN {AMONG}", (listed(one for (one,) in found),)
            ).fetchall()
        by_id = {row[0]: row for row in rows}
        return [_execution(by_id[one], self._masked) for (one,) in found if one in by_id]

    async def total(self, query: ExecutionQuery) -> int:
        """How many executions there are, on all pages."""
        conditions = _asked(query)
        with self._database.reading() as connection:
            [total] = connection.execute(f"SELECT count(*) FROM executions {conditions}", conditions.values).fetchone()
        return total

    async def ids(self, query: ExecutionQuery) -> list[str]:
        """The ids of a page of executions, in the order asked for."""
        conditions = _asked(query)
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT id FROM executions {conditions} ORDER BY {order_by(query.order)} LIMIT ? OFFSET ?",
                (*conditions.values, query.limit, query.skipped),
            ).fetchall()
        return [one for (one,) in rows]

    async def values(self, field: str, query: ExecutionQuery, *, key: str = "") -> list[str]:
        """The different texts that a field of executions has, at most `query.limit` of them, in their order."""
        conditions = _asked(query)
        if field == "labels":
            statement = (
                "SELECT DISTINCT value AS one FROM execution_labels WHERE key = ? "
                f"AND execution_id IN (SELECT id FROM executions {conditions}) ORDER BY one LIMIT ?"
            )
            values = (key, *conditions.values, query.limit)
        else:
            column = COLUMNS[field]
            conditions.add(f"{column} IS NOT NULL")
            statement = f"SELECT DISTINCT {column} AS one FROM executions {conditions} ORDER BY one LIMIT ?"
            values = (*conditions.values, query.limit)
        with self._database.reading() as connection:
            return [str(one) for (one,) in connection.execute(statement, values).fetchall()]

    async def open_elsewhere(self) -> dict[str, str]:
        """Executions that are open, oldest first, and the process each belongs to; those of this one apart."""
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT id, owner FROM executions WHERE {OPEN} AND owner <> ? ORDER BY id", (self._owner,)
            ).fetchall()
        return dict(rows)

    def adopt(self, executions: Mapping[str, str]) -> Promise[list[str]]:
        """Take over executions from dead processes, where they still are open and belong to the process said."""
        statement = f"UPDATE executions SET owner = ? WHERE {OPEN} AND id = ? AND owner = ?"

        def write(connection: Connection) -> list[str]:
            dead = self._database.dead(connection, set(executions.values()))
            return [
                execution_id
                for execution_id, owner in executions.items()
                if owner in dead and connection.execute(statement, (self._owner, execution_id, owner)).rowcount
            ]

        return self._database.submit(write)

    def claim_slot(self, execution_id: str, namespace: str, flow_id: str, limit: int) -> Promise[bool]:
        """Give a saved execution one of its flow's *limit* slots, if one is free; True where it has one now."""

        def write(connection: Connection) -> bool:
            row = connection.execute("SELECT slot FROM executions WHERE id = ?", (execution_id,)).fetchone()
            if row is None or row[0]:
                return row is not None
            if _free_slots(connection, namespace, flow_id, limit) <= 0:
                return False
            connection.execute(_GIVE_SLOT, (execution_id,))
            return True

        return self._database.submit(write)

    def claim_next(self, namespace: str, flow_id: str, limit: int) -> Promise[str | None]:
        """Give the oldest QUEUED execution of this process that has no slot one, if one is free; gives its id."""

        def write(connection: Connection) -> str | None:
            if _free_slots(connection, namespace, flow_id, limit) <= 0:
                return None
            row = connection.execute(
                "SELECT id FROM executions WHERE namespace = ? AND flow_id = ? AND state = 'QUEUED' AND slot = 0 "
                "AND owner = ? ORDER BY id LIMIT 1",
                (namespace, flow_id, self._owner),
            ).fetchone()
            if row is None:
                return None
            connection.execute(_GIVE_SLOT, row)
            return row[0]

        return self._database.submit(write)

    def force_slot(self, execution_id: str) -> Promise[None]:
        """Give an execution a slot beyond any limit."""

        def write(connection: Connection) -> None:
            connection.execute(_GIVE_SLOT, (execution_id,))

        return self._database.submit(write)

    async def count(self, query: CountQuery) -> list[FlowCount]:
        """How many executions flows have: those asked for in the order given, then others by namespace and id."""
        conditions = Conditions()
        _add_states(conditions, query.states)
        _add_creation(conditions, query.start, query.end)
        flows, namespaces = list(dict.fromkeys(query.flows)), listed(query.namespaces)
        if flows or query.namespaces:
            pairs = ", ".join(["(?, ?)"] * len(flows)) or "('', '')"
            values = [part for flow in flows for part in flow]
            term = f"((namespace, flow_id) IN (VALUES {pairs}) OR namespace IN {AMONG})"
            conditions.add(term, *values, namespaces)
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT namespace, flow_id, count(*) FROM executions {conditions} GROUP BY namespace, flow_id",
                conditions.values,
            ).fetchall()
            known = connection.execute(
                f"SELECT namespace, id FROM flows WHERE {LATEST} AND namespace IN {AMONG}", (namespaces,)
            ).fetchall()
        counts = {(namespace, flow_id): count for namespace, flow_id, count in rows}
        others = sorted((counts.keys() | known) - set(flows))
        return [
            FlowCount(namespace, flow_id, counts.get((namespace, flow_id), 0))
            for namespace, flow_id in (*flows, *others)
        ]

    async def find_ended(self, query: PurgeQuery, limit: int) -> list[Execution]:
        """At most *limit* executions that are not open any more, oldest first."""
        conditions = Conditions()
        conditions.add(_ENDED)
        conditions.add_flows(query.namespace, query.flow_id)
        _add_states(conditions, query.states)
        _add_creation(conditions, query.started_after, query.started_before)
        if query.after is not None:
            conditions.add("id > ?", query.after)
        with self._database.reading() as connection:
            rows = connection.execute(
                f"{_WITH_START} {conditions} ORDER BY id LIMIT ?", (*conditions.values, limit)
            ).fetchall()
        return [_execution(row, self._masked) for row in rows]

    def delete(self, execution_ids: Collection[str]) -> Promise[int]:
        """Remove executions and their task runs, those apart that are open; gives how many executions were removed."""
        ids = listed(execution_ids)

        def write(connection: Connection) -> int:
            removed = connection.execute(f"DELETE FROM executions WHERE id IN {AMONG} AND {_ENDED}", (ids,)).rowcount
            rows = connection.execute(f"SELECT id FROM executions WHERE id IN {AMONG}", (ids,)).fetchall()
            gone = listed(set(execution_ids).difference(execution_id for (execution_id,) in rows))
            for table in ("execution_starts", "execution_labels", "task_runs"):
                connection.execute(f"DELETE FROM {table} WHERE execution_id IN {AMONG}", (gone,))
            return removed

        return self._database.submit(write)


_GIVE_SLOT = "UPDATE executions SET slot = 1 WHERE id = ?"


def _own_all(connection: Connection, execution_ids: Collection[str], owner: str) -> bool:
    """True where all these executions are there and belong to *owner*."""
    if len(execution_ids) == 1:  # nearly always, and faster so
        statement = "SELECT 1 FROM executions WHERE id = ? AND owner = ?"
        return connection.execute(statement, (*execution_ids, owner)).fetchone() is not None
    statement = f"SELECT count(*) FROM executions WHERE id IN {AMONG} AND owner = ?"
    return connection.execute(statement, (listed(execution_ids), owner)).fetchone() == (len(execution_ids),)


def _free_slots(connection: Connection, namespace: str, flow_id: str, limit: int) -> int:
    """How many slots of a flow are free; stays true until the transaction ends."""
    connection.execute(
        "INSERT INTO slot_claims (namespace, flow_id, claims) VALUES (?, ?, 1) "
        "ON CONFLICT (namespace, flow_id) DO UPDATE SET claims = slot_claims.claims + 1",
        (namespace, flow_id),
    )
    [taken] = connection.execute(
        f"SELECT count(*) FROM executions WHERE namespace = ? AND flow_id = ? AND slot = 1 AND {OPEN}",
        (namespace, flow_id),
    ).fetchone()
    return limit - taken


def _asked(query: ExecutionQuery) -> Conditions:
    conditions = Conditions()
    if query.namespace is not None:
        conditions.add("namespace = ?", query.namespace)
    if query.flow_id is not None:
        conditions.add("flow_id = ?", query.flow_id)
    _add_states(conditions, query.states)
    if query.before is not None:
        conditions.add("id < ?", query.before)
    if query.open_only:
        conditions.add(OPEN)
    if query.where != AllOf():
        term, values = where_term(query.where)
        conditions.add(term, *values)
    return conditions


def _add_states(conditions: Conditions, states: Collection[State]) -> None:
    if states:
        conditions.add(f"state IN ({', '.join('?' * len(states))})", *(str(state) for state in states))


def _add_creation(conditions: Conditions, start: datetime | None, end: datetime | None) -> None:
    if start is not None:
        conditions.add("created_us >= ?", microseconds(start))
    if end is not None:
        conditions.add("created_us < ?", microseconds(end))


def _execution_row(execution: Execution, owner: str, seals: Seals | None) -> tuple[object, ...]:
    trigger = execution.trigger or {}
    variables = trigger.get("variables")
    caller = cast("Mapping[str, object]", variables).get("executionId") if isinstance(variables, Mapping) else None
    return (
        execution.id,
        execution.namespace,
        execution.flow_id,
        execution.revision,
        str(execution.state),
        execution.version,
        owner,
        microseconds(execution.history[0].date),
        _ended_us(execution),
        _labels(execution),
        _execution_detail(execution, seals),
        None if execution.due is None else microseconds(execution.due),
        int(execution.is_closing),
        _text(trigger.get("id")),
        _text(caller),
        execution.parent_id,
        execution.kind,
    )


def _text(value: object) -> str | None:
    return without_nul(value) if isinstance(value, str) else None


def _changed_row(execution: Execution, version: int, owner: str, seals: Seals | None) -> tuple[object, ...]:
    return (
        execution.revision,
        str(execution.state),
        execution.version,
        owner,
        _ended_us(execution),
        _labels(execution),
        _execution_detail(execution, seals),
        None if execution.due is None else microseconds(execution.due),
        int(execution.is_closing),
        pack_values(execution.variables, seals),
        execution.id,
        version,
        owner,
    )


def _ended_us(execution: Execution) -> int | None:
    last = execution.history[-1]
    return microseconds(last.date) if last.state in TERMINAL else None


def _labels(execution: Execution) -> str:
    return msgspec.json.encode(execution.labels).decode()


def _execution_detail(execution: Execution, seals: Seals | None) -> bytes:
    return pack(
        _ExecutionDetail(
            execution.history,
            msgspec.Raw(pack_values(execution.outputs, seals)),
            execution.attempt_number,
            execution.message,
            execution.from_scratch,
            execution.schedule_date,
            execution.ends_as,
            execution.after,
            execution.violated,
            execution.first_created,
            execution.keeps_failures,
            execution.has_variables,
        )
    )


def _start(execution: Execution, seals: Seals | None) -> bytes:
    return pack(
        _ExecutionStart(
            msgspec.Raw(pack_values(execution.inputs, seals)),
            msgspec.Raw(pack_values(execution.variables, seals)),
            msgspec.Raw(_NONE if execution.trigger is None else pack_values(execution.trigger, seals)),
            execution.parent_id,
            execution.original_id,
            execution.kind,
        )
    )


def _run_row(run: TaskRun, seals: Seals | None) -> tuple[object, ...]:
    column, value = _column_of(run.value, seals)
    return (
        str(run.history[-1].state),
        run.execution_id,
        run.id,
        run.task_id,
        run.parent_id,
        column,
        run.iteration,
        run.fence,
        run.lost,
        None if run.due is None else microseconds(run.due),
        run.worker,
        pack(_RunDetail(run.history, run.attempts, run.message, msgspec.Raw(value), run.past_attempts)),
        pack_values(run.outputs, seals),
        None if run.plan is None else pack_value(run.plan, seals),
    )


def _column_of(value: str | None, seals: Seals | None) -> tuple[str | None, bytes]:
    """A loop's value as its column takes it, masked and without U+0000; and the whole of it, where that is not all."""
    if value is None:
        return None, _NONE
    sealed = None if seals is None else seals.seal(value)
    shown = without_nul(value if seals is None or sealed is None else seals.open(sealed, reveal=False))
    return shown, _NONE if shown == value else pack_value(value, seals)


@cache
def _decode_execution_detail() -> msgspec.msgpack.Decoder[_ExecutionDetail]:
    return msgspec.msgpack.Decoder(_ExecutionDetail)  # made on first use: a run that only writes needs none


@cache
def _decode_start() -> msgspec.msgpack.Decoder[_ExecutionStart]:
    return msgspec.msgpack.Decoder(_ExecutionStart)


@cache
def _decode_run_detail() -> msgspec.msgpack.Decoder[_RunDetail]:
    return msgspec.msgpack.Decoder(_RunDetail)


def _execution(row: tuple[Any, ...], unpack: Unpacker) -> Execution:
    execution_id, namespace, flow_id, revision, version, labels, blob, due_us, closing, variables, start_blob = row
    detail = _decode_execution_detail().decode(blob)
    start = _decode_start().decode(start_blob)
    trigger = bytes(start.trigger)
    return Execution(
        id=execution_id,
        namespace=namespace,
        flow_id=flow_id,
        revision=revision,
        history=detail.history,
        inputs=unpack(bytes(start.inputs)),
        outputs=unpack(bytes(detail.outputs)),
        labels=msgspec.json.decode(labels, type=dict[str, str]),
        variables=unpack(bytes(start.variables) if variables is None else variables),
        trigger=None if trigger == _NONE else unpack(trigger),
        parent_id=start.parent_id,
        original_id=start.original_id,
        kind=start.kind,
        attempt_number=detail.attempt_number,
        from_scratch=detail.from_scratch,
        schedule_date=detail.schedule_date,
        due=None if due_us is None else instant(due_us),
        ends_as=detail.ends_as,
        after=detail.after,
        violated=detail.violated,
        first_created=detail.first_created,
        keeps_failures=detail.keeps_failures,
        has_variables=detail.has_variables,
        is_closing=bool(closing),
        message=detail.message,
        version=version,
    )


def _run(row: tuple[Any, ...], unpack: Unpacker) -> TaskRun:
    execution_id, run_id, task_id, parent_id, value, iteration, fence, lost, due_us, worker, blob, outputs, plan = row
    detail = _decode_run_detail().decode(blob)
    return TaskRun(
        id=run_id,
        execution_id=execution_id,
        task_id=task_id,
        parent_id=parent_id,
        value=value if bytes(detail.value) == _NONE else unpack.value(bytes(detail.value)),
        past_attempts=detail.past_attempts,
        iteration=iteration,
        history=detail.history,
        attempts=detail.attempts,
        outputs=unpack(outputs),
        fence=fence,
        lost=lost,
        due=None if due_us is None else instant(due_us),
        worker=worker,
        plan=None if plan is None else unpack.value(plan),
        message=detail.message,
    )
