"""Stacks of layers as data: what lies in one layer, and what several amount to, read without mounting anything.

A layer is a folder in the form of overlayfs's upper folder: what was made or changed as it is, with modes and times,
and what was deleted as a whiteout, a character device 0/0. Two marks on folders, extended attributes, say that a folder
hides all below it (opaque) or goes on under another name below (redirect, made by a rename).
Source: https://docs.kernel.org/filesystems/overlayfs.html
"""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from tercel.layers.trees import DEEPEST, LayerError

TRUSTED, USER = "trusted.overlay.", "user.overlay."
"""How the names of marks begin: in layers of root, and in those of everybody else."""

OPAQUE, REDIRECT = "opaque", "redirect"


@cache
def marks() -> str:
    """How the names of marks begin in the layers that this process makes: only root can set `trusted` ones."""
    return TRUSTED if _may_administer() else USER


def _may_administer() -> bool:
    """Whether this process has CAP_SYS_ADMIN in the system's own user namespace."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            if file.read().split() != ["0", "0", "4294967295"]:
                return False
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            line = next(line for line in file if line.startswith("CapEff:"))
    except (OSError, StopIteration):
        return os.geteuid() == 0
    return bool(int(line.split()[1], 16) >> 21 & 1)


class Entry(NamedTuple):
    """One thing in a layer.

    Attributes:
        path: relative, with `/` between its parts; "" is the layer's root.
        kind: `f` file, `d` folder, `l` symbolic link, `w` whiteout: what is below it of that name is deleted.
        source: absolute path of the thing itself.
        status: its own, links not followed.
        is_opaque: a folder that hides what is below it.
        redirect: where a folder goes on in the layers below, as the kernel writes it; "" for under its own name.
    """

    path: str
    kind: str
    source: str
    status: os.stat_result
    is_opaque: bool = False
    redirect: str = ""

    @property
    def target(self) -> str:
        """Of a link."""
        return os.readlink(self.source) if self.kind == "l" else ""


def read_layer(tree: str) -> Iterator[Entry]:
    """Everything in one layer, parents before what is in them, ordered by path; the root is not among it.

    Devices, pipes and sockets are passed over, and so is what is in folders that cannot be read.

    Raises:
        LayerError: folders are nested deeper than `DEEPEST`.
        OSError: something cannot be read.
    """
    found = list(_below(tree, "", 0))
    found.sort(key=lambda entry: entry.path)
    return iter(found)


def _below(folder: str, prefix: str, depth: int) -> Iterator[Entry]:
    if depth > DEEPEST:
        raise LayerError(f"{folder} has more than {DEEPEST} folders within each other.")
    for one in _listed(folder):
        entry = entry_at(one.path, prefix + one.name, one.stat(follow_symlinks=False))
        if entry is None:
            continue
        yield entry
        if entry.kind == "d":
            yield from _below(one.path, f"{entry.path}/", depth + 1)


def _listed(folder: str) -> "list[os.DirEntry[str]]":
    """What is in a folder; nothing where it is closed to us, as a script may close its own."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except PermissionError:
        return []


def entry_at(source: str, path: str, status: os.stat_result | None = None) -> Entry | None:
    """The thing at the absolute path *source*, as *path* of its layer; None where there is none, or a device."""
    if status is None:
        try:
            status = os.lstat(source)
        except (FileNotFoundError, NotADirectoryError):
            return None
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:
        return Entry(path, "f", source, status)
    if kind == stat.S_IFLNK:
        return Entry(path, "l", source, status)
    if kind == stat.S_IFCHR and status.st_rdev == 0:
        return Entry(path, "w", source, status)
    if kind != stat.S_IFDIR:
        return None
    try:
        names = os.listxattr(source, follow_symlinks=False)
    except OSError:
        names = []
    prefix = marks()
    is_opaque = f"{prefix}{OPAQUE}" in names and _mark(source, OPAQUE) == "y"
    return Entry(path, "d", source, status, is_opaque, _redirect(source) if f"{prefix}{REDIRECT}" in names else "")


