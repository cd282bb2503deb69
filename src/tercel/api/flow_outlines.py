"""What lists of flows are searched and ordered by, without reading the whole of each text every time."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from threading import Lock
from typing import Any, cast

import msgspec

from tercel.api.shapes import Json, written
from tercel.store import FlowRevision

_MOST = 20_000
_WORDS = ("labels", "disabled", "description", "triggers")


class Outline(msgspec.Struct, frozen=True):
    """The part of a flow that lists are searched and ordered by; shared, and so never changed.

    Attributes:
        labels: by key.
        disabled: whether the flow says so.
        description: as it is written; None where there is none.
        triggers: the definitions of those that have an id.
    """

    labels: Mapping[str, str] = {}
    disabled: bool = False
    description: object = None
    triggers: Sequence[Json] = ()


_NOTHING = Outline()
_known: dict[bytes, Outline] = {}
_guard = Lock()


def outline(saved: FlowRevision) -> Outline:
    """The outline of a flow; of one that cannot be read any more, an empty one. For any thread."""
    if not any(word in saved.source for word in _WORDS):
        return _NOTHING
    digest = blake2b(saved.source.encode(), digest_size=16).digest()
    found = _known.get(digest)
    if found is None:
        found = _read(saved.source)
        with _guard:
            while len(_known) >= _MOST:
                del _known[next(iter(_known))]
            _known[digest] = found
    return found


def _read(source: str) -> Outline:
    flow = written(source)
    return Outline(
        labels={
            str(one["key"]): str(one["value"]) for one in _maps(flow.get("labels")) if {"key", "value"} <= set(one)
        },
        disabled=flow.get("disabled") is True,
        description=flow.get("description"),
        triggers=tuple(one for one in _maps(flow.get("triggers")) if "id" in one),
    )


def _maps(value: object) -> list[dict[str, Any]]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]
