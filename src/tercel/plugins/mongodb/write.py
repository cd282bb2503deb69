"""mongodb.InsertOne, InsertMany, Update and Delete: what properties say, written at once."""

from typing import Literal

from tercel.plugin_api import Dynamic, Outputs, RunContext, RunnableTask, TaskFailedError, is_on, plugin
from tercel.plugins.mongodb.batches import Tally, insert
from tercel.plugins.mongodb.connection import MongoDbConnection, opened
from tercel.plugins.mongodb.documents import check_change, id_value, rendered_change, rendered_map, rendered_maps


@plugin("io.kestra.plugin.mongodb.InsertOne")
class InsertOne(RunnableTask, frozen=True, kw_only=True):
    """Insert one document into a collection.

    Attributes:
        connection: where the server is.
        database: its name.
        collection: its name.
        document: a map, or one as JSON; extended JSON such as `{"$date": …}` is understood.

    Outputs:
        insertedId: the document's `_id`, one that MongoDB makes as hexadecimal text.
        wasAcknowledged: false where the uri says `w=0`.

    Example:
        tasks:
          - id: insert
            type: io.kestra.plugin.mongodb.InsertOne
            connection:
              uri: "{{ secret('MONGODB_URI') }}"
            database: shop
            collection: orders
            document:
              customer: Ada
              total: 42
              at: {"$date": "{{ execution.startDate }}"}
    """

    connection: MongoDbConnection
    database: Dynamic
    collection: Dynamic
    document: dict[str, object] | Dynamic

    def run(self, context: RunContext) -> Outputs:
        """Insert it."""
        document = rendered_map(self.document, "document", context)
        with opened(self, context) as documents:
            result = documents.insert_one(document)
        return Outputs(insertedId=id_value(result.inserted_id), wasAcknowledged=result.acknowledged)


@plugin("io.kestra.plugin.mongodb.InsertMany")
class InsertMany(RunnableTask, frozen=True, kw_only=True):
    """Insert documents that the flow itself says into a collection; for files there is Load.

    They are inserted in order, up to the first that cannot be.

    Attributes:
        connection: where the server is.
        database: its name.
        collection: its name.
        documents: a list of maps, or one as JSON; extended JSON such as `{"$date": …}` is understood.

    Outputs:
        insertedIds: the `_id` of each document.
        insertedCount: how many there are.
        wasAcknowledged: false where the uri says `w=0`.

    Example:
        tasks:
          - id: insert
            type: io.kestra.plugin.mongodb.InsertMany
            connection:
              uri: "{{ secret('MONGODB_URI') }}"
            database: shop
            collection: customers
            documents:
              - name: Ada
              - name: Grace
    """

    connection: MongoDbConnection
    database: Dynamic
    collection: Dynamic
    documents: list[dict[str, object]] | Dynamic

    def run(self, context: RunContext) -> Outputs:
        """Insert them."""
        given = rendered_maps(self.documents, "documents", context)
        if not given:
            raise TaskFailedError("'documents' is an empty list, so there is nothing to insert.")
        tally = Tally("documents", size=len(given))
        with opened(self, context) as documents:
            is_acknowledged = documents.write_concern.acknowledged
            ids = insert(documents, given, tally)
        return Outputs(
            insertedIds=[id_value(one) for one in ids], insertedCount=len(ids), wasAcknowledged=is_acknowledged
        )


@plugin("io.kestra.plugin.mongodb.Update")
class Update(RunnableTask, frozen=True, kw_only=True):
    """Change, or replace, documents of a collection.

    Attributes:
        connection: where the server is.
        database: its name.
        collection: its name.
        filter: which documents, a map or one as JSON; `{}` means all.
        document: operators such as `$set`, or with REPLACE_ONE the new document; a map, or one as JSON.
        operation: UPDATE_ONE and REPLACE_ONE change the first document that is found, UPDATE_MANY all.
        upsert: insert a document where none is found.

    Outputs:
        matchedCount: documents found.
        modifiedCount: documents changed.
        upsertedId: `_id` of the document that was inserted, if one was.
        wasAcknowledged: false where the uri says `w=0`; then both counts are 0.

    Example:
        tasks:
          - id: update
            type: io.kestra.plugin.mongodb.Update
            connection:
              uri: "{{ secret('MONGODB_URI') }}"
            database: shop
            collection: orders
            operation: UPDATE_MANY
            filter:
              total: {"$gte": 100}
            document:
              "$set":
                checked: true
    """

    connection: MongoDbConnection
    database: Dynamic
    collection: Dynamic
    filter: dict[str, object] | Dynamic
    document: dict[str, object] | list[dict[str, object]] | Dynamic
    operation: Literal["UPDATE_ONE", "UPDATE_MANY", "REPLACE_ONE"] = "UPDATE_ONE"
    upsert: bool | Dynamic = False

    def run(self, context: RunContext) -> Outputs:
        """Change them."""
        wanted, upserts = rendered_map(self.filter, "filter", context), is_on(context, self.upsert)
        change = rendered_change(self.document, "document", context)
        try:
            check_change(change, replaces=self.operation == "REPLACE_ONE")
        except ValueError as error:
            raise TaskFailedError(f"'document' does not fit {self.operation}: {error}.") from error
        with opened(self, context) as documents:
            if self.operation == "REPLACE_ONE" and isinstance(change, dict):
                result = documents.replace_one(wanted, change, upsert=upserts)
            else:
                update = documents.update_many if self.operation == "UPDATE_MANY" else documents.update_one
                result = update(wanted, change, upsert=upserts)
        known = result.acknowledged
        return Outputs(
            upsertedId=id_value(result.upserted_id) if known else None,
            matchedCount=result.matched_count if known else 0,
            modifiedCount=result.modified_count if known else 0,
            wasAcknowledged=known,
        )


@plugin("io.kestra.plugin.mongodb.Delete")
class Delete(RunnableTask, frozen=True, kw_only=True):
    """Remove documents from a collection.

    Attributes:
        connection: where the server is.
        database: its name.
        collection: its name.
        filter: which documents, a map or one as JSON; `{}` means all.
        operation: DELETE_ONE removes the first document that is found, DELETE_MANY all.

    Outputs:
        deletedCount: documents removed.
        wasAcknowledged: false where the uri says `w=0`; then the count is 0.

    Example:
        tasks:
          - id: delete
            type: io.kestra.plugin.mongodb.Delete
            connection:
              uri: "{{ secret('MONGODB_URI') }}"
            database: shop
            collection: orders
            operation: DELETE_MANY
            filter:
              status: cancelled
    """

    connection: MongoDbConnection
    database: Dynamic
    collection: Dynamic
    filter: dict[str, object] | Dynamic
    operation: Literal["DELETE_ONE", "DELETE_MANY"] = "DELETE_ONE"

    def run(self, context: RunContext) -> Outputs:
        """Remove them."""
        wanted = rendered_map(self.filter, "filter", context)
        with opened(self, context) as documents:
            remove = documents.delete_many if self.operation == "DELETE_MANY" else documents.delete_one
            result = remove(wanted)
        known = result.acknowledged
        return Outputs(deletedCount=result.deleted_count if known else 0, wasAcknowledged=known)
