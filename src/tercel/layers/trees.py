"""Folders looked at and opened without following links: what is where.

What is in layers is told by `stacks.py`; copying and packing are elsewhere.
"""

import os
import stat
from contextlib import suppress

import msgspec

from tercel.errors import UserError
from tercel.model.globs import ENGINE_FOLDER, Globs

DEEPEST = 250
"""Folders within folders that are walked; each level holds a file descriptor."""


class LayerError(UserError):
    """A tree cannot be read, kept or put back here; what is stored stays good."""


class DamagedEntryError(LayerError):
    """A stored tree is not what it was: to be dropped, and the run goes on without it."""


class Tree(msgspec.Struct):
    """What a walk found, at one moment.

    Attributes:
        root: absolute path of the folder walked.
        entries: path to status, for each file and link that was wanted.
        unreadable: folders and files that could not be read.
    """

    root: str
    entries: dict[str, os.stat_result]
    unreadable: list[str]


def scan(root: str, globs: Globs) -> Tree:
    """Look at everything in *root* that the patterns take. Links are seen as links; devices, pipes and sockets not.

    Raises:
        LayerError: folders are nested deeper than `DEEPEST`, or a link stands in the place of *root*.
    """
    tree = Tree(root, {}, [])
    try:
        fd = os.open(root, FOLDER_FLAGS)
    except NotADirectoryError as error:
        raise LayerError(f"{root} is no folder any more.") from error
    try:
        _Scan(tree, globs).look(fd, "", 0, takes_all=globs.takes_all_below(""))
    finally:
        os.close(fd)
    return tree


def located(folder: str | os.PathLike[str]) -> str:
    """The absolute path of *folder*, without links on the way; the folder itself is not looked at.

    What a working directory was replaced by is not followed: its files are somebody else's.
    """
    parent, name = os.path.split(os.path.abspath(folder))
    return os.path.join(os.path.realpath(parent), name)


class _Scan:
    def __init__(self, tree: Tree, globs: Globs) -> None:
        self._tree = tree
        self._globs = globs
        self._excluded = globs.is_excluded if globs.exclude else None

    def look(self, fd: int, prefix: str, depth: int, *, takes_all: bool) -> None:
        """Look at one folder and those below."""
        entries, excluded, is_wanted = self._tree.entries, self._excluded, self._globs.is_wanted
        below: list[os.DirEntry[str]] = []
        with os.scandir(fd) as found:
            for entry in found:
                # The type is known from the listing: what is not wanted costs no look at the file.
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry)
                    continue
                path = prefix + entry.name
                if not takes_all and not is_wanted(path):
                    continue
                if excluded is not None and excluded(path):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except PermissionError:
                    self._tree.unreadable.append(path)
                except FileNotFoundError:
                    continue  # gone since the listing
                else:
                    if stat.S_IFMT(status.st_mode) in {stat.S_IFREG, stat.S_IFLNK}:
                        entries[path] = status
        for entry in below:
            self._descend(fd, prefix, entry, depth, takes_all=takes_all)

    def _descend(self, fd: int, prefix: str, entry: "os.DirEntry[str]", depth: int, *, takes_all: bool) -> None:
        folder = prefix + entry.name
        if not prefix and entry.name == ENGINE_FOLDER:
            takes_all = False
        if not (takes_all and self._excluded is None) and not self._globs.may_reach_into(folder):
            return
        takes_all = takes_all or self._globs.takes_all_below(folder)
        if depth == DEEPEST:
            raise LayerError(f"{self._tree.root} has more than {DEEPEST} folders within each other.")
        try:
            inner = os.open(entry.name, FOLDER_FLAGS, dir_fd=fd)
        except PermissionError:
            self._tree.unreadable.append(folder)
            return
        except (FileNotFoundError, NotADirectoryError):
            return  # gone since the listing
        try:
            self.look(inner, f"{folder}/", depth + 1, takes_all=takes_all)
        finally:
            os.close(inner)


READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class FolderStack:
    """File descriptors of the folders below a root, opened part by part and never through a link.

    Holds those of one folder and its parents, so that paths in order cost one open for each folder.

    Raises:
        OSError: as open(2); ELOOP or ENOTDIR where a link stands in the place of a folder.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._current = ""
        self._names: list[str] = []
        self._fds = [self._root]

    def __enter__(self) -> "FolderStack":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all descriptors."""
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def open(self, folder: str, *, make: bool = False) -> int:
        """The descriptor of a folder, "" for the root; it stays open until another folder is asked for.

        Args:
            folder: relative path of plain names.
            make: create folders that are missing, with mode 0777 less the umask.
        """
        if folder == self._current:
            return self._fds[-1]
        parts = folder.split("/") if folder else []
        same = 0
        for name, part in zip(self._names, parts, strict=False):
            if name != part:
                break
            same += 1
        for fd in self._fds[same + 1 :]:
            os.close(fd)
        del self._fds[same + 1 :], self._names[same:]
        self._current = "/".join(self._names)
        for part in parts[same:]:
            if part in ("", ".", ".."):
                raise LayerError(f"The path {folder!r} is refused: {part!r} cannot be a part of it.")
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=self._fds[-1])
            self._fds.append(os.open(part, FOLDER_FLAGS, dir_fd=self._fds[-1]))
            self._names.append(part)
        self._current = folder
        return self._fds[-1]
