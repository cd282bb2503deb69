"""What belongs to triggers, found by trigger and by flow."""

from collections.abc import Mapping
from typing import Generic, TypeVar

from tercel.scheduler.flows import FlowKey
from tercel.store import TriggerKey

T = TypeVar("T")


class ByFlow(Generic[T]):
    """A value for each trigger. One thread at a time may change it; any may look at it meanwhile.

    Example:
        >>> states = ByFlow({("company", "load", "daily"): 1})
        >>> states.of(("company", "load"))
        {'daily': 1}
    """

    def __init__(self, values: Mapping[TriggerKey, T] | None = None) -> None:
        self._all: dict[TriggerKey, T] = {}
        self._of: dict[FlowKey, dict[str, T]] = {}
        for key, value in (values or {}).items():
            self[key] = value

    def __contains__(self, key: TriggerKey) -> bool:
        return key in self._all

    def __getitem__(self, key: TriggerKey) -> T:
        return self._all[key]

    def __setitem__(self, key: TriggerKey, value: T) -> None:
        self._all[key] = value
        self._of.setdefault(key[:2], {})[key[2]] = value

    def get(self, key: TriggerKey) -> T | None:
        """The value of a trigger; None where it has none."""
        return self._all.get(key)

    def drop(self, key: TriggerKey) -> None:
        """Forget a trigger, if it is known."""
        if key in self._all:
            del self._all[key]
            values = self._of[key[:2]]
            del values[key[2]]
            if not values:
                del self._of[key[:2]]

    def of(self, flow: FlowKey) -> dict[str, T]:
        """The values of a flow's triggers as they are now, by the triggers' ids."""
        return dict(self._of.get(flow, {}))

    def values(self) -> list[T]:
        """All values as they are now."""
        return list(self._all.values())

    def items(self) -> list[tuple[TriggerKey, T]]:
        """All triggers and their values as they are now."""
        return list(self._all.items())
