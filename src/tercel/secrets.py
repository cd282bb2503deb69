"""Secrets from the environment, and masking them in text.

Knows where `secret('NAME')` comes from (`SECRET_<NAME>`, Base64) and in which disguises a value shows up again.
What is masked, and when, is decided by the caller.
"""

from collections.abc import Iterator, Mapping, Sequence
from threading import Lock

_PREFIX = "SECRET_"
_VARIANT_MIN = 4
_LINE_MIN = 8
_PIECE_MIN = 8
_LABEL = "**masked*"


class Secrets:
    """Named secrets; names are compared in upper case.

    Args:
        values: secrets by name.
        problems: sentences about secrets that could not be read, for the start-up log.
    """

    def __init__(self, values: Mapping[str, str], problems: Sequence[str] = ()) -> None:
        self._values = {name.upper(): value for name, value in values.items()}
        self.problems = tuple(problems)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Secrets":
        """Read every `SECRET_<NAME>`: Base64 of UTF-8 text, line breaks ignored; one that is not is left out."""
        values: dict[str, str] = {}
        problems: list[str] = []
        for name, encoded in environment.items():
            if not name.upper().startswith(_PREFIX) or len(name) == len(_PREFIX):
                continue
            value = _decoded(encoded)
            if value is None:
                problems.append(f"{name} is not Base64 of a UTF-8 text; there is no such secret until it is.")
            else:
                values[name[len(_PREFIX) :]] = value
        return cls(values, problems)

    def find(self, name: str) -> str | None:
        """The secret's value; None where there is none of that name."""
        return self._values.get(name.upper())


def _decoded(encoded: str) -> str | None:
    from base64 import b64decode  # noqa: PLC0415  # most runs have no secrets

    try:
        return b64decode("".join(encoded.split()), validate=True).decode()
    except ValueError:
        return None


class Masker:
    """Hides every secret it was told of, also Base64, URL and JSON encoded. Safe to use from several threads."""

    __slots__ = ("_known", "_lock", "_variants")

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: set[str] = set()
        self._variants: tuple[tuple[str, str], ...] = ()

    def add(self, value: str) -> None:
        """Hide *value* and its usual encodings from now on; blank text is no secret."""
        if value in self._known or not value.strip():
            return
        with self._lock:
            self._known.add(value)
            variants = dict(self._variants)
            variants.update((variant, _stars(len(variant))) for variant in _variants(value))
            self._variants = tuple(sorted(variants.items(), key=lambda item: -len(item[0])))

    def mask(self, text: str) -> str:
        """*text* with stars in place of every secret, as many as the secret has characters."""
        for variant, stars in self._variants:
            if variant in text:
                text = text.replace(variant, stars)
        return text


def _stars(length: int) -> str:
    return "*" * length if length < len(_LABEL) else _LABEL + "*" * (length - len(_LABEL))


def _variants(value: str) -> Iterator[str]:
    yield value
    plain = value.strip()
    yield plain
    lines = plain.splitlines()
    if len(lines) > 1:
        # A secret of several lines, such as a private key, reaches the log line by line.
        yield from (line.strip() for line in lines if len(line.strip()) >= _LINE_MIN)
    if len(plain) < _VARIANT_MIN:
        return
    for text in {value, plain}:
        yield from _encodings(text)


def _encodings(text: str) -> Iterator[str]:
    from base64 import b64encode  # noqa: PLC0415  # most runs have no secrets
    from json import dumps  # noqa: PLC0415  # same
    from urllib.parse import quote, quote_plus  # noqa: PLC0415  # same

    yield dumps(text)[1:-1]
    yield dumps(text, ensure_ascii=False)[1:-1]
    yield from (quote(text), quote(text, safe=""), quote_plus(text))
    raw = text.encode()
    for encoded in (b64encode(raw).decode(), *_embedded_base64(raw)):
        yield encoded
        yield encoded.replace("+", "-").replace("/", "_")


def _embedded_base64(raw: bytes) -> Iterator[str]:
    """What Base64 makes of *raw* inside a longer text, such as `user:password`, whatever stands before and after."""
    from base64 import b64encode  # noqa: PLC0415  # most runs have no secrets

    for offset in range(3):
        encoded = b64encode(bytes(offset) + raw).decode().rstrip("=")
        first = (0, 2, 3)[offset]
        last = len(encoded) - (1 if (offset + len(raw)) % 3 else 0)
        if last - first >= _PIECE_MIN:
            yield encoded[first:last]
