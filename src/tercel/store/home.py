"""Who works in a home: one file a process, locked as long as it lives, and a lock on the home as a whole.

Any number of `tercel run` share a home, each with its own executions; a server has it alone. Locks are the kernel's
(`flock`), so a dead process never holds one.
"""

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep

import msgspec

from tercel.errors import HomeInUseError, StorageError

_POLL_S = 0.1
_PROCESSES = "processes"


class HomeUser(msgspec.Struct, frozen=True):
    """A process that works in a home.

    Attributes:
        id: its name in the home; executions carry it as their owner.
        what: its command, such as `tercel run`.
        since: aware UTC.
        alone: True where it shares the home with nobody.
    """

    id: str
    pid: int
    what: str
    since: datetime
    alone: bool = False

    def __str__(self) -> str:
        return f"`{self.what}` (process {self.pid}, since {self.since:%Y-%m-%d %H:%M:%S} UTC)"


class HomeLock:
    """This process's place in a home, held until `close`.

    Args:
        home: an existing directory.
        process_id: unlike that of any other process, ever.
        what: the command, for those who wait for it.
        alone: share the home with nobody.
        patience_s: how long to wait for those who do not share.
        on_wait: called once with who is waited for, before the wait.

    Raises:
        HomeInUseError: somebody who does not share has it still after *patience_s*.
        StorageError: nothing can be written in the home.
    """

    def __init__(
        self,
        home: Path,
        process_id: str,
        what: str,
        *,
        alone: bool = False,
        patience_s: float = 0,
        on_wait: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._folder = home / _PROCESSES
        self._home_fd = self._fd = -1
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._home_fd = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._acquire(home, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, patience_s, on_wait)
            self._sign_in(process_id, what, alone=alone)
        except BaseException as error:
            for fd in (self._fd, self._home_fd):
                if fd >= 0:
                    os.close(fd)
            if isinstance(error, OSError):
                message = f"The home {home} cannot be used: {error.filename or home}: {error.strerror}."
                raise StorageError(message, "Give another one: --home DIR.") from error
            raise

    def _sign_in(self, process_id: str, what: str, *, alone: bool) -> None:
        """Leave a file, locked, that says who works here."""
        self._path = self._folder / f"{process_id}.lock"
        # Locked before it gets its name, or another process might take it for one that a dead process left.
        nameless = self._path.with_suffix(".new")
        self._fd = os.open(nameless, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        user = HomeUser(process_id, os.getpid(), what, datetime.now(UTC), alone)
        os.write(self._fd, msgspec.json.encode(user))
        nameless.rename(self._path)

    def _acquire(self, home: Path, mode: int, patience_s: float, on_wait: Callable[[str], object]) -> None:
        deadline = monotonic() + patience_s
        has_told = False
        while True:
            try:
                fcntl.flock(self._home_fd, mode | fcntl.LOCK_NB)
            except BlockingIOError:
                users = " and ".join(str(user) for user in home_users(home)) or "another process"
                if monotonic() >= deadline:
                    raise HomeInUseError(
                        f"The home {home} is in use by {users}.",
                        "Wait until it has ended, or work in another home: --home DIR.",
                    ) from None
                if not has_told:
                    on_wait(f"Waiting for the home {home}, in use by {users}.")
                    has_told = True
                sleep(_POLL_S)
            else:
                return

    def sweep(self) -> None:
        """Remove what dead processes left of themselves."""
        for path in self._folder.glob("*.lock"):
            if path != self._path and not _is_locked(path):
                with suppress(OSError):
                    path.unlink()

    def close(self) -> None:
        """Leave the home; a second call does nothing."""
        if self._fd < 0:
            return
        self._path.unlink(missing_ok=True)
        os.close(self._fd)
        os.close(self._home_fd)
        self._fd = self._home_fd = -1


def is_dead(home: Path, process_id: str) -> bool:
    """True where no live process of that name works in *home*."""
    return not _is_locked(home / _PROCESSES / f"{process_id}.lock")


def home_users(home: Path) -> list[HomeUser]:
    """The live processes that work in *home*, in no order."""
    users: list[HomeUser] = []
    for path in (home / _PROCESSES).glob("*.lock"):
        with suppress(OSError, msgspec.MsgspecError):
            if _is_locked(path):
                users.append(msgspec.json.decode(path.read_bytes(), type=HomeUser))
    return users


def _is_locked(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:  # somebody else's, who may well be alive
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
