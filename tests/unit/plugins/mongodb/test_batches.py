"""What is told of batches that fail."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from pymongo.errors import AutoReconnect, BulkWriteError

from tercel.plugin_api import TaskFailedError
from tercel.plugins.mongodb.batches import Tally, check_encodable, send


def raising(error: Exception) -> Any:
    def write() -> Mapping[str, Any]:
        raise error

    return write


class TestSend:
    def test_given_an_answer_then_it_is_counted(self) -> None:
        tally = Tally(size=3)

        send([{}] * 3, tally, lambda: {"nInserted": 1, "nMatched": 2, "nModified": 3, "nRemoved": 4})

        assert (tally.requests, dict(tally.outputs())) == (
            1,
            {"size": 3, "insertedCount": 1, "matchedCount": 2, "modifiedCount": 3, "deletedCount": 4},
        )

    def test_given_a_write_that_fails_then_its_number_and_what_was_done_are_told(self) -> None:
        details = {"writeErrors": [{"index": 2, "code": 1, "errmsg": "too much."}], "nInserted": 2}

        with pytest.raises(TaskFailedError) as error:
            send([{}] * 5, Tally(size=1505, inserted=1500), raising(BulkWriteError(details)))

        assert str(error.value) == "Row 1,503 was not inserted: too much. The first 1,502 rows were inserted, no other."
        assert error.value.outputs["insertedCount"] == 1502

    def test_given_writes_that_are_not_confirmed_then_it_is_told(self) -> None:
        details = {"writeErrors": [], "writeConcernErrors": [{"errmsg": "waited too long"}], "nInserted": 5}

        with pytest.raises(TaskFailedError) as error:
            send([{}] * 5, Tally(size=5), raising(BulkWriteError(details)))

        assert str(error.value) == (
            "All 5 rows so far were inserted, but not confirmed as the uri asks for: waited too long."
        )

    def test_given_a_lost_connection_then_what_is_not_known_is_noted(self) -> None:
        with pytest.raises(AutoReconnect) as error:
            send([{}] * 5, Tally("operations", "done", size=15), raising(AutoReconnect("x")))

        assert error.value.__notes__ == ["Of the first 15 operations 10 were done, of the others it is not known."]

    def test_given_a_document_that_cannot_be_sent_then_nothing_of_the_batch_counts(self) -> None:
        tally = Tally(size=13, inserted=10)

        with pytest.raises(TaskFailedError) as error:
            send([{"a": 1}, {"a": 1 << 70}, {"a": 2}], tally, raising(OverflowError("too big")))

        assert str(error.value) == (
            "Row 12 cannot be sent to MongoDB: MongoDB can only handle up to 8-byte ints. "
            "The first 10 rows were inserted, no other."
        )
        assert error.value.outputs["size"] == 10

    @pytest.mark.parametrize(
        ("count", "said"),
        [
            (0, "No row was inserted."),
            (1, "The first row was inserted, no other."),
            (1500, "The first 1,500 rows were inserted, no other."),
        ],
    )
    def test_given_how_many_are_done_then_it_is_a_sentence(self, count: int, said: str) -> None:
        assert Tally().said(count) == said


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"a": object()}, "cannot encode object"),
        ({"a": "\ud800"}, "surrogates not allowed"),
        ({"a": "x" * (17 << 20)}, "it has 17,825,805 bytes, more than the 16,777,216 of a document"),
    ],
)
def test_given_what_cannot_be_sent_then_it_is_said_why(document: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        check_encodable(document)
