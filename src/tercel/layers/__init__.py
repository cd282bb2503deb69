"""Working directories made of layers: filled in no time, kept child by child, and put back exactly as they were.

A layer holds what was changed on top of the layers below it. Knows files, mounts and the local tier; knows nothing of
flows, nor of where packed layers are stored.

    with layers.directory("my-flow.my-task-1a2b") as directory:     # at the same path for every run
        directory.fill(layers_of_the_cache)
        … input files are written to directory.path …
        directory.freeze()
        … a child runs …
        layer = directory.freeze()                                  # what it changed
        … a child fails …
        directory.freeze(keep=False)                                # and is as if it had never run
"""

import os
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from errno import EDQUOT, EMFILE, ENFILE, ENOMEM, ENOSPC
from fcntl import LOCK_EX, LOCK_NB, flock
from threading import Lock, Thread
from typing import Literal, Protocol

from tercel.layers.globs import Selection, select
from tercel.layers.pool import Facts, Note, Pool, Work
from tercel.layers.stacks import Entry, Stack, marks
from tercel.layers.trees import DamagedEntryError, LayerError, located
from tercel.model.globs import Globs
from tercel.removal import Trash

__all__ = [
    "BACKENDS",
    "Backend",
    "DamagedEntryError",
    "Facts",
    "LayerError",
    "LayerStore",
    "LayeredDirectory",
    "Note",
    "Selection",
    "Stack",
    "located",
    "select",
]

Backend = Literal["overlay", "userns", "reflink", "copy"]
BACKENDS: tuple[Backend, ...] = ("overlay", "userns", "reflink", "copy")
"""How layers become a directory, the best first: mounted by root, mounted in a user namespace, cloned, copied."""


_PASSING = frozenset({ENOSPC, EDQUOT, EMFILE, ENFILE, ENOMEM})
"""What says nothing of a backend: tomorrow there may be room again."""

Fill = Callable[[str], Facts]
"""Makes a layer's tree at a path, and gives what is known of it."""


class View(Protocol):
    """A backend's part in one directory: layers shown as one tree that can be written to."""

    def show(self, layers: Sequence[str]) -> None:
        """Show *layers*, the lowest first; what was changed since the last `freeze` is gone."""
        ...

    def freeze(self, *, is_last: bool) -> str | None:
        """Make a layer of what was changed, and give its id; None where nothing was."""
        ...

    def close(self) -> None:
        """Let go of what is shown."""
        ...


