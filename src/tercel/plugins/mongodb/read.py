"""mongodb.Find, Aggregate and Trigger: documents as rows, in the outputs or in a file."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, cast

import msgspec

from tercel.expression.ion import ion_row
from tercel.item_files import stream_of
from tercel.plugin_api import (
    Dynamic,
    Outputs,
    PollContext,
    PollingTrigger,
    RunContext,
    RunnableTask,
    TaskFailedError,
    is_on,
    plugin,
    whole_number,
)
from tercel.plugins.mongodb.connection import MongoDbConnection, opened
from tercel.plugins.mongodb.documents import optional_map, rendered_maps, to_row

_MAX_OUTPUT_BYTES = 10 << 20

Documents = Iterable[Mapping[str, Any]]


@plugin("io.kestra.plugin.mongodb.Find")
class Find(RunnableTask, frozen=True, kw_only=True):
    """Read documents of a collection.

    Ids come as hexadecimal text, dates as instants in UTC. In outputs decimals are numbers where those have the same
    digits, else texts; in files they are as they are.

    Attributes:
        connection: where the server is.
        database: its name.
        collection: its name.
        filter: which documents, a map or one as JSON; all without one.
        projection: which members of them, by name and 1 or 0.
        sort: by which members, in order, each with 1 or -1.
        limit: how many at most; 0 means all.
        skip: how many to leave out first.
        store: put the rows into a file of Ion text, which may be of any size, instead of the outputs.

    Outputs:
        rows: the documents, without `store`.
        uri: the file, with `store`.
        size: how many there are.

    Example:
        tasks:
          - id: find
            type: io.kestra.plugin.mongodb.Find
            connection:
              uri: "{{ secret('MONGODB_URI') }}"
            database: shop
            collection: orders
            filter:
              total: {"$gte": 100}
            projection: {"_id": 0, "customer": 1, "total": 1}
            sort: {"total": -1}
            limit: 10
          - id: show
            type: io.kestra.plugin.core.log.Log
            message: "{{ outputs.find.size }} orders: {{ outputs.find.rows }}"
    """

    connection: MongoDbConnection
    database: Dynamic
    collection: Dynamic
    filter: dict[str, object] | Dynamic | None = None
    projection: dict[str, object] | Dynamic | None = None
    sort: dict[str, object] | Dynamic | None = None
    limit: int | Dynamic = 0
    skip: int | Dynamic = 0
    store: bool | Dynamic = False

    def run(self, context: RunContext) -> Outputs:
        """Read them."""
        wanted = optional_map(self.filter, "filter", context)
        projection = optional_map(self.projection, "projection", context)
        order = optional_map(self.sort, "sort", context)
        limit, skip = whole_number(context, self.limit, "limit"), whole_number(context, self.skip, "skip")
        with opened(self, context) as documents:
            found = documents.find(wanted, projection or None, limit=limit, skip=skip, sort=list(order.items()) or None)
            with found:
                outputs = _stored(found, context) if is_on(context, self.store) else _fetched(found, context)
        return _told(self, outputs, context)


@plugin("io.kestra.plugin.mongodb.Aggregate")
class Aggregate(RunnableTask, frozen=True, kw_only=True):
    """Run an aggregation pipeline on a collection.

    Attributes:
        connection: where the server is.
        database: its name.
        collection: its name.
        pipeline: the stages, a list of maps or one as JSON.
        allow_disk_use: whether the server may use its disk for what does not fit into its memory.
        max_time_ms: after how many milliseconds the server gives up.
        batch_size: how many rows the server sends at once.
        store: FETCH gives all rows as outputs, FETCH_ONE the first one only, STORE puts them into a file of Ion text,
            and NONE is for pipelines that write, with `$merge` or `$out`: no row is asked for.

    Outputs:
        rows: the rows, with FETCH and FETCH_ONE.
        uri: the file, with STORE.
        size: how many rows there are in either.

    Example:
        tasks:
          - id: totals
            type: io.kestra.plugin.mongodb.Aggregate
            connection:
              uri: "{{ secret('MONGODB_URI') }}"
            database: shop
            collection: orders
            pipeline:
              - "$match": {"paid": true}
              - "$group": {"_id": "$customer", "total": {"$sum": "$total"}}
              - "$sort": {"total": -1}
            store: STORE
    """

    connection: MongoDbConnection
    database: Dynamic
    collection: Dynamic
    pipeline: list[dict[str, object]] | Dynamic
    allow_disk_use: bool | Dynamic = True
    max_time_ms: int | Dynamic = 60_000
    batch_size: int | Dynamic = 1000
    store: Literal["FETCH", "FETCH_ONE", "STORE", "NONE"] = "FETCH"

    def run(self, context: RunContext) -> Outputs:
        """Run it."""
        stages = rendered_maps(self.pipeline, "pipeline", context)
        longest_ms = whole_number(context, self.max_time_ms, "maxTimeMs", least=1)
        size = whole_number(context, self.batch_size, "batchSize", least=1)
        with (
            opened(self, context) as documents,
            documents.aggregate(
                stages, allowDiskUse=is_on(context, self.allow_disk_use), maxTimeMS=longest_ms, batchSize=size
            ) as found,
        ):
            match self.store:
                case "FETCH":
                    outputs = _fetched(found, context)
                case "FETCH_ONE":
                    first = next(found, None)
                    outputs = _fetched([] if first is None else [first], context)
                case "STORE":
                    outputs = _stored(found, context)
                case "NONE":
                    outputs = Outputs(size=0)
        return _told(self, outputs, context)


@plugin("io.kestra.plugin.mongodb.Trigger")
class Trigger(PollingTrigger, frozen=True, kw_only=True):
    """Start an execution when a query finds documents.

    The query is asked again after each interval, but not while an execution that it started runs; that has to see to
    it that the query finds other documents next time, for example by changing or removing those that it was given.
    Executions see as `trigger` what Find gives: `rows` or `uri`, and `size`.

    Attributes:
        connection: where the server is.
        database: its name.
        collection: its name.
        filter: which documents, a map or one as JSON; all without one.
        projection: which members of them, by name and 1 or 0.
        sort: by which members, in order, each with 1 or -1.
        limit: how many at most; 0 means all.
        skip: how many to leave out first.
        store: put the rows into a file of Ion text, which may be of any size, instead of `rows`.

    Example:
        tasks:
          - id: ship
            type: io.kestra.plugin.core.log.Log
            message: "{{ trigger.size }} orders to ship: {{ trigger.rows }}"
          - id: mark
            type: io.kestra.plugin.mongodb.Update
            connection:
              uri: "{{ secret('MONGODB_URI') }}"
            database: shop
            collection: orders
            operation: UPDATE_MANY
            filter: {"status": "paid"}
            document: {"$set": {"status": "shipped"}}
        triggers:
          - id: paid
            type: io.kestra.plugin.mongodb.Trigger
            interval: PT1M
            connection:
              uri: "{{ secret('MONGODB_URI') }}"
            database: shop
            collection: orders
            filter: {"status": "paid"}
    """

    connection: MongoDbConnection
    database: Dynamic
    collection: Dynamic
    filter: dict[str, object] | Dynamic | None = None
    projection: dict[str, object] | Dynamic | None = None
    sort: dict[str, object] | Dynamic | None = None
    limit: int | Dynamic = 0
    skip: int | Dynamic = 0
    store: bool | Dynamic = False

    def evaluate(self, context: PollContext) -> Outputs | None:
        """Ask, and give what is found if there is something."""
        found = self._find().run(context)
        return found if found["size"] else None

    def _find(self) -> Find:
        return Find(
            id=self.id,
            type=self.type,
            connection=self.connection,
            database=self.database,
            collection=self.collection,
            filter=self.filter,
            projection=self.projection,
            sort=self.sort,
            limit=self.limit,
            skip=self.skip,
            store=self.store,
        )


def _rows(documents: Documents, *, for_outputs: bool = False) -> Iterator[dict[str, object]]:
    for number, document in enumerate(documents, 1):
        try:
            yield to_row(document, for_outputs=for_outputs)
        except ValueError as error:
            raise TaskFailedError(
                f"Document {number:,} of those found cannot be a row: {error}.", "Leave that out by a projection."
            ) from error


def _fetched(documents: Documents, context: RunContext) -> Outputs:
    """The rows as outputs, of which there may not be too many."""
    limit = cast("int", context.setting("outputs.max-bytes", _MAX_OUTPUT_BYTES))
    rows: list[dict[str, object]] = []
    length = 0
    for row in _rows(documents, for_outputs=True):
        context.stop_if_killed()
        length += len(msgspec.json.encode(row))
        if length > limit:
            raise TaskFailedError(
                f"The rows have more than the {limit:,} bytes that outputs may have.",
                "Put them into a file by 'store', or ask for fewer by 'limit'.",
            )
        rows.append(row)
    return Outputs(rows=rows, size=len(rows))


def _stored(documents: Documents, context: RunContext) -> Outputs:
    """The rows as a file."""
    size = 0

    def lines() -> Iterator[bytes]:
        nonlocal size
        for row in _rows(documents):
            context.stop_if_killed()
            size += 1
            yield f"{ion_row(row)}\n".encode("utf-8", "surrogatepass")

    try:
        uri = context.save_stream(stream_of(lines()), "rows.ion")
    except OSError as error:
        raise TaskFailedError(
            f"The rows cannot be stored: {error.strerror or error}.", "See to it that internal storage has room."
        ) from error
    return Outputs(uri=uri, size=size)


def _told(task: Find | Aggregate, outputs: Outputs, context: RunContext) -> Outputs:
    size = cast("int", outputs["size"])
    place = {"database": context.render(task.database), "collection": context.render(task.collection)}
    context.metric("records", size, tags=place)
    context.logger.debug(f"{size:,} document{'s' * (size != 1)} read")
    return outputs
