"""Batches of writes: sent in order as one message each, counted, and told of when one fails.

The first write that fails ends it, so what is said of those before and behind is exact.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from tercel.plugin_api import Outputs, TaskFailedError
from tercel.plugins.mongodb.connection import cut

if TYPE_CHECKING:
    from pymongo.collection import Collection as Documents

    Document = dict[str, Any]

_DUPLICATE_KEY = 11000
_LARGEST_BYTES = 16 << 20
"""What a document may have."""


@dataclass
class Tally:
    """What has been sent and done so far.

    Attributes:
        what: what one row is, in the plural.
        done: what is done to one, as in "were inserted".
    """

    what: str = "rows"
    done: str = "inserted"
    size: int = 0
    requests: int = 0
    inserted: int = 0
    matched: int = 0
    modified: int = 0
    deleted: int = 0

    def count(self, result: Mapping[str, Any]) -> None:
        """Add what the server says of a batch."""
        self.inserted += result.get("nInserted", 0)
        self.matched += result.get("nMatched", 0)
        self.modified += result.get("nModified", 0)
        self.deleted += result.get("nRemoved", 0)

    def outputs(self) -> Outputs:
        """As a task gives it."""
        return Outputs(
            size=self.size,
            insertedCount=self.inserted,
            matchedCount=self.matched,
            modifiedCount=self.modified,
            deletedCount=self.deleted,
        )

    def said(self, count: int) -> str:
        """What has become of the first *count*, if no other was done."""
        one = self.what.removesuffix("s")
        if count == 0:
            return f"No {one} was {self.done}."
        if count == 1:
            return f"The first {one} was {self.done}, no other."
        return f"The first {count:,} {self.what} were {self.done}, no other."


def insert(documents: "Documents[Document]", batch: "Sequence[Document]", tally: Tally) -> list[Any]:
    """Insert a batch, whose size the tally has already; gives the ids.

    Raises:
        TaskFailedError: a document cannot be inserted; tells which, and what has been inserted.
        PyMongoError: something else; its notes tell what has been inserted.
    """
    ids: list[Any] = []

    def write() -> Mapping[str, Any]:
        result = documents.insert_many(batch)
        ids.extend(result.inserted_ids)
        return {"nInserted": len(ids)} if result.acknowledged else {}

    send(batch, tally, write)
    return ids


def send(batch: Sequence[Any], tally: Tally, write: Callable[[], Mapping[str, Any]]) -> None:
    """Send a batch, whose size the tally has already, by *write*, which gives what the server says of it.

    Raises:
        TaskFailedError: a write fails; tells which, and what has been done.
        PyMongoError: something else; its notes tell what has been done.
    """
    from bson.errors import InvalidDocument  # noqa: PLC0415  # heavy, and an extra
    from pymongo.errors import BulkWriteError, PyMongoError  # noqa: PLC0415  # same

    before = tally.size - len(batch)
    row = tally.what.removesuffix("s")
    try:
        tally.count(write())
    except BulkWriteError as error:
        details = cast("dict[str, Any]", error.details)
        tally.count(details)
        errors: list[dict[str, Any]] = details["writeErrors"]
        if not errors:
            raise _unconfirmed(details, tally) from error
        index: int = errors[0]["index"]
        why = cut(str(errors[0].get("errmsg", "the server does not say why")))
        hint = "To write over what is there use Bulk with replaceOne and upsert: true."
        raise TaskFailedError(
            f"{row.capitalize()} {before + index + 1:,} was not {tally.done}: {why}. {tally.said(before + index)}",
            hint if errors[0].get("code") == _DUPLICATE_KEY else "",
            tally.outputs(),
        ) from error
    except PyMongoError as error:
        error.add_note(
            f"Of the first {tally.size:,} {tally.what} {before:,} were {tally.done}, of the others it is not known."
        )
        raise
    except (InvalidDocument, OverflowError, UnicodeEncodeError) as error:
        # Nothing of the batch was sent: it is one message, or was encoded before.
        index, why = _culprit(batch, error)
        tally.size = before
        raise TaskFailedError(
            f"{row.capitalize()} {before + index + 1:,} cannot be sent to MongoDB: {why}. {tally.said(before)}",
            outputs=tally.outputs(),
        ) from error
    tally.requests += 1


def _unconfirmed(details: Mapping[str, Any], tally: Tally) -> TaskFailedError:
    concerns: list[dict[str, Any]] = details.get("writeConcernErrors", [])
    why = cut(str(concerns[0].get("errmsg", ""))) if concerns else "the server does not say why"
    return TaskFailedError(
        f"All {tally.size:,} {tally.what} so far were {tally.done}, but not confirmed as the uri asks for: {why}.",
        outputs=tally.outputs(),
    )


def check_encodable(document: "Document") -> None:
    """Look whether a document can be sent.

    Raises:
        ValueError: it cannot; says why.
    """
    from bson import encode  # noqa: PLC0415  # heavy, and an extra
    from bson.errors import BSONError  # noqa: PLC0415  # same

    try:
        size = len(encode(document))
    except (BSONError, OverflowError, UnicodeEncodeError) as error:
        raise ValueError(cut(str(error))) from error
    if size > _LARGEST_BYTES:
        raise ValueError(f"it has {size:,} bytes, more than the {_LARGEST_BYTES:,} of a document")


def _culprit(batch: "Sequence[Document]", error: Exception) -> tuple[int, str]:
    """The place in the batch of what cannot be sent, and why."""
    for index, document in enumerate(batch):
        try:
            check_encodable(document)
        except ValueError as found:
            return index, str(found)
    return 0, cut(str(error))