class LayeredDirectory:
    """A directory made of layers, for the thread that opened it and the processes it starts.

    Attributes:
        path: where it is.
        outside: where other processes of this machine see it, such as a container engine; "" where they do not.
        layers: ids of the layers it is made of, the lowest first.
    """

    def __init__(self, pool: Pool, work: Work, view: View, path: str, outside: str = "") -> None:
        self.path = path
        self.outside = outside
        self.layers: list[str] = []
        self._pool = pool
        self._work = work
        self._view = view

    def fill(self, layers: Sequence[str], *, made_at: str = "", relocatable: Iterable[str] | None = None) -> None:
        """Show layers of others, in place of all that is there.

        Args:
            layers: all of which the pool has, named to `uses` before.
            made_at: the path at which they were made; where this is another one, files that hold it are changed.
            relocatable: the files that hold it; None where that is not known.

        Raises:
            LayerError: they cannot be shown.
        """
        shown = list(layers)
        with _told(f"The directory {self.path} cannot be filled"):
            if layers and made_at and made_at != self.path:
                moved = self._relocated(self.stack(layers), made_at, relocatable)
                shown += [moved] if moved else []
            self._view.show(shown)
            self.layers = shown

    def _relocated(self, stack: Stack, made_at: str, relocatable: Iterable[str] | None) -> str:
        from tercel.layers.relocations import find_relocatable, relocation_layer  # noqa: PLC0415  # seldom needed

        layer = self._work.new_id()
        paths = find_relocatable(stack, made_at) if relocatable is None else relocatable
        return layer if relocation_layer(stack, paths, made_at, self.path, self._pool.tree(layer)) else ""

    def uses(self, layers: Sequence[str]) -> set[str]:
        """Keep layers of others in the pool until this directory is closed; gives those that are not there."""
        with self._pool.held():
            self._work.uses(layers)
            return {layer for layer in layers if not self._pool.has(layer)}

    def keep(self, layers: Iterable[str]) -> None:
        """Leave layers made here in the pool afterwards, as a note names them."""
        self._work.keep(layers)

    def freeze(self, *, keep: bool = True, is_last: bool = False) -> str | None:
        """Make a layer of what was changed since the last one, and give its id; None where nothing was.

        Args:
            keep: go on with it; otherwise the directory is put back to what it was.
            is_last: nobody looks at the directory afterwards.

        Raises:
            LayerError: it cannot be done; the directory is as it was.
        """
        with _told(f"What was changed in {self.path} cannot be kept"):
            layer = self._view.freeze(is_last=is_last)
            if layer is None:
                return None
            after = [*self.layers, layer] if keep else self.layers
            if not is_last:
                self._view.show(after)
            self.layers = after
            return layer

    def stack(self, layers: Sequence[str] | None = None) -> Stack:
        """What layers amount to, those of the directory where none are named."""
        return Stack([self._pool.tree(layer) for layer in (self.layers if layers is None else layers)])

    def has(self, layer: str) -> bool:
        """Whether a layer is in the pool."""
        return self._pool.has(layer)

    def new_id(self) -> str:
        """The id of a layer that `split` makes."""
        with _told("A layer cannot be made"):
            return self._work.new_id()

    def split(self, layer: str, globs: Globs, *, below: Sequence[str], into: str = "") -> str | None:
        """Move what the patterns take out of a layer made here; the id of the layer it is in now, None for nothing.

        To be called after the last `freeze`. What was moved lies below what stays: `[*below, moved, layer]` is as
        before.

        Args:
            layer: its id.
            globs: what to take.
            below: ids of the layers it was made on, the lowest first.
            into: id of the layer to be made, by `new_id`; "" for a new one.

        Raises:
            LayerError: it cannot be done; some of it may be in *into* then.
        """
        from tercel.layers.splits import split_layer  # noqa: PLC0415  # only what has a cache splits

        with _told(f"The layer {layer} cannot be split"):
            taken = into or self._work.new_id()
            is_any = split_layer(self._pool.tree(layer), self._pool.tree(taken), globs, self.stack(below))
            return taken if is_any else None

    def chosen(self, layers: Sequence[str], only: Globs | Container[str]) -> str:
        """A new layer with what patterns take of *layers*, or with the files at certain paths; its id."""
        from tercel.layers.copies import copy_entries  # noqa: PLC0415  # seldom needed

        with _told("The layers cannot be copied"):
            layer = self._work.new_layer()
            copy_entries(_taken(self.stack(layers), only), self._pool.tree(layer))
            return layer

    def close(self) -> None:
        """Let go of it."""
        self._view.close()


def _taken(stack: Stack, only: Globs | Container[str]) -> Iterator[Entry]:
    """What the patterns take of a stack, or what is at certain paths, with the folders it is in."""
    waiting: list[Entry] = []
    for entry in stack.entries():
        while waiting and not entry.path.startswith(f"{waiting[-1].path}/"):
            waiting.pop()
        if isinstance(only, Globs):
            is_wanted = only.takes_all_below(entry.path) if entry.kind == "d" else only.matches(entry.path)
        else:
            is_wanted = entry.path in only
        if is_wanted:
            yield from waiting
            waiting.clear()
            yield entry
        elif entry.kind == "d":
            waiting.append(entry)


