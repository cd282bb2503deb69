"""Trees of files as data: what is where, and what has changed.

Knows how to look at a folder without following links; copying and packing are elsewhere.
"""

import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from tercel.errors import UserError
from tercel.model.globs import ENGINE_FOLDER, Globs

DEEPEST = 250
"""Folders within folders that are walked; each level holds a file descriptor."""

Facts = tuple[int, int, int, str, int]
"""Of a file or link: mode with type, size in bytes, mtime in ns, link target, inode if it has further names or 0."""


class LayerError(UserError):
    """A tree cannot be read, kept or put back here; what is stored stays good."""


class DamagedEntryError(LayerError):
    """A stored tree is not what it was: to be dropped, and the run goes on without it."""


class Node(msgspec.Struct, array_like=True):
    """One thing in a stored tree.

    Attributes:
        path: relative, with `/` between its parts.
        kind: `f` file, `d` folder, `l` symbolic link, `h` further name of a file.
        mode: permission bits.
        size: in bytes; 0 for what is not a file.
        target: of a link, as it is; of a further name, the path of the file.
        digest: xxh3 128 of a file's content; empty for what is not a file.
        is_sparse: a file with holes.
        relocates: holds the path of the folder it was in, and means the folder by it.
        attributes: extended attributes of the `user.` namespace.
    """

    path: str
    kind: str
    mode: int
    size: int
    mtime_ns: int
    target: str = ""
    digest: bytes = b""
    is_sparse: bool = False
    relocates: bool = False
    attributes: dict[str, bytes] = {}


class Tree(msgspec.Struct):
    """What a walk found, at one moment.

    Attributes:
        root: absolute path of the folder walked.
        entries: path to facts, for each file and link that was wanted.
        folders: path to mode and mtime in ns, for the folders to keep: those of the entries, and those of which all
            is wanted.
        unreadable: folders and files that could not be read.
    """

    root: str
    entries: dict[str, Facts]
    folders: dict[str, tuple[int, int]]
    unreadable: list[str]

    @property
    def bytes(self) -> int:
        """Content of all files, in bytes."""
        return sum(facts[1] for facts in self.entries.values())


def scan(root: str, globs: Globs) -> Tree:
    """Look at everything in *root* that the patterns take. Links are seen as links; devices, pipes and sockets not.

    Raises:
        LayerError: folders are nested deeper than `DEEPEST`, or a link stands in the place of *root*.
    """
    tree = Tree(root, {}, {}, [])
    try:
        fd = os.open(root, _FOLDER_FLAGS)
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

    def look(self, fd: int, prefix: str, depth: int, *, takes_all: bool) -> bool:
        """Look at one folder and those below; tell whether something of it is kept."""
        entries, excluded, is_wanted = self._tree.entries, self._excluded, self._globs.is_wanted
        before = len(entries) + len(self._tree.folders)
        below: list[os.DirEntry[str]] = []
        with os.scandir(fd) as found:
            for entry in found:
                # The type is known from the listing: what is not wanted costs no look at the file.
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry)
                    continue
                name = entry.name
                path = prefix + name
                if not takes_all and not is_wanted(path):
                    continue
                if excluded is not None and excluded(path):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                    mode = status.st_mode
                    if mode & 0o170000 == stat.S_IFREG:
                        link = status.st_ino if status.st_nlink > 1 else 0
                        entries[path] = (mode, status.st_size, status.st_mtime_ns, "", link)
                    elif mode & 0o170000 == stat.S_IFLNK:
                        entries[path] = (mode, 0, status.st_mtime_ns, os.readlink(name, dir_fd=fd), 0)
                except PermissionError:
                    self._tree.unreadable.append(path)
                except FileNotFoundError:
                    continue  # gone since the listing
            for entry in below:
                self._descend(fd, prefix, entry, depth, takes_all=takes_all)
        return len(entries) + len(self._tree.folders) > before

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
            status = entry.stat(follow_symlinks=False)
            inner = os.open(entry.name, _FOLDER_FLAGS, dir_fd=fd)
        except PermissionError:
            self._tree.unreadable.append(folder)
            return
        except (FileNotFoundError, NotADirectoryError):
            return  # gone since the listing
        try:
            keeps = self.look(inner, f"{folder}/", depth + 1, takes_all=takes_all)
        finally:
            os.close(inner)
        if keeps or takes_all:
            self._tree.folders[folder] = (status.st_mode & 0o7777, status.st_mtime_ns)


