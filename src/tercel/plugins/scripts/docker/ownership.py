"""Whose files are whose: a container's user may write to the worker's folders; what it made is the worker's after."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path


def give(folders: Sequence[Path], owner: tuple[int, int]) -> None:
    """Give folders and all in them to *owner*; links are not followed. Only root can.

    Raises:
        OSError: it is not allowed.
    """
    for folder in folders:
        for path, status in _entries(os.fspath(folder)):
            if (status.st_uid, status.st_gid) != owner:
                with suppress(FileNotFoundError):
                    mode = status.st_mode
                    os.chown(path, *owner, follow_symlinks=False)
                    if mode & 0o6000 and mode & 0o170000 == 0o100000:
                        os.chmod(path, mode & 0o7777)  # a change of owner takes these bits away


def has_foreign(folders: Sequence[Path], user: int) -> bool:
    """Whether something in *folders* belongs to another user, or cannot be looked at."""
    try:
        return any(status.st_uid != user for folder in folders for _, status in _entries(os.fspath(folder)))
    except PermissionError:
        return True


def _entries(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    yield folder, os.lstat(folder)
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path)
            else:
                yield entry.path, entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue  # gone since the listing


def find_user(name: str, passwd: str, group: str) -> tuple[int, int]:
    r"""The numbers of a container's user.

    Args:
        name: `USER` or `USER:GROUP`, names or numbers; empty for root.
        passwd: content of the image's `/etc/passwd`.
        group: of its `/etc/group`.

    Raises:
        LookupError: there is no such user or group; the argument is its name.

    Example:
        >>> find_user("app", "root:x:0:0::/:/bin/sh\\napp:x:7:8::/:/bin/sh\\n", "")
        (7, 8)
    """
    user, _, group_name = name.partition(":")
    rows = [row for row in _rows(passwd, 4) if row[3].isdecimal()]
    found = next((row for row in rows if user in (row[0], row[2])), None)
    if found is not None:
        user_id, group_id = int(found[2]), int(found[3])
    elif user.isdecimal() or not user:
        user_id, group_id = int(user or 0), 0
    else:
        raise LookupError(user)
    if group_name:
        row = next((row for row in _rows(group, 3) if group_name in (row[0], row[2])), None)
        if row is None and not group_name.isdecimal():
            raise LookupError(group_name)
        group_id = int(group_name) if row is None else int(row[2])
    return user_id, group_id


def _rows(text: str, columns: int) -> list[list[str]]:
    """The rows of such a file that name somebody with a number."""
    rows = [line.split(":") for line in text.splitlines()]
    return [row for row in rows if len(row) >= columns and row[2].isdecimal()]
