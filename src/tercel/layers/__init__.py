"""Trees of files, kept and put back exactly as they were: the store behind the cache of working directories.

Knows modes, links, times and content; knows nothing of flows, of what identifies a cache entry or of where packed
trees are stored: those hand in a stream and a version.

    tree = layers.look(directory, Globs(["venv/**"]))
    with layers.pack(tree) as packed:                        # streamed to a file of its own
        uri = storage.put_file(path, packed.file, move=True)
        packed.keep(storage.stat(uri).version)               # optional: the directory's files go to the local tier
    …
    restored = layers.restore(packed.facts, version, lambda: storage.get(uri), other_directory)
    baseline = layers.baseline(layers.look(other_directory, globs), restored)
    … children run …
    changes = layers.changes(baseline, layers.look(other_directory, globs))
"""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import BinaryIO

import msgspec

from tercel.layers.globs import Selection, select
from tercel.layers.pool import DEFAULT_LIMIT_BYTES, Pool, remove_tree
from tercel.layers.trees import (
    Baseline,
    Changes,
    DamagedEntryError,
    FolderStack,
    LayerError,
    Node,
    Tree,
    compare,
    located,
    scan,
    take_baseline,
)
from tercel.model.globs import Globs
from tercel.model.packs import PackedTree

__all__ = [
    "Baseline",
    "Changes",
    "DamagedEntryError",
    "FolderStack",
    "LayerError",
    "LayerStore",
    "Packed",
    "Restored",
    "Selection",
    "Tree",
    "select",
]


class Restored(msgspec.Struct, frozen=True):
    """A tree that was put in place.

    Attributes:
        nodes: what is there, ordered by path.
        method: how it got there, for the log: `copy`.
        was_local: False when it had to be fetched from internal storage first.
    """

    nodes: list[Node]
    method: str
    was_local: bool

    @property
    def files(self) -> int:
        """Regular files, links and further names of a file."""
        return sum(node.kind != "d" for node in self.nodes)

    @property
    def bytes(self) -> int:
        """Content of all files."""
        return sum(node.size for node in self.nodes)


class Packed:
    """A packed tree in a file of its own, until the `with` block of `LayerStore.pack` ends.

    Attributes:
        facts: what to store beside it.
        file: where it is; may be moved away.
        unreadable: files that were left out, as they could not be read.
    """

    def __init__(self, pool: Pool, facts: PackedTree, file: str, nodes: list[Node], unreadable: list[str]) -> None:
        self.facts = facts
        self.file = file
        self.unreadable = unreadable
        self._pool = pool
        self._nodes = nodes

    def keep(self, version: str) -> bool:
        """Move the tree's files from its folder to the local tier, so that the next restore finds them there.

        The folder is of no use afterwards: call it when nothing else will read from it.

        Args:
            version: of the stored object.

        Returns:
            False when the folder is on another disk than the pool; then it is as it was.

        Raises:
            LayerError: a file has changed since it was packed, or the local tier cannot be written.
        """
        try:
            return self._pool.take_over(self.facts.sha256, version, self._nodes, self.facts.root)
        except OSError as error:
            raise LayerError(f"The local tier cannot be written: {error.strerror}: {error.filename}.") from error


