"""Secrets from the environment, masking them in text, and sealing texts that hold one before they are stored.

Knows where `secret('NAME')` comes from (`SECRET_<NAME>`, Base64) and in which disguises a value shows up again.
What is masked or stored, and when, is decided by the caller.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock

from tercel.errors import ExpressionError

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

    def names(self) -> list[str]:
        """The names of all secrets, in order."""
        return sorted(self._values)


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


class Vault:
    """Seals texts that hold a known secret, so that outputs can be stored and used again without being readable.

    What is sealed can be opened by whoever has the key file; without the library `cryptography` (extra `encryption`)
    only the masked form is kept, and that is what opening gives.

    Args:
        masker: knows the secrets.
        key_file: 32 random bytes, made with mode 0600 when first needed.
        key: 32 bytes in place of those in the file; empty for the file.
    """

    def __init__(self, masker: Masker, key_file: Path, key: bytes = b"") -> None:
        self._masker = masker
        self._key_file = key_file
        self._key = key or None
        self._lock = Lock()

    def seal(self, text: str) -> bytes | None:
        """What to store in place of *text*; None where it holds no secret and may be stored as it is."""
        masked = self._masker.mask(text)
        if masked == text:
            return None
        head = masked.encode()
        try:
            from tercel.expression.aes_gcm import IV_SIZE, encrypt  # noqa: PLC0415  # most runs have no secrets

            iv = os.urandom(IV_SIZE)
            body = iv + encrypt(self._own_key(make=True), iv, text.encode())
        except (ExpressionError, OSError):
            body = b""
        return len(head).to_bytes(4) + head + body

    def open(self, sealed: bytes, *, reveal: bool) -> str:
        """The text again where *reveal* is wanted and the key is there, and the masked one elsewhere."""
        start = 4 + int.from_bytes(sealed[:4])
        masked, body = sealed[4:start].decode(), sealed[start:]
        if not reveal or not body:
            return masked
        from tercel.expression.aes_gcm import IV_SIZE, decrypt  # noqa: PLC0415  # most runs have no secrets

        try:
            text = decrypt(self._own_key(make=False), body[:IV_SIZE], body[IV_SIZE:]).decode()
        except (ExpressionError, OSError, ValueError):
            return masked
        self._masker.add(text)
        return text

    def _own_key(self, *, make: bool) -> bytes:
        with self._lock:
            if self._key is None:
                if make and not self._key_file.exists():
                    _write_key(self._key_file)
                self._key = self._key_file.read_bytes()
            return self._key


def _write_key(path: Path) -> None:
    """Make a key file, complete from the moment it is there; one that another process has just made is kept."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(os.urandom(32))
    try:
        os.link(new, path)
    except FileExistsError:
        pass
    finally:
        new.unlink()


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

    # As an error message or a shell line shows a text.
    yield repr(text)[1:-1]
    yield repr(f"\"'{text}")[4:-1]
    yield text.replace("'", "'\"'\"'")
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
