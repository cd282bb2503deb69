"""mongodb.Load and Bulk: files of rows, read in a stream and written batch by batch.

Batches are ordered: the first row that cannot be written ends the task, and what is said of it is exact.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec

from tercel.item_files import Row, read_rows
from tercel.plugin_api import (
    Dynamic,
    Outputs,
    Problem,
    RunContext,
    RunnableTask,
    TaskFailedError,
    is_on,
    plugin,
    whole_number,
)
from tercel.plugins.mongodb.batches import Tally, check_encodable, insert, send
from tercel.plugins.mongodb.connection import MongoDbConnection, cut, opened
from tercel.plugins.mongodb.documents import check_change, row_document

if TYPE_CHECKING:
    from bson import ObjectId
    from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne
    from pymongo.collection import Collection as Documents

    Document = dict[str, Any]
    Write = InsertOne[Document] | ReplaceOne[Document] | UpdateOne | UpdateMany | DeleteOne | DeleteMany

_CHUNK = 1000
_BATCH_CHARACTERS = 4 << 20
"""A batch is sent once its rows have so many, however few they are: it has to fit into one message."""
_ID_DIGITS = 24


class _FromFile(RunnableTask, frozen=True, kw_only=True):
    connection: MongoDbConnection
    database: Dynamic
    collection: Dynamic
    from_: Dynamic = msgspec.field(name="from")
    chunk: int | Dynamic = _CHUNK

    def problems(self) -> Iterator[Problem]:
        """A batch of nothing."""
        if isinstance(self.chunk, int) and self.chunk < 1:
            yield Problem(f"'chunk' is {self.chunk}: a batch has at least one row.", "Leave it out for 1000.")

    def run(self, context: RunContext) -> Outputs:
        """Send the rows of the file, a batch at a time."""
        chunk = whole_number(context, self.chunk, "chunk", least=1)
        place = {"database": context.render(self.database), "collection": context.render(self.collection)}
        tally = self._tally()
        with context.open_file(context.render(self.from_)) as source, opened(self, context) as documents:
            rows = read_rows(source, context.stop_if_killed, dates=True)
            for batch in _batches(rows, self._reader(context), chunk, tally):
                self._send(documents, batch, tally)
        context.metric("requests.count", tally.requests, tags=place)
        context.metric("records", tally.size, tags=place)
        context.logger.info(f"Successfully sent {tally.requests} requests for {tally.size} records")
        return tally.outputs()

    @abstractmethod
    def _tally(self) -> Tally: ...

    @abstractmethod
    def _reader(self, context: RunContext) -> "Callable[[object], Any]":
        """What makes of a row what is sent; raises ValueError where it cannot."""

    @abstractmethod
    def _send(self, documents: "Documents[Document]", batch: Sequence[Any], tally: Tally) -> None: ...


@plugin("io.kestra.plugin.mongodb.Load")
class Load(_FromFile, frozen=True, kw_only=True):
    """Insert each row of a file as a document.

    The file holds rows as Ion text, JSON or JSON lines, or one list of them; each is a map. Extended JSON in them, such
    as `{"$oid": …}` and `{"$date": …}`, is understood. It is read in a stream, so it may be of any size.

    Attributes:
        connection: where the server is.
        database: its name.
        collection: its name.
        from_: address of the file.
        chunk: how many documents are sent at once.
        id_key: a member of each row, 24 hexadecimal digits, that becomes the document's `_id`.
        remove_id_key: whether the document lacks that member then.

    Outputs:
        size: rows read.
        insertedCount: documents inserted.
        matchedCount: 0, as those of Bulk.
        modifiedCount: 0, as those of Bulk.
        deletedCount: 0, as those of Bulk.

    Example:
        tasks:
          - id: orders
            type: io.kestra.plugin.core.storage.Write
            extension: .jsonl
            content: |
              {"order": 1, "total": 42.5, "at": {"$date": "2030-01-02T10:00:00Z"}}
              {"order": 2, "total": 7, "at": {"$date": "2030-01-02T11:00:00Z"}}
          - id: load
            type: io.kestra.plugin.mongodb.Load
            connection:
              uri: "{{ secret('MONGODB_URI') }}"
            database: shop
            collection: orders
            from: "{{ outputs.orders.uri }}"
    """

    id_key: Dynamic | None = None
    remove_id_key: bool | Dynamic = True

    def _tally(self) -> Tally:
        return Tally()

    def _reader(self, context: RunContext) -> "Callable[[object], Document]":
        if self.id_key is None:
            return row_document
        key, removes = context.render(self.id_key), is_on(context, self.remove_id_key)

        def read(row: object) -> "Document":
            document = row_document(row)
            if key not in document:
                raise ValueError(f"it has no member {key!r}, which `idKey` names")
            document["_id"] = _object_id(document[key], key)
            if removes and key != "_id":
                del document[key]
            return document

        return read

    def _send(self, documents: "Documents[Document]", batch: "Sequence[Document]", tally: Tally) -> None:
        insert(documents, batch, tally)


@plugin("io.kestra.plugin.mongodb.Bulk")
class Bulk(_FromFile, frozen=True, kw_only=True):
    """Do the writes of a file, in order: each row is a map with one operation.

    Operations are `insertOne` (the document, or `document` with it), `replaceOne` (`filter`, `replacement`, `upsert`),
    `updateOne` and `updateMany` (`filter`, `update`, `upsert`, `arrayFilters`), `deleteOne` and `deleteMany`
    (`filter`). The file is as that of Load.

    Attributes:
        connection: where the server is.
        database: its name.
        collection: its name.
        from_: address of the file.
        chunk: how many operations are sent at once.

    Outputs:
        size: rows read.
        insertedCount: documents inserted.
        matchedCount: documents found to be changed.
        modifiedCount: documents changed.
        deletedCount: documents removed.

    Example:
        tasks:
          - id: operations
            type: io.kestra.plugin.core.storage.Write
            extension: .jsonl
            content: |
              {"insertOne": {"order": 3, "total": 12}}
              {"updateOne": {"filter": {"order": 1}, "update": {"$set": {"paid": true}}}}
              {"deleteMany": {"filter": {"total": 0}}}
          - id: bulk
            type: io.kestra.plugin.mongodb.Bulk
            connection:
              uri: "{{ secret('MONGODB_URI') }}"
            database: shop
            collection: orders
            from: "{{ outputs.operations.uri }}"
    """

    def _tally(self) -> Tally:
        return Tally("operations", "done")

    def _reader(self, context: RunContext) -> "Callable[[object], Write]":
        return _operation

    def _send(self, documents: "Documents[Document]", batch: "Sequence[Write]", tally: Tally) -> None:
        def write() -> Mapping[str, Any]:
            result = documents.bulk_write(batch)
            return result.bulk_api_result if result.acknowledged else {}

        send(batch, tally, write)


def _batches(rows: Iterable[Row], read: Callable[[object], Any], chunk: int, tally: Tally) -> Iterator[list[Any]]:
    """Rows in batches of *chunk* at most, counted in the tally before they are given.

    Raises:
        TaskFailedError: a row cannot be read; tells which, and what became of those before.
    """
    batch: list[Any] = []
    characters = 0
    for number, row in enumerate(rows, 1):
        try:
            batch.append(read(row.value))
        except ValueError as error:
            said = tally.said(tally.size)
            raise TaskFailedError(
                f"Row {number:,} cannot be used: {cut(str(error))}. {said}", outputs=tally.outputs()
            ) from error
        characters += len(row.text)
        if len(batch) == chunk or characters > _BATCH_CHARACTERS:
            tally.size += len(batch)
            yield batch
            batch, characters = [], 0
    if batch:
        tally.size += len(batch)
        yield batch


def _object_id(value: object, key: str) -> "ObjectId":
    from bson import ObjectId  # noqa: PLC0415  # heavy, and an extra

    if isinstance(value, ObjectId):
        return value
    text = str(value)
    if not ObjectId.is_valid(text) or len(text) != _ID_DIGITS:
        raise ValueError(f"its {key!r} is {text[:50]!r}, which is no id of 24 hexadecimal digits")
    return ObjectId(text)


# ── operations ───────────────────────────────────────────────────────────────────────────────────────────────────

_MEMBERS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "replaceOne": (frozenset({"filter", "replacement"}), frozenset({"upsert"})),
    "updateOne": (frozenset({"filter", "update"}), frozenset({"upsert", "arrayFilters"})),
    "updateMany": (frozenset({"filter", "update"}), frozenset({"upsert", "arrayFilters"})),
    "deleteOne": (frozenset({"filter"}), frozenset()),
    "deleteMany": (frozenset({"filter"}), frozenset()),
}
"""What an operation has to have, and what it may have besides."""


def _operation(row: object) -> "Write":
    """The operation of a row.

    Raises:
        ValueError: it is none.
    """
    import pymongo  # noqa: PLC0415  # heavy, and an extra

    document = row_document(row)
    check_encodable(document)
    if len(document) != 1:
        raise ValueError(f"it is a map of {len(document)} members, not of one operation")
    [(name, given)] = document.items()
    if name not in {"insertOne", *_MEMBERS}:
        raise ValueError(f"there is no operation {name!r}: there are insertOne, {', '.join(_MEMBERS)}")
    if not isinstance(given, dict):
        raise ValueError(f"what {name} says is no map")  # noqa: TRY004  # of the user's data
    members = cast("dict[str, Any]", given)
    if name == "insertOne":
        inner = members.get("document")
        return pymongo.InsertOne(cast("Document", inner) if isinstance(inner, dict) and len(members) == 1 else members)
    needed, allowed = _MEMBERS[name]
    if missing := needed - members.keys():
        raise ValueError(f"{name} lacks {' and '.join(map(repr, sorted(missing)))}")
    if unknown := members.keys() - needed - allowed:
        raise ValueError(f"{name} knows no {' or '.join(map(repr, sorted(unknown)))}")
    if not isinstance(members["filter"], dict):
        raise ValueError(f"the filter of {name} is no map")  # noqa: TRY004  # of the user's data
    filter_, upsert = cast("Document", members["filter"]), bool(members.get("upsert", False))
    match name:
        case "deleteOne":
            return pymongo.DeleteOne(filter_)
        case "deleteMany":
            return pymongo.DeleteMany(filter_)
        case "replaceOne":
            check_change(members["replacement"], replaces=True)
            return pymongo.ReplaceOne(filter_, members["replacement"], upsert)
        case _:
            check_change(members["update"], replaces=False)
            write = pymongo.UpdateOne if name == "updateOne" else pymongo.UpdateMany
            return write(filter_, members["update"], upsert, array_filters=members.get("arrayFilters"))
