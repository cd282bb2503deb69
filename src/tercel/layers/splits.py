"""Layers taken apart: what a cache keeps of a layer is moved into a layer of its own, mostly by one rename.

The two then lie one on the other, what was moved below what stays:

    before   *below, tree             shows the same as
    after    *below, target, tree     and, as to what the patterns take, the same as *cached layers, target

In this order only: a folder of which a part is moved can be opaque in one of the two, and has to be so in the lower
one, lest it hides the other's part; and a file that stays may stand where the target says that a folder is gone.
"""

import os
import stat
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from tercel.layers import copies
from tercel.layers.stacks import OPAQUE, REDIRECT, Entry, Stack, entry_at, marks
from tercel.layers.trees import DEEPEST, LayerError
from tercel.model.globs import Globs
from tercel.removal import remove_tree

CopyEntries = Callable[[Iterable[Entry], str], object]
"""Puts entries into an existing folder, to which their paths are relative."""

"""A mark of the kernel. A folder that has it, empty as well, may hold whiteouts: without it, one that is in a single
layer of a mount lists them (`ovl_path_check_origin_xattr` in fs/overlayfs)."""


def split_layer(tree: str, target: str, globs: Globs, below: Stack | None = None) -> bool:
    """Move what the patterns take out of the layer *tree* into a new layer *target*; tell whether that was anything.

    A folder of which everything is taken moves by one rename. Of others, the target has those that lead to something,
    with the marks, which *tree* then has no more. Whiteouts stay, and are in the target too where they hide something
    that the patterns could take. After a crash, nothing is missing in the two together.

    A file that has further names which stay is copied, so that the layers share none; only those in folders that move
    by one rename are not looked for.

    Args:
        tree: absolute path of the layer.
        target: absolute path on the same file system, where nothing is; made only if something is moved.
        globs: what to take. Of folders, those below which everything is taken.
        below: what lies below the layer. With it, the target hides no more than needs be, and renamed folders of which
            a part is taken, or that came from a place where the target hides something, are copied into *tree* first.
            Without it, they may lose in *tree* what they had from below, and keep in the target more than is taken.

    Raises:
        LayerError: folders are nested deeper than `DEEPEST`, or something cannot be copied.
        OSError: something cannot be read, moved or made.
    """
    plan = _Plan(tree, globs, below)
    if below is not None:
        if plan.to_settle:
            plan = _settled(plan.to_settle, tree, globs, below)
        misled = plan.misled() if plan.takes_anything else []
        if misled:
            plan = _settled(misled, tree, globs, below)
    if not plan.takes_anything:
        return False
    _Move(plan, tree, target).run()
    return True


def settle_layer(tree: str, below: Stack, copy_entries: CopyEntries | None = None) -> bool:
    """Give a layer all that its renamed folders show, so that they need nothing below; tell whether there were any.

    What they had from below is copied into them, and they become opaque; where nothing is left below, they only do
    the latter. Modes and times stay. The layer shows the same on *below* at any time, also after a crash in between.

    Args:
        tree: absolute path of the layer; beside it, there is a folder for a while.
        below: the stack on which the layer was made.
        copy_entries: puts entries into an existing folder, to which their paths are relative; None for the usual way.

    Raises:
        LayerError: something cannot be copied, or folders are nested deeper than `DEEPEST`.
        OSError: something cannot be read or written.
    """
    return _settle_below(tree, "", below, copy_entries or _copy_all)


def _settled(folders: Iterable[str], tree: str, globs: Globs, below: Stack) -> "_Plan":
    """Settle some folders of a layer; the plan that is right then."""
    for folder in folders:
        _settle_below(tree, folder, below, _copy_all)
    return _Plan(tree, globs, below)


class _Redirected(NamedTuple):
    """A folder that goes on elsewhere in the layers below: its path, and the path of that."""

    path: str
    origin: str


