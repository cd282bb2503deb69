"""A sink that keeps what a script said, merged as a task run keeps it."""

from collections.abc import Mapping, Sequence

from tercel.model.task import LogLevel
from tercel.script_protocol import ScriptOutput


class KeepingSink:
    """Keeps everything in order; metrics added up by type, name and tags."""

    def __init__(self) -> None:
        self.vars: dict[str, object] = {}
        self.logs: list[tuple[LogLevel, str]] = []
        self.details: list[str] = []
        self.secret_values: list[Mapping[str, object]] = []
        self.metrics: dict[tuple[str, str, tuple[tuple[str, str], ...]], float] = {}

    def lines(self, level: LogLevel, lines: Sequence[str]) -> None:
        self.logs += [(level, line) for line in lines]

    def log(self, level: LogLevel, message: str) -> None:
        self.logs.append((level, message))

    def detail(self, message: str) -> None:
        self.details.append(message)

    def outputs(self, values: Mapping[str, object], size: int) -> None:
        assert size > 0
        self.vars |= values

    def secrets(self, values: Mapping[str, object]) -> None:
        self.secret_values.append(values)

    def metric(self, type: str, name: str, value: float, tags: Mapping[str, str]) -> None:
        key = (type, name, tuple(sorted(tags.items())))
        self.metrics[key] = value if type == "gauge" else self.metrics.get(key, 0.0) + value


def said(*lines: str, stream: str = "stdout") -> KeepingSink:
    """What a script that prints *lines* said."""
    sink = KeepingSink()
    output = ScriptOutput("stderr" if stream == "stderr" else "stdout", sink)
    output.take(list(lines))
    output.close()
    return sink
