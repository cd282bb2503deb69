"""Errors as the API tells them: a status, a message with its reason, and one entry for each thing that is wrong."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote

import msgspec

from tercel.errors import (
    ConflictError,
    DisabledFlowError,
    InvalidFlowError,
    InvalidInputError,
    NotFoundError,
    UnreachableError,
    UserError,
)
from tercel.model.issue import Issue

_REASONS = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Illegal state",
    410: "Resource has expired",
    413: "Request Entity Too Large",
    422: "Illegal argument",
    423: "Locked",
    500: "Internal server error",
    503: "Service unavailable",
}


class RequestError(UserError):
    """A request is refused.

    Args:
        status: of the answer.
        message: what is wrong, with the value.
        hint: what to do.
        reason: begins the message; that of the status where it is empty.
        errors: message and path of each thing that is wrong, where there are several.
        headers: more of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        hint: str = "",
        reason: str = "",
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.status = status
        self.reason = reason
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


class Invalid(msgspec.Struct, frozen=True, omit_defaults=True):
    """An entry of a bulk call that cannot be done, and so nothing is."""

    message: str
    invalidValue: str = ""  # noqa: N815  # its name in JSON
    path: str = ""


class BulkError(UserError):
    """A bulk call names something that it cannot be done with; nothing was changed.

    Args:
        verb: what was asked, such as `kill`.
        invalids: one for each such entry.
    """

    def __init__(self, verb: str, invalids: Sequence[Invalid]) -> None:
        super().__init__(f"invalid bulk {verb}")
        self.invalids = tuple(invalids)


class Told(msgspec.Struct, frozen=True):
    """What a client is told of an error."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str] = {}


def told(error: UserError, address: str) -> Told:
    """What a client is told of an error.

    Args:
        error: not one of our own mistakes.
        address: of the request, without its query; as the client sent it.
    """
    if isinstance(error, BulkError):
        return Told(400, {"message": error.message, "invalids": error.invalids})
    status, reason, entries = _read(error)
    headers = error.headers if isinstance(error, RequestError) else {}
    return Told(status, _body(f"{reason}: {error}" if str(error) else reason, address, entries, error.hint), headers)


def told_mistake(address: str) -> Told:
    """What a client is told when something went wrong that it cannot know of."""
    return Told(500, _body(_REASONS[500], address, []))


def _body(message: str, address: str, entries: Sequence[Mapping[str, object]], hint: str = "") -> dict[str, object]:
    body: dict[str, object] = {"message": message}
    if hint:
        body["hint"] = hint
    body["_links"] = {"self": [{"href": quote(address, safe="/%:@!$&'()*+,;=~"), "templated": False}]}
    if entries:
        body["_embedded"] = {"errors": entries}
    return body


def _read(error: UserError) -> tuple[int, str, list[Mapping[str, object]]]:
    match error:
        case RequestError():
            entries: list[Mapping[str, object]] = [{"message": text, "path": path} for text, path in error.errors]
            return error.status, error.reason or _REASONS.get(error.status, "Error"), entries
        case NotFoundError():
            return 404, _REASONS[404], []
        case ConflictError() | DisabledFlowError():
            return 409, _REASONS[409], []
        case InvalidFlowError():
            return 422, "Invalid entity", [_entry(issue) for issue in error.issues if isinstance(issue, Issue)]
        case InvalidInputError():
            return 422, "Invalid entity", []
        case UnreachableError():
            return 503, _REASONS[503], []
        case _:
            return 422, _REASONS[422], []


def _entry(issue: Issue) -> dict[str, object]:
    path = f"flow.{issue.path}" if issue.path else "flow"
    found: dict[str, object] = {"message": issue.message, "path": path, "line": issue.line, "column": issue.column}
    for name, value in (("hint", issue.hint), ("code", issue.code)):
        if value:
            found[name] = value
    return found