class LayerStore:
    """Makes directories out of layers, and keeps layers.

    Args:
        folder: of the local tier; made when first used.
        places: folder below which directories have their fixed paths; made when first used.
        backend: how layers become a directory; "" for the best that works here.
    """

    def __init__(
        self, folder: str | os.PathLike[str], places: str | os.PathLike[str], backend: Backend | Literal[""] = ""
    ) -> None:
        # Layers of root and of others carry different marks, so each have a pool of their own.
        self.pool = Pool(os.path.join(os.path.realpath(folder), marks().partition(".")[0]))
        self.places = os.path.realpath(places)
        self._wanted = backend
        self._backend: tuple[Backend, str] | None = None
        self._guard = Lock()
        self._trash = Trash(self.places)

    @property
    def backend(self) -> Backend:
        """How layers become a directory here.

        Raises:
            LayerError: the one that was asked for does not work.
        """
        return self._chosen()[0]

    @property
    def why(self) -> str:
        """Why no better backend is used; "" for the best one."""
        return self._chosen()[1]

    def _chosen(self) -> tuple[Backend, str]:
        with self._guard:
            if self._backend is None:
                self._backend = self._choose()
            return self._backend

    def _choose(self) -> tuple[Backend, str]:
        self.pool.make()
        mounting: Backend = "overlay" if marks() == "trusted.overlay." else "userns"
        reasons: list[str] = []
        for backend in (mounting, "reflink", "copy"):
            if self._wanted and backend != self._wanted:
                continue
            why_not = self._why_not(backend)
            if not why_not:
                return backend, "; ".join(reasons)
            reasons.append(why_not)
        if not reasons:
            reasons = [
                "only root can" if self._wanted == "overlay" else "this process is in no user namespace of its own"
            ]
        raise LayerError(
            f"Working directories by {self._wanted!r}, as TERCEL_LAYERS asks for, are not possible: {reasons[0]}.",
            "Leave it out: then the best way that works here is used.",
        )

    def _why_not(self, backend: Backend) -> str:
        if backend == "copy":
            return ""
        if backend == "reflink":
            from tercel.layers.copies import clones  # noqa: PLC0415  # not where layers are mounted

            with self.pool.work() as work:
                can = clones(work.folder)
            return "" if can else f"the file system of {self.pool.folder} cannot clone files"
        from tercel.mounts import why_no_mounts  # noqa: PLC0415  # loads ctypes

        why_not = why_no_mounts()
        return f"the system allows no mounts: {why_not}" if why_not else self._try_to_mount()

    def _try_to_mount(self) -> str:
        """Mount two layers; gives why that does not work, else ""."""
        reasons: list[str] = []

        def attempt() -> None:
            try:
                with self.pool.work() as work, self._covered() as folder:
                    view = self._mounted(work, folder, "trial")
                    try:
                        view.show([work.new_layer()])
                    finally:
                        view.close()
            except OSError as error:
                if error.errno in _PASSING:
                    troubles.append(error)
                reasons.append(f"layers cannot be mounted in {self.pool.folder}: {error.strerror}")

        troubles: list[OSError] = []
        thread = Thread(target=attempt, name="tercel-mounts")
        thread.start()
        thread.join()
        if troubles:
            raise LayerError(
                f"Nothing can be mounted now: {troubles[0].strerror}: {troubles[0].filename}."
            ) from troubles[0]
        return reasons[0] if reasons else ""

    def _mounted(self, work: Work, folder: str, name: str) -> View:
        from tercel.layers.overlay import OverlayView  # noqa: PLC0415  # loads ctypes

        path = f"{folder}/{name}"
        os.mkdir(path, 0o700)
        return OverlayView(self.pool, work, path)

    @contextmanager
    def _covered(self) -> Generator[str]:
        from tercel.mounts import covered  # noqa: PLC0415  # loads ctypes

        os.makedirs(self.places, mode=0o700, exist_ok=True)
        with covered(self.places):
            yield self.places

    @contextmanager
    def directory(self, name: str, *, is_plain: bool = False) -> Generator[LayeredDirectory]:
        """A directory with nothing in it, at the path that *name* always has; for this thread, until the block ends.

        Where threads cannot have mounts of their own and the path is in use, it has another one.

        Args:
            name: of plain characters.
            is_plain: without mounts, so that other processes see it, too.

        Raises:
            LayerError: it cannot be made.
        """
        backend = self.backend
        with ExitStack() as stack:
            with _told(f"The directory {self.places}/{name} cannot be made"):
                work = stack.enter_context(self.pool.work())
                outside = ""
                if backend in ("overlay", "userns") and not is_plain:
                    view = self._mounted(work, stack.enter_context(self._covered()), name)
                    path = f"{self.places}/{name}"
                else:
                    from tercel.layers.copied import CopiedView  # noqa: PLC0415  # not where layers are mounted

                    path, outside = stack.enter_context(self._place(work, name))
                    view = CopiedView(self.pool, work, outside)
            stack.callback(view.close)
            yield LayeredDirectory(self.pool, work, view, path, outside)

    @contextmanager
    def _place(self, work: Work, name: str) -> Generator[tuple[str, str]]:
        """A real folder: the path at which it is seen, and the one at which files can be moved out of it."""
        from tercel.mounts import bind, why_no_mounts  # noqa: PLC0415  # loads ctypes

        os.makedirs(self.places, mode=0o700, exist_ok=True)
        if not why_no_mounts():
            folder = f"{work.folder}/d"
            os.mkdir(folder, 0o700)
            with self._covered():
                os.mkdir(f"{self.places}/{name}", 0o700)
                bind(folder, f"{self.places}/{name}")
                yield f"{self.places}/{name}", folder
            return
        lock = os.open(f"{self.places}/.{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        path = f"{self.places}/{name}"
        try:
            try:
                flock(lock, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                path = f"{work.folder}/d"
            self._trash.put(path)  # of a process that died
            os.mkdir(path, 0o700)
            try:
                yield path, path
            finally:
                if path.startswith(self.places):
                    self._trash.put(path)
        finally:
            os.close(lock)
            self._trash.empty(most=2)

    def fetch(self, layer: str, fill: Fill) -> None:
        """Bring a layer into the pool.

        Args:
            layer: its id.
            fill: makes the tree at the path it is given, which is not there yet, and gives what is known of it.
                What it raises is passed on, and nothing stays of it.

        Raises:
            LayerError: the pool cannot be written.
        """
        with _told(f"The layer {layer} cannot be unpacked"), self.pool.work() as work:
            staged = f"{work.folder}/f"
            os.mkdir(staged, 0o700)
            facts = fill(f"{staged}/t")
            self.pool.adopt(layer, staged)
            self.pool.set_facts(layer, facts)

    def sweep(self) -> int:
        """Remove what dead processes left, and the layers that nobody needs; gives how many things went."""
        gone = self.pool.sweep()
        self._trash.sweep()
        with suppress(FileNotFoundError):
            for name in os.listdir(self.places):
                if name.startswith(".") and name.endswith(".lock"):
                    gone += self._sweep_place(name)
        return gone

    def _sweep_place(self, lock_name: str) -> int:
        from tercel.layers.pool import only_one  # noqa: PLC0415  # only the janitor

        path = f"{self.places}/{lock_name[1:].removesuffix('.lock')}"
        with only_one(f"{self.places}/{lock_name}") as is_free:
            if not is_free or not os.path.isdir(path):
                return 0
            self._trash.put(path)
        self._trash.empty()
        return 1

    def close(self) -> None:
        """Remove what is out of sight."""
        self.pool.trash.empty()
        self._trash.empty()


@contextmanager
def _told(what: str) -> Generator[None]:
    """Say in words for people what an error of the system means."""
    try:
        yield
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        raise LayerError(f"{what}: {error.strerror}{place}.") from error