class _Plan:
    """What a split is going to do; nothing is changed yet.

    Attributes:
        folders: that move as a whole.
        files: files and links that move.
        whiteouts: to be made in the target.
        shared: folders that are in both layers afterwards, each after those in it; the root is the last.
        to_settle: renamed folders of which the patterns take a part.
    """

    def __init__(self, tree: str, globs: Globs, below: Stack | None) -> None:
        self.folders: list[str] = []
        self.files: list[str] = []
        self.whiteouts: list[str] = []
        self.shared: list[Entry] = []
        self.to_settle: list[str] = []
        self._tree = tree
        self._globs = globs
        self._below = below
        self._left: list[_Redirected] = []
        self._look("", "", 0, is_covered=False)
        root = entry_at(tree, "")
        assert root is not None
        self.shared.append(root._replace(is_opaque=False, redirect=""))

    @property
    def takes_anything(self) -> bool:
        """Whether there is anything to move or to hide."""
        return bool(self.folders or self.files or self.whiteouts or len(self.shared) > 1)

    def misled(self) -> list[str]:
        """Renamed folders that stay, and would look for their content where the target has something else."""
        shared = {entry.path for entry in self.shared}
        other = {entry.path for entry in self.shared if entry.is_opaque or entry.redirect}
        other.update(self.folders, self.files, self.whiteouts)
        result: list[str] = []
        for left in self._left:
            for path, origin in _redirected(self._tree, left.path, left.origin):
                if origin in shared or not other.isdisjoint(_with_parents(origin)):
                    result.append(path)
        return result

    def _look(self, prefix: str, origin: str, depth: int, *, is_covered: bool) -> bool:
        """Look at one folder; tell whether all in it is taken.

        Args:
            prefix: its path and `/`; "" for the root.
            origin: the same of what it is in the layers below.
            depth: how many folders it is in.
            is_covered: nothing from below is seen in it, so that nothing there needs to be hidden.
        """
        if depth > DEEPEST:
            raise LayerError(f"{self._tree} has more than {DEEPEST} folders within each other.")
        try:
            with os.scandir(f"{self._tree}/{prefix}") as found:
                listed = list(found)
        except PermissionError:
            return False  # what a child has closed to everybody stays where it is
        is_all = True
        for one in listed:
            path = prefix + one.name
            if one.is_dir(follow_symlinks=False):
                is_taken = self._look_at_folder(one, path, origin, depth, is_covered=is_covered)
            elif not self._globs.matches(path) and not self._globs.may_reach_into(path):
                is_taken = False
            else:
                is_taken = self._look_at_thing(one, path, is_covered=is_covered)
            is_all = is_all and is_taken
        return is_all

    def _look_at_thing(self, one: os.DirEntry[str], path: str, *, is_covered: bool) -> bool:
        is_file = one.is_file(follow_symlinks=False) or one.is_symlink()
        if is_file and self._globs.matches(path):
            self.files.append(path)
            return True
        is_whiteout = not is_file and _is_whiteout(one)
        if not is_covered and self._hides(path, also_unknown=True):
            self.whiteouts.append(path)
        return is_whiteout

    def _look_at_folder(self, one: os.DirEntry[str], path: str, origin: str, depth: int, *, is_covered: bool) -> bool:
        globs = self._globs
        if not globs.may_reach_into(path):
            if not is_covered and self._replaces_file(path):
                self._hide_file(path)
            self._left.append(_Redirected(path, origin + one.name))
            return False
        takes_all = globs.takes_all_below(path)
        if takes_all and not any(glob.may_reach_into(path) for glob in globs.exclude):
            self.folders.append(path)
            return True
        entry = entry_at(f"{self._tree}/{path}", path, one.stat(follow_symlinks=False))
        assert entry is not None
        if entry.redirect and not entry.is_opaque:
            if self._below is not None:
                return self._look_at_renamed(path, origin + one.name, is_covered=is_covered)
            self._left.append(_Redirected(path, origin + one.name))
        counts = [len(kept) for kept in self._lists]
        hides = entry.is_opaque and not is_covered and self._hides(path, also_unknown=True)
        inner = f"{_origin(entry, origin)}/"
        covers = entry.is_opaque or (is_covered and not entry.redirect)
        is_all = self._look(f"{path}/", inner, depth + 1, is_covered=covers)
        if takes_all and is_all:
            for kept, length in zip(self._lists, counts, strict=True):
                del kept[length:]
            self.folders.append(path)
            return True
        if (
            counts != [len(kept) for kept in self._lists]
            or takes_all
            or hides
            or (entry.redirect and not entry.is_opaque)
            or (not is_covered and self._replaces_file(path))
        ):
            self.shared.append(entry)
        return False

    @property
    def _lists(self) -> tuple[list[str], list[str], list[str], list[Entry]]:
        return self.folders, self.files, self.whiteouts, self.shared

    def _look_at_renamed(self, path: str, origin: str, *, is_covered: bool) -> bool:
        assert self._below is not None
        if self._takes_any(Stack([*self._below.trees, self._tree]), path):
            self.to_settle.append(path)
        elif not is_covered and self._hides(path, also_unknown=False):
            self.whiteouts.append(path)
        self._left.append(_Redirected(path, origin))
        return False

    def _hide_file(self, path: str) -> None:
        """Hide a file that is below, where a folder is now that the patterns do not reach into."""
        entry = entry_at(f"{self._tree}/{path}", path)
        assert entry is not None
        if entry.is_opaque or entry.redirect:
            self.whiteouts.append(path)
        else:
            self.shared.append(entry)

    def _replaces_file(self, path: str) -> bool:
        """Whether a folder is where below there is a file, or could be one, that the patterns take."""
        if not self._globs.matches(path):
            return False
        old = None if self._below is None else self._below.find(path)
        return self._below is None or (old is not None and old.kind != "d")

    def _hides(self, path: str, *, also_unknown: bool) -> bool:
        """Whether there is something below at *path* that the patterns take."""
        if self._below is None:
            return also_unknown
        old = self._below.find(path)
        if old is None:
            return False
        return self._takes(old) or (old.kind == "d" and self._takes_any(self._below, path))

    def _takes_any(self, stack: Stack, path: str) -> bool:
        return self._globs.takes_all_below(path) or any(map(self._takes, stack.below(path)))

    def _takes(self, entry: Entry) -> bool:
        if entry.kind != "d":
            return self._globs.matches(entry.path)
        return self._globs.takes_all_below(entry.path) and self._globs.may_reach_into(entry.path)


