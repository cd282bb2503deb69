"""Flow revisions: the source of every revision ever saved."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from msgspec.structs import replace

from tercel.errors import ConflictError, NotFoundError
from tercel.model.flow_text import is_same_text
from tercel.store.database import Conditions, Connection, Database, Reader
from tercel.store.records import FlowRevision
from tercel.store.rows import instant, microseconds
from tercel.store.search import OPEN
from tercel.store.waiting import Promise

_COLUMNS = "namespace, id, revision, source, created_us, deleted"
_INSERT = f"INSERT INTO flows ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (namespace, id, revision) DO NOTHING"
_REMOVE = "DELETE FROM flows WHERE namespace = ? AND id = ? AND revision = ?"
_RUN = f"SELECT 1 FROM executions WHERE {OPEN} AND namespace = ? AND flow_id = ? AND revision = ? LIMIT 1"
LATEST = (
    "flows.deleted = 0 AND flows.revision = (SELECT max(one.revision) FROM flows AS one "
    "WHERE one.namespace = flows.namespace AND one.id = flows.id)"
)
"""A condition: the row of the table `flows` is the latest of a flow that was not deleted."""


class StoredFlows:
    """Flow revisions in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, namespace: str, flow_id: str, source: str, now: datetime) -> Promise[FlowRevision]:
        """Save *source* as the next revision, or give the current one back where its text is the same.

        Text is the same as `is_same_text` has it.
        """
        return self._database.submit(lambda connection: _save(connection, namespace, flow_id, source, now))

    def create(self, namespace: str, flow_id: str, source: str, now: datetime) -> Promise[FlowRevision | None]:
        """Save *source* as a flow that there is not yet; None where there is one of that name, whatever its text."""

        def write(connection: Connection) -> FlowRevision | None:
            current = _find(connection, namespace, flow_id, None)
            while current is None or current.deleted:
                new = _next(current, namespace, flow_id, source, now)
                if _insert(connection, new):
                    return new
                current = _find(connection, namespace, flow_id, None)
            return None

        return self._database.submit(write)

    def change(
        self, sources: Sequence[tuple[str, str, str]], obsolete: Iterable[tuple[str, str]], now: datetime
    ) -> Promise[tuple[list[FlowRevision], list[FlowRevision]]]:
        """Save flows and delete others, all or nothing; what is to be deleted and is not there is passed over."""
        names = sorted(set(obsolete))
        # In one order, so that two that change the same flows do not wait for each other.
        order = sorted(range(len(sources)), key=lambda at: sources[at][:2])

        def write(connection: Connection) -> tuple[list[FlowRevision], list[FlowRevision]]:
            saved = {at: _save(connection, *sources[at], now) for at in order}
            deleted = [_delete(connection, *name, now) for name in names]
            return [saved[at] for at in range(len(sources))], [one for one in deleted if one is not None]

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
            raise _missing(namespace, flow_id, revision)
        return found

    async def revisions(self, namespace: str, flow_id: str) -> list[FlowRevision]:
        """Every revision of a flow, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM flows WHERE namespace = ? AND id = ? ORDER BY revision", (namespace, flow_id)
            ).fetchall()
        return [_revision(row) for row in rows]

    async def latest(self, namespace: str | None = None) -> list[FlowRevision]:
        """The latest revision of every flow that was not deleted, by namespace and id; of one namespace where given."""
        conditions = Conditions()
        conditions.add(LATEST)
        if namespace is not None:
            conditions.add("namespace = ?", namespace)
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM flows {conditions} ORDER BY namespace, id", conditions.values
            ).fetchall()
        return [_revision(row) for row in rows]

    def delete(self, namespace: str, flow_id: str, now: datetime) -> Promise[FlowRevision]:
        """Note that a flow was deleted, as its next revision, with the text that it had last.

        The promise fails with NotFoundError where there is no such flow, or it was deleted before.
        """

        def write(connection: Connection) -> FlowRevision:
            deleted = _delete(connection, namespace, flow_id, now)
            if deleted is None:
                raise _missing(namespace, flow_id)
            return deleted

        return self._database.submit(write)

    def remove_revisions(self, namespace: str, flow_id: str, revisions: Collection[int]) -> Promise[int]:
        """Remove old revisions, and give how many were there.

        The promise fails with ConflictError where one is the latest, or an execution runs it.
        """

        def write(connection: Connection) -> int:
            current = _find(connection, namespace, flow_id, None)
            if current is not None and current.revision in revisions:
                raise ConflictError(f"Revision {current.revision} of the flow {namespace}.{flow_id} is its latest.")
            for revision in sorted(revisions):
                key = namespace, flow_id, revision
                if connection.execute(_RUN, key).fetchone() is not None:
                    raise ConflictError(f"Revision {revision} of the flow {namespace}.{flow_id} is run now.")
            return sum(connection.execute(_REMOVE, (namespace, flow_id, one)).rowcount for one in set(revisions))

        return self._database.submit(write)


def _save(connection: Connection, namespace: str, flow_id: str, source: str, now: datetime) -> FlowRevision:
    while True:
        current = _find(connection, namespace, flow_id, None)
        if current is not None and not current.deleted and is_same_text(current.source, source):
            return current
        saved = _next(current, namespace, flow_id, source, now)
        if _insert(connection, saved):
            return saved


def _next(current: FlowRevision | None, namespace: str, flow_id: str, source: str, now: datetime) -> FlowRevision:
    return FlowRevision(
        namespace=namespace,
        id=flow_id,
        revision=1 if current is None else current.revision + 1,
        source=source,
        created_at=now,
    )


def _delete(connection: Connection, namespace: str, flow_id: str, now: datetime) -> FlowRevision | None:
    """Note that a flow was deleted; None where there is none."""
    while True:
        current = _find(connection, namespace, flow_id, None)
        if current is None or current.deleted:
            return None
        noted = replace(current, revision=current.revision + 1, created_at=now, deleted=True)
        if _insert(connection, noted):
            return noted


def _insert(connection: Connection, flow: FlowRevision) -> bool:
    """Write a revision; False where somebody else has just written one of that number."""
    row = (flow.namespace, flow.id, flow.revision, flow.source, microseconds(flow.created_at), int(flow.deleted))
    return connection.execute(_INSERT, row).rowcount == 1


def _missing(namespace: str, flow_id: str, revision: int | None = None) -> NotFoundError:
    which = "" if revision is None else f" with revision {revision}"
    return NotFoundError(f"There is no flow {namespace}.{flow_id}{which}.")


def _find(connection: Reader, namespace: str, flow_id: str, revision: int | None) -> FlowRevision | None:
    conditions = Conditions()
    conditions.add("namespace = ? AND id = ?", namespace, flow_id)
    if revision is not None:
        conditions.add("revision = ?", revision)
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM flows {conditions} ORDER BY revision DESC LIMIT 1", conditions.values
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