class Changes(msgspec.Struct, frozen=True):
    """How a tree differs from before, by path; the times of folders are no difference."""

    created: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.created or self.changed or self.deleted)


class Baseline(msgspec.Struct):
    """A tree as it was when the children started.

    Attributes:
        digests: path to xxh3 128, for every file of the tree.
    """

    tree: Tree
    digests: Mapping[str, bytes]


def take_baseline(tree: Tree, restored: Sequence[Node] = ()) -> Baseline:
    """Remember a tree to compare with; content that was just restored is not read again.

    Args:
        tree: what is there now.
        restored: what was put there, as it was put there.
    """
    known = {node.path: node for node in restored if node.digest}
    digests: dict[str, bytes] = {}
    with FolderStack(tree.root) as folders:
        for path in sorted(tree.entries):
            mode, size, mtime_ns, _, _ = tree.entries[path]
            node = known.get(path)
            if node is not None and (node.size, node.mtime_ns) == (size, mtime_ns):
                digests[path] = node.digest
            elif stat.S_ISREG(mode):
                digests[path] = digest_file(folders, path)
    return Baseline(tree, digests)


def compare(baseline: Baseline, tree: Tree) -> Changes:
    """Say what has changed; a file with another time is read, and is no change when its content is the same."""
    before, now = baseline.tree.entries, tree.entries
    folders_before = {path: mode for path, (mode, _) in baseline.tree.folders.items()}
    folders_now = {path: mode for path, (mode, _) in tree.folders.items()}
    if before == now and folders_before == folders_now:
        return Changes()
    changed = [path for path, mode in folders_now.items() if folders_before.get(path, mode) != mode]
    with FolderStack(tree.root) as folders:
        for path, facts in sorted(now.items()):
            old = before.get(path)
            if old is None or old[:4] == facts[:4]:
                continue
            is_same_but_for_time = (old[0], old[1], old[3]) == (facts[0], facts[1], facts[3])
            if is_same_but_for_time and (facts[3] or digest_file(folders, path) == baseline.digests.get(path)):
                continue
            changed.append(path)
    all_before, all_now = before.keys() | folders_before.keys(), now.keys() | folders_now.keys()
    return Changes(
        created=tuple(sorted(all_now - all_before)),
        changed=tuple(sorted(changed)),
        deleted=tuple(sorted(all_before - all_now)),
    )


def digest_file(folders: "FolderStack", path: str) -> bytes:
    """The xxh3 128 of a file's content; empty when it cannot be read."""
    from xxhash import xxh3_128  # noqa: PLC0415 - only runs with a cache need it

    folder, _, name = path.rpartition("/")
    try:
        fd = os.open(name, READ_FLAGS, dir_fd=folders.open(folder))
    except OSError:
        return b""
    digest = xxh3_128()
    try:
        while block := os.read(fd, 1 << 20):
            digest.update(block)
    finally:
        os.close(fd)
    return digest.digest()


READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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
            self._fds.append(os.open(part, _FOLDER_FLAGS, dir_fd=self._fds[-1]))
            self._names.append(part)
        self._current = folder
        return self._fds[-1]


def link_further_name(node: Node, folders: FolderStack, firsts: FolderStack) -> None:
    """Make a further name of a file that is there already; the two stacks have the same root."""
    folder, _, name = node.path.rpartition("/")
    first_folder, _, first = node.target.rpartition("/")
    src, dst = firsts.open(first_folder), folders.open(folder)
    os.link(first, name, src_dir_fd=src, dst_dir_fd=dst, follow_symlinks=False)
