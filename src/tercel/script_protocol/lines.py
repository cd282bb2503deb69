"""Bytes to physical lines: LF, CR and CRLF end a line and nothing else does; UTF-8, bad bytes replaced.

Works on whole blocks, because a script may print a gigabyte: a block is decoded once and split once.
"""

MAX_LINE_CHARACTERS = 1 << 20
"""An ordinary line, or a message, longer than this is cut."""

MAX_FRAME_BYTES = 16 << 20
"""A line that may hold a payload is kept up to this length."""


class LineSplitter:
    """Turns the blocks of one stream, cut anywhere, into lines without their ends.

    Attributes:
        cut_frame_bytes: size of the longest line so far that begins a frame and was cut; 0 where there is none.
    """

    __slots__ = ("_after_cr", "_dropped", "_limit", "_parts", "_size", "cut_frame_bytes")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._limit = MAX_FRAME_BYTES
        self._dropped = 0
        self._after_cr = False
        self.cut_frame_bytes = 0

    def feed(self, block: bytes) -> list[str]:
        """The lines that *block* completes."""
        if self._after_cr and block:
            self._after_cr = False
            if block[0] == 10:  # the LF of a CRLF that two blocks share
                block = block[1:]
        if b"\r" in block:
            self._after_cr = block[-1] == 13
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end = block.rfind(b"\n")
        if end < 0:
            self._keep(block)
            return []
        if not self._size and not self._dropped:
            lines = block[:end].decode("utf-8", "replace").split("\n")
        else:
            first = block.find(b"\n")
            self._keep(block[:first])
            lines = [self._finish()]
            if first < end:
                lines += block[first + 1 : end].decode("utf-8", "replace").split("\n")
        self._keep(block[end + 1 :])
        return lines

    def close(self) -> list[str]:
        """The last line, if the stream ended within one."""
        return [self._finish()] if self._size or self._dropped else []

    def _keep(self, part: bytes) -> None:
        """Add to the line that is not complete yet, as far as it may grow."""
        if not part:
            return
        if not self._size and not self._dropped:
            self._limit = MAX_FRAME_BYTES if part[0] in b":{" else MAX_LINE_CHARACTERS
        room = self._limit - self._size
        if len(part) > room:
            self._dropped += len(part) - room
            part = part[:room]
        if part:
            self._parts.append(part)
            self._size += len(part)

    def _finish(self) -> str:
        data, dropped = b"".join(self._parts), self._dropped
        self._parts, self._size, self._dropped = [], 0, 0
        if dropped:
            if data.startswith(b"::{"):
                self.cut_frame_bytes = max(self.cut_frame_bytes, len(data) + dropped)
            kept = data[:MAX_LINE_CHARACTERS]
            return f"{kept.decode('utf-8', 'ignore')}… [{len(data) - len(kept) + dropped:,} bytes cut]"
        return data.decode("utf-8", "replace")
