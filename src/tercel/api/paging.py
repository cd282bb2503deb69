"""Pages: which part of a list is asked for, and in which order. Pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeVar

import msgspec

from tercel.api.parameters import Parameters, read_whole
from tercel.api.problems import RequestError

T = TypeVar("T")

MOST = 10_000
"""Rows of one page, at most."""


class Order(msgspec.Struct, frozen=True):
    """By which field, as clients call it, a list is ordered."""

    field: str
    is_descending: bool = False


class Paging(msgspec.Struct, frozen=True, kw_only=True):
    """A page.

    Attributes:
        page: from 1.
        size: rows of a page.
        order: the most important first; empty where nothing is asked for.
    """

    page: int = 1
    size: int = 10
    order: tuple[Order, ...] = ()

    @property
    def skipped(self) -> int:
        """Rows before the page."""
        return (self.page - 1) * self.size


def read_paging(parameters: Parameters, sortable: Collection[str]) -> Paging:
    """Read `page`, `size` and `sort`.

    Args:
        parameters: of the request.
        sortable: fields that a list can be ordered by, as clients call them.

    Raises:
        RequestError: 422, one of them cannot be.

    Example:
        >>> read_paging(Parameters([("page", "2"), ("sort", "id:desc")]), ["id"]).order
        (Order(field='id', is_descending=True),)
    """
    numbers = {name: read_whole(name, value, least=1) for name in ("page", "size") if (value := parameters.text(name))}
    numbers["size"] = min(numbers.get("size", 10), MOST)
    order = tuple(_order(text, sortable) for text in parameters.every("sort") if text)
    return Paging(**numbers, order=order)


def _order(text: str, sortable: Collection[str]) -> Order:
    field, _, direction = text.rpartition(":")
    if direction.lower() not in ("asc", "desc") or not field:
        raise RequestError(422, f"{text!r} is no order.", hint="Write field:asc or field:desc.")
    if field not in sortable:
        raise RequestError(
            422, f"Nothing is ordered by {field!r}.", hint=f"Possible are {', '.join(sorted(sortable))}."
        )
    return Order(field, direction.lower() == "desc")


def page_of(items: Sequence[T], paging: Paging, keys: Mapping[str, Callable[[T], Any]]) -> list[T]:
    """The rows of a page, out of all rows.

    Args:
        items: all rows, in the order that holds where none is asked for.
        paging: the page.
        keys: what each sortable field is of a row; None comes last.
    """
    ordered = list(items)
    for order in reversed(paging.order):
        key = keys[order.field]
        values = [(key(item), item) for item in ordered]
        present = [pair for pair in values if pair[0] is not None]
        present.sort(key=itemgetter(0), reverse=order.is_descending)
        ordered = [item for _, item in present] + [item for value, item in values if value is None]
    return ordered[paging.skipped : paging.skipped + paging.size]
