"""Backend: layers mounted one on the other by the kernel, however many files they have; as root or in a user namespace.

Source of the options: https://docs.kernel.org/filesystems/overlayfs.html
"""

import os
import stat
from collections.abc import Sequence
from itertools import count
from threading import Thread

from tercel.layers.pool import Pool, Work
from tercel.layers.stacks import TRUSTED, marks
from tercel.mounts import mount, unmount
from tercel.removal import remove_tree

# volatile: unmounting does not wait for the disk; what a crash of the system leaves is told by the notes' boot.
_OPTIONS = "index=off,metacopy=off,xino=off,volatile"
_MOST_MOVED = 1000
"""Names at the top of a layer that are moved, rather than wait for the old mount to be gone."""

_MOST_MOUNTED = 100
"""Layers that fit into the one page that mount(2) takes as options."""


class OverlayView:
    """Layers as one tree at *path*, in the mount namespace of the calling thread.

    Args:
        path: absolute path of an empty folder that only this thread sees.
    """

    def __init__(self, pool: Pool, work: Work, path: str) -> None:
        self._pool = pool
        self._work = work
        self._path = path
        self._shown: tuple[Sequence[str], str, str] = ((), "", "")  # layers, the upper one, the kernel's own folder
        self._empty: os.stat_result | None = None
        self._is_mounted = False
        self._numbers = count()
        # Root alone may rename folders that come from a layer below: others get EXDEV, and `mv` copies.
        self._options = _OPTIONS + (",redirect_dir=on" if marks() == TRUSTED else ",userxattr")

    def show(self, layers: Sequence[str]) -> None:
        """Show *layers*, the lowest first; what was changed since the last `freeze` is gone.

        Where that cannot be, what was shown last is shown again, with what was changed.
        """
        scratch = f"{self._work.folder}/w{next(self._numbers)}"
        try:
            os.mkdir(scratch, 0o700)
            new = self._new_upper(layers)
            fitting = self._fitting(layers)
            self.hide()
            self._mount(fitting, new, scratch)
        except OSError:
            remove_tree(scratch)
            if not self._is_mounted:
                self._go_back()
            raise

    def _new_upper(self, layers: Sequence[str]) -> str:
        layer = self._work.new_layer()
        upper = self._pool.tree(layer)
        if self._empty is None:
            self._empty = os.stat(upper)
        # Mode and time of the root are carried by nothing else than the topmost layer's.
        root = os.stat(self._pool.tree(layers[-1])) if layers else self._empty
        os.chmod(upper, stat.S_IMODE(root.st_mode))
        os.utime(upper, ns=(root.st_atime_ns, root.st_mtime_ns))
        return layer

    def _go_back(self) -> None:
        """Show again what was shown last, as there was no room for more; nothing where nothing was."""
        layers, upper, former = self._shown
        if not upper:
            return
        remove_tree(former)
        scratch = f"{self._work.folder}/w{next(self._numbers)}"
        try:
            os.mkdir(scratch, 0o700)
            self._mount(layers, upper, scratch)
        except OSError:
            os.rmdir(self._path)  # so that nobody takes an empty folder for it
            raise

    def _mount(self, layers: Sequence[str], upper: str, scratch: str) -> None:
        pool = self._pool
        lower = [*(pool.relative_tree(layer) for layer in reversed(layers)), pool.empty_tree]
        folder = os.open(".", os.O_PATH | os.O_CLOEXEC)
        try:
            # From there the names are short and without commas and colons; other threads stay where they are.
            os.chdir(pool.layers_folder)
            folders = f"lowerdir={':'.join(lower)},upperdir={pool.relative_tree(upper)}"
            workdir = os.path.relpath(scratch, pool.layers_folder)
            mount("tercel", self._path, "overlay", 0, f"{folders},workdir={workdir},{self._options}")
        finally:
            os.fchdir(folder)
            os.close(folder)
        self._shown, self._is_mounted = (layers, upper, scratch), True

    def _fitting(self, layers: Sequence[str]) -> Sequence[str]:
        """*layers*, the lower ones copied into one where they are too many to mount."""
        if len(layers) <= _MOST_MOUNTED:
            return layers
        from tercel.layers.copies import squash  # noqa: PLC0415  # the rare case
        from tercel.layers.stacks import Stack  # noqa: PLC0415  # same

        rest = _MOST_MOUNTED // 2
        one = self._work.new_id()
        squash(Stack([self._pool.tree(layer) for layer in layers[:-rest]]), self._pool.tree(one))
        return [one, *layers[-rest:]]

    def freeze(self, *, is_last: bool) -> str | None:
        """Make a layer of what was changed, and give its id; None where nothing was.

        Where there is one, nothing is shown until the next `show`.
        """
        upper = self._shown[1]
        tree = self._pool.tree(upper)
        names = os.listdir(tree)
        if not names:
            return None
        moves = not is_last and len(names) <= _MOST_MOVED
        fresh = f"{self._work.folder}/u{next(self._numbers)}"
        if moves:
            os.mkdir(fresh, 0o700)  # before anything is hidden: there may be no room for it
        self.hide()
        if moves:
            try:
                self._move_out(tree, fresh, names)
            except OSError:
                for name in os.listdir(fresh):
                    os.rename(f"{fresh}/{name}", f"{tree}/{name}")
                self._go_back()
                raise
        return upper

    def _move_out(self, tree: str, fresh: str, names: Sequence[str]) -> None:
        """Put what is in an upper folder into another one of its name: the kernel takes the old one to be in use.

        It does so for as long as the mount is being taken down, and warns when it is mounted as a lower one.
        """
        status = os.stat(tree)
        for name in names:
            os.rename(f"{tree}/{name}", f"{fresh}/{name}")
        os.chmod(fresh, stat.S_IMODE(status.st_mode))
        os.utime(fresh, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.rename(tree, f"{fresh}-old")
        os.rename(fresh, tree)

    def hide(self) -> None:
        """Show nothing."""
        if self._is_mounted:
            self._is_mounted = False
            # Taking a mount down costs time for each file that was touched in it: that happens when the last
            # descriptor of it is closed, and nobody has to wait for it.
            mounted = os.open(self._path, os.O_PATH | os.O_CLOEXEC)
            try:
                unmount(self._path)
            finally:
                Thread(target=os.close, args=(mounted,), name="tercel-unmount", daemon=True).start()

    close = hide
