"""Backend: layers put into a real folder by copying, and made by looking at what has changed in it.

Works on every system; where the file system can clone files (XFS, btrfs) it costs no content.
"""

import os
import stat
from collections.abc import Sequence

from tercel.layers.copies import copy_entries
from tercel.layers.directories import DirectoryState, freeze, put_back
from tercel.layers.plain_copies import copy_plain
from tercel.layers.pool import Pool, Work
from tercel.layers.stacks import Stack
from tercel.removal import remove_tree


class CopiedView:
    """Layers as one tree in *path*, a folder of its own that is empty."""

    def __init__(self, pool: Pool, work: Work, path: str) -> None:
        self._pool = pool
        self._work = work
        self._path = path
        self._layers: list[str] = []
        self._state = DirectoryState.of(path)
        self._frozen: tuple[str, DirectoryState] | None = None

    def show(self, layers: Sequence[str]) -> None:
        """Show *layers*, the lowest first; what was changed since the last `freeze` is gone."""
        wanted = list(layers)
        if self._frozen is not None and wanted == [*self._layers, self._frozen[0]]:
            self._layers, self._state = wanted, self._frozen[1]
        elif wanted == self._layers:
            self._state = put_back(self._path, self._state, self._stack(wanted))
        else:
            self._empty()
            if len(wanted) != 1 or not copy_plain(self._pool.tree(wanted[0]), self._path):
                self._empty()
                copy_entries(self._stack(wanted).entries(), self._path)
            if wanted:
                root = os.stat(self._pool.tree(wanted[-1]))
                os.chmod(self._path, stat.S_IMODE(root.st_mode))
                os.utime(self._path, ns=(root.st_atime_ns, root.st_mtime_ns))
            self._layers, self._state = wanted, DirectoryState.of(self._path)
        self._frozen = None

    def _empty(self) -> None:
        for name in os.listdir(self._path):
            remove_tree(f"{self._path}/{name}")

    def _stack(self, layers: Sequence[str]) -> Stack:
        return Stack([self._pool.tree(layer) for layer in layers])

    def freeze(self, *, is_last: bool) -> str | None:
        """Make a layer of what was changed, and give its id; None where nothing was.

        Args:
            is_last: the folder is of no use afterwards: its files are moved, not copied.
        """
        layer = self._work.new_id()
        state = freeze(self._path, self._state, self._pool.tree(layer), takes=is_last)
        if state is None:
            return None
        self._frozen = (layer, state)
        return layer

    def close(self) -> None:
        """Nothing is to be let go of."""
