"""The words of dates: what a language has to give, and the English months and weekdays that formats are made of."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol

Width = Literal["abbreviated", "wide", "narrow"]

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class Names(Protocol):
    """The words of one language. Widths are `abbreviated`, `wide` and `narrow`.

    Attributes:
        first_weekday: day a week begins with, 1 = Monday … 7 = Sunday.
        minimal_days: days of a new year that its first week must have.
    """

    @property
    def first_weekday(self) -> int: ...  # noqa: D102
    @property
    def minimal_days(self) -> int: ...  # noqa: D102

    def months(self, width: Width, *, alone: bool) -> Sequence[str]:
        """Give the twelve months; *alone* is the form used without a day."""
        ...

    def weekdays(self, width: Width, *, alone: bool) -> Sequence[str]:
        """Give the seven days, Monday first."""
        ...

    def quarters(self, width: Width) -> Sequence[str]:
        """Give the four quarters."""
        ...

    def halves(self) -> Sequence[str]:
        """Give the words for before and after noon."""
        ...

    def eras(self, width: Width) -> Sequence[str]:
        """Give the words for before and after year 1."""
        ...

    def day_period(self, moment: datetime) -> str:
        """Give the part of the day, such as `in the morning`."""
        ...

    def zone(self, moment: datetime, *, wide: bool, generic: bool) -> str:
        """Give the name of the moment's region; *generic* leaves out whether it is summer time."""
        ...

    def style(self, style: str) -> str:
        """Give the pattern of the preset `full`, `long`, `medium` or `short`."""
        ...
