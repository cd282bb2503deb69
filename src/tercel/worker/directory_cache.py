"""The cache of one WorkingDirectory's run: restore it, see what the children changed, save.

No trouble with a cache fails a run: it is a miss, or nothing is saved, and a warning says why. Each restore and each
save is told in one line at INFO, and so is the storing, which goes on when the run has ended.
"""

import os
from collections.abc import Sequence
from datetime import timedelta
from itertools import islice
from time import monotonic, perf_counter

import msgspec

from tercel.errors import NotFoundError, TaskKilledError, TercelError
from tercel.layers import DamagedEntryError
from tercel.model import Cache, parse_duration
from tercel.model.globs import Globs
from tercel.model.size import size_text
from tercel.storage.caches import CacheEntry, CacheKey, patterns_differ, this_platform
from tercel.worker.cache_keeper import Kept
from tercel.worker.cache_shelf import Found, note_name
from tercel.worker.control import JobControl
from tercel.worker.job_scene import JobScene
from tercel.worker.layer_services import LayerServices
from tercel.worker.recorder import Recorder
from tercel.worker.run_context import TaskContext

_WHY_MISSED = {"none": "nothing is saved yet", "platform": "it was saved on another platform"}
_MOST_COUNTED = 100
"""Things of a first entry that are counted before a save is over; how many more there are is told when it is stored."""

_MOST_COMPARED = 1000
"""Changed things of which is told what became of each."""


