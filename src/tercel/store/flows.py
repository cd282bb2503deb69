"""Flow revisions: the source of every revision ever saved."""

import sqlite3
from datetime import datetime

from tercel.errors import NotFoundError
from tercel.store.records import FlowRevision
from tercel.store.rows import instant, microseconds
from tercel.store.sqlite import Database
from tercel.store.waiting import Promise

_COLUMNS = "namespace, id, revision, source, created_us, deleted"


class SqliteFlows:
    """Flow revisions in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, namespace: str, flow_id: str, source: str, now: datetime) -> Promise[FlowRevision]:
        """Save *source* as the next revision, or give the current one back where its text is the same.

        Text is the same when it differs in nothing but its line breaks' form and those at its end.
        """

        def write(connection: sqlite3.Connection) -> FlowRevision:
            current = _find(connection, namespace, flow_id, None)
            if current is not None and not current.deleted and _cleaned(current.source) == _cleaned(source):
                return current
            saved = FlowRevision(
                namespace=namespace,
                id=flow_id,
                revision=1 if current is None else current.revision + 1,
                source=source,
                created_at=now,
            )
            connection.execute(
                f"INSERT INTO flows ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, 0)",
                (namespace, flow_id, saved.revision, source, microseconds(now)),
            )
            return saved

        return self._database.submit(write)

    async def find(self, namespace: str, flow_id: str, revision: int | None = None) -> FlowRevision | None:
        """One revision, the latest where *revision* is None; None where there is no such flow or it was deleted."""
        with self._database.reading() as connection:
            found = _find(connection, namespace, flow_id, revision)
        return None if found is None or (found.deleted and revision is None) else found

    async def get(self, namespace: str, flow_id: str, revision: int | None = None) -> FlowRevision:
        """As `find`. Raises NotFoundError."""
        found = await self.find(namespace, flow_id, revision)
        if found is None:
            which = "" if revision is None else f" with revision {revision}"
            raise NotFoundError(f"There is no flow {namespace}.{flow_id}{which}.")
        return found

    async def revisions(self, namespace: str, flow_id: str) -> list[FlowRevision]:
        """Every revision of a flow, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM flows WHERE namespace = ? AND id = ? ORDER BY revision", (namespace, flow_id)
            ).fetchall()
        return [_revision(row) for row in rows]


def _find(connection: sqlite3.Connection, namespace: str, flow_id: str, revision: int | None) -> FlowRevision | None:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM flows WHERE namespace = ? AND id = ? AND (? IS NULL OR revision = ?) "
        "ORDER BY revision DESC LIMIT 1",
        (namespace, flow_id, revision, revision),
    ).fetchone()
    return None if row is None else _revision(row)


def _revision(row: tuple[str, str, int, str, int, int]) -> FlowRevision:
    namespace, flow_id, revision, source, created_us, deleted = row
    return FlowRevision(
        namespace=namespace,
        id=flow_id,
        revision=revision,
        source=source,
        created_at=instant(created_us),
        deleted=bool(deleted),
    )


def _cleaned(source: str) -> str:
    return source.replace("\r\n", "\n").rstrip("\n")