class LayerStore:
    """Keeps trees in a local tier and puts them into working directories.

    Args:
        folder: of the local tier, on the disk of the working directories for the best speed.
        limit_bytes: content of all trees in the local tier.
    """

    def __init__(self, folder: str | os.PathLike[str], limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self.pool = Pool(os.path.realpath(folder), limit_bytes)

    def look(self, directory: str | os.PathLike[str], globs: Globs) -> Tree:
        """See what is in a directory of what the patterns take.

        Raises:
            LayerError: folders are nested too deep, or there is a link in place of the directory.
        """
        return scan(located(directory), globs)

    def baseline(self, tree: Tree, restored: Restored | None = None) -> Baseline:
        """Remember a tree; content that was just restored is not read again."""
        return take_baseline(tree, restored.nodes if restored else ())

    def changes(self, baseline: Baseline, tree: Tree) -> Changes:
        """Say how a tree differs from before; false when it does not."""
        return compare(baseline, tree)

    @contextmanager
    def pack(self, tree: Tree) -> Generator[Packed]:
        """Pack a tree into a file, streamed.

        Raises:
            LayerError: a file changed while it was read, or the file cannot be written.
        """
        from tercel.layers.packs import pack_tree  # noqa: PLC0415 - only what has a cache packs

        with self.pool.staged_file() as (path, file):
            try:
                facts, nodes, unreadable = pack_tree(tree, file)
                file.flush()
            except OSError as error:
                raise LayerError(f"{tree.root} cannot be packed: {error.strerror}: {error.filename}.") from error
            yield Packed(self.pool, facts, path, nodes, unreadable)

    def restore(
        self,
        facts: PackedTree,
        version: str,
        fetch: Callable[[], BinaryIO],
        directory: str | os.PathLike[str],
        only: Globs | None = None,
    ) -> Restored:
        """Put a packed tree into an empty directory, whole or not at all.

        Args:
            facts: as they were given when it was packed.
            version: of the stored object now. The local tier is used when it is the one seen last; otherwise the
                object is checked against its sha256 first.
            fetch: opens the stored object.
            directory: absolute path of an empty folder.
            only: leave out what these do not take; None for everything.

        Raises:
            DamagedEntryError: the stored object is not the one that was packed.
            LayerError: the directory or the local tier cannot be written.
            NotFoundError: as *fetch* raises it.
        """
        root = os.path.realpath(directory)
        was_local = self._check(facts, version, fetch)
        for _ in range(2):
            with self.pool.hold(facts.sha256) as tree:
                if tree is not None:
                    try:
                        nodes = _only(tree.nodes, only)
                        nodes = self._place(nodes, tree.content, root, facts.root)
                        return Restored(nodes, "copy", was_local)
                    except DamagedEntryError:
                        _empty(root)  # the local tier is at fault; the stored object may be good
                    except BaseException:
                        _empty(root)
                        raise
            self.pool.remove(facts.sha256)
            self._fetch(facts, version, fetch)
            was_local = False
        raise LayerError(f"The tree {facts.sha256[:12]} does not stay in the local tier {self.pool.folder}.")

    def _place(self, nodes: list[Node], content: str, root: str, old_root: str) -> list[Node]:
        from tercel.layers.copies import copy_tree  # noqa: PLC0415 - only what has a cache copies

        return copy_tree(nodes, content, root, old_root, root)

    def _check(self, facts: PackedTree, version: str, fetch: Callable[[], BinaryIO]) -> bool:
        """Have the tree in the local tier, made from the stored object as it is now; tell whether it was there."""
        with self.pool.hold(facts.sha256) as tree:
            if tree is not None:
                if tree.version != version:
                    _check_sha256(facts, fetch)
                    self.pool.set_version(facts.sha256, version)
                return True
        self._fetch(facts, version, fetch)
        return False

    def _fetch(self, facts: PackedTree, version: str, fetch: Callable[[], BinaryIO]) -> None:
        from tercel.layers.packs import unpack_tree  # noqa: PLC0415 - only what has a cache unpacks

        try:
            with fetch() as source:
                self.pool.add(facts.sha256, version, lambda folder: unpack_tree(source, folder, facts))
        except OSError as error:
            raise LayerError(
                f"The tree {facts.sha256[:12]} cannot be unpacked: {error.strerror}: {error.filename}."
            ) from error

    def forget(self, facts: PackedTree) -> None:
        """Remove a tree from the local tier, as its entry is gone; one in use stays until there is no room."""
        self.pool.remove(facts.sha256)

    def clean(self) -> int:
        """Remove what a crash left in the local tier, and what is past its limit; give the number of leftovers."""
        return self.pool.clean()


def _only(nodes: list[Node], globs: Globs | None) -> list[Node]:
    """The nodes that the patterns take, with the folders they are in."""
    if globs is None:
        return nodes
    by_path = {node.path: node for node in nodes}
    result: dict[str, Node] = {}
    first_names: dict[str, str] = {}
    for node in nodes:
        if not (globs.takes_all_below(node.path) if node.kind == "d" else globs.matches(node.path)):
            continue
        parent = node.path.rpartition("/")[0]
        while parent and parent not in result:
            result[parent] = by_path[parent]
            parent = parent.rpartition("/")[0]
        if node.kind == "h":
            # When the name it leads to is left out, the first name that is not takes its place.
            first = first_names.setdefault(node.target, node.path if node.target not in result else node.target)
            source = by_path[node.target] if first == node.path else node
            node = msgspec.structs.replace(source, path=node.path, target="" if first == node.path else first)  # noqa: PLW2901
        result[node.path] = node
    return [result[path] for path in sorted(result)]


def _check_sha256(facts: PackedTree, fetch: Callable[[], BinaryIO]) -> None:
    from hashlib import sha256  # noqa: PLC0415 - loads OpenSSL, which most runs do without

    digest = sha256()
    with fetch() as source:
        while block := source.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != facts.sha256:
        raise DamagedEntryError(f"The stored tree {facts.sha256[:12]} is damaged: its checksum is another.")


def _empty(root: str) -> None:
    with suppress(OSError), os.scandir(root) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                remove_tree(entry.path)
            else:
                os.unlink(entry.path)