class _Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The property, rendered."""

    key: CacheKey
    patterns: list[str]
    exclude: list[str]
    globs: Globs
    ttl: timedelta | None


class DirectoryCache:
    """The cache of one run.

    Args:
        cache: the property.
        services: the caches of this worker.
        recorder: knows the layers of the directory.
        context: of the WorkingDirectory; renders the properties, takes log lines and metrics.
    """

    def __init__(
        self, cache: Cache, services: LayerServices, recorder: Recorder, scene: JobScene, context: TaskContext
    ) -> None:
        self._cache = cache
        self._shelf = services.shelf
        self._keeper = services.keeper
        self._backend = services.layers.backend
        self._recorder = recorder
        self._directory = recorder.directory
        self._scene = scene
        self._context = context
        self._began = monotonic()
        self._settings: _Settings | None = None
        self._found = Found("none")
        self._is_restored = False
        self._is_partial = False

    def restore(self) -> None:
        """Put what an earlier run saved into the directory, which is empty."""
        began = perf_counter()
        trouble, was_here = "", True
        try:
            self._settings = settings = self._read_settings()
            self._found = self._look_up(settings)
            if self._found.entry is not None:
                was_here = self._put_in_place(settings)
            elif self._found.outcome == "damaged":
                trouble = "its entry is damaged and has been dropped."
        except DamagedEntryError as error:
            self._drop()
            trouble = f"its entry is damaged and has been dropped. {error}"
        except Exception as error:  # whatever is wrong with a cache, the run goes on without it
            trouble = f"it cannot be restored. {_said(error)}"
        took = perf_counter() - began
        self._context.metric("cache.hit", int(self._is_restored))
        self._context.metric("cache.restore.duration", took, "timer")
        if trouble:
            self._warn(f"Cache missed: {trouble}")
        else:
            self._info(self._hit(took, was_here=was_here) if self._is_restored else self._missed())

    def go_on(self, layers: Sequence[str], entry: CacheEntry | None) -> None:
        """An earlier job of this run has restored the cache: these layers are from it."""
        try:
            self._settings = settings = self._read_settings()
            self._found = self._look_up(settings)
        except Exception as error:  # as in `restore`
            self._warn(f"The cache cannot be looked up: {_said(error)}")
            return
        self._is_restored = bool(layers)
        found = self._found
        # What was saved meanwhile is no part of this directory: what is saved now takes its place as a whole.
        is_same = entry is not None and found.entry is not None and entry.id == found.entry.id
        self._is_partial = not (is_same and found.layers == tuple(layers))

    def save(self, control: JobControl, *, succeeded: bool) -> None:
        """Keep what the directory holds for the next run, if that is wanted and it has changed.

        Args:
            control: of the run. Stopped before the entry is put into place, nothing is kept, whatever the property
                says; a stop that comes later finds the run ended.
            succeeded: whether the run ended in SUCCESS or WARNING.
        """
        if self._settings is None or self._cache.save == "NEVER":
            return
        if control.reason is not None or not (succeeded or self._cache.save == "ALWAYS"):
            self._info("Cache not saved: the run did not succeed.")
            return
        began = perf_counter()
        try:
            told = self._save(self._settings, control)
        except TaskKilledError:
            self._info("Cache not saved: the run did not succeed.")
        except Exception as error:  # as in `restore`
            self._warn(f"The cache is not saved: {_said(error)}")
        else:
            took = perf_counter() - began
            self._context.metric("cache.save.duration", took, "timer")
            self._info(f"{told} ({took:.3f} s)")

    def _read_settings(self) -> _Settings:
        cache, context = self._cache, self._context
        patterns, exclude = context.render_list(cache.patterns), context.render_list(cache.exclude)
        ttl = "" if cache.ttl is None else context.render(cache.ttl).strip()
        job = self._scene.job
        key = "" if cache.key is None else context.render(cache.key)
        return _Settings(
            key=CacheKey(job.namespace, job.flow_id, job.task.id, job.values, key),
            patterns=patterns,
            exclude=exclude,
            globs=Globs(patterns, exclude, root=self._directory.path),
            ttl=parse_duration(ttl) if ttl else None,
        )

    def _look_up(self, settings: _Settings) -> Found:
        return self._shelf.find(settings.key, ttl=settings.ttl, ttl_from=self._cache.ttl_from)

    def _put_in_place(self, settings: _Settings) -> bool:
        """Fill the directory with what was found; tell whether this machine had all of it."""
        try:
            was_here = self._filled(settings)
        except NotFoundError:
            # Between the look-up and now another run has saved, and its entry is the one to take.
            self._found = self._look_up(settings)
            if self._found.entry is None:
                return True
            try:
                was_here = self._filled(settings)
            except NotFoundError as error:
                raise DamagedEntryError("A stored layer is gone.") from error
        self._is_restored = True
        self._recorder.cache_restored(self._directory.layers, None if self._is_partial else self._found.entry)
        self._scene.workplace.note_cached(self._paths)
        if self._found.entry is not None and self._cache.ttl_from == "LAST_USED":
            self._touch(self._found.entry)
        return was_here

    def _filled(self, settings: _Settings) -> bool:
        entry = self._found.entry
        self._is_partial = entry is not None and patterns_differ(entry, settings.patterns, settings.exclude)
        return self._shelf.fill(self._directory, self._found, settings.globs if self._is_partial else None)

    def _paths(self) -> list[str]:
        stack = self._directory.stack(self._recorder.snapshot.cache)
        return [entry.path for entry in stack.entries() if entry.kind != "d"]

    def _touch(self, entry: CacheEntry) -> None:
        try:
            self._shelf.touch(entry)
        except (TercelError, OSError) as error:
            self._warn(f"The use of the cache cannot be noted: {error}")

    def _drop(self) -> None:
        try:
            if self._settings is not None:
                self._shelf.drop(self._settings.key, self._found)
        except (TercelError, OSError) as error:
            self._warn(f"The cache's entry cannot be dropped: {error}")

    def _missed(self) -> str:
        found, settings = self._found, self._settings
        if found.outcome == "expired" and found.age is not None and settings is not None and settings.ttl is not None:
            return f"Cache missed: the entry is {_age(found.age)} old and its ttl {_age(settings.ttl)}."
        return f"Cache missed: {_WHY_MISSED.get(found.outcome, 'the entry cannot be used')}."

    def _hit(self, seconds: float, *, was_here: bool) -> str:
        entry, age = self._found.entry, self._found.age
        if entry is None:
            return self._missed()
        amount = ""
        if entry.files or entry.bytes:
            self._context.metric("cache.files", entry.files)
            self._context.metric("cache.size", entry.bytes)
            amount = f"{_amount(entry.files, entry.bytes)} "
        spared = f"; the run that made it took {entry.seconds:.1f} s" if entry.seconds > seconds else ""
        fetched = "" if was_here else ", fetched first"
        return (
            f"Cache restored from entry {entry.id[:12]}, {_age(age or timedelta(0))} old: {amount}"
            f"in {seconds:.3f} s by {self._backend}{fetched}{spared}."
        )

    def _save(self, settings: _Settings, control: JobControl) -> str:
        """Save if need be, and say what was done."""
        recorder, directory = self._recorder, self._directory
        is_new = not self._is_restored or self._is_partial
        changes = "all new" if is_new else self._changes(settings)
        if not changes:
            entry = self._found.entry
            return "Cache unchanged" + (f": {_amount(entry.files, entry.bytes)}" if entry and entry.files else "")
        limit = self._limit()
        if limit is not None and self._size_up_to(settings, limit) > limit:
            self._warn(f"The cache has more than the {size_text(limit)} allowed.")
            return "Cache not saved: it is too large."
        _finish(control)
        taken, run = recorder.take(settings.globs)
        layers = [*(recorder.snapshot.cache if self._is_restored else ()), *taken]
        if next((one for one in directory.stack(layers).entries() if one.kind != "d"), None) is None:
            if self._is_restored and self._shelf.drop(settings.key, self._found):
                return "Cache dropped: everything it held was deleted."
            return "Cache not saved: no file matches its patterns."
        entry = self._entry(settings)
        self._shelf.save(directory, entry, layers, run)
        self._keeper.entrust(note_name(settings.key), self._told)
        return f"Cache saved as entry {entry.id[:12]}: {self._counted(layers)}{changes}"

    def _entry(self, settings: _Settings) -> CacheEntry:
        job, before = self._scene.job, self._found.entry
        return CacheEntry(
            id=os.urandom(16).hex(),
            key=settings.key,
            saved_at=self._scene.services.clock(),
            patterns=tuple(settings.patterns),
            exclude=tuple(settings.exclude),
            platform=this_platform(),
            root=self._directory.path,
            # A partial one, or one from elsewhere that was made to fit here, is made of other layers.
            layers=() if before is None or not self._is_restored or self._is_partial else before.layers,
            execution_id=job.execution_id,
            task_run_id=job.task_run_id,
            revision=job.revision,
            seconds=monotonic() - self._began,
        )

    def _changes(self, settings: _Settings) -> str:
        """What the children changed of what is cached, for people; "" for nothing."""
        from tercel.layers.changes import changes_anything, layer_changes  # noqa: PLC0415  # only who was restored asks

        directory = self._directory
        children = [layer for step in self._recorder.snapshot.steps if step.kept for layer in step.layers]
        changed = [
            (layer, below)
            for layer in children
            if layer in directory.layers
            for below in [directory.stack(directory.layers[: directory.layers.index(layer)])]
            if changes_anything(directory.stack([layer]).trees[0], below, settings.globs)
        ]
        if not changed:
            return ""
        counts = {"created": 0, "changed": 0, "deleted": 0}
        for layer, below in changed:
            tree = directory.stack([layer])
            if sum(1 for _ in islice(tree.entries(), _MOST_COMPARED)) == _MOST_COMPARED:
                return "much changed"
            for change in layer_changes(tree.trees[0], below):
                if change.kind != "d" and settings.globs.matches(change.path):
                    counts[change.what] += 1
        return "{created} new, {changed} changed, {deleted} deleted".format(**counts)

    def _size_up_to(self, settings: _Settings, limit: int) -> int:
        """Content of what is cached, in bytes; counted no further than past *limit*."""
        total = 0
        for entry in self._directory.stack().entries():
            if entry.kind == "f" and settings.globs.matches(entry.path):
                total += entry.status.st_size
                if total > limit:
                    break
        return total

    def _counted(self, layers: Sequence[str]) -> str:
        """How much a first entry holds, for people; "" where it is too much to be counted now."""
        if self._is_restored:
            return ""
        entries = list(islice(self._directory.stack(layers).entries(), _MOST_COUNTED))
        if len(entries) == _MOST_COUNTED:
            return ""
        files = [one for one in entries if one.kind != "d"]
        size = sum(one.status.st_size for one in files if one.kind == "f")
        self._context.metric("cache.files", len(files))
        self._context.metric("cache.size", size)
        return f"{_amount(len(files), size)}, "

    def _told(self, kept: Kept) -> None:
        """Say what became of the entry that was saved; the run has ended meanwhile."""
        if kept.trouble:
            self._warn(f"The cache is kept on this machine only: {kept.trouble}.")
        elif kept.entry is not None:
            amount = _amount(kept.entry.files, kept.entry.bytes)
            packed = size_text(kept.entry.packed_bytes)
            self._info(f"Cache stored: {amount}, packed {packed} ({kept.seconds:.3f} s)")
            if kept.unreadable:
                count, first = len(kept.unreadable), kept.unreadable[0]
                files = f"1 file that cannot be read: {first!r}"
                if count > 1:
                    files = f"{count:,} files that cannot be read, such as {first!r}"
                self._warn(f"The cache in internal storage lacks {files}.")
        self._context.publish()

    def _limit(self) -> int | None:
        if self._cache.max_size is not None:
            return self._cache.max_size
        limit = self._context.setting("cache.max-bytes")
        return limit if isinstance(limit, int) else None

    def _info(self, message: str) -> None:
        self._context.logger.info(message)

    def _warn(self, message: str) -> None:
        self._context.logger.warn(message)


def _finish(control: JobControl) -> None:
    if not control.finish():
        raise TaskKilledError


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, TercelError | OSError) else f"{type(error).__name__}: {error}"


def _amount(files: int, size: int) -> str:
    return f"{files:,} file{'s' * (files != 1)}, {size_text(size)}"


def _age(age: timedelta) -> str:
    """*age* in the two largest units that matter."""
    seconds = int(age.total_seconds())
    if seconds < 60:
        return f"{age.total_seconds():.0f} s"
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
