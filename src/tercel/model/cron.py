"""Cron expressions: their dates in a time zone, also where its clocks are changed.

An expression with a fixed minute and a fixed hour means one time of the day: where the clocks skip it, the date is
right after the gap, and where they show it twice, it is the first of both. All others mean what clocks show: what is
skipped does not happen, and what is shown twice happens twice.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo

from cronsim import CronSim, CronSimError

from tercel.errors import UserError

_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EXAMPLE = "Write it like '0 9 * * MON-FRI', or @daily."
_LARGEST_STEPS = (59, 59, 23, 31, 12, 7)
_STEP = re.compile(r"/(\d{1,9})")


class Cron:
    """A cron expression.

    Args:
        text: minute, hour, day of the month, month and day of the week, or a nickname such as `@daily`.
        with_seconds: a field for the second comes first.

    Raises:
        UserError: it is none.
    """

    def __init__(self, text: str, *, with_seconds: bool = False) -> None:
        known = _NICKNAMES.get(text.strip())
        fields = (known or text).upper().split()
        wanted = 5 if known or not with_seconds else 6
        if len(fields) != wanted:
            hint = "Set withSeconds: true for seconds." if wanted == 5 and len(fields) == 6 else _EXAMPLE
            raise UserError(f"{text!r} has {len(fields)} fields, and a cron expression has {wanted}.", hint)
        fields = ["0", *fields] if wanted == 5 else fields
        fields[3], fields[5] = (field.replace("?", "*") for field in (fields[3], fields[5]))
        fields[5] = fields[5].replace("-SUN", "-7")
        self._fields = " ".join(fields)
        self._is_fixed = not fields[1].startswith("*") and not fields[2].startswith("*")
        for field, largest in zip(fields, _LARGEST_STEPS, strict=True):
            for step in _STEP.findall(field):
                if int(step) > largest:
                    raise UserError(f"{text!r} is not a cron expression: a step of {step} is too long.", _EXAMPLE)
        try:
            CronSim(self._fields, datetime(2000, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise UserError(f"{text!r} is not a cron expression: {str(error).lower()}.", _EXAMPLE) from None

    def dates(self, start: datetime, zone: tzinfo, *, backwards: bool = False) -> Iterator[datetime]:
        """The dates after *start*, or those before it, nearest first, in *zone*.

        Example:
            >>> midnight = datetime(2030, 1, 1, tzinfo=UTC)
            >>> next(Cron("0 9 * * MON-FRI").dates(midnight, UTC)).isoformat()
            '2030-01-01T09:00:00+00:00'
        """
        last = start.astimezone(UTC)
        for moment in self._moments(start.astimezone(zone), zone, backwards=backwards):
            instant = moment.astimezone(UTC)
            if instant < last if backwards else instant > last:
                last = instant
                yield instant.astimezone(zone)

    def _moments(self, start: datetime, zone: tzinfo, *, backwards: bool) -> Iterator[datetime]:
        """The dates from about *start* on; some may lie on its other side, or come twice."""
        shown = start.replace(tzinfo=None, microsecond=0)
        if backwards and start.microsecond:
            shown += timedelta(seconds=1)
        if overlap := _overlap(start):  # what the clock shows then comes before and after *start*
            shown += overlap if backwards else -overlap
        shown_again: list[datetime] = []
        for naive in CronSim(self._fields, shown, reverse=backwards):
            moment = naive.replace(tzinfo=zone)
            if zone is UTC:
                yield moment
            elif self._is_fixed:
                yield _after_gap(naive, zone)
            elif _overlap(moment):
                yield moment.replace(fold=int(backwards))
                shown_again.append(moment.replace(fold=int(not backwards)))
            else:
                yield from shown_again
                shown_again.clear()
                if not _is_skipped(moment):
                    yield moment


def _overlap(moment: datetime) -> timedelta:
    """How far the clock is set back while it shows *moment*, which it then shows twice; zero at all other times."""
    first, second = moment.replace(fold=0).utcoffset(), moment.replace(fold=1).utcoffset()
    return max(first - second, timedelta(0)) if first is not None and second is not None else timedelta(0)


def _is_skipped(moment: datetime) -> bool:
    """True where no clock shows *moment*."""
    return moment.astimezone(UTC).astimezone(moment.tzinfo).replace(tzinfo=None) != moment.replace(tzinfo=None)


def _after_gap(naive: datetime, zone: tzinfo) -> datetime:
    """What *naive* is in *zone*; the end of the gap where the clocks skip it."""
    moment = naive.replace(tzinfo=zone)
    while _is_skipped(moment):
        naive = naive.replace(second=0) + timedelta(minutes=1)
        moment = naive.replace(tzinfo=zone)
    return moment
