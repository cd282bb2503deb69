"""Another root path where a tree holds its old one: a virtual environment, say, that now lies elsewhere.

The path is replaced wherever it stands in text files of up to 1 MiB, in the first lines of other scripts, and at the
start of links' targets. Other files are left alone: in them, a path of another length breaks what is behind it.
"""

import os
import re
from collections.abc import Iterable, Iterator

from tercel.layers.copies import make_layer
from tercel.layers.stacks import Entry, Stack
from tercel.layers.trees import READ_FLAGS

TEXT_BYTES = 1 << 20
"""Text files up to this size have their old root replaced wherever it stands; others in their first line only."""


class Relocation:
    """Puts a new root path where files and links mean their old one.

    Args:
        old_root: absolute path.
        new_root: absolute path; not needed to tell what is concerned.
    """

    def __init__(self, old_root: str, new_root: str = "") -> None:
        self._old_root, self._new_root = old_root, new_root
        self._old, self._new = os.fsencode(old_root), os.fsencode(new_root)
        # Not where it is only the start of another name.
        self._pattern = re.compile(re.escape(self._old) + rb"(?![A-Za-z0-9_-])")

    def concerns(self, entry: Entry) -> bool:
        """Tell whether a file or link means the old root; one that cannot be read does not.

        Raises:
            OSError: the file went away.
        """
        if entry.kind == "l":
            return self.concerns_link(entry.target)
        if entry.kind != "f" or not entry.status.st_size:
            return False
        try:
            fd = os.open(entry.source, READ_FLAGS)
        except PermissionError:
            return False
        try:
            return self._start(fd, entry.status.st_size) is not None
        finally:
            os.close(fd)

    def concerns_link(self, target: str) -> bool:
        """Tell whether a link's target names the old root or something in it."""
        return target == self._old_root or target.startswith(f"{self._old_root}/")

    def concerns_content(self, content: bytes, *, is_all: bool) -> bool:
        """Tell whether a file means the old root where it can be replaced.

        Args:
            content: the whole file up to `TEXT_BYTES`, at least the first line of a larger one.
            is_all: whether it is the whole.
        """
        if self._old not in content:
            return False
        if is_all and _is_text(content):
            return self._pattern.search(content) is not None
        return content[:2] == b"#!" and self._pattern.search(content.partition(b"\n")[0]) is not None

    def _start(self, fd: int, size: int) -> bytes | None:
        """The start of an open file that means the old root; None for any other file."""
        if size > TEXT_BYTES and os.pread(fd, 2, 0) != b"#!":
            return None
        content = os.pread(fd, TEXT_BYTES, 0)
        return content if self.concerns_content(content, is_all=size <= TEXT_BYTES) else None

    def new_start(self, fd: int, size: int) -> tuple[bytes, int] | None:
        """What an open file starts with now, and how many of its bytes that stands for; None where nothing changes."""
        content = self._start(fd, size)
        if content is None:
            return None
        if size <= TEXT_BYTES and _is_text(content):
            return self._pattern.sub(lambda _: self._new, content), len(content)
        line, newline, rest = content.partition(b"\n")
        return self._pattern.sub(lambda _: self._new, line) + newline + rest, len(content)

    def new_target(self, target: str) -> str:
        """Where a link that led to *target* leads now."""
        return self._new_root + target[len(self._old_root) :] if self.concerns_link(target) else target


def _is_text(content: bytes) -> bool:
    """Tell whether *content* is UTF-8 without NUL."""
    if b"\0" in content:
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def printable(path: str) -> str:
    """A path as text that can be stored: what is not UTF-8 in it is lost."""
    return os.fsencode(path).decode("utf-8", "replace")


def find_relocatable(stack: Stack, old_root: str) -> list[str]:
    """The printable paths of all files and links in a stack that mean *old_root*; reads every text.

    Raises:
        OSError: the stack cannot be read.
    """
    relocation = Relocation(old_root)
    return [printable(entry.path) for entry in stack.entries() if relocation.concerns(entry)]


def relocation_layer(stack: Stack, relocatable: Iterable[str], old_root: str, new_root: str, target: str) -> bool:
    """Make a layer to lay on a stack, with those files and links in it that mean another root now.

    Args:
        stack: what was made at *old_root*.
        relocatable: the printable paths to look at; ones that are not there are passed over.
        old_root: absolute path.
        new_root: absolute path.
        target: absolute path of the layer's tree, not there yet.

    Returns:
        False when nothing is to be changed; then there is no layer.

    Raises:
        LayerError: the layer cannot be written.
        OSError: the stack cannot be read.
    """
    relocation = Relocation(old_root, new_root)
    entries: dict[str, Entry] = {}
    for entry in _found(stack, relocatable):
        if relocation.concerns(entry):
            for folder in parents(entry.path):
                if folder not in entries:
                    found = stack.find(folder)
                    assert found is not None, folder  # there is something in it
                    entries[folder] = found
            entries[entry.path] = entry
    if entries:
        make_layer(entries.values(), target, stack.trees[-1], relocation=relocation)
    return bool(entries)


def _found(stack: Stack, relocatable: Iterable[str]) -> Iterator[Entry]:
    paths = {path for path in relocatable if {"", ".", ".."}.isdisjoint(path.split("/"))}
    # A path that lost something on the way may be that of several files: better to look at one too many.
    lossy = {path for path in paths if "\ufffd" in path}
    for path in sorted(paths - lossy):
        entry = stack.find(path)
        if entry is not None:
            yield entry
    if lossy:
        yield from (entry for entry in stack.entries() if printable(entry.path) in lossy)


def parents(path: str) -> Iterator[str]:
    """The folders that *path* is in, the outermost first; not the root."""
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)
