"""The cache of one WorkingDirectory's run: restore, remember, compare, save.

No trouble with a cache fails a run: it is a miss, or nothing is saved, and a warning says why. Each restore and each
save is told in one line at INFO.
"""

from datetime import timedelta
from pathlib import Path
from time import monotonic, perf_counter

import msgspec

from tercel.errors import NotFoundError, TaskKilledError, TercelError
from tercel.layers import Baseline, DamagedEntryError, LayerStore, Packed, Restored, Tree
from tercel.model import Cache, parse_duration
from tercel.model.globs import Globs
from tercel.storage.caches import CacheEntry, CacheKey, Caches, Found, patterns_differ, this_platform
from tercel.worker.control import JobControl
from tercel.worker.job_scene import JobScene
from tercel.worker.run_context import TaskContext

_WHY_MISSED = {"none": "nothing is saved yet", "platform": "it was saved on another platform"}


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
        layers: keeps and restores trees.
        context: of the WorkingDirectory; renders the properties, takes log lines and metrics.
    """

    def __init__(self, cache: Cache, layers: LayerStore, scene: JobScene, context: TaskContext) -> None:
        self._cache = cache
        self._layers = layers
        self._scene = scene
        self._context = context
        self._caches = Caches(scene.services.storage)
        self._began = monotonic()
        self._settings: _Settings | None = None
        self._found = Found("none")
        self._restored: Restored | None = None
        self._baseline: Baseline | None = None
        self._is_partial = False

    @property
    def _directory(self) -> Path:
        return self._scene.workplace.directory

    def restore(self) -> None:
        """Put what an earlier run saved into the directory, which is empty."""
        began = perf_counter()
        trouble = ""
        try:
            self._settings = settings = self._read_settings()
            self._found = self._look_up(settings)
            if self._found.entry is not None:
                self._put_in_place(self._found.entry, settings)
            elif self._found.outcome == "damaged":
                trouble = "its entry is damaged and has been dropped."
        except DamagedEntryError as error:
            self._drop()
            trouble = f"its entry is damaged and has been dropped. {error}"
        except Exception as error:  # whatever is wrong with a cache, the run goes on without it
            trouble = f"it cannot be restored. {_said(error)}"
        took = perf_counter() - began
        self._context.metric("cache.hit", 0 if self._restored is None else 1)
        self._context.metric("cache.restore.duration", took, "timer")
        if trouble:
            self._warn(f"Cache missed: {trouble}")
        else:
            self._info(self._missed() if self._restored is None else self._hit(self._restored, took))

    def remember(self) -> None:
        """Take in what the directory holds before the children start, to see later what they changed."""
        if self._settings is None or self._restored is None or self._is_partial:
            return
        try:
            self._baseline = self._layers.baseline(self._look(self._settings), self._restored)
        except Exception as error:  # as in `restore`
            self._warn(f"The cache cannot be compared and will be saved anew: {_said(error)}")

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
            globs=Globs(patterns, exclude, root=str(self._directory)),
            ttl=parse_duration(ttl) if ttl else None,
        )

    def _look_up(self, settings: _Settings) -> Found:
        return self._caches.find(
            settings.key, now=self._scene.services.clock(), ttl=settings.ttl, ttl_from=self._cache.ttl_from
        )

    def _put_in_place(self, entry: CacheEntry, settings: _Settings) -> None:
        self._is_partial = patterns_differ(entry, settings.patterns, settings.exclude)
        try:
            self._restored = self._fetched(entry, settings)
        except NotFoundError:
            # Between the look-up and now another run has saved, and its entry is the one to take.
            self._found = self._look_up(settings)
            if self._found.entry is None:
                return
            self._restored = self._fetched_anew(self._found.entry, settings)
        for node in self._restored.nodes:
            if node.kind != "d":
                self._scene.workplace.note_restored(node.path)
        if self._cache.ttl_from == "LAST_USED":
            self._touch(self._found.entry or entry)

    def _fetched_anew(self, entry: CacheEntry, settings: _Settings) -> Restored:
        try:
            return self._fetched(entry, settings)
        except NotFoundError as error:
            raise DamagedEntryError("The stored tree is gone.") from error

    def _touch(self, entry: CacheEntry) -> None:
        try:
            self._caches.touch(entry, self._scene.services.clock())
        except (TercelError, OSError) as error:
            self._warn(f"The use of the cache cannot be noted: {error}")

    def _drop(self) -> None:
        try:
            self._caches.drop(self._found)
        except (TercelError, OSError) as error:
            self._warn(f"The cache's entry cannot be dropped: {error}")

    def _fetched(self, entry: CacheEntry, settings: _Settings) -> Restored:
        return self._layers.restore(
            entry.pack,
            self._caches.version(entry),
            lambda: self._caches.open(entry),
            self._directory,
            only=settings.globs if self._is_partial else None,
        )

    def _missed(self) -> str:
        found, settings = self._found, self._settings
        if found.outcome == "expired" and found.age is not None and settings is not None and settings.ttl is not None:
            return f"Cache missed: the entry is {_age(found.age)} old and its ttl {_age(settings.ttl)}."
        return f"Cache missed: {_WHY_MISSED.get(found.outcome, 'the entry cannot be used')}."

    def _hit(self, restored: Restored, seconds: float) -> str:
        self._context.metric("cache.files", restored.files)
        self._context.metric("cache.size", restored.bytes)
        entry, age = self._found.entry, self._found.age
        name = "" if entry is None else f" from entry {entry.pack.sha256[:12]}"
        spared = ""
        if entry is not None and entry.seconds > seconds:
            spared = f"; the run that made it took {entry.seconds:.1f} s"
        return (
            f"Cache restored{name}, {_age(age or timedelta(0))} old: {_amount(restored.files, restored.bytes)} "
            f"in {seconds:.3f} s by {restored.method}{'' if restored.was_local else ', fetched first'}{spared}."
        )

    def _look(self, settings: _Settings) -> Tree:
        return self._layers.look(self._directory, settings.globs)

    def _save(self, settings: _Settings, control: JobControl) -> str:
        """Save if need be, and say what was done."""
        tree = self._look(settings)
        if not tree.entries and not tree.folders:
            if self._found.entry is not None and self._restored is not None:
                _finish(control)
                if self._caches.drop(self._found):
                    return "Cache dropped: everything it held was deleted."
            return "Cache not saved: no file matches its patterns."
        if self._baseline is not None:
            changes = self._layers.changes(self._baseline, tree)
            if not changes:
                return f"Cache unchanged: {_amount(len(tree.entries), tree.bytes)}"
            told = f"{len(changes.created)} new, {len(changes.changed)} changed, {len(changes.deleted)} deleted"
        else:
            told = "all new"
        limit = self._limit()
        if limit is not None and tree.bytes > limit:
            self._warn(f"The cache has {_size(tree.bytes)}, more than the {_size(limit)} allowed.")
            return "Cache not saved: it is too large."
        return self._pack(settings, tree, told, control)

    def _pack(self, settings: _Settings, tree: Tree, told: str, control: JobControl) -> str:
        job = self._scene.job
        with self._layers.pack(tree) as packed:
            entry = CacheEntry(
                key=settings.key,
                saved_at=self._scene.services.clock(),
                patterns=tuple(settings.patterns),
                exclude=tuple(settings.exclude),
                platform=this_platform(),
                pack=packed.facts,
                execution_id=job.execution_id,
                task_run_id=job.task_run_id,
                revision=job.revision,
                seconds=monotonic() - self._began,
            )
            _finish(control)
            if self._caches.save(entry, packed.file):
                self._keep_locally(packed, entry)
        if packed.unreadable:
            self._warn(
                f"The cache lacks {len(packed.unreadable)} that cannot be read, such as {packed.unreadable[0]!r}."
            )
        if self._restored is None:
            self._context.metric("cache.files", packed.facts.files)
            self._context.metric("cache.size", packed.facts.bytes)
        return (
            f"Cache saved as entry {packed.facts.sha256[:12]}: {_amount(packed.facts.files, packed.facts.bytes)}, "
            f"{told}, packed {_size(packed.facts.packed_bytes)}"
        )

    def _keep_locally(self, packed: Packed, entry: CacheEntry) -> None:
        try:
            packed.keep(self._caches.version(entry))
        except (TercelError, OSError) as error:
            # The entry is in internal storage; only the next restore takes a little longer.
            self._context.logger.debug(f"The cache is not kept in the local tier: {error}")

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
    return f"{files:,} file{'s' * (files != 1)}, {_size(size)}"


def _size(size: int) -> str:
    """*size* in the largest unit that keeps it above one."""
    if size < 1000:
        return f"{size} B"
    units = iter(("kB", "MB", "GB", "TB"))
    value, unit = size / 1000, next(units)
    while value >= 1000 and unit != "TB":
        value, unit = value / 1000, next(units)
    return f"{value:.1f} {unit}"


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
