"""Errors become statuses and bodies."""

from __future__ import annotations

import msgspec
import pytest

from tercel.api.problems import BulkError, Invalid, RequestError, told, told_mistake
from tercel.errors import (
    ConflictError,
    DisabledFlowError,
    InvalidFlowError,
    InvalidInputError,
    NotFoundError,
    StorageError,
    UnreachableError,
    UserError,
)
from tercel.model.issue import Issue


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (NotFoundError("No flow."), 404, "Not Found: No flow."),
        (ConflictError("It runs."), 409, "Illegal state: It runs."),
        (DisabledFlowError("It is disabled."), 409, "Illegal state: It is disabled."),
        (InvalidFlowError("It is wrong."), 422, "Invalid entity: It is wrong."),
        (InvalidInputError("No number.", "Give one."), 422, "Invalid entity: No number. Give one."),
        (UserError("No."), 422, "Illegal argument: No."),
        (UnreachableError("The disk is full."), 503, "Service unavailable: The disk is full."),
        (StorageError("No path."), 422, "Illegal argument: No path."),
        (RequestError(410, "Gone."), 410, "Resource has expired: Gone."),
        (RequestError(422, "No JSON.", reason="Invalid json"), 422, "Invalid json: No JSON."),
    ],
)
def test_given_an_error_then_its_status_and_reason_are_told(error: UserError, status: int, message: str) -> None:
    answer = told(error, "/api/v1/x")

    assert answer.status == status
    assert answer.body["message"] == message
    assert answer.body["_links"] == {"self": [{"href": "/api/v1/x", "templated": False}]}
    assert "_embedded" not in answer.body


def test_given_issues_of_a_flow_then_each_is_an_entry() -> None:
    issue = Issue(line=2, column=1, path="tasks[0].id", code="task.id", message="Bad.", hint="Mend it.")

    answer = told(InvalidFlowError("The flow is not valid.", issues=[issue]), "/x")

    [entry] = answer.body["_embedded"]["errors"]  # pyright: ignore[reportIndexIssue]
    assert entry["path"] == "flow.tasks[0].id"
    assert entry["message"] == "Bad."
    assert (entry["line"], entry["hint"]) == (2, "Mend it.")


def test_given_a_bulk_call_that_cannot_be_then_it_is_400_with_what_is_wrong() -> None:
    error = BulkError("kill", [Invalid("execution not found", "abc", "execution")])

    answer = told(error, "/x")

    assert answer.status == 400
    assert msgspec.json.decode(msgspec.json.encode(answer.body)) == {
        "message": "invalid bulk kill",
        "invalids": [{"message": "execution not found", "invalidValue": "abc", "path": "execution"}],
    }


def test_given_a_mistake_of_ours_then_nothing_of_it_is_told() -> None:
    assert told_mistake("/x").body["message"] == "Internal server error"
