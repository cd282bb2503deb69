"""Time zones by the names that Kestra's users write: `Europe/Paris`, `UTC`, `Z`, `+02:00`, `UTC+2`.

A region is a `ZoneInfo`, or a `FixedRegion` for UTC and its relatives, which saves loading the zone database for
the commonest of all. An offset without a name is a `datetime.timezone`.
"""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache

from tercel.errors import ExpressionError

_OFFSET = re.compile(r"([+-])(\d{1,2})(?::?(\d\d)(?::?(\d\d))?)?", re.ASCII)
_FIXED = re.compile(r"(UTC|GMT|UT)([+-].+)?", re.ASCII)
_LARGEST_OFFSET = timedelta(hours=18)


class FixedRegion(tzinfo):
    """A region with one offset for ever, such as `UTC` or `GMT+02:00`.

    Attributes:
        key: its name.
    """

    def __init__(self, key: str, offset: timedelta) -> None:
        self.key = key
        self._offset = offset

    def utcoffset(self, dt: datetime | None, /) -> timedelta:
        """Give the offset, the same at any time."""
        return self._offset

    def dst(self, dt: datetime | None, /) -> timedelta:
        """Give zero: there is no summer time."""
        return timedelta()

    def tzname(self, dt: datetime | None, /) -> str:
        """Give the region's name."""
        return self.key

    def __repr__(self) -> str:
        return f"FixedRegion({self.key!r})"


def zone_of(name: str) -> tzinfo:
    """Give the zone called *name*.

    Raises:
        ExpressionError: there is none.
    """
    zone = find_zone(name)
    if zone is None:
        raise ExpressionError(
            f"There is no time zone {name[:60]!r}. Write a region such as 'Europe/Paris', or '+02:00'."
        )
    return zone


@lru_cache(maxsize=256)
def find_zone(name: str) -> tzinfo | None:
    """Give the zone called *name*, or None."""
    if name == "Z":
        return UTC
    fixed = _FIXED.fullmatch(name)
    if fixed is not None:
        offset = _offset(fixed[2]) if fixed[2] else timedelta()
        if offset is None:
            return None
        return FixedRegion(fixed[1] + (offset_text(offset, colon=True) if offset else ""), offset)
    if name[:1] in {"+", "-"}:
        offset = _offset(name)
        return None if offset is None else timezone(offset) if offset else UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - slow to import, and most flows know only UTC

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def _offset(text: str) -> timedelta | None:
    found = _OFFSET.fullmatch(text)
    if found is None:
        return None
    minutes, seconds = int(found[3] or 0), int(found[4] or 0)
    offset = timedelta(hours=int(found[2]), minutes=minutes, seconds=seconds)
    if minutes > 59 or seconds > 59 or offset > _LARGEST_OFFSET:
        return None
    return -offset if found[1] == "-" else offset


def is_region(zone: tzinfo | None) -> bool:
    """Say whether the zone has a name of its own, rather than just an offset."""
    return not isinstance(zone, timezone)


def zone_id(zone: tzinfo | None) -> str:
    """Give a zone's name: a region's, `+02:00`, or `Z`."""
    key = getattr(zone, "key", None)
    if isinstance(key, str):
        return key
    offset = (zone or UTC).utcoffset(None) or timedelta()
    return offset_text(offset, colon=True) if offset else "Z"


def offset_text(offset: timedelta, *, colon: bool, seconds: bool = True) -> str:
    """Write an offset: `+02:00` or `+0200`, with seconds where there are any and they are wanted."""
    rest = abs(offset) // timedelta(seconds=1)
    mark = ":" if colon else ""
    text = f"{'-' if offset < timedelta() else '+'}{rest // 3600:02}{mark}{rest // 60 % 60:02}"
    return f"{text}{mark}{rest % 60:02}" if seconds and rest % 60 else text
