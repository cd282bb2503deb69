"""The query of an address: texts, flags, numbers, dates and durations by name; whatever is wrong is told. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar
from urllib.parse import parse_qsl

from tercel.api.problems import RequestError
from tercel.errors import UserError
from tercel.model.dates import parse_instant
from tercel.model.duration import parse_duration

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)


class Parameters:
    """What stands behind the `?` of an address. A parameter that is given twice counts as it was given last.

    Args:
        pairs: names and values, decoded.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]] = ()) -> None:
        self.pairs = tuple(pairs)
        self._last = dict(pairs)

    @classmethod
    def read(cls, query: str) -> "Parameters":
        """Read a query string."""
        try:
            return cls(parse_qsl(query, keep_blank_values=True, errors="strict"))
        except ValueError:
            raise RequestError(422, "The query is no UTF-8 text.") from None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.pairs)

    def __contains__(self, name: str) -> bool:
        return name in self._last

    def text(self, name: str) -> str | None:
        """A value; None where it is not given."""
        return self._last.get(name)

    def needed(self, name: str) -> str:
        """A value that has to be given. Raises RequestError, 400."""
        value = self._last.get(name)
        if value is None:
            raise RequestError(400, f"The parameter {name!r} is missing.")
        return value

    def every(self, name: str) -> list[str]:
        """Every value of a parameter that may be repeated."""
        return [value for key, value in self.pairs if key == name]

    def flag(self, name: str, default: bool) -> bool:
        """`true` or `false`; an empty one is true."""
        value = self._last.get(name)
        return default if value is None else read_flag(name, value)

    def whole(self, name: str, default: int | None = None, *, least: int = 0) -> int | None:
        """A whole number."""
        return self._read(name, default, lambda value: read_whole(name, value, least=least))

    def instant(self, name: str) -> datetime | None:
        """A date, in UTC; UTC is meant where it says no offset. None where it is not given, or empty."""
        return self._read(name, None, lambda value: read_instant(name, value))

    def duration(self, name: str) -> timedelta | None:
        """An ISO 8601 duration; None where it is not given, or empty."""
        return self._read(name, None, lambda value: read_duration(name, value))

    def choice(self, name: str, choices: type[E]) -> E | None:
        """One of *choices*, in any case; None where it is not given, or empty."""
        return self._read(name, None, lambda value: read_choice(name, value, choices))

    def labels(self, name: str = "labels") -> dict[str, str]:
        """Labels as `key:value`, split at the first colon; neither may be empty."""
        found: dict[str, str] = {}
        for one in self.every(name):
            key, _, value = one.partition(":")
            if not key or not value:
                raise RequestError(422, f"{one!r} is no label.", hint="Write key:value.")
            found[key] = value
        return found

    def _read(self, name: str, default: T | None, read: Callable[[str], T]) -> T | None:
        value = self._last.get(name)
        return default if not value else read(value)


def read_flag(name: str, value: str) -> bool:
    """A truth value. Raises RequestError, 422."""
    match value.lower():
        case "true" | "":
            return True
        case "false":
            return False
        case _:
            raise _unreadable(name, value, "true or false")


def read_whole(name: str, value: str, *, least: int = 0) -> int:
    """A whole number of at least *least*. Raises RequestError, 422."""
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 19) or int(value) < least:
        raise _unreadable(name, value, f"a whole number of at least {least}")
    return int(value)


def read_instant(name: str, value: str) -> datetime:
    """A date, in UTC. Raises RequestError, 422."""
    try:
        # A plus sign of an offset arrives as a blank, where the sender did not encode it.
        return parse_instant(value.strip().replace(" ", "+")).astimezone(UTC)
    except (UserError, OverflowError):
        raise _unreadable(name, value, "a date such as 2030-01-31T12:00:00Z") from None


def read_duration(name: str, value: str) -> timedelta:
    """A duration. Raises RequestError, 422."""
    try:
        return parse_duration(value)
    except ValueError:
        raise _unreadable(name, value, "a duration such as PT15M") from None


def read_choice(name: str, value: str, choices: type[E]) -> E:
    """One of *choices*, in any case. Raises RequestError, 422."""
    try:
        return choices(value.upper())
    except ValueError:
        raise _unreadable(name, value, f"one of {', '.join(choices)}") from None


def read_map(value: object, what: str) -> Mapping[str, object]:
    """A JSON object. Raises RequestError, 422."""
    if not isinstance(value, dict):
        raise RequestError(422, f"{what} is no JSON object.", reason="Invalid json")
    return value  # pyright: ignore[reportUnknownVariableType]  # decoded from JSON, which has text keys


def _unreadable(name: str, value: str, wanted: str) -> RequestError:
    return RequestError(422, f"The parameter {name!r} is {value[:100]!r}, which is not {wanted}.")
