"""Mounts that only the calling thread sees, and the processes that it starts.

Linux gives every thread its own mount namespace if it asks. Whoever works in such a block sees a directory at its fixed
path, whatever other threads and processes have there; with the last of them the mounts are gone, even by SIGKILL.
Source: mount_namespaces(7), unshare(2), setns(2), user_namespaces(7).
"""

import os
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from errno import ENOSYS
from functools import lru_cache
from threading import Lock, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

_CLONE_FS, _CLONE_NEWNS, _CLONE_NEWUSER = 0x200, 0x20000, 0x10000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT = 1, 2, 4, 32
_MS_BIND, _MS_REC, _MS_SLAVE = 1 << 12, 1 << 14, 1 << 19
_MNT_DETACH = 2


@lru_cache(maxsize=1)
def _libc() -> "ctypes.CDLL":
    try:
        import ctypes  # noqa: PLC0415  # a Python may have been built without
    except ImportError as error:
        raise OSError(ENOSYS, "this Python has no ctypes") from error
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
    return libc


def _checked(result: int, path: str | None = None) -> None:
    if result < 0:
        import ctypes  # noqa: PLC0415  # it is there, as a call was made

        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def mount(source: str | None, target: str, kind: str | None, flags: int = 0, options: str = "") -> None:
    """Do what the system call of that name does. Raises OSError."""
    _checked(
        _libc().mount(
            None if source is None else os.fsencode(source),
            os.fsencode(target),
            None if kind is None else kind.encode(),
            flags,
            os.fsencode(options),
        ),
        target,
    )


def bind(source: str, target: str) -> None:
    """Show the folder *source* at the folder *target*, too. Raises OSError."""
    mount(source, target, None, _MS_BIND | _MS_REC)


def unmount(target: str) -> None:
    """Take what is mounted at *target* out of sight; who still uses it may go on. Raises OSError."""
    _checked(_libc().umount2(os.fsencode(target), _MNT_DETACH), target)


@contextmanager
def own_mounts() -> Generator[None]:
    """Give this thread mounts of its own until the block ends; threads and processes started meanwhile share them.

    What others mount or unmount is still seen; what is mounted in the block is seen by nobody else.

    Raises:
        OSError: the system does not allow it.
    """
    back = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    folder = -1
    try:
        with suppress(OSError):
            folder = os.open(".", os.O_PATH | os.O_CLOEXEC)
        _checked(_libc().unshare(_CLONE_NEWNS | _CLONE_FS))
        try:
            mount(None, "/", None, _MS_REC | _MS_SLAVE)
            yield
        finally:
            # A thread that was started meanwhile shares our working directory, and then setns is refused.
            _checked(_libc().unshare(_CLONE_FS))
            _checked(_libc().setns(back, _CLONE_NEWNS))
            if folder >= 0:
                os.fchdir(folder)  # setns has led to the root
    finally:
        for fd in (back, folder):
            if fd >= 0:
                os.close(fd)


@contextmanager
def covered(folder: str) -> Generator[None]:
    """As `own_mounts`, with an empty *folder* that can take mount points for directories.

    Raises:
        OSError: the system does not allow it.
    """
    with own_mounts():
        mount("tercel", folder, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=256k,mode=755")
        yield


@contextmanager
def contained(hidden: Iterable[str], shown: Iterable[str]) -> Generator[None]:
    """As `own_mounts`, with folders that seem empty and cannot be written, but for those to be shown in them.

    Args:
        hidden: absolute paths of folders, without links on the way.
        shown: absolute paths of folders that stay as they are; those that are not there are passed over.

    Raises:
        OSError: the system does not allow it.
    """
    with own_mounts():
        fds: dict[str, int] = {}
        try:
            for path in shown:
                with suppress(FileNotFoundError):
                    fds[path] = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            folders = [folder for folder in hidden if os.path.isdir(folder)]
            for folder in folders:
                mount("tercel", folder, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=256k,mode=755")
            for path, fd in fds.items():
                os.makedirs(path, exist_ok=True)
                bind(f"/proc/thread-self/fd/{fd}", path)
            for folder in folders:
                mount(None, folder, None, _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
        finally:
            for fd in fds.values():
                os.close(fd)
        yield


@lru_cache(maxsize=1)
def _trial_lock() -> Lock:
    return Lock()


def why_no_mounts() -> str:
    """Why no thread can have mounts of its own here; "" where they can. Tried once for each process."""
    with _trial_lock():
        return _tried()


@lru_cache(maxsize=1)
def _tried() -> str:
    reasons: list[str] = []

    def attempt() -> None:
        try:
            with own_mounts():
                pass
        except (OSError, AttributeError) as error:
            reasons.append(str(error))

    thread = Thread(target=attempt, name="tercel-mounts")
    thread.start()
    thread.join()
    return reasons[0] if reasons else ""


def enter_user_namespace() -> None:
    """Put this process, which must have one thread only, into a user namespace in which it may mount.

    Users and groups stay who they are; programs that change the user, such as sudo, do not work in it any more.

    Raises:
        OSError: the system does not allow it.
    """
    user, group = os.geteuid(), os.getegid()
    deadline = time.monotonic() + 1
    while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < deadline:
        time.sleep(0.001)  # a thread that was waited for is there for a moment longer
    _checked(_libc().unshare(_CLONE_NEWUSER | _CLONE_NEWNS))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    mount(None, "/", None, _MS_REC | _MS_SLAVE)
    _tried.cache_clear()
