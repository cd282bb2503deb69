"""What has to hold of the rows that a search gives: conditions on their fields, joined by AND and OR.

Pure. Whoever searches says which fields there are; the API reads conditions from requests, stores put them into
queries of their own.
"""

from enum import StrEnum
from typing import Any

import msgspec


class Operation(StrEnum):
    """How a field is compared."""

    EQUALS = "EQUALS"
    NOT_EQUALS = "NOT_EQUALS"
    GREATER_THAN = "GREATER_THAN"
    LESS_THAN = "LESS_THAN"
    GREATER_THAN_OR_EQUAL_TO = "GREATER_THAN_OR_EQUAL_TO"
    LESS_THAN_OR_EQUAL_TO = "LESS_THAN_OR_EQUAL_TO"
    IN = "IN"
    NOT_IN = "NOT_IN"
    STARTS_WITH = "STARTS_WITH"
    ENDS_WITH = "ENDS_WITH"
    CONTAINS = "CONTAINS"
    NOT_CONTAINS = "NOT_CONTAINS"
    IS_NULL = "IS_NULL"
    IS_NOT_NULL = "IS_NOT_NULL"
    REGEX = "REGEX"
    PREFIX = "PREFIX"


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """What has to hold of one field.

    Attributes:
        field: its name, as whoever searches calls it.
        operation: how it is compared.
        value: with what; of the field's own type (text, an enumeration's member, whole number, bool, aware datetime in
            UTC); a tuple of those for IN and NOT_IN; None for IS_NULL and IS_NOT_NULL.
        key: of the map, for fields that are maps (labels); empty for all others.
    """

    field: str
    operation: Operation
    value: Any = None
    key: str = ""


class AnyOf(msgspec.Struct, frozen=True):
    """At least one of *parts* has to hold."""

    parts: "tuple[Where, ...]"


class AllOf(msgspec.Struct, frozen=True):
    """Each of *parts* has to hold; nothing has to where there are none."""

    parts: "tuple[Where, ...]" = ()

    def of(self, field: str) -> "list[Condition]":
        """The conditions on *field* that have to hold in any case."""
        return [part for part in self.parts if isinstance(part, Condition) and part.field == field]


Where = Condition | AnyOf | AllOf
