"""What one layer changes of the stack below it, and how much there is of a layer or a stack.

Costs as much as the layer is large, and what it deletes; never what else lies below. Times and owners are no change.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile
from typing import Literal, NamedTuple

from tercel.layers.stacks import Entry, Stack, entry_at, read_layer
from tercel.layers.trees import DEEPEST, READ_FLAGS, LayerError
from tercel.model.globs import Globs

_BLOCK_BYTES = 1 << 20


class Change(NamedTuple):
    """One thing that a layer changes.

    Attributes:
        path: relative, with `/` between its parts.
        what: `changed` also where another kind of thing is in its place now.
        kind: `f` file, `d` folder, `l` symbolic link: what it is now; of what is deleted, what it was.
        size: content in bytes now; 0 for what is deleted, or no file.
        size_before: content in bytes before; 0 for what is created, or was no file.
    """

    path: str
    what: Literal["created", "changed", "deleted"]
    kind: str
    size: int
    size_before: int


def layer_changes(tree: str, below: Stack) -> list[Change]:
    """What the layer *tree* changes of the stack *below* it, ordered by path.

    Content is read where nothing else tells: a file that was written again just as it was is no change. Of what goes
    with a folder, everything is listed. A folder that was renamed is deleted under its old name and created under its
    new one, with all that is in it.

    Raises:
        LayerError: folders are nested deeper than `DEEPEST`.
        OSError: something cannot be read.
    """
    return sorted(_Comparison(tree, below, None).folder("", below.inside("")))


def stack_changes(before: Stack, after: Stack) -> list[Change]:
    """What is other in the stack *after* than in the stack *before*, ordered by path; else as `layer_changes`.

    Costs as much as the layers are large that are not the lowest ones of both, whatever lies below them.

    Raises:
        LayerError: folders are nested deeper than `DEEPEST`.
        OSError: something cannot be read.
    """
    pairs = zip(before.trees, after.trees, strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    if shared == len(before.trees) == len(after.trees) - 1:
        return layer_changes(after.trees[-1], before)
    touched: set[tuple[str, str]] = set()
    for trees in (before.trees, after.trees):
        for place in range(shared, len(trees)):
            changes = layer_changes(trees[place], Stack(trees[:place]))
            touched.update((folder, name) for folder, _, name in (one.path.rpartition("/") for one in changes))
    found: list[Change] = []
    inside, old_at, new_at = None, before.find, after.find
    for folder, name in sorted(touched):
        if folder != inside:
            inside, old_at, new_at = folder, before.inside(folder), after.inside(folder)
        change = _change(f"{folder}/{name}" if folder else name, old_at(name), new_at(name))
        if change is not None:
            found.append(change)
    return sorted(found)


def _change(path: str, old: Entry | None, new: Entry | None) -> Change | None:
    """What became of one path; None for nothing."""
    if new is None:
        return None if old is None else Change(path, "deleted", old.kind, 0, _size(old))
    if old is None:
        return Change(path, "created", new.kind, _size(new), 0)
    return Change(path, "changed", new.kind, _size(new), _size(old)) if _differ(old, new) else None


def changes_anything(tree: str, below: Stack, globs: Globs | None = None) -> bool:
    """Tell whether a layer changes anything of the stack below it, looking no further than needed.

    Args:
        tree: of the layer.
        below: the stack.
        globs: look only at what they take: files and links that match, and folders of which everything is taken.

    Raises:
        LayerError: folders are nested deeper than `DEEPEST`.
        OSError: something cannot be read.
    """
    with os.scandir(tree) as entries:
        if next(entries, None) is None:
            return False
    return any(True for _ in _Comparison(tree, below, globs).folder("", below.inside("")))


def count(stack: Stack) -> tuple[int, int]:
    """How many files and links a stack shows, and the bytes of their content; that of several names once."""
    return _count(stack.entries())


def count_layer(tree: str) -> tuple[int, int]:
    """As `count`, of one layer alone; what it deletes is not counted."""
    return _count(read_layer(tree))


def _count(entries: Iterable[Entry]) -> tuple[int, int]:
    files = content = 0
    linked: set[tuple[int, int]] = set()
    for _, kind, _, status, _, _ in entries:
        if kind not in "fl":
            continue
        files += 1
        if kind != "f":
            continue
        if status.st_nlink > 1:
            if (status.st_dev, status.st_ino) in linked:
                continue
            linked.add((status.st_dev, status.st_ino))
        content += status.st_size
    return files, content


_Find = Callable[[str], Entry | None]


def _nothing(_: str) -> None:
    return None


class _Comparison:
    def __init__(self, tree: str, below: Stack, globs: Globs | None) -> None:
        self._tree = tree
        self._below = below
        self._merged = Stack([*below.trees, tree])
        self._globs = globs

    def folder(self, prefix: str, find: _Find, depth: int = 0) -> Iterator[Change]:
        """Changes in a folder of the layer, in no order.

        Args:
            prefix: its path and `/`; "" for the root.
            find: what was at a name in it before.
            depth: how many folders it is in.
        """
        if depth > DEEPEST:
            raise LayerError(f"{self._tree} has more than {DEEPEST} folders within each other.")
        with os.scandir(f"{self._tree}/{prefix}") as found:
            listed = list(found)
        for one in listed:
            path = prefix + one.name
            if not self._can_take(path):
                continue
            status = one.stat(follow_symlinks=False)
            entry = entry_at(f"{self._tree}/{path}", path, status)
            old = find(one.name)
            yield from self._thing(path, old, entry)
            if entry is not None and entry.kind == "d":
                yield from self._inside(entry, old, depth + 1)

    def _thing(self, path: str, old: Entry | None, new: Entry | None) -> Iterator[Change]:
        """What became of one path, and of what was in a folder that is none any more."""
        if new is None or new.kind == "w":
            if old is not None and self._takes(old):
                yield Change(path, "deleted", old.kind, 0, _size(old))
        elif old is None:
            if self._takes(new):
                yield Change(path, "created", new.kind, _size(new), 0)
        elif (self._takes(new) or self._takes(old)) and _differ(old, new):
            yield Change(path, "changed", new.kind, _size(new), _size(old))
        if old is not None and old.kind == "d" and (new is None or new.kind != "d"):
            for gone in self._below.below(path):
                if self._takes(gone):
                    yield Change(gone.path, "deleted", gone.kind, 0, _size(gone))

    def _inside(self, entry: Entry, old: Entry | None, depth: int) -> Iterator[Change]:
        """What a folder of the layer changes in it."""
        was_folder = old is not None and old.kind == "d"
        if not entry.redirect and not (entry.is_opaque and was_folder):
            find = self._below.inside(entry.path) if was_folder else _nothing
            yield from self.folder(f"{entry.path}/", find, depth)
            return
        # All of it is other than what lies below under that name.
        before = {gone.path: gone for gone in self._below.below(entry.path)} if was_folder else {}
        for new in self._merged.below(entry.path):
            old = before.pop(new.path, None)
            if old is None:
                if self._takes(new):
                    yield Change(new.path, "created", new.kind, _size(new), 0)
            elif (self._takes(new) or self._takes(old)) and _differ(old, new):
                yield Change(new.path, "changed", new.kind, _size(new), _size(old))
        for gone in before.values():
            if self._takes(gone):
                yield Change(gone.path, "deleted", gone.kind, 0, _size(gone))

    def _can_take(self, path: str) -> bool:
        """Whether the globs could take what is or was at a path or below it."""
        return self._globs is None or self._globs.may_reach_into(path) or self._globs.matches(path)

    def _takes(self, entry: Entry) -> bool:
        if self._globs is None:
            return True
        if entry.kind != "d":
            return self._globs.matches(entry.path)
        return self._globs.takes_all_below(entry.path) and self._globs.may_reach_into(entry.path)


def _size(entry: Entry) -> int:
    return entry.status.st_size if entry.kind == "f" else 0


def _differ(old: Entry, new: Entry) -> bool:
    if old.kind != new.kind:
        return True
    if new.kind == "l":
        return old.target != new.target
    if stat.S_IMODE(old.status.st_mode) != stat.S_IMODE(new.status.st_mode):
        return True
    if new.kind == "d" or os.path.samestat(old.status, new.status):
        return False
    return old.status.st_size != new.status.st_size or not _have_same_content(old.source, new.source)


def _have_same_content(one: str, other: str) -> bool:
    """Of two files of one size; False also where one cannot be read."""
    fds: list[int] = []
    try:
        for path in (one, other):
            fds.append(os.open(path, READ_FLAGS))
        while block := os.read(fds[0], _BLOCK_BYTES):
            if os.read(fds[1], _BLOCK_BYTES) != block:
                return False
    except PermissionError:
        return False
    finally:
        for fd in fds:
            os.close(fd)
    return True
