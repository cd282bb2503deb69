"""Where triggers stand, and what those that wait for several things have seen so far.

Each state has a version. Who writes one names the version it makes, and is refused where somebody else was faster: so
a trigger that several processes look at fires once.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from tercel.store import Transaction
from tercel.store.database import Conditions, Connection, Database, add_write
from tercel.store.records import StaleTriggerError, TriggerKey, TriggerState, TriggerWindow, WindowKey
from tercel.store.rows import Seals, Unpacker, instant, microseconds, pack_values

_COLUMNS = (
    "namespace, flow_id, trigger_id, type, revision, next_us, execution_id, disabled, detail, updated_us, version"
)
_INSERT = (
    f"INSERT INTO triggers ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (namespace, flow_id, trigger_id) DO NOTHING"
)
_UPDATE = (
    "UPDATE triggers SET type = ?, revision = ?, next_us = ?, execution_id = ?, disabled = ?, detail = ?, "
    "updated_us = ?, version = ? WHERE namespace = ? AND flow_id = ? AND trigger_id = ? AND version = ?"
)
_KEY = "namespace = ? AND flow_id = ? AND trigger_id = ?"
_WINDOW = "namespace, flow_id, trigger_id, window_id, start_us, end_us, results"
_UPSERT_WINDOW = (
    f"INSERT INTO trigger_windows ({_WINDOW}) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (namespace, flow_id, trigger_id, window_id) DO UPDATE SET start_us = excluded.start_us, "
    "end_us = excluded.end_us, results = excluded.results"
)


class StoredTriggers:
    """Triggers in a database.

    Args:
        seals: keeps texts that hold a secret from being stored readably.
    """

    def __init__(self, database: Database, seals: Seals | None = None) -> None:
        self._database = database
        self._seals = seals
        self._unpack = Unpacker(seals, reveal=True)

    async def all(self, type: str | None = None) -> list[TriggerState]:
        """Every trigger's state, by namespace, flow and id; of one type where given."""
        conditions = Conditions()
        if type is not None:
            conditions.add("type = ?", type)
        return self._states(conditions, "namespace, flow_id, trigger_id")

    async def get(self, namespace: str, flow_id: str, trigger_id: str) -> TriggerState | None:
        """The state of a trigger; None where nothing is known of it."""
        conditions = Conditions()
        conditions.add(_KEY, namespace, flow_id, trigger_id)
        return next(iter(self._states(conditions, "namespace")), None)

    async def due(self, now: datetime) -> list[TriggerState]:
        """Those that are to be looked at by now and are not disabled, longest due first."""
        conditions = Conditions()
        conditions.add("next_us IS NOT NULL AND disabled = 0 AND next_us <= ?", microseconds(now))
        return self._states(conditions, "next_us, namespace, flow_id, trigger_id")

    def _states(self, conditions: Conditions, order: str) -> list[TriggerState]:
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM triggers {conditions} ORDER BY {order}", conditions.values
            ).fetchall()
        return [_state(row, self._unpack) for row in rows]

    def save(self, tx: Transaction, states: Iterable[TriggerState]) -> None:
        """Write states with *tx*, all or none of them.

        The transaction fails with StaleTriggerError where a trigger's stored version is not the one before the version
        to be written, or where one of version 1 is there already.
        """
        rows = [(state.version, _row(state, self._seals)) for state in states]
        new = [row for version, row in rows if version == 1]
        changed = [(*row[3:], *row[:3], version - 1) for version, row in rows if version > 1]

        def write(connection: Connection) -> None:
            for statement, values in ((_INSERT, new), (_UPDATE, changed)):
                if values and connection.executemany(statement, values).rowcount != len(values):
                    raise StaleTriggerError("A trigger was changed by somebody else meanwhile.")

        add_write(tx, write)

    def remove(self, tx: Transaction, keys: Iterable[TriggerKey]) -> None:
        """Forget triggers and their windows; those that are not there are passed over."""
        removed = list(keys)

        def write(connection: Connection) -> None:
            if removed:
                connection.executemany(f"DELETE FROM triggers WHERE {_KEY}", removed)
                connection.executemany(f"DELETE FROM trigger_windows WHERE {_KEY}", removed)

        add_write(tx, write)

    async def windows(self, namespace: str, flow_id: str, trigger_id: str) -> list[TriggerWindow]:
        """The windows of a trigger, the one that begins first, first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {_WINDOW} FROM trigger_windows WHERE {_KEY} ORDER BY start_us, window_id",
                (namespace, flow_id, trigger_id),
            ).fetchall()
        return [_window(row) for row in rows]

    def save_windows(self, tx: Transaction, windows: Iterable[TriggerWindow]) -> None:
        """Write windows, new or changed."""
        rows = [_window_row(window) for window in windows]

        def write(connection: Connection) -> None:
            if rows:
                connection.executemany(_UPSERT_WINDOW, rows)

        add_write(tx, write)

    def remove_windows(self, tx: Transaction, keys: Iterable[WindowKey]) -> None:
        """Forget windows; those that are not there are passed over."""
        removed = list(keys)

        def write(connection: Connection) -> None:
            if removed:
                connection.executemany(f"DELETE FROM trigger_windows WHERE {_KEY} AND window_id = ?", removed)

        add_write(tx, write)


def _row(state: TriggerState, seals: Seals | None) -> tuple[object, ...]:
    return (
        state.namespace,
        state.flow_id,
        state.trigger_id,
        state.type,
        state.revision,
        None if state.next_at is None else microseconds(state.next_at),
        state.execution_id,
        int(state.disabled),
        pack_values(state.detail, seals),
        microseconds(state.updated_at),
        state.version,
    )


def _state(row: tuple[Any, ...], unpack: Unpacker) -> TriggerState:
    namespace, flow_id, trigger_id, type_, revision, next_us, execution_id, disabled, detail, updated_us, version = row
    return TriggerState(
        namespace=namespace,
        flow_id=flow_id,
        trigger_id=trigger_id,
        type=type_,
        revision=revision,
        next_at=None if next_us is None else instant(next_us),
        execution_id=execution_id,
        disabled=bool(disabled),
        detail=unpack(detail),
        updated_at=instant(updated_us),
        version=version,
    )


def _window_row(window: TriggerWindow) -> tuple[object, ...]:
    return (
        *window.key,
        microseconds(window.start),
        microseconds(window.end),
        msgspec.json.encode(window.results).decode(),
    )


def _window(row: tuple[Any, ...]) -> TriggerWindow:
    namespace, flow_id, trigger_id, window_id, start_us, end_us, results = row
    return TriggerWindow(
        namespace=namespace,
        flow_id=flow_id,
        trigger_id=trigger_id,
        window_id=window_id,
        start=instant(start_us),
        end=instant(end_us),
        results=msgspec.json.decode(results, type=dict[str, bool]),
    )
