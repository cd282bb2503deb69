"""Executions and task runs as rows; only what changed is written.

An execution belongs to one process, its *owner*, which alone advances it. When that process is dead, another one
adopts what it left open. One that has ended belongs to whoever changes it next: of several that restart it the first
one wins, and the others find another version than they expect.
"""

import sqlite3
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from tercel.errors import InvariantError, NotFoundError
from tercel.model.execution import Attempt, Execution, TaskRun
from tercel.model.state import TERMINAL, StateChange
from tercel.store import Transaction
from tercel.store.records import Changes, ExecutionQuery, StaleExecutionError
from tercel.store.rows import Seals, Unpacker, instant, microseconds, pack, pack_values
from tercel.store.sqlite import Database, SqliteTransaction
from tercel.store.waiting import Promise

_NONE = b"\xc0"


class _ExecutionDetail(msgspec.Struct, array_like=True):
    history: tuple[StateChange, ...]
    outputs: msgspec.Raw
    attempt_number: int
    message: str
    from_scratch: bool = False  # came later: rows written before it have no such item


class _ExecutionStart(msgspec.Struct, array_like=True):
    inputs: msgspec.Raw
    variables: msgspec.Raw
    trigger: msgspec.Raw
    parent_id: str | None
    original_id: str | None


class _RunDetail(msgspec.Struct, array_like=True):
    history: tuple[StateChange, ...]
    attempts: tuple[Attempt, ...]
    message: str


_EXECUTION = "id, namespace, flow_id, revision, version, labels, detail"
_RUN = "execution_id, id, task_id, parent_id, value, iteration, fence, lost, due_us, worker, detail, outputs, plan"
_OPEN = "state NOT IN ({})".format(", ".join(f"'{state}'" for state in sorted(TERMINAL)))

_INSERT = (
    "INSERT INTO executions (id, namespace, flow_id, revision, state, version, owner, created_us, ended_us, labels, "
    "detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_START = "INSERT INTO execution_starts (execution_id, body) VALUES (?, ?)"
_UPDATE = (
    "UPDATE executions SET revision = ?, state = ?, version = ?, owner = ?, ended_us = ?, labels = ?, detail = ? "
    "WHERE id = ? AND version = ?"
)
_UPSERT_RUN = (
    f"INSERT INTO task_runs (state, {_RUN}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (execution_id, id) DO UPDATE SET state = excluded.state, fence = excluded.fence, "
    "lost = excluded.lost, due_us = excluded.due_us, worker = excluded.worker, detail = excluded.detail, "
    "outputs = excluded.outputs, plan = excluded.plan"
)


class SqliteExecutions:
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

    def save(self, tx: Transaction, changes: Changes) -> None:
        """Write *changes* with *tx*, all or none of them.

        The transaction fails with StaleExecutionError where an execution has another version than said.
        """
        if not isinstance(tx, SqliteTransaction):
            raise InvariantError("This transaction is none of this store's.")
        owner, seals = self._owner, self._seals
        created = [_execution_row(execution, owner, seals) for execution in changes.created]
        starts = [(execution.id, _start(execution, seals)) for execution in changes.created]
        changed = [_changed_row(execution, version, owner, seals) for execution, version in changes.changed]
        removed = list(changes.removed)
        runs = [_run_row(run, seals) for run in changes.runs]

        def write(connection: sqlite3.Connection) -> None:
            if created:
                connection.executemany(_INSERT, created)
                connection.executemany(_INSERT_START, starts)
            if changed and connection.executemany(_UPDATE, changed).rowcount != len(changed):
                raise StaleExecutionError("An execution was changed by somebody else meanwhile.")
            if removed:
                connection.executemany("DELETE FROM task_runs WHERE execution_id = ? AND id = ?", removed)
            if runs:
                connection.executemany(_UPSERT_RUN, runs)

        tx.write(write)

    async def find(self, execution_id: str, *, reveal: bool = False) -> Execution | None:
        """The execution, without its task runs; None where there is none."""
        with self._database.reading() as connection:
            row = connection.execute(
                f"SELECT {_EXECUTION}, body FROM executions LEFT JOIN execution_starts ON execution_id = id "
                "WHERE id = ?",
                (execution_id,),
            ).fetchone()
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
        """A page of executions, newest first."""
        terms: list[str] = []
        values: list[object] = []
        if query.namespace is not None:
            terms.append("namespace = ?")
            values.append(query.namespace)
        if query.flow_id is not None:
            terms.append("flow_id = ?")
            values.append(query.flow_id)
        if query.states:
            terms.append(f"state IN ({', '.join('?' * len(query.states))})")
            values.extend(str(state) for state in query.states)
        if query.before is not None:
            terms.append("id < ?")
            values.append(query.before)
        where = f"WHERE {' AND '.join(terms)}" if terms else ""
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {_EXECUTION}, body FROM executions LEFT JOIN execution_starts ON execution_id = id "
                f"{where} ORDER BY id DESC LIMIT ?",
                (*values, query.limit),
            ).fetchall()
        return [_execution(row, self._masked) for row in rows]

    async def open_elsewhere(self) -> dict[str, str]:
        """Executions that have not ended, oldest first, and the process each belongs to; those of this one apart."""
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT id, owner FROM executions WHERE {_OPEN} AND owner <> ? ORDER BY id", (self._owner,)
            ).fetchall()
        return dict(rows)

    def adopt(self, executions: Mapping[str, str]) -> Promise[list[str]]:
        """Take over executions from dead processes, where they still are open and belong to the process said."""
        statement = f"UPDATE executions SET owner = ? WHERE {_OPEN} AND id = ? AND owner = ?"

        def write(connection: sqlite3.Connection) -> list[str]:
            return [
                execution_id
                for execution_id, owner in executions.items()
                if connection.execute(statement, (self._owner, execution_id, owner)).rowcount
            ]

        return self._database.submit(write)


def _execution_row(execution: Execution, owner: str, seals: Seals | None) -> tuple[object, ...]:
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
    )


def _changed_row(execution: Execution, version: int, owner: str, seals: Seals | None) -> tuple[object, ...]:
    return (
        execution.revision,
        str(execution.state),
        execution.version,
        owner,
        _ended_us(execution),
        _labels(execution),
        _execution_detail(execution, seals),
        execution.id,
        version,
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
        )
    )


def _run_row(run: TaskRun, seals: Seals | None) -> tuple[object, ...]:
    return (
        str(run.history[-1].state),
        run.execution_id,
        run.id,
        run.task_id,
        run.parent_id,
        run.value,
        run.iteration,
        run.fence,
        run.lost,
        None if run.due is None else microseconds(run.due),
        run.worker,
        pack(_RunDetail(run.history, run.attempts, run.message)),
        pack_values(run.outputs, seals),
        None if run.plan is None else pack(run.plan),
    )


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
    execution_id, namespace, flow_id, revision, version, labels, detail_blob, start_blob = row
    detail = _decode_execution_detail().decode(detail_blob)
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
        variables=unpack(bytes(start.variables)),
        trigger=None if trigger == _NONE else unpack(trigger),
        parent_id=start.parent_id,
        original_id=start.original_id,
        attempt_number=detail.attempt_number,
        from_scratch=detail.from_scratch,
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
        value=value,
        iteration=iteration,
        history=detail.history,
        attempts=detail.attempts,
        outputs=unpack(outputs),
        fence=fence,
        lost=lost,
        due=None if due_us is None else instant(due_us),
        worker=worker,
        plan=None if plan is None else msgspec.msgpack.decode(plan),
        message=detail.message,
    )
