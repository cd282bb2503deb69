"""Rows and properties to documents, and back."""

import math
import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path

import pytest
from bson import Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

from tercel.plugin_api import TaskFailedError
from tercel.plugins.mongodb.documents import (
    check_change,
    id_value,
    optional_map,
    rendered_change,
    rendered_map,
    rendered_maps,
    row_document,
    to_bson,
    to_row,
)
from tests.run_contexts import DirectoryContext

ID = "65f000000000000000000001"
NOON = datetime(2030, 1, 2, 12, tzinfo=UTC)


class TestToBson:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ({"$oid": ID}, ObjectId(ID)),
            ({"$date": "2030-01-02T12:00:00Z"}, NOON),
            ({"$date": {"$numberLong": "1893585600000"}}, NOON),
            ({"$numberDecimal": "1.10"}, Decimal128("1.10")),
            ([{"a": {"$oid": ID}}, 1, "x", None, True], [{"a": ObjectId(ID)}, 1, "x", None, True]),
            ({"a": {"$gt": 1, "$lt": 2}}, {"a": {"$gt": 1, "$lt": 2}}),
            ({"$set": {"a": {"$date": "2030-01-02T12:00:00Z"}}}, {"$set": {"a": NOON}}),
            (Decimal("1.10"), Decimal128("1.10")),
            (date(2030, 1, 2), datetime(2030, 1, 2)),
            (NOON, NOON),
            (time(10, 30), "10:30:00"),
            (b"hi", b"hi"),
            ({1: "a"}, {"1": "a"}),
        ],
    )
    def test_given_a_value_then_it_is_as_pymongo_wants_it(self, value: object, expected: object) -> None:
        assert to_bson(value) == expected

    @pytest.mark.parametrize(
        ("value", "why"),
        [
            ({"$oid": "short"}, '{"$oid": "short"} is not extended JSON: '),
            ({"a": [{"$date": []}]}, '{"$date": []} is not extended JSON: '),
            (Decimal("1." + "1" * 40), "has more digits than the 34 of a Decimal128"),
        ],
    )
    def test_given_what_is_no_value_then_it_is_said(self, value: object, why: str) -> None:
        with pytest.raises(ValueError, match=re.escape(why)):
            to_bson(value)

    def test_given_a_value_nested_too_deep_then_it_is_said(self) -> None:
        value: list[object] = []
        for _ in range(100_000):
            value = [value]

        with pytest.raises(ValueError, match="it is nested too deep"):
            to_bson(value)
        while value:
            value = value.pop()  # type: ignore[assignment]  # so that its end does not recurse

    @pytest.mark.parametrize(
        ("row", "kind"),
        [(1, "a number"), ("x", "a text"), ([1], "a list"), (True, "true"), ({"$oid": ID}, "a ObjectId")],
    )
    def test_given_a_row_that_is_no_document_then_it_is_said(self, row: object, kind: str) -> None:
        with pytest.raises(ValueError, match=f"it is not a map but {kind}"):
            row_document(row)


class TestToRow:
    def test_given_values_that_rows_know_then_they_are_as_rows_have_them(self) -> None:
        document = {
            "_id": ObjectId(ID),
            "long": Int64(7),
            "price": Decimal128("1.10"),
            "odd": Decimal128("NaN"),
            "at": NOON,
            "stamp": Timestamp(NOON, 1),
            "raw": b"hi",
            "in": [{"ref": DBRef("other", ObjectId(ID))}],
            "yes": True,
            "none": None,
        }

        row = to_row(document)

        assert math.isnan(row.pop("odd"))  # type: ignore[arg-type]
        assert row == {
            "_id": ID,
            "long": 7,
            "price": Decimal("1.10"),
            "at": NOON,
            "stamp": NOON,
            "raw": b"hi",
            "in": [{"ref": {"$ref": "other", "$id": ID}}],
            "yes": True,
            "none": None,
        }
        assert type(row["long"]) is int

    @pytest.mark.parametrize(
        ("digits", "number"),
        [("1.10", 1.1), ("3", 3.0), ("1.234567890123456789", "1.234567890123456789"), ("Infinity", math.inf)],
    )
    def test_given_outputs_then_decimals_are_numbers_of_the_same_digits_or_texts(
        self, digits: str, number: object
    ) -> None:
        assert to_row({"n": Decimal128(digits)}, for_outputs=True) == {"n": number}

    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            (Regex("x"), "Regex"),
            (MinKey(), "MinKey"),
            (MaxKey(), "MaxKey"),
            (Code("x"), "Code"),
            (DatetimeMS(-(1 << 60)), "DatetimeMS"),
        ],
    )
    def test_given_a_value_that_rows_do_not_know_then_its_place_is_said(self, value: object, kind: str) -> None:
        with pytest.raises(ValueError, match="rows do not know") as error:
            to_row({"a": {"b": [0, value]}})

        assert str(error.value) == f"'a.b.1' is a {kind}, which rows do not know"

    def test_given_an_id_then_it_is_an_output(self) -> None:
        assert [id_value(ObjectId(ID)), id_value(7), id_value(None)] == [ID, 7, None]


class TestProperties:
    @pytest.fixture
    def context(self, tmp_path: Path) -> DirectoryContext:
        return DirectoryContext(tmp_path, variables={"word": "hello", "blank": ""})

    def test_given_maps_and_json_then_both_are_rendered(self, context: DirectoryContext) -> None:
        assert rendered_map({"a": "{{ word }}"}, "filter", context) == {"a": "hello"}
        assert rendered_map('{"a": "{{ word }}"}', "filter", context) == {"a": "hello"}
        assert rendered_maps('[{"a": 1}]', "pipeline", context) == [{"a": 1}]
        assert rendered_change('[{"$set": {"a": 1}}]', "document", context) == [{"$set": {"a": 1}}]
        assert rendered_change({"$set": {"a": 1}}, "document", context) == {"$set": {"a": 1}}

    @pytest.mark.parametrize("value", ["", " {{ blank }} "])
    def test_given_a_text_that_renders_to_nothing_then_it_does_not_pass_for_an_empty_map(
        self, context: DirectoryContext, value: str
    ) -> None:
        with pytest.raises(TaskFailedError) as error:
            rendered_map(value, "filter", context)

        assert str(error.value) == "'filter' is empty when rendered. Write {} where that is meant."

    @pytest.mark.parametrize("value", [None, "", " {{ blank }} ", {}])
    def test_given_nothing_for_what_may_be_left_out_then_the_map_is_empty(
        self, context: DirectoryContext, value: object
    ) -> None:
        assert optional_map(value, "filter", context) == {}
        assert optional_map({"a": "{{ word }}"}, "filter", context) == {"a": "hello"}

    @pytest.mark.parametrize(
        ("change", "replaces", "fits"),
        [
            ({"$set": {"a": 1}}, False, True),
            ([{"$set": {"a": 1}}], False, True),
            ({"a": 1}, False, False),
            ({"$set": {}, "a": 1}, False, False),
            ({}, False, False),
            ([], False, False),
            (1, False, False),
            ({"a": 1}, True, True),
            ({}, True, True),
            ({"$set": {}}, True, False),
            ([{}], True, False),
        ],
    )
    def test_given_a_change_then_it_is_of_the_kind_that_is_wanted_or_refused(
        self, change: object, replaces: bool, fits: bool
    ) -> None:
        if fits:
            check_change(change, replaces=replaces)
            return
        with pytest.raises(ValueError, match="a document has to be a map"):
            check_change(change, replaces=replaces)
