"""Which objects a trigger knows, in little room: some bytes of a hash of each key, and of what tells its content.

Pure. Written as one text of 16 characters for each object, 22 where it has to be known for how long.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterator
from hashlib import blake2b
from typing import Literal

_KEY_BYTES = 8
_CONTENT_BYTES = 4
_TIME_BYTES = 4

Change = Literal["CREATE", "UPDATE"]


class KnownObjects:
    """The objects that were seen, each with the content it had.

    Args:
        written: what `write` gave, with the same *ttl_s* or another; "" for none.
        ttl_s: seconds after which an object is forgotten although it is there; None for never.
        now_s: seconds since the epoch.
    """

    def __init__(self, written: str = "", *, ttl_s: int | None = None, now_s: int = 0) -> None:
        self._ttl_s = ttl_s
        self._now_s = now_s
        self._known: dict[bytes, tuple[bytes, int]] = {
            key: (content, at_s)
            for key, content, at_s in _read(written, now_s)
            if ttl_s is None or now_s - at_s < ttl_s
        }
        self._met: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._known)

    def meet(self, key: str, etag: str) -> Change | None:
        """Note that an object is there; gives how it differs from what is known, None where it does not."""
        hashed = _hash(key, _KEY_BYTES)
        known = self._known.get(hashed)
        if known is None:
            return "CREATE"
        self._met.add(hashed)
        return None if known[0] == _hash(etag, _CONTENT_BYTES) else "UPDATE"

    def know(self, key: str, etag: str) -> None:
        """Know an object with this content from now on."""
        hashed = _hash(key, _KEY_BYTES)
        self._known[hashed] = (_hash(etag, _CONTENT_BYTES), self._now_s)
        self._met.add(hashed)

    def forget(self, key: str) -> None:
        """Know nothing of an object."""
        self._known.pop(_hash(key, _KEY_BYTES), None)

    @property
    def are_met(self) -> bool:
        """Whether all that are known are there."""
        return len(self._met) == len(self._known)

    def forget_unmet(self) -> None:
        """Know only those that are there."""
        self._known = {key: self._known[key] for key in self._known if key in self._met}

    def write(self) -> str:
        """All of it as text."""
        timed = self._ttl_s is not None
        size = _KEY_BYTES + _CONTENT_BYTES + (_TIME_BYTES if timed else 0)
        content = b"".join(
            key + content + (at_s.to_bytes(_TIME_BYTES) if timed else b"")
            for key, (content, at_s) in self._known.items()
        )
        return f"{size}:{b64encode(content).decode()}" if content else ""


def _read(written: str, now_s: int) -> Iterator[tuple[bytes, bytes, int]]:
    head, _, encoded = written.partition(":")
    content = b64decode(encoded)
    size = int(head or 1)
    middle = _KEY_BYTES + _CONTENT_BYTES
    for start in range(0, len(content), size):
        entry = content[start : start + size]
        # Of those known without a time it counts from now on.
        at_s = int.from_bytes(entry[middle:]) if size > middle else now_s
        yield entry[:_KEY_BYTES], entry[_KEY_BYTES:middle], at_s


def _hash(text: str, size: int) -> bytes:
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=size).digest()
