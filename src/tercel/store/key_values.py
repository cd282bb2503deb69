"""Key-value pairs of namespaces: values with their types, which may expire.

A pair that has expired counts as one that is not there; its row goes when the key is written again.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from tercel.store.database import Conditions, Connection, Database, Reader
from tercel.store.records import KeyValue
from tercel.store.rows import Seals, Unpacker, instant, microseconds, pack_values, without_nul
from tercel.store.waiting import Promise

_COLUMNS = "namespace, key, value, created_us, updated_us, expires_us, description, version"
_INSERT = f"INSERT INTO key_values ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT (namespace, key) DO NOTHING"
_UPSERT = (
    f"INSERT INTO key_values ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT (namespace, key) DO UPDATE SET "
    "value = excluded.value, updated_us = excluded.updated_us, expires_us = excluded.expires_us, "
    "description = excluded.description, version = key_values.version + 1"
)
_DELETE = "DELETE FROM key_values WHERE namespace = ? AND key = ?"
_VALUE = "value"


class StoredKeyValues:
    """Key-value pairs in a database.

    Args:
        seals: keeps texts that hold a secret from being stored readably.
    """

    def __init__(self, database: Database, seals: Seals | None = None) -> None:
        self._database = database
        self._seals = seals
        self._masked = Unpacker(seals)
        self._revealed = Unpacker(seals, reveal=True)

    def set(
        self,
        namespace: str,
        key: str,
        value: object,
        *,
        now: datetime,
        expires_at: datetime | None = None,
        overwrite: bool = True,
        description: str = "",
    ) -> Promise[bool]:
        """Write a pair; False, and nothing is written, where there is one and *overwrite* is not wanted."""
        now_us = microseconds(now)
        expires_us = None if expires_at is None else microseconds(expires_at)
        row = (namespace, key, self._packed(value), now_us, now_us, expires_us, without_nul(description))

        def write(connection: Connection) -> bool:
            _forget_expired(connection, namespace, key, now)
            return connection.execute(_UPSERT if overwrite else _INSERT, row).rowcount == 1

        return self._database.submit(write)

    def _packed(self, value: object) -> bytes:
        return pack_values({_VALUE: value}, self._seals)

    async def find(self, namespace: str, key: str, now: datetime) -> KeyValue | None:
        """A pair, texts that hold a secret revealed; None where there is none."""
        with self._database.reading() as connection:
            row = _find(connection, namespace, key, now)
        return None if row is None else _key_value(row, self._revealed)

    async def keys(self, namespace: str | None, now: datetime, prefix: str = "") -> list[KeyValue]:
        """The pairs whose key begins with *prefix*, by namespace and key; texts that hold a secret masked."""
        conditions = _unexpired(now)
        if namespace is not None:
            conditions.add("namespace = ?", namespace)
        conditions.add("key >= ? AND substr(key, 1, ?) = ?", prefix, len(prefix), prefix)
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM key_values {conditions} ORDER BY namespace, key", conditions.values
            ).fetchall()
        return [_key_value(row, self._masked) for row in rows]

    def delete(self, namespace: str, key: str, now: datetime | None = None) -> Promise[bool]:
        """Remove a pair; False where there was none. Without *now* an expired one counts as there."""

        def write(connection: Connection) -> bool:
            if now is not None:
                _forget_expired(connection, namespace, key, now)
            return connection.execute(_DELETE, (namespace, key)).rowcount == 1

        return self._database.submit(write)

    def change(
        self, namespace: str, key: str, now: datetime, change: Callable[[object | None], object | None]
    ) -> Promise[object | None]:
        """Replace a value by what *change* makes of it, None removing it; nobody else changes it meanwhile.

        *change* is called in the writing thread, perhaps more than once.
        """
        now_us = microseconds(now)

        def write(connection: Connection) -> object | None:
            while True:
                _forget_expired(connection, namespace, key, now)
                row = _find(connection, namespace, key, now)
                before = None if row is None else _key_value(row, self._revealed).value
                after = change(before)
                if row is None:
                    if after is None:
                        return None
                    new = (namespace, key, self._packed(after), now_us, now_us, None, "")
                    done = connection.execute(_INSERT, new)
                elif after is None:
                    done = connection.execute(f"{_DELETE} AND value = ?", (namespace, key, row[2]))
                else:
                    done = connection.execute(
                        "UPDATE key_values SET value = ?, updated_us = ?, version = version + 1 "
                        "WHERE namespace = ? AND key = ? AND value = ?",
                        (self._packed(after), now_us, namespace, key, row[2]),
                    )
                if done.rowcount:  # otherwise another process changed it since it was read
                    return after

        return self._database.submit(write)


def _unexpired(now: datetime) -> Conditions:
    conditions = Conditions()
    conditions.add("(expires_us IS NULL OR expires_us > ?)", microseconds(now))
    return conditions


def _find(connection: Reader, namespace: str, key: str, now: datetime) -> tuple[Any, ...] | None:
    conditions = _unexpired(now)
    conditions.add("namespace = ? AND key = ?", namespace, key)
    return connection.execute(f"SELECT {_COLUMNS} FROM key_values {conditions}", conditions.values).fetchone()


def _forget_expired(connection: Connection, namespace: str, key: str, now: datetime) -> None:
    connection.execute(f"{_DELETE} AND expires_us <= ?", (namespace, key, microseconds(now)))


def _key_value(row: tuple[Any, ...], unpack: Unpacker) -> KeyValue:
    namespace, key, value, created_us, updated_us, expires_us, description, version = row
    return KeyValue(
        namespace=namespace,
        key=key,
        value=unpack(value)[_VALUE],
        created_at=instant(created_us),
        updated_at=instant(updated_us),
        expires_at=None if expires_us is None else instant(expires_us),
        description=description,
        version=version,
    )
