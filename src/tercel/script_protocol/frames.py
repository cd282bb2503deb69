"""Lines to payloads: frames on one line, over several lines, and payloads without a frame."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from tercel.model.task import LogLevel
from tercel.script_protocol.lines import LineSplitter
from tercel.script_protocol.payload import (
    InvalidPayloadError,
    MetricType,
    Payload,
    read_bare_payload,
    read_payloads,
)

_MAX_PENDING_LINES = 10_000
_MAX_PENDING_CHARACTERS = 1 << 20

_MARKERS = {"##kestra:log:debug##": LogLevel.DEBUG, "##kestra:log:info##": LogLevel.INFO}
"""Printed around `beforeCommands` by other engines: the level of ordinary lines from there on."""


class Sink(Protocol):
    """Takes what a script says. A sink that cannot keep up blocks, and with it the script."""

    def lines(self, level: LogLevel, lines: Sequence[str]) -> None:
        """Ordinary lines, in order."""
        ...

    def log(self, level: LogLevel, message: str) -> None:
        """One entry that a payload holds, or that is about one."""
        ...

    def detail(self, message: str) -> None:
        """Something for whoever looks closer; no entry of the script's."""
        ...

    def outputs(self, values: Mapping[str, object], size: int) -> None:
        """Outputs to merge, later ones win; *size* is about how many characters they were."""
        ...

    def secrets(self, values: Mapping[str, object]) -> None:
        """Values that are given as outputs next, whose texts no log may show."""
        ...

    def metric(self, type: MetricType, name: str, value: float, tags: Mapping[str, str]) -> None:
        """A measured value; seconds for a timer."""
        ...


class ScriptOutput:
    """What one stream of a script says, told to *sink*.

    Args:
        stream: ordinary lines of stdout are INFO, those of stderr *stderr_level*.

    Attributes:
        line_count: physical lines so far; markers of older engines do not count.
    """

    __slots__ = ("_is_stdout", "_level", "_pending", "_pending_size", "_sink", "_splitter", "line_count")

    def __init__(
        self, stream: Literal["stdout", "stderr"], sink: Sink, *, stderr_level: LogLevel = LogLevel.WARN
    ) -> None:
        self._is_stdout = stream == "stdout"
        self._level = LogLevel.INFO if self._is_stdout else stderr_level
        self._sink = sink
        self._splitter = LineSplitter()
        self._pending: list[str] = []
        self._pending_size = 0
        self.line_count = 0

    @property
    def cut_frame_bytes(self) -> int:
        """The size of the longest line that began a frame and was too long to be kept; 0 where none was."""
        return self._splitter.cut_frame_bytes

    def feed(self, block: bytes) -> None:
        """Take a block of the stream, cut anywhere."""
        lines = self._splitter.feed(block)
        if lines:
            self.take(lines)

    def close(self) -> None:
        """The stream has ended: what was waiting for more is told as it is."""
        lines = self._splitter.close()
        if lines:
            self.take(lines)
        self._replay()

    def take(self, lines: list[str]) -> None:
        """Take whole lines, without their ends."""
        self.line_count += len(lines)
        if not self._pending and not _may_say_more("\n".join(lines)):
            self._sink.lines(self._level, lines)
        else:
            self._take_one_by_one(lines)

    def _take_one_by_one(self, lines: list[str]) -> None:
        ordinary: list[str] = []
        for line in lines:
            bare: Payload | None = None
            if not self._pending and not line.startswith(("::{", "##kestra:log:")):
                if line.startswith("{"):
                    bare = _bare_payload(line)
                if bare is None:
                    ordinary.append(line)
                    continue
            if ordinary:
                self._sink.lines(self._level, ordinary)
                ordinary = []
            if bare is not None:
                self._tell(bare, len(line))
            else:
                self._interpret(line)
        if ordinary:
            self._sink.lines(self._level, ordinary)

    def _interpret(self, line: str) -> None:
        """Take a line that is a frame or a marker, or comes while a frame is open."""
        text = line.removesuffix("\r")
        if text.startswith("::{"):
            self._replay()
            if text.endswith("}::"):
                self._apply(text, [])
            else:
                self._pending, self._pending_size = [line], len(line)
        elif self._pending:
            self._pending.append(line)
            self._pending_size += len(line)
            if text.endswith("}::"):
                lines, self._pending = self._pending, []
                self._apply("\n".join(lines).removesuffix("\r"), lines)
            elif len(self._pending) > _MAX_PENDING_LINES or self._pending_size > _MAX_PENDING_CHARACTERS:
                self._replay()
        elif self._is_stdout and text in _MARKERS:
            self._level = _MARKERS[text]
            self.line_count -= 1
        else:
            self._sink.lines(self._level, [line])

    def _replay(self) -> None:
        """Give up an open frame: its lines were ordinary ones."""
        if self._pending:
            lines, self._pending = self._pending, []
            self._sink.lines(self._level, lines)

    def _apply(self, frame: str, lines: list[str]) -> None:
        """Tell what *frame* holds; where that is nothing, *lines* (those it was spread over) were ordinary ones."""
        payloads: list[Payload] = []
        problem = ""
        try:
            payloads.extend(read_payloads(frame[2:-2]))
        except InvalidPayloadError as error:
            problem = str(error)
        if problem and lines and not payloads:
            self._sink.lines(self._level, lines)
        for payload in payloads:
            self._tell(payload, len(frame))
        if problem:
            self._sink.log(LogLevel.WARN, f"Invalid outputs '{problem}'")
            self._sink.detail(f"The script printed {frame}")

    def _tell(self, payload: Payload, size: int) -> None:
        sink = self._sink
        if payload.outputs:
            sink.outputs(payload.outputs, size)
        if payload.secret_outputs:
            sink.secrets(payload.secret_outputs)
            sink.outputs(payload.secret_outputs, size)
        for metric in payload.metrics:
            sink.metric(metric.type, metric.name, metric.value, metric.tags)
        for entry in payload.entries:
            sink.log(entry.level, entry.message)


def _may_say_more(text: str) -> bool:
    """False where no line of *text* is more than text; a few searches over a block are cheaper than a test per line."""
    # The search for one character is many times faster than that for a few, and mostly settles it.
    if "{" in text and (text.startswith("{") or "::{" in text or "\n{" in text):
        return True
    return "#" in text and "##kestra:log:" in text


def _bare_payload(line: str) -> Payload | None:
    text = line.removesuffix("\r")
    return read_bare_payload(text) if text.endswith("}") else None
