"""What a script says, put where it belongs: log lines to the log, metrics to the book, outputs together."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from tercel.plugin_api import LogLevel, MetricType, RunContext


class TaskSink:
    """The sink of one run of a script; a `script_protocol.Sink`.

    Attributes:
        vars: the outputs so far.
        too_large: why the outputs cannot be kept; empty while they can.
    """

    def __init__(self, context: RunContext, limit_bytes: int) -> None:
        self._context = context
        self._logger = context.logger
        self._limit_bytes = limit_bytes
        self._size = 0
        self.vars: dict[str, object] = {}
        self.too_large = ""

    def lines(self, level: LogLevel, lines: Sequence[str]) -> None:
        """Ordinary lines become log entries."""
        self._logger.log_lines(level, lines)

    def log(self, level: LogLevel, message: str) -> None:
        """An entry of a payload becomes one of the log."""
        self._logger.log(level, message)

    def detail(self, message: str) -> None:
        """For whoever looks closer."""
        self._logger.trace(message)

    def outputs(self, values: Mapping[str, object], size: int) -> None:
        """Merge; twice over the limit all is dropped, so that no script fills the worker's memory.

        What is within that is measured by the worker, as the outputs of every task are.
        """
        if self.too_large:
            return
        self.vars.update(values)
        self._size += size
        # Values that replace others are counted twice: measured anew only when a full limit has come since.
        if self._size > 2 * self._limit_bytes:
            self._measure()

    def _measure(self) -> None:
        sizes = {name: len(json.dumps(value, ensure_ascii=False).encode()) for name, value in self.vars.items()}
        self._size = sum(sizes.values())
        if self._size > self._limit_bytes:
            largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
            self.vars.clear()
            self.too_large = (
                f"The outputs are too large: {self._size:,} bytes, while {self._limit_bytes:,} are allowed. "
                f"The largest: {', '.join(f'{name!r} ({sizes[name]:,})' for name in largest)}."
            )

    def secrets(self, values: Mapping[str, object]) -> None:
        """Mask every text in *values* from now on."""
        for text in _texts(values):
            self._context.add_secret(text)

    def metric(self, type: MetricType, name: str, value: float, tags: Mapping[str, str]) -> None:
        """A measured value."""
        self._context.metric(name, value, type, tags)


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            if value:
                yield value
        case dict():
            for one in cast("dict[str, object]", value).values():
                yield from _texts(one)
        case list():
            for one in cast("list[object]", value):
                yield from _texts(one)
        case int() | float() if not isinstance(value, bool):
            yield str(value)
        case _:
            pass
