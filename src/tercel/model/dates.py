"""Dates as people write them: time zones by name, instants and times of day as ISO 8601 texts."""

from datetime import UTC, datetime, time, tzinfo
from functools import lru_cache

from tercel.errors import UserError


@lru_cache(maxsize=256)
def find_zone(name: str) -> tzinfo | None:
    """The zone of the tz database called *name*; None where there is none.

    Example:
        >>> find_zone("Europe/Paris"), find_zone("Mars/Base")
        (zoneinfo.ZoneInfo(key='Europe/Paris'), None)
    """
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415  # slow to import, and most flows need none

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def parse_instant(text: str, zone: tzinfo = UTC) -> datetime:
    """Read a date, with a time of day or without; *zone* counts where the text has no offset.

    Raises:
        UserError: the text is no date.

    Example:
        >>> parse_instant("2030-01-31T12:00:00+01:00[Europe/Paris]").isoformat()
        '2030-01-31T12:00:00+01:00'
    """
    moment, _, region = text.strip().partition("[")
    try:
        read = datetime.fromisoformat(moment)
    except ValueError:
        raise UserError(f"{text[:60]!r} is not a date.", "Write it like 2030-01-31T12:00:00Z.") from None
    if read.tzinfo is None:
        read = read.replace(tzinfo=zone)
    own = find_zone(region.removesuffix("]")) if region else None
    return read if own is None else read.astimezone(own)


def parse_time(text: str) -> time:
    """Read a time of day, with an offset or without.

    Raises:
        UserError: the text is no time of day.
    """
    try:
        return time.fromisoformat(text.strip())
    except ValueError:
        raise UserError(f"{text[:60]!r} is not a time of day.", "Write it like 16:30:00Z.") from None


def offset_text(moment: datetime) -> str:
    """An aware instant as text, with its own offset.

    Example:
        >>> offset_text(datetime(2030, 1, 31, 12, tzinfo=UTC))
        '2030-01-31T12:00:00Z'
    """
    text = moment.isoformat()
    return f"{text.removesuffix('+00:00')}Z" if text.endswith("+00:00") else text