def _redirect(folder: str) -> str:
    """Where a folder goes on; "" for a mark that the kernel would refuse, as it leads out of the layers."""
    redirect = _mark(folder, REDIRECT)
    parts = redirect[1:].split("/") if redirect.startswith("/") else [redirect]
    return "" if any(part in ("", ".", "..") or "/" in part for part in parts) else redirect


def _mark(folder: str, name: str) -> str:
    try:
        return os.fsdecode(os.getxattr(folder, marks() + name, follow_symlinks=False))
    except OSError:
        return ""


class Stack:
    """What layers amount to, one on the other.

    The layers must not change while it is in use: what makes up a folder is looked up once.

    Args:
        trees: absolute folders of the layers, the lowest first.
    """

    def __init__(self, trees: Sequence[str]) -> None:
        self.trees = tuple(trees)
        self._known: dict[tuple[str, int], list[tuple[int, str]]] = {}

    def find(self, path: str) -> Entry | None:
        """What is at a relative path; None where nothing is, or it was deleted. Costs a look at each layer."""
        folder, _, name = path.rpartition("/")
        return self.inside(folder)(name)

    def inside(self, folder: str) -> Callable[[str], Entry | None]:
        """As `find`, for many names in one folder: gives what finds them."""
        folders = self._folders(folder, len(self.trees))
        prefix = f"{folder}/" if folder else ""

        def find(name: str) -> Entry | None:
            for _, place in folders:
                entry = _seen_at(f"{place}/{name}", prefix + name)
                if entry is not None:
                    return None if entry.kind == "w" else entry
            return None

        return find

    def entries(self) -> Iterator[Entry]:
        """Everything that is there, parents before what is in them and each folder's names in order; no whiteouts.

        Raises:
            LayerError: folders are nested deeper than `DEEPEST`.
        """
        return self._walk(self._folders("", len(self.trees)), "", 0)

    def below(self, path: str) -> Iterator[Entry]:
        """As `entries`, of one folder only; nothing where there is no folder at *path*."""
        return self._walk(self._folders(path, len(self.trees)), f"{path}/" if path else "", path.count("/"))

    def _walk(self, folders: Sequence[tuple[int, str]], prefix: str, depth: int) -> Iterator[Entry]:
        if depth > DEEPEST:
            raise LayerError(f"There are more than {DEEPEST} folders within each other: {prefix!r}.")
        names: dict[str, os.DirEntry[str]] = {}
        for _, folder in folders:
            for one in _listed(folder):
                names.setdefault(one.name, one)
        for name, one in sorted(names.items()):
            entry = entry_at(one.path, prefix + name, one.stat(follow_symlinks=False))
            if entry is None or entry.kind == "w":
                continue
            yield entry
            if entry.kind == "d":
                yield from self._walk(self._within(folders, name), f"{entry.path}/", depth + 1)

    def _folders(self, path: str, count: int) -> list[tuple[int, str]]:
        """The folders that make up the one at *path* in the lowest *count* layers, the topmost first."""
        if not path:
            return [(at, self.trees[at]) for at in range(count - 1, -1, -1)]
        known = self._known.get((path, count))
        if known is None:
            around, _, name = path.rpartition("/")
            known = self._known[path, count] = self._within(self._folders(around, count), name)
        return known

    def _within(self, folders: Sequence[tuple[int, str]], name: str) -> list[tuple[int, str]]:
        """The folders that make up the one called *name* in the one that *folders* make up.

        Goes as the kernel does (`ovl_lookup` in fs/overlayfs/namei.c): opaque counts before redirect, and a redirect
        without `/` is another name in the same folder.
        """
        found: list[tuple[int, str]] = []
        for at, folder in folders:
            place = f"{folder}/{name}"
            entry = _seen_at(place, "")
            if entry is None:
                continue
            if entry.kind != "d":
                break
            found.append((at, place))
            if entry.is_opaque:
                break
            if entry.redirect.startswith("/"):
                return [*found, *self._folders(entry.redirect[1:], at)]
            name = entry.redirect or name
        return found


def _seen_at(source: str, path: str) -> Entry | None:
    """As `entry_at`, but a device, pipe or socket is a whiteout: it hides what is below it, too."""
    try:
        status = os.lstat(source)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    return entry_at(source, path, status) or Entry(path, "w", source, status)