def _is_whiteout(one: os.DirEntry[str]) -> bool:
    status = one.stat(follow_symlinks=False)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


class _Move:
    def __init__(self, plan: _Plan, tree: str, target: str) -> None:
        self._plan = plan
        self._tree = tree
        self._target = target

    def run(self) -> None:
        plan, tree, target = self._plan, self._tree, self._target
        with ExitStack() as kept:
            for entry in reversed(plan.shared):  # parents first
                kept.enter_context(_kept(entry.source, entry.status))
                self._share(entry)
            for path in plan.whiteouts:
                folder, name = os.path.split(f"{target}/{path}")
                with _opened(folder) as fd:
                    copies.make_whiteout(name, fd)
            self._move_files()
            for path in plan.folders:
                _rename(f"{tree}/{path}", f"{target}/{path}")
            for entry in plan.shared:
                for mark in [OPAQUE] * entry.is_opaque + [REDIRECT] * bool(entry.redirect):
                    os.removexattr(entry.source, marks() + mark)
            for entry in plan.shared:  # parents last
                with _opened(f"{target}/{entry.path}") as fd:
                    status = entry.status
                    owner = copies.owner_of(status)
                    copies.give_status(fd, status.st_mode, owner, status.st_mtime_ns, status.st_atime_ns)

    def _share(self, entry: Entry) -> None:
        """Make a folder of the target that stays in the layer too; mode and time it gets in the end."""
        path = f"{self._target}/{entry.path}".removesuffix("/")
        os.mkdir(path, 0o700)
        with _opened(entry.source) as source, _opened(path) as fd:
            copies.give_attributes(fd, copies.attributes(source))
            if entry.is_opaque:
                copies.set_mark(fd, OPAQUE, b"y")
            if entry.redirect:
                copies.set_mark(fd, REDIRECT, os.fsencode(entry.redirect))

    def _move_files(self) -> None:
        tree, target = self._tree, self._target
        linked = {path: status for path in self._plan.files if (status := os.lstat(f"{tree}/{path}")).st_nlink > 1}
        names = Counter(status.st_ino for status in linked.values())
        staying = {
            path: status
            for path, status in linked.items()
            if stat.S_ISREG(status.st_mode) and names[status.st_ino] < status.st_nlink
        }
        if staying and self._plan.folders:
            moving = set(_linked_inodes(f"{tree}/{path}" for path in self._plan.folders))
            staying = {path: status for path, status in staying.items() if status.st_ino not in moving}
        if staying:
            _copy_all([Entry(path, "f", f"{tree}/{path}", status) for path, status in staying.items()], target)
        for path in self._plan.files:
            if path in staying:
                os.unlink(f"{tree}/{path}")
            else:
                os.rename(f"{tree}/{path}", f"{target}/{path}")


def _linked_inodes(folders: Iterable[str]) -> Iterator[int]:
    """Those below *folders* that have several names."""
    for folder in folders:
        for root, _, names in os.walk(folder):
            for name in names:
                status = os.lstat(f"{root}/{name}")
                if status.st_nlink > 1:
                    yield status.st_ino


def _copy_all(entries: Iterable[Entry], target: str) -> None:
    unreadable = copies.copy_entries(entries, target).unreadable
    if unreadable:
        raise LayerError(f"The file {unreadable[0]!r} cannot be read, and so not be kept with what is cached.")


def _settle_below(tree: str, folder: str, below: Stack, copy_entries: CopyEntries) -> bool:
    """Settle a folder of the layer and all in it; the deepest first, as others are looked up by those they are in."""
    paths = sorted((path for path, _ in _redirected(tree, folder, folder)), reverse=True)
    for path in paths:
        _settle(tree, path, Stack([*below.trees, tree]), copy_entries)
    return bool(paths)


