"""Signing in: HTTP basic and bearer tokens, which paths are open, and a login that is kept hashed in the home."""

import hashlib
import hmac
import os
from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import msgspec

from tercel.errors import StorageError

OPEN_PATHS = ("/ping", "/health", "/api/v1/executions/webhook/", "/api/v1/main/executions/webhook/")
"""What needs no login: paths that are one of these, or go on after one that ends with `/`."""

_LONGEST = 256
_MOST_KNOWN = 64
_COST = {"n": 2**14, "r": 8, "p": 1, "maxmem": 64 * 1024 * 1024}
_TOKEN_HASH = "sha256:"


class Kept(msgspec.Struct, frozen=True):
    """A login as it is kept: the password only as what scrypt makes of it."""

    username: str
    salt: str
    hash: str


class Login:
    """Knows who may use the API. For any thread.

    Args:
        username: of the user that the settings name; empty for none.
        password: theirs.
        tokens: that may stand in for a user; each as it is, or as `sha256:` and the hexadecimal hash of it.
        file: where a login that was set through the API is kept; it counts before that of the settings.
        open_paths: more that needs no login; as in `OPEN_PATHS`.
        is_off: everybody is let in, whatever credentials there are.
    """

    def __init__(
        self,
        *,
        username: str = "",
        password: str = "",
        tokens: Sequence[str] = (),
        file: Path | None = None,
        open_paths: Sequence[str] = (),
        is_off: bool = False,
    ) -> None:
        self.is_off = is_off
        self._key = os.urandom(32)
        self._guard = Lock()
        self._file = file
        self._open_paths = (*OPEN_PATHS, *open_paths)
        self._configured = self._mark(username, password) if username else None
        self._configured_problems = credential_problems(username, password) if username else ["No user is set."]
        self._tokens = tuple(
            token.removeprefix(_TOKEN_HASH) if token.startswith(_TOKEN_HASH) else _token_hash(token)
            for token in tokens
            if token
        )
        self._kept = _read(file)
        self._known: dict[bytes, None] = {}

    @property
    def is_required(self) -> bool:
        """True where one has to sign in: there are credentials, and they are not switched off."""
        is_set = self._configured is not None or self._kept is not None or bool(self._tokens)
        return is_set and not self.is_off

    @property
    def problems(self) -> list[str]:
        """What is wrong with the credentials that count; empty where they are fine."""
        return [] if self._kept is not None else list(self._configured_problems)

    def is_open(self, path: str) -> bool:
        """Say whether a path, without the context path, needs no login."""
        return any(path == one or (one.endswith("/") and path.startswith(one)) for one in self._open_paths)

    def user_of(self, authorization: str) -> str | None:
        """Who signs in by a header `Authorization`; None where nobody does. It may take some 50 ms.

        The time that it takes says nothing of how near a guess was.
        """
        scheme, _, value = authorization.strip().partition(" ")
        match scheme.lower():
            case "bearer":
                return "token" if self._is_token(value.strip()) else None
            case "basic":
                return self._user_of_basic(value.strip())
            case _:
                return None

    def _is_token(self, token: str) -> bool:
        given = _token_hash(token)
        return any([hmac.compare_digest(given, one.lower()) for one in self._tokens])

    def _user_of_basic(self, value: str) -> str | None:
        try:
            username, separator, password = b64decode(value, validate=True).decode().partition(":")
        except (ValueError, UnicodeDecodeError):
            return None
        if not separator or len(username) > _LONGEST or len(password) > _LONGEST:
            return None
        mark = self._mark(username, password)
        kept = self._kept
        if kept is None:
            is_right = self._configured is not None and hmac.compare_digest(mark, self._configured)
            return username if is_right else None
        if mark in self._known:
            return username
        is_right = hmac.compare_digest(_hashed(password, b64decode(kept.salt)), b64decode(kept.hash))
        if not (is_right and hmac.compare_digest(username.encode(), kept.username.encode())):
            return None
        with self._guard:
            if self._kept is kept:
                self._known[mark] = None
            while len(self._known) > _MOST_KNOWN:
                del self._known[next(iter(self._known))]
        return username

    def keep(self, username: str, password: str) -> None:
        """Set the login, and keep it for the next start. Raises StorageError."""
        if self._file is None:
            raise StorageError("This server keeps no login.", "Set one where it is configured.")
        salt = os.urandom(16)
        kept = Kept(username, b64encode(salt).decode(), b64encode(_hashed(password, salt)).decode())
        beside = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        with self._guard:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(kept))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._file)
            self._kept = kept
            self._known.clear()

    def _mark(self, username: str, password: str) -> bytes:
        """What tells credentials from others in this process, and nobody anything."""
        mark = hashlib.blake2b(key=self._key)
        for part in (username.encode(), password.encode()):
            mark.update(len(part).to_bytes(8) + part)
        return mark.digest()


def credential_problems(username: str, password: str) -> list[str]:
    """What keeps a user name and a password from being used: a sentence for each, none where they are fine.

    Example:
        >>> credential_problems("admin", "Secret123")
        ['The user name is no e-mail address.']
    """
    found: list[str] = []
    name, at, host = username.partition("@")
    if not (at and name and "." in host.strip(".")) or any(letter.isspace() for letter in username):
        found.append("The user name is no e-mail address.")
    if not password:
        found.append("There is no password.")
    for what, value in (("user name", username), ("password", password)):
        if len(value) > _LONGEST:
            found.append(f"The {what} is longer than {_LONGEST} characters.")
    return found


def _hashed(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, dklen=32, **_COST)


def _token_hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _read(file: Path | None) -> Kept | None:
    if file is None or not file.exists():
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError) as error:
        raise StorageError(
            f"The login in {file} cannot be read: {error}.", "Remove the file to sign in anew."
        ) from error
