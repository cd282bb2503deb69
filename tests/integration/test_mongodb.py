"""mongodb.* through the engine, against a server process that wants a login."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from bson import Decimal128, ObjectId, Regex

from tercel.plugins.mongodb import connection
from tercel.server import Engine
from tercel.store import ExecutionQuery
from tests.command_line import tercel
from tests.desks import Desk
from tests.flows import echo, flow
from tests.homes import Home, Ran, until
from tests.mongodb import PASSWORD, USERNAME, MongoServer
from tests.servers import stalling_server

MONGODB = "io.kestra.plugin.mongodb"
AT = datetime(2030, 1, 2, 10, tzinfo=UTC)


class Shop:
    """A database of its own for one test, and tasks on its collection `orders`."""

    def __init__(self, server: MongoServer, name: str, home: Home) -> None:
        self.server = server
        self.name = name
        self.home = home

    def node(self, kind: str, id: str = "mongo", **properties: Any) -> dict[str, Any]:
        return {
            "id": id,
            "type": f"{MONGODB}.{kind}",
            "connection": {"uri": self.server.uri},
            "database": self.name,
            "collection": "orders",
            **properties,
        }

    def run(self, kind: str, **properties: Any) -> Ran:
        return self.home.run(flow(self.node(kind, **properties)))

    def outputs(self, kind: str, **properties: Any) -> dict[str, Any]:
        ran = self.run(kind, **properties)
        assert ran.state == "SUCCESS", ran.logs
        return dict(ran.run_of("mongo").outputs)

    def failure(self, kind: str, **properties: Any) -> str:
        ran = self.run(kind, **properties)
        assert ran.state == "FAILED"
        return ran.run_of("mongo").message

    def file(self, *rows: object, text: str | None = None) -> str:
        content = "".join(f"{json.dumps(row)}\n" for row in rows) if text is None else text
        return self.home.put("tests/scenario/executions/x/rows.ion", content.encode())

    def insert(self, *documents: dict[str, Any]) -> None:
        self.server.insert(self.name, "orders", documents)

    def documents(self) -> list[dict[str, Any]]:
        return self.server.documents(self.name, "orders")

    def without_ids(self) -> list[dict[str, Any]]:
        return [{name: value for name, value in found.items() if name != "_id"} for found in self.documents()]


@pytest.fixture
def shop(mongodb_server: MongoServer, home: Home, request: pytest.FixtureRequest) -> Iterator[Shop]:
    name = f"shop_{crc32(request.node.nodeid.encode())}"
    yield Shop(mongodb_server, name, home)
    mongodb_server.client.drop_database(name)


class TestLoad:
    def test_given_json_lines_then_each_is_a_document_and_requests_are_counted(self, shop: Shop) -> None:
        uri = shop.file(*({"n": number} for number in range(2500)))

        ran = shop.run("Load", **{"from": uri})

        assert ran.run_of("mongo").outputs == {
            "size": 2500,
            "insertedCount": 2500,
            "matchedCount": 0,
            "modifiedCount": 0,
            "deletedCount": 0,
        }
        assert [found["n"] for found in shop.documents()] == list(range(2500))
        assert ran.log_of("mongo") == "Successfully sent 3 requests for 2500 records"
        tags = {"database": shop.name, "collection": "orders"}
        assert {(one.name, one.value) for one in ran.metrics if one.tags == tags} == {
            ("requests.count", 3),
            ("records", 2500),
        }

    @pytest.mark.parametrize(
        "text",
        [
            '{"a": 1, "b": {"c": [1.5, null, "x"]}}\n{"a": 2}\n',
            '{\n  "a": 1,\n  "b": {\n    "c": [1.5, null, "x"]\n  }\n}\n{"a": 2}',
            '[{"a": 1, "b": {"c": [1.5, null, "x"]}},\n {"a": 2}]',
            "{a: 1, b: {c: [15e-1, null, x]}} {a: 2} null",
        ],
    )
    def test_given_any_form_of_rows_then_the_documents_are_the_same(self, shop: Shop, text: str) -> None:
        outputs = shop.outputs("Load", **{"from": shop.file(text=text)})

        assert outputs["size"] == 2
        assert shop.without_ids() == [{"a": 1, "b": {"c": [1.5, None, "x"]}}, {"a": 2}]

    def test_given_extended_json_and_types_of_ion_then_documents_have_them(self, shop: Shop) -> None:
        identifier = "65f000000000000000000001"
        text = (
            f'{{"_id": {{"$oid": "{identifier}"}}, "at": {{"$date": "2030-01-02T10:00:00Z"}},'
            ' "price": {"$numberDecimal": "1.10"}, "many": {"$numberLong": "7"}}\n'
            "{at: 2030-01-02T10:00:00.000Z, day: 2030-01-02, price: 1.10, raw: {{aGk=}},"
            ' local: LocalDateTime::"2030-01-02T10:00"}\n'
        )

        shop.outputs("Load", **{"from": shop.file(text=text)})

        one, other = shop.documents()
        assert one == {"_id": ObjectId(identifier), "at": AT, "price": Decimal128("1.10"), "many": 7}
        other.pop("_id")
        midnight = AT.replace(hour=0)
        assert other == {"at": AT, "day": midnight, "price": Decimal128("1.10"), "raw": b"hi", "local": AT}

    @pytest.mark.parametrize(("given", "removes"), [(True, True), (False, False), ("{{ 1 > 2 }}", False)])
    def test_given_an_id_key_then_it_is_the_id(self, shop: Shop, given: bool | str, removes: bool) -> None:
        identifier = "65f000000000000000000001"
        uri = shop.file({"key": identifier, "n": 1})

        shop.outputs("Load", **{"from": uri, "idKey": "key", "removeIdKey": given})

        kept = {} if removes else {"key": identifier}
        assert shop.documents() == [{"_id": ObjectId(identifier), "n": 1, **kept}]

    def test_given_no_rows_then_nothing_is_sent(self, shop: Shop) -> None:
        ran = shop.run("Load", **{"from": shop.file(text="")})

        assert ran.run_of("mongo").outputs["size"] == 0
        assert ran.log_of("mongo") == "Successfully sent 0 requests for 0 records"

    def test_given_a_row_that_is_no_map_then_it_is_named_with_what_was_inserted(self, shop: Shop) -> None:
        ran = shop.run("Load", **{"from": shop.file({"n": 1}, {"n": 2}, 3), "chunk": 2})

        run = ran.run_of("mongo")
        assert run.message == (
            "Row 3 cannot be used: it is not a map but a number. The first 2 rows were inserted, no other."
        )
        assert run.outputs["insertedCount"] == 2
        assert len(shop.documents()) == 2

    def test_given_a_key_that_is_there_then_the_row_is_named_and_nothing_behind_it_is_inserted(
        self, shop: Shop
    ) -> None:
        uri = shop.file(*({"_id": number} for number in [1, 2, 3, 4, 2, 5]))

        ran = shop.run("Load", **{"from": uri, "chunk": 3})

        run = ran.run_of("mongo")
        assert run.message.startswith("Row 5 was not inserted: E11000 duplicate key error collection: ")
        assert "The first 4 rows were inserted, no other." in run.message
        assert "Bulk with replaceOne" in run.message
        assert run.outputs == {
            "size": 6,
            "insertedCount": 4,
            "matchedCount": 0,
            "modifiedCount": 0,
            "deletedCount": 0,
        }
        assert [found["_id"] for found in shop.documents()] == [1, 2, 3, 4]

    @pytest.mark.parametrize(
        ("row", "why"),
        [
            ({"n": 1 << 64}, "MongoDB can only handle up to 8-byte ints"),
            ({"a\0b": 1}, "Key names must not contain the NULL byte"),
            ({"a": {"$oid": "short"}}, "is not extended JSON"),
        ],
    )
    def test_given_a_row_that_mongodb_cannot_hold_then_it_is_named(self, shop: Shop, row: object, why: str) -> None:
        message = shop.failure("Load", **{"from": shop.file({"n": 1}, {"n": 2}, {"n": 3}, row, {"n": 4}), "chunk": 2})

        assert message.startswith("Row 4 cannot be ")
        assert why in message
        assert message.endswith("The first 2 rows were inserted, no other.")
        assert len(shop.documents()) == 2

    @pytest.mark.parametrize(
        ("row", "why"),
        [
            ({"key": "short"}, "its 'key' is 'short', which is no id of 24 hexadecimal digits"),
            ({"n": 1}, "it has no member 'key', which `idKey` names"),
        ],
    )
    def test_given_an_id_key_that_is_none_then_the_row_is_named(self, shop: Shop, row: object, why: str) -> None:
        message = shop.failure("Load", **{"from": shop.file(row), "idKey": "key"})

        assert message == f"Row 1 cannot be used: {why}. No row was inserted."

    @pytest.mark.parametrize("text", ['{"a": 1}\n{"a": ]\n', '{"a": 1}\n{"b"', "\ufffd{"])
    def test_given_no_rows_of_that_kind_then_the_row_is_named(self, shop: Shop, text: str) -> None:
        assert "of the file cannot be read: The text " in shop.failure("Load", **{"from": shop.file(text=text)})

    def test_given_binary_ion_then_it_is_refused_with_what_to_do(self, shop: Shop) -> None:
        uri = shop.home.put("tests/scenario/executions/x/rows.ion", b"\xe0\x01\x00\xea\x0f")

        assert shop.failure("Load", **{"from": uri}) == (
            "The file is binary Ion, which cannot be read. Have it written as Ion text, JSON or JSON lines."
        )

    def test_given_a_document_larger_than_mongodb_allows_then_it_is_named(self, shop: Shop) -> None:
        uri = shop.file({"n": 1}, {"text": "x" * (17 << 20)}, {"n": 2})

        assert shop.failure("Load", **{"from": uri}) == (
            "Row 2 was not inserted: object to insert too large. The first row was inserted, no other."
        )
        assert shop.without_ids() == [{"n": 1}]

    def test_given_no_such_file_then_it_is_said(self, shop: Shop) -> None:
        message = shop.failure("Load", **{"from": "kestra:///tests/scenario/executions/x/none.ion"})

        assert "none.ion" in message

    def test_given_a_connection_lost_on_the_way_then_what_is_known_is_told(self, shop: Shop) -> None:
        uri = shop.file(*({"n": number} for number in range(6)))
        lost = shop.server.uri + "&retryWrites=false"
        shop.insert({"n": -1})

        with shop.server.failing("insert", times=1, closeConnection=True):
            message = shop.failure("Load", **{"from": uri, "chunk": 2, "connection": {"uri": lost}})

        assert message.startswith(f"The server mongodb://{shop.server.address} was lost: ")
        assert message.endswith("Of the first 2 rows 0 were inserted, of the others it is not known.")

    def test_given_no_confirmations_asked_for_then_none_is_counted(self, shop: Shop) -> None:
        uri = shop.file({"n": 1}, {"n": 2})

        outputs = shop.outputs("Load", **{"from": uri, "connection": {"uri": shop.server.uri + "&w=0"}})

        until(lambda: len(shop.documents()) == 2)
        assert (outputs["size"], outputs["insertedCount"]) == (2, 0)

    @pytest.mark.parametrize(
        ("chunk", "why"),
        [("{{ 0 }}", "chunk is '0', which is not a whole number of 1 or more."), ("x", "not a whole number")],
    )
    def test_given_no_size_of_a_batch_then_it_fails(self, shop: Shop, chunk: str, why: str) -> None:
        assert why in shop.failure("Load", **{"from": shop.file({"n": 1}), "chunk": chunk})


class TestBulk:
    def test_given_operations_then_they_are_done_in_order_and_counted(self, shop: Shop) -> None:
        uri = shop.file(
            {"insertOne": {"n": 1}},
            {"insertOne": {"document": {"n": 2}}},
            {"updateOne": {"filter": {"n": 1}, "update": {"$set": {"a": {"$date": "2030-01-02T10:00:00Z"}}}}},
            {"updateMany": {"filter": {}, "update": {"$inc": {"n": 10}}}},
            {"replaceOne": {"filter": {"n": 99}, "replacement": {"n": 99}, "upsert": True}},
            {"deleteOne": {"filter": {"n": 12}}},
            {"deleteMany": {"filter": {"n": {"$gt": 1000}}}},
        )

        ran = shop.run("Bulk", **{"from": uri, "chunk": 3})

        assert ran.run_of("mongo").outputs == {
            "size": 7,
            "insertedCount": 2,
            "matchedCount": 3,
            "modifiedCount": 3,
            "deletedCount": 1,
        }
        assert shop.without_ids() == [{"n": 11, "a": AT}, {"n": 99}]
        assert ran.log_of("mongo") == "Successfully sent 3 requests for 7 records"

    @pytest.mark.parametrize(
        ("row", "why"),
        [
            (1, "it is not a map but a number"),
            ({}, "it is a map of 0 members, not of one operation"),
            ({"insert": {}}, "there is no operation 'insert': there are insertOne, replaceOne, "),
            ({"insertOne": 1}, "what insertOne says is no map"),
            ({"updateOne": {"filter": {}}}, "updateOne lacks 'update'"),
            ({"deleteOne": {"filter": {}, "all": True}}, "deleteOne knows no 'all'"),
            ({"deleteOne": {"filter": 1}}, "the filter of deleteOne is no map"),
            ({"updateOne": {"filter": {}, "update": {"a": 1}}}, "has to be a map of operators such as $set"),
            ({"replaceOne": {"filter": {}, "replacement": {"$set": {}}}}, "has to be a map without operators"),
            ({"insertOne": {"n": 1 << 70}}, "MongoDB can only handle up to 8-byte ints"),
        ],
    )
    def test_given_a_row_that_is_no_operation_then_it_is_named(self, shop: Shop, row: object, why: str) -> None:
        uri = shop.file({"insertOne": {"n": 1}}, row)

        message = shop.failure("Bulk", **{"from": uri, "chunk": 1})

        assert message.startswith("Row 2 cannot be used: ")
        assert why in message
        assert message.endswith("The first operation was done, no other.")

    def test_given_an_operation_that_fails_then_it_is_named_and_those_behind_are_not_done(self, shop: Shop) -> None:
        uri = shop.file(
            {"insertOne": {"_id": 1}}, {"updateOne": {"filter": {}, "update": {"$set": {"a": 1}}}},
            {"insertOne": {"_id": 1}}, {"insertOne": {"_id": 2}},
        )  # fmt: skip

        ran = shop.run("Bulk", **{"from": uri})

        message = ran.run_of("mongo").message
        assert message.startswith("Operation 3 was not done: E11000 duplicate key error")
        assert "The first 2 operations were done, no other." in message
        assert ran.run_of("mongo").outputs["insertedCount"] == 1
        assert shop.documents() == [{"_id": 1, "a": 1}]


class TestInsert:
    def test_given_a_map_then_it_is_rendered_and_inserted(self, shop: Shop) -> None:
        outputs = shop.outputs(
            "InsertOne", document={"flow": "{{ flow.id }}", "n": 1, "at": {"$date": "2030-01-02T10:00:00Z"}}
        )

        [found] = shop.documents()
        assert found == {"_id": ObjectId(outputs["insertedId"]), "flow": "scenario", "n": 1, "at": AT}
        assert outputs["wasAcknowledged"] is True

    def test_given_json_then_it_is_inserted(self, shop: Shop) -> None:
        outputs = shop.outputs("InsertOne", document='{"_id": 7, "a": [1, {"b": "{{ flow.id }}"}]}')

        assert outputs["insertedId"] == 7
        assert shop.documents() == [{"_id": 7, "a": [1, {"b": "scenario"}]}]

    @pytest.mark.parametrize(
        ("document", "why"),
        [
            ("{", "'document' is not JSON: "),
            ("[1]", "'document' is not a map, or one as JSON: it is a list."),
            ({"a": {"$oid": "x"}}, "'document' cannot be used: "),
            ({"n": 1 << 70}, "A value cannot be sent to MongoDB: MongoDB can only handle up to 8-byte ints."),
        ],
    )
    def test_given_no_document_then_it_is_said(self, shop: Shop, document: object, why: str) -> None:
        assert why in shop.failure("InsertOne", document=document)

    def test_given_a_key_that_is_there_then_it_is_said(self, shop: Shop) -> None:
        shop.insert({"_id": 1})

        message = shop.failure("InsertOne", document={"_id": 1})

        assert message.startswith(f"The server mongodb://{shop.server.address} refuses that: E11000 duplicate key")

    def test_given_many_then_all_are_inserted(self, shop: Shop) -> None:
        outputs = shop.outputs("InsertMany", documents=[{"_id": 1}, {"_id": 2, "x": "{{ flow.id }}"}])

        assert outputs == {"insertedIds": [1, 2], "insertedCount": 2, "wasAcknowledged": True}
        assert shop.documents() == [{"_id": 1}, {"_id": 2, "x": "scenario"}]

    def test_given_many_of_which_one_is_there_then_those_before_are_inserted(self, shop: Shop) -> None:
        message = shop.failure("InsertMany", documents='[{"_id": 1}, {"_id": 1}, {"_id": 2}]')

        assert message.startswith("Document 2 was not inserted: E11000")
        assert "The first document was inserted, no other." in message
        assert shop.documents() == [{"_id": 1}]

    @pytest.mark.parametrize(
        ("documents", "why"),
        [
            ("[]", "is an empty list"),
            ("{}", "'documents' is not a list of maps"),
            ("[{}, 1]", "Entry 2 of 'documents' is not a map: it is a number."),
        ],
    )
    def test_given_no_documents_then_it_is_said(self, shop: Shop, documents: str, why: str) -> None:
        assert why in shop.failure("InsertMany", documents=documents)


class TestUpdate:
    @pytest.mark.parametrize(("operation", "changed"), [("UPDATE_ONE", 1), ("UPDATE_MANY", 2)])
    def test_given_operators_then_one_or_all_are_changed(self, shop: Shop, operation: str, changed: int) -> None:
        shop.insert({"n": 1}, {"n": 2}, {"n": 3})

        outputs = shop.outputs(
            "Update", operation=operation, filter='{"n": {"$gte": 2}}', document={"$set": {"x": "{{ flow.id }}"}}
        )

        assert outputs == {
            "upsertedId": None,
            "matchedCount": changed,
            "modifiedCount": changed,
            "wasAcknowledged": True,
        }
        assert sum("x" in found for found in shop.documents()) == changed

    def test_given_a_replacement_then_nothing_of_the_old_document_is_left(self, shop: Shop) -> None:
        shop.insert({"_id": 1, "old": True})

        shop.outputs("Update", operation="REPLACE_ONE", filter={"_id": 1}, document={"new": True})

        assert shop.documents() == [{"_id": 1, "new": True}]

    def test_given_upsert_and_nothing_found_then_a_document_is_made(self, shop: Shop) -> None:
        outputs = shop.outputs("Update", filter={"_id": 5}, document={"$set": {"a": 1}}, upsert="{{ 2 > 1 }}")

        assert (outputs["upsertedId"], outputs["matchedCount"]) == (5, 0)
        assert shop.documents() == [{"_id": 5, "a": 1}]

    @pytest.mark.parametrize(
        ("operation", "document", "why"),
        [
            ("UPDATE_ONE", {"a": 1}, "'document' does not fit UPDATE_ONE: what changes a document has to be a map of"),
            ("REPLACE_ONE", {"$set": {"a": 1}}, "'document' does not fit REPLACE_ONE: what replaces a document has"),
        ],
    )
    def test_given_the_other_kind_of_document_then_it_is_said(
        self, shop: Shop, operation: str, document: object, why: str
    ) -> None:
        assert why in shop.failure("Update", operation=operation, filter={}, document=document)

    @pytest.mark.parametrize(("operation", "left"), [("DELETE_ONE", [2, 3]), ("DELETE_MANY", [3])])
    def test_given_a_filter_then_one_or_all_are_removed(self, shop: Shop, operation: str, left: list[int]) -> None:
        shop.insert({"n": 1}, {"n": 2}, {"n": 3})

        outputs = shop.outputs("Delete", operation=operation, filter={"n": {"$lt": 3}})

        assert outputs == {"deletedCount": 3 - len(left), "wasAcknowledged": True}
        assert [found["n"] for found in shop.documents()] == left

    @pytest.mark.parametrize(
        ("kind", "properties"),
        [
            ("Delete", {"operation": "DELETE_MANY"}),
            ("Update", {"operation": "UPDATE_MANY", "document": {"$set": {"n": 9}}}),
        ],
    )
    def test_given_a_filter_that_renders_to_nothing_then_not_all_documents_are_meant(
        self, shop: Shop, kind: str, properties: dict[str, Any]
    ) -> None:
        shop.insert({"n": 1}, {"n": 2})

        assert "'filter' is empty when rendered." in shop.failure(kind, filter="{{ null }}", **properties)
        assert [found["n"] for found in shop.documents()] == [1, 2]


class TestFind:
    def test_given_a_query_then_rows_come_in_order(self, shop: Shop) -> None:
        shop.insert(*({"n": number, "x": number % 2} for number in range(10)))

        outputs = shop.outputs(
            "Find", filter={"x": 1}, projection={"_id": 0, "n": 1}, sort={"n": -1}, skip=1, limit="{{ 2 }}"
        )

        assert outputs == {"rows": [{"n": 7}, {"n": 5}], "size": 2}

    def test_given_types_of_mongodb_then_rows_have_what_rows_know(self, shop: Shop) -> None:
        identifier = ObjectId()
        shop.insert(
            {
                "_id": identifier,
                "at": AT,
                "price": Decimal128("1.10"),
                "exact": Decimal128("1.234567890123456789"),
                "raw": b"hi",
                "in": [{"id": identifier}],
            }
        )

        outputs = shop.outputs("Find")
        stored = shop.outputs("Find", store=True)

        assert outputs["rows"] == [
            {
                "_id": str(identifier),
                "at": AT,
                "price": 1.1,
                "exact": "1.234567890123456789",
                "raw": b"hi",
                "in": [{"id": str(identifier)}],
            }
        ]
        assert shop.home.read(stored["uri"]).decode() == (
            f'{{_id:"{identifier}",at:2030-01-02T10:00:00Z,price:1.10,exact:1.234567890123456789,raw:{{{{aGk=}}}},'
            f'in:[{{id:"{identifier}"}}]}}\n'
        )

    def test_given_store_then_a_file_of_rows_can_be_loaded_again(self, shop: Shop) -> None:
        shop.insert(*({"n": number, "at": AT} for number in range(2500)))
        find = shop.node("Find", "find", store="{{ 2 > 1 }}", projection={"_id": 0})
        load = shop.node("Load", "load", collection="copy", **{"from": "{{ outputs.find.uri }}"})

        ran = shop.home.run(flow(find, load))

        assert ran.state == "SUCCESS", ran.logs
        assert ran.run_of("find").outputs["size"] == 2500
        assert "rows" not in ran.run_of("find").outputs
        copied = shop.server.documents(shop.name, "copy")
        assert [(found["n"], found["at"]) for found in copied] == [(number, AT) for number in range(2500)]

    def test_given_a_value_that_rows_do_not_know_then_it_is_named(self, shop: Shop) -> None:
        shop.insert({"n": 1}, {"a": {"b": [1, Regex("x")]}})

        assert shop.failure("Find") == (
            "Document 2 of those found cannot be a row: 'a.b.1' is a Regex, which rows do not know. "
            "Leave that out by a projection."
        )

    def test_given_more_rows_than_outputs_may_have_then_a_file_is_advised(self, shop: Shop) -> None:
        shop.insert(*({"text": "x" * (1 << 20)} for _ in range(11)))

        assert "than the 10,485,760 bytes that outputs may have. Put them into a file by 'store'" in shop.failure(
            "Find"
        )

    @pytest.mark.parametrize(
        ("properties", "why"),
        [
            ({"limit": -1}, "limit is '-1', which is not a whole number of 0 or more."),
            ({"filter": "x"}, "'filter' is not JSON: "),
            ({"filter": {"$nothing": 1}}, " refuses that: "),
        ],
    )
    def test_given_what_cannot_be_asked_then_it_is_said(self, shop: Shop, properties: dict[str, Any], why: str) -> None:
        shop.insert({"n": 1})

        assert why in shop.failure("Find", **properties)


class TestAggregate:
    PIPELINE = [{"$group": {"_id": "$x", "sum": {"$sum": "$n"}}}, {"$sort": {"_id": 1}}]

    @pytest.mark.parametrize(
        ("store", "expected"),
        [
            ("FETCH", {"rows": [{"_id": 0, "sum": 20}, {"_id": 1, "sum": 25}], "size": 2}),
            ("FETCH_ONE", {"rows": [{"_id": 0, "sum": 20}], "size": 1}),
            ("NONE", {"size": 0}),
        ],
    )
    def test_given_a_pipeline_then_its_rows_come_as_asked_for(
        self, shop: Shop, store: str, expected: dict[str, Any]
    ) -> None:
        shop.insert(*({"n": number, "x": number % 2} for number in range(10)))

        assert shop.outputs("Aggregate", pipeline=self.PIPELINE, store=store) == expected

    def test_given_json_and_store_then_the_rows_are_in_a_file(self, shop: Shop) -> None:
        shop.insert(*({"n": number, "x": number % 2} for number in range(10)))

        outputs = shop.outputs("Aggregate", pipeline=json.dumps(self.PIPELINE), store="STORE", batchSize=1)

        assert shop.home.read(outputs["uri"]) == b"{_id:0,sum:20}\n{_id:1,sum:25}\n"
        assert outputs["size"] == 2

    def test_given_a_pipeline_that_takes_too_long_then_it_is_said(self, shop: Shop) -> None:
        with shop.server.failing("aggregate", errorCode=50):
            message = shop.failure("Aggregate", pipeline=[], maxTimeMs=10)

        assert message.startswith(f"The server mongodb://{shop.server.address} refuses that: ")

    def test_given_no_pipeline_then_it_is_said(self, shop: Shop) -> None:
        assert "'pipeline' is not a list of maps" in shop.failure("Aggregate", pipeline="{}")


def executions(engine: Engine) -> list[Any]:
    return list(engine.call(engine.queries.search_executions(ExecutionQuery(flow_id="scenario", limit=100))))


class TestTrigger:
    def polled(self, shop: Shop, **properties: Any) -> str:
        trigger = shop.node("Trigger", "poll", filter={"new": True}, **properties)
        return flow(echo("say", "{{ trigger.size }}"), triggers=[trigger])

    @pytest.mark.parametrize("store", [False, True])
    def test_given_documents_that_appear_then_an_execution_sees_them(self, shop: Shop, store: bool) -> None:
        desk = Desk(shop.home)
        desk.save(self.polled(shop, interval="PT0.05S", store=store))
        engine = shop.home.engine
        engine.schedule()
        until(lambda: any("evaluatedAt" in one.detail for one in engine.call(engine.queries.trigger_states())))
        nothing_yet = executions(engine)

        shop.insert({"_id": 1, "new": True}, {"_id": 2, "new": False})
        until(lambda: bool(executions(engine)))

        ran = desk.wait(min(one.id for one in executions(engine)))
        variables = ran.execution.trigger["variables"]
        assert nothing_yet == []
        assert ran.run_of("say").outputs["value"] == "1"
        if store:
            assert shop.home.read(variables["uri"]) == b"{_id:1,new:true}\n"
        else:
            assert variables == {"rows": [{"_id": 1, "new": True}], "size": 1}

    def test_given_the_command_then_the_trigger_is_tried_without_showing_the_password(
        self, mongodb_server: MongoServer, tmp_path: Path
    ) -> None:
        home, path = tmp_path / "home", tmp_path / "flow.yaml"
        shop = Shop(mongodb_server, "tried", None)  # pyright: ignore[reportArgumentType]
        wrong = mongodb_server.uri_of(USERNAME, "wrong/password")
        env = {"SECRET_GOOD": b64encode(mongodb_server.uri.encode()).decode()}
        good = {"connection": {"uri": "{{ secret('GOOD') }}"}}
        triggers = [
            shop.node("Trigger", "good", **good),
            shop.node("Trigger", "wrong", connection={"uri": wrong}),
        ]
        path.write_text(flow(echo("say", "x"), triggers=triggers))
        assert tercel("flow", "save", path, home=home).returncode == 0

        tried = tercel("trigger", "test", "scenario", "good", home=home, env=env)
        refused = tercel("trigger", "test", "scenario", "wrong", home=home)

        assert (tried.returncode, tried.stdout) == (0, "")
        assert tried.stderr.endswith("There is nothing to start an execution for.\n")
        assert refused.returncode == 1
        assert "refuses the login of the connection's uri: Authentication failed." in refused.stderr
        assert "wrong" not in refused.stderr.replace("'wrong'", "").replace("scenario.wrong", "")


# ── what goes wrong with servers ─────────────────────────────────────────────────────────────────────────────────

EACH: dict[str, dict[str, Any]] = {
    "Load": {"from": "{{ inputs.file }}"},
    "Bulk": {"from": "{{ inputs.file }}"},
    "InsertOne": {"document": {"a": 1}},
    "InsertMany": {"documents": [{"a": 1}]},
    "Update": {"filter": {}, "document": {"$set": {"a": 1}}},
    "Delete": {"filter": {}},
    "Find": {},
    "Aggregate": {"pipeline": []},
}


def each(shop: Shop, kind: str, uri: str, **properties: Any) -> str:
    """A flow of one task of that kind, with a row to send."""
    file = shop.file({"insertOne": {"n": 1}})
    node = shop.node(kind, connection={"uri": uri}, **EACH[kind], **properties)
    if "from" in node:
        node["from"] = file
    return flow(node)


@pytest.mark.parametrize("kind", EACH)
class TestServers:
    def test_given_a_wrong_password_then_the_login_is_refused_and_never_told(self, shop: Shop, kind: str) -> None:
        ran = shop.home.run(each(shop, kind, shop.server.uri_of(USERNAME, "not-the-password")))

        assert ran.state == "FAILED"
        assert ran.run_of("mongo").message.startswith(
            f"The server mongodb://{shop.server.address} refuses the login of the connection's uri: "
            "Authentication failed. "
        )
        assert ran.run_of("mongo").message.endswith("Check user, password and authSource.")
        assert "not-the-password" not in f"{ran.runs}{ran.logs}"

    def test_given_no_login_then_it_is_said_that_one_is_needed(self, shop: Shop, kind: str) -> None:
        ran = shop.home.run(each(shop, kind, f"mongodb://{shop.server.address}/"))

        message = ran.run_of("mongo").message
        assert message.startswith(f"The server mongodb://{shop.server.address} does not allow that: ")
        assert message.endswith("Give the connection's uri a login with rights on the database.")

    def test_given_nobody_who_listens_then_the_address_is_named(self, shop: Shop, kind: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
        uri = f"mongodb://me:hidden-word@127.0.0.1:{port}/?serverSelectionTimeoutMS=200"

        ran = shop.home.run(each(shop, kind, uri))

        message = ran.run_of("mongo").message
        assert message.startswith(f"The server mongodb://127.0.0.1:{port} cannot be reached: ")
        assert "Connection refused" in message
        assert message.endswith("Check host and port, and whether the server runs.")
        assert "hidden-word" not in f"{ran.runs}{ran.logs}"

    def test_given_a_server_that_does_not_answer_then_a_kill_does_not_wait_for_it(self, shop: Shop, kind: str) -> None:
        command = {"Load": "insert", "InsertOne": "insert", "InsertMany": "insert", "Bulk": "insert"}.get(
            kind, kind.lower()
        )
        with shop.server.failing(command, blockConnection=True, blockTimeMS=30_000):
            began = time.monotonic()
            ran = shop.home.run(each(shop, kind, shop.server.uri, timeout="PT0.5S"))
            took = time.monotonic() - began

        assert ran.state == "FAILED"
        assert "imeout" in ran.run_of("mongo").message
        assert took < 15


@pytest.mark.parametrize("said", [b"", b"\x10\x00"])
def test_given_a_server_that_stalls_from_the_start_then_a_kill_does_not_wait_for_it(shop: Shop, said: bytes) -> None:
    with stalling_server(said) as (address, has_asked):
        uri = address.replace("http", "mongodb") + "/?serverSelectionTimeoutMS=60000"
        began = time.monotonic()
        ran = shop.home.run_and_kill(each(shop, "Find", uri), has_asked)

    assert ran.state == "KILLED"
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:hidden-word@host/",
        "mongodb://me:hidden-word/x@host/",
        "mongodb://me:hidden-word@host:port/",
        "mongodb://me:hidden@word@host/",
        "mongodb://me:hidden-word@host/?authMechanism=NONE",
        "mongodb://me:hidden?word=x@host/",
        "mongodb://me:hidden-word@host/?w",
        "hidden-word",
        "",
    ],
)
def test_given_no_address_then_it_is_said_without_the_login(shop: Shop, uri: str) -> None:
    ran = shop.home.run(each(shop, "Find", uri))

    message = ran.run_of("mongo").message
    assert message.startswith("The connection's uri is no address") or "options of the connection's uri" in message
    assert "hidden" not in message
    assert "hidden" not in f"{ran.logs}"


def test_given_an_option_of_another_driver_then_it_is_left_out_with_a_warning(shop: Shop) -> None:
    ran = shop.run("Find", connection={"uri": shop.server.uri + "&sslInvalidHostNameAllowed=true"})

    assert ran.state == "SUCCESS", ran.logs
    assert ran.log_of("mongo").splitlines()[0] == (
        "The option 'sslInvalidHostNameAllowed' of the connection's uri is unknown, and left out."
    )


def test_given_the_library_has_other_names_inside_then_nothing_breaks(shop: Shop) -> None:
    connection._cut(object())  # type: ignore[arg-type]  # pyright: ignore


# ── disk full, and what is not told ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk takes root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize(
    ("kind", "properties"), [("Find", {"store": True}), ("Aggregate", {"pipeline": [], "store": "STORE"})]
)
def test_given_a_full_disk_while_storing_then_it_is_said_and_nothing_is_left(
    mongodb_server: MongoServer, small_disk: Path, kind: str, properties: dict[str, Any], tmp_path: Path
) -> None:
    with Home(tmp_path / "home") as home:
        storage = home.root / "storage"
        storage.mkdir(parents=True)
        subprocess.run(["mount", "--bind", str(small_disk), str(storage)], check=True)
        try:
            shop = Shop(mongodb_server, f"full_{kind}", home)
            shop.server.client.drop_database(shop.name)
            shop.insert(*({"text": "x" * (1 << 20)} for _ in range(12)))

            ran = home.run(flow(shop.node(kind, **properties)))
            left = [path for path in storage.rglob("*") if path.is_file() and path.stat().st_size > 1 << 16]
        finally:
            home.close()
            subprocess.run(["umount", "-l", str(storage)], check=True)

    assert ran.state == "FAILED"
    assert ran.run_of("mongo").message == (
        "The rows cannot be stored: No space left on device. See to it that internal storage has room."
    )
    assert left == []


def test_given_a_password_then_it_is_in_no_file_log_or_argument(mongodb_server: MongoServer, tmp_path: Path) -> None:
    shop = Shop(mongodb_server, "masked", None)  # pyright: ignore[reportArgumentType]
    connection = {"uri": "{{ secret('MONGODB_URI') }}"}
    rows = {"id": "rows", "type": "io.kestra.plugin.core.storage.Write", "content": '{"a": 1}', "extension": ".jsonl"}
    nodes = [
        rows,
        shop.node("Load", "load", connection=connection, **{"from": "{{ outputs.rows.uri }}"}),
        shop.node("Find", "find", connection=connection, logLevel="TRACE"),
        shop.node("Find", "failing", connection=connection, filter={"$nothing": 1}, allowFailure=True),
        shop.node("Find", "waiting", connection=connection, filter={"wait": True}),
    ]
    path, home = tmp_path / "flow.yaml", tmp_path / "home"
    path.write_text(flow(*nodes))
    arguments: list[str] = []

    with mongodb_server.failing("find", blockConnection=True, blockTimeMS=200):
        env = {"SECRET_MONGODB_URI": b64encode(mongodb_server.uri.encode()).decode()}
        done = _watched(("run", path), home, env, arguments)

    encoded = mongodb_server.uri_of("", PASSWORD).split("@")[0].rpartition(":")[2]
    words = [word.encode() for word in (PASSWORD, encoded)]
    files = [found for found in home.rglob("*") if found.is_file()]
    holders = [found for found in files for word in words if word in found.read_bytes()]
    assert done.returncode == 0, done.stderr
    assert holders == []
    assert any(found.name == "tercel.db" for found in files)
    assert not [text for word in words for text in (done.stdout, done.stderr, *arguments) if word.decode() in text]
    assert any("run" in text for text in arguments)
    mongodb_server.client.drop_database("masked")


def _watched(arguments: tuple[Any, ...], home: Path, env: dict[str, str], seen: list[str]) -> Any:
    """Run the command line, and note the process list of this machine meanwhile."""
    from threading import Event, Thread

    ended = Event()

    def look() -> None:
        while not ended.wait(0.05):
            for folder in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    seen.append(folder.read_bytes().replace(b"\0", b" ").decode(errors="replace"))

    looking = Thread(target=look)
    looking.start()
    try:
        return tercel(*arguments, home=home, env=env)
    finally:
        ended.set()
        looking.join()


def test_given_the_seed_flow_then_its_load_works_with_the_uri_from_plugin_defaults(shop: Shop) -> None:
    file = shop.file(text=json.dumps({"current_user_url": "x", "hub_url": "y"}))
    task = {
        "id": "loadToMongoDB",
        "type": f"{MONGODB}.Load",
        "connection": {"uri": "mongodb://host.docker.internal:27017/"},
        "database": shop.name,
        "collection": "github",
        "from": file,
    }
    defaults = [{"type": f"{MONGODB}.Load", "forced": True, "values": {"connection": {"uri": shop.server.uri}}}]

    ran = shop.home.run(flow(task, pluginDefaults=defaults))

    assert ran.state == "SUCCESS", ran.logs
    assert ran.run_of("loadToMongoDB").outputs["size"] == 1
    [found] = shop.server.documents(shop.name, "github")
    assert (found["current_user_url"], found["hub_url"]) == ("x", "y")


def test_given_no_library_then_the_extra_is_named(tmp_path: Path, mongodb_server: MongoServer) -> None:
    hidden = tmp_path / "hidden" / "pymongo"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('not here')\n")
    path = tmp_path / "flow.yaml"
    shop = Shop(mongodb_server, "none", None)  # pyright: ignore[reportArgumentType]
    path.write_text(flow(shop.node("Find")))
    env = {"PYTHONPATH": os.pathsep.join([str(hidden.parent), os.environ.get("PYTHONPATH", "")])}

    done = tercel("run", path, home=tmp_path / "home", env=env)

    assert done.returncode == 1
    assert "MongoDB tasks need the library pymongo. Install it: pip install 'tercel[mongodb]'." in (
        done.stdout + done.stderr
    )
