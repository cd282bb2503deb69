"""Private directories of task runs: made 0700 under one base, always removed, also after a crash.

Every directory's name begins with a token of its process. The process holds a lock on `<token>.owner` for as long
as it lives: a token whose lock can be had belongs to nobody any more, and the janitor removes what carries it.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Lock

import msgspec

from tercel.removal import remove_tree

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_TOKEN_LENGTH = 8
_NAME_LENGTH = 22
_OWNER_SUFFIX = ".owner"
ENGINE_SUFFIX = ".engine"
"""What the private area beside a directory has in addition to the directory's name."""
_OUTPUT_SUFFIX = ".output"
_LEFTOVER_SUFFIX = ".leftover"


class _Leftover(msgspec.Struct):
    type: str
    note: dict[str, str]


class Directories:
    """Makes and removes directories below *base*, which is made when first needed.

    One per process and base.

    Args:
        base: their folder.
        remove_leftover: gets the type of a task runner and a note of a dead process, and removes what that was about;
            raises where it cannot be done now.
    """

    def __init__(self, base: Path, remove_leftover: Callable[[str, Mapping[str, str]], None] | None = None) -> None:
        self._base = Path(os.path.realpath(base))
        self._remove_leftover = remove_leftover
        self._lock = Lock()
        self._token = ""
        self._owner: int | None = None
        self._leftovers: set[Path] = set()

    def make(self) -> Path:
        """A new empty directory of a random name, mode 0700, absolute."""
        if self._owner is None:
            self._claim()
        try:
            return self._made()
        except FileNotFoundError:
            # Somebody has tidied up, and our claim is gone with the base.
            self._abandon(self._token)
            self._claim()
            return self._made()

    def reserve(self) -> Path:
        """A path below the base that is nobody else's; nothing is made there."""
        if self._owner is None or not self._base.is_dir():
            self._abandon(self._token)
            self._claim()
        return self._base / (self._token + _random_text(_NAME_LENGTH - _TOKEN_LENGTH))

    def _made(self) -> Path:
        path = self._base / (self._token + _random_text(_NAME_LENGTH - _TOKEN_LENGTH))
        os.mkdir(path, 0o700)
        return path

    def _abandon(self, token: str) -> None:
        with self._lock:
            if self._owner is not None and self._token == token:
                os.close(self._owner)
                self._owner = None

    def make_engine_area(self, directory: Path) -> Path:
        """The private area beside *directory*, made if it is not there yet, mode 0700."""
        path = directory.with_name(directory.name + ENGINE_SUFFIX)
        os.makedirs(path, 0o700, exist_ok=True)
        return path

    def make_output_area(self, directory: Path, number: int) -> Path:
        """A new empty folder beside *directory*, mode 0700; one call for each *number*.

        Not inside the engine area: making and removing a folder are the dearest calls of a short task, and this one
        is made for every script.
        """
        path = directory.with_name(f"{directory.name}{_OUTPUT_SUFFIX}{number}")
        os.mkdir(path, 0o700)
        return path

    def note_leftover(self, runner_type: str, note: Mapping[str, str]) -> Callable[[], None]:
        """Write down what is to be removed by others should this process die; gives what forgets it."""
        path = self.reserve().with_suffix(_LEFTOVER_SUFFIX)
        whole = path.with_suffix(f"{_LEFTOVER_SUFFIX}-new")
        whole.write_bytes(msgspec.json.encode(_Leftover(runner_type, dict(note))))
        whole.rename(path)
        return lambda: path.unlink(missing_ok=True)

    def remove(self, *directories: Path) -> str:
        """Remove *directories*, whatever their modes; links are not followed, those not there are fine.

        Returns:
            "" or, where something could not be removed, why; it is tried again by `sweep`.
        """
        reason = ""
        for path in directories:
            try:
                remove_tree(path)
            except OSError as error:
                reason = f"{path} cannot be removed: {error.strerror or error}"
                with self._lock:
                    self._leftovers.add(path)
        return reason

    def sweep(self) -> list[str]:
        """Remove what dead processes left under the base, and try again what could not be removed before.

        Returns:
            Names of the directories removed.
        """
        removed: list[str] = []
        with self._lock:
            leftovers, self._leftovers = self._leftovers, set()
        for path in leftovers:
            if self._removed(path):
                removed.append(path.name)
            else:
                with self._lock:
                    self._leftovers.add(path)
        for owner in self._dead_owners():
            token = owner.name.removesuffix(_OWNER_SUFFIX)
            mine = [path for path in self._base.glob(f"{token}*") if path != owner]
            mine.sort(key=lambda path: path.suffix != _LEFTOVER_SUFFIX)  # first what still may write to the others
            gone = [path.name for path in mine if self._removed(path)]
            removed.extend(gone)
            if len(gone) == len(mine):
                owner.unlink(missing_ok=True)
        return sorted(removed)

    def remove_leftovers(self) -> None:
        """Remove what dead processes left outside of their directories, so that it does no more work."""
        if any(self._base.glob(f"*{_LEFTOVER_SUFFIX}")):
            for owner in self._dead_owners():
                for path in self._base.glob(f"{owner.name.removesuffix(_OWNER_SUFFIX)}*{_LEFTOVER_SUFFIX}"):
                    self._removed(path)

    def close(self) -> None:
        """Give the token up, at the end of the process; unremoved directories are left for another's `sweep`."""
        with self._lock:
            if self._owner is None:
                return
            owner = self._base / (self._token + _OWNER_SUFFIX)
            if all(path == owner for path in self._base.glob(f"{self._token}*")):
                owner.unlink(missing_ok=True)
            os.close(self._owner)
            self._owner = None

    def _claim(self) -> None:
        from fcntl import LOCK_EX, LOCK_NB, flock  # noqa: PLC0415  # flows of inline tasks make no directory

        with self._lock:
            if self._owner is not None:
                return
            self._base.mkdir(0o700, parents=True, exist_ok=True)
            token = _random_text(_TOKEN_LENGTH)
            # Locked under another name first: a sweep never sees an owner file that nobody holds yet.
            path = self._base / f".{token}"
            owner = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            flock(owner, LOCK_EX | LOCK_NB)
            os.write(owner, f"{os.getpid()}\n".encode())
            os.rename(path, self._base / (token + _OWNER_SUFFIX))
            self._token, self._owner = token, owner

    def _dead_owners(self) -> Iterator[Path]:
        from fcntl import LOCK_EX, LOCK_NB, flock  # noqa: PLC0415  # as above

        for path in sorted(self._base.glob("*" + _OWNER_SUFFIX)):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError:
                continue
            try:
                flock(descriptor, LOCK_EX | LOCK_NB)
            except OSError:
                continue
            else:
                # Kept locked meanwhile: of two janitors one does the work.
                yield path
            finally:
                os.close(descriptor)

    def _removed(self, path: Path) -> bool:
        try:
            if path.suffix == _LEFTOVER_SUFFIX and self._remove_leftover is not None:
                left = msgspec.json.decode(path.read_bytes(), type=_Leftover)
                self._remove_leftover(left.type, left.note)
        except Exception:  # whatever a task runner says: it is tried again by the next sweep
            return False
        try:
            remove_tree(path)
        except OSError:
            return False
        return True


def _random_text(length: int) -> str:
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in os.urandom(length))