def _settle(tree: str, folder: str, merged: Stack, copy_entries: CopyEntries) -> None:
    place, scratch = f"{tree}/{folder}", f"{tree}.settling"
    entries, tops = _missing(merged, folder, tree)
    with ExitStack() as kept:
        kept.enter_context(_kept(place))
        if tops:
            remove_tree(scratch)
            os.mkdir(scratch, 0o700)
            kept.callback(remove_tree, scratch)
            copy_entries(entries, scratch)
            # By rename, so that a crash leaves no half of a file.
            for path in tops:
                kept.enter_context(_kept(os.path.dirname(f"{place}/{path}")))
                os.chmod(os.path.dirname(f"{scratch}/{path}"), 0o700)  # it has come with the mode of the one in place
                _rename(f"{scratch}/{path}", f"{place}/{path}")
        with _opened(place) as fd:
            copies.set_mark(fd, OPAQUE, b"y")
            os.removexattr(fd, marks() + REDIRECT)
        _remove_whiteouts(place)


def _missing(merged: Stack, folder: str, tree: str) -> tuple[list[Entry], list[str]]:
    """What a folder of the layer *tree* shows of layers below, its paths relative to the folder.

    Returns:
        The entries, with the folders of the layer itself that they are in; and those in such a folder.
    """
    entries: list[Entry] = []
    tops: list[str] = []
    waiting: list[Entry] = []
    for found in merged.below(folder):
        entry = found._replace(path=found.path[len(folder) + 1 :])
        while waiting and not entry.path.startswith(f"{waiting[-1].path}/"):
            waiting.pop()
        if entry.source.startswith(f"{tree}/"):
            if entry.kind == "d":
                waiting.append(entry)
            continue
        if not tops or not entry.path.startswith(f"{tops[-1]}/"):
            tops.append(entry.path)
        entries += waiting
        waiting.clear()
        entries.append(entry)
    return entries, tops


def _remove_whiteouts(folder: str) -> None:
    """Remove those that hide nothing, as the folder is opaque: in one layer alone, the kernel would list them."""
    with os.scandir(folder) as found:
        listed = list(found)
    whiteouts = [
        one.path
        for one in listed
        if not one.is_dir(follow_symlinks=False) and not one.is_symlink() and _is_whiteout(one)
    ]
    if whiteouts:
        with _kept(folder):
            for path in whiteouts:
                os.unlink(path)
    for one in listed:
        if one.is_dir(follow_symlinks=False):
            _remove_whiteouts(one.path)


def _redirected(tree: str, folder: str, origin: str, depth: int = 0) -> Iterator[_Redirected]:
    """The renamed folders of a layer at *folder* and below it, "" for all.

    Args:
        tree: of the layer.
        folder: its path.
        origin: the path at which it would be in the layers below if it were not renamed itself.
        depth: how many folders it is in.
    """
    if depth > DEEPEST:
        raise LayerError(f"{tree} has more than {DEEPEST} folders within each other.")
    place = f"{tree}/{folder}" if folder else tree
    entry = entry_at(place, folder)
    if folder and entry is not None and entry.redirect:
        origin = _origin(entry, f"{os.path.dirname(origin)}/".lstrip("/"))
        yield _Redirected(folder, origin)
    try:
        with os.scandir(place) as found:
            names = [one.name for one in found if one.is_dir(follow_symlinks=False)]
    except PermissionError:
        return
    for name in names:
        yield from _redirected(tree, f"{folder}/{name}".lstrip("/"), f"{origin}/{name}".lstrip("/"), depth + 1)


def _origin(entry: Entry, prefix: str) -> str:
    """What a folder of a layer is in the layers below, given that of the folder it is in, and `/`."""
    if entry.redirect.startswith("/"):
        return entry.redirect[1:]
    return prefix + (entry.redirect or os.path.basename(entry.path))


def _with_parents(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition("/")[0]


def _rename(old: str, new: str) -> None:
    """Move something; a folder also where its own mode forbids that."""
    try:
        os.rename(old, new)
    except PermissionError:
        status = os.lstat(old)
        if not stat.S_ISDIR(status.st_mode):
            raise
        with _kept(old, status, now_at=new):
            os.rename(old, new)


@contextmanager
def _kept(folder: str, status: os.stat_result | None = None, now_at: str = "") -> Generator[None]:
    """Let a folder be changed that may be closed; mode and time are what they were afterwards.

    Args:
        folder: its absolute path.
        status: what it was; None for what it is.
        now_at: where it is afterwards; "" for there.
    """
    status = status or os.lstat(folder)
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o700 != 0o700:
        os.chmod(folder, mode | 0o700)
    try:
        yield
    finally:
        folder = now_at if now_at and os.path.lexists(now_at) else folder
        if mode & 0o700 != 0o700:
            os.chmod(folder, mode)
        os.utime(folder, ns=(status.st_atime_ns, status.st_mtime_ns))


@contextmanager
def _opened(folder: str) -> Generator[int]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
