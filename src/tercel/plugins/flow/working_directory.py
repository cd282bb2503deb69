"""WorkingDirectory: its children travel as one job and share one directory. What the worker does is not known here."""

from collections.abc import Iterable, Iterator
from datetime import timedelta

import msgspec

from tercel.errors import UserError
from tercel.model.catalog import plugin
from tercel.model.duration import parse_duration
from tercel.model.task import Problem, Task
from tercel.model.working_directory import DirectoryTask
from tercel.plugin_api import RunnableTask

_KINDS = "scripts, Log, Return, LocalFiles, http and git tasks and the like"


@plugin(
    "io.kestra.plugin.core.flow.WorkingDirectory",
    aliases=["io.kestra.core.tasks.flows.WorkingDirectory", "io.kestra.core.tasks.flows.Worker"],
)
class WorkingDirectory(DirectoryTask, frozen=True, kw_only=True):
    """Run tasks one after the other on one worker, in one directory that they share.

    Before the first task the directory is filled: from the cache, with namespace files, with `inputFiles`. After the
    last one `outputFiles` are captured and the cache is saved; then the directory is removed. Tasks of `errors` and
    `finally` run afterwards, each in a directory of its own.

    Attributes:
        tasks: at least one; runnable tasks only.
        input_files: name to content or `kestra:///` address.
        output_files: globs of files to keep.
        cache: files kept from one run to the next.

    Outputs:
        outputFiles: path of each captured file to its address in internal storage.

    Example:
        tasks:
          - id: report
            type: io.kestra.plugin.core.flow.WorkingDirectory
            cache:
              patterns:
                - seen.txt
              ttl: P7D
            inputFiles:
              names.txt: |
                Grace
                Ada
            outputFiles:
              - "*.sorted"
            tasks:
              - id: order
                type: io.kestra.plugin.scripts.shell.Commands
                runner: PROCESS
                commands:
                  - sort names.txt > names.sorted
              - id: remember
                type: io.kestra.plugin.scripts.shell.Commands
                runner: PROCESS
                commands:
                  - cat names.sorted >> seen.txt
    """

    def problems(self) -> Iterator[Problem]:
        """What this type alone demands, in the order in which people should mend it."""
        if not self.tasks:
            yield Problem(
                "The WorkingDirectory has no tasks.",
                "Give it `tasks:` with at least one task; what stands without them is only a fragment.",
                "workingDirectory.tasks.empty",
                ("tasks",),
            )
        for position, child in enumerate(self.tasks):
            yield from _child_problems(child, position)
        yield from self._cache_problems()
        yield from _input_problems(self.input_files)
        yield from _glob_problems(self.output_files, ("outputFiles",))
        if self.namespace_files is not None:
            yield from _glob_problems(self.namespace_files.include, ("namespaceFiles", "include"))
            yield from _glob_problems(self.namespace_files.exclude, ("namespaceFiles", "exclude"))

    def _cache_problems(self) -> Iterator[Problem]:
        cache = self.cache
        if cache is None:
            return
        patterns = [cache.patterns] if isinstance(cache.patterns, str) else cache.patterns
        code = "workingDirectory.cache.patterns"
        if not patterns:
            yield Problem(
                "The cache has no patterns.",
                "Name the files to keep: `patterns: [data/**]`.",
                code,
                ("cache", "patterns"),
            )
        for position, pattern in enumerate(patterns):
            path = ("cache", "patterns") if isinstance(cache.patterns, str) else ("cache", "patterns", position)
            if not pattern.strip():
                yield Problem("A cache pattern is blank.", "Write a glob such as data/**, or remove it.", code, path)
            elif pattern.startswith("/") or ".." in pattern.split("/"):
                yield Problem(
                    f"The cache pattern {pattern!r} leaves the working directory.",
                    "Write it relative to the directory, without a leading slash and without `..`.",
                    code,
                    path,
                )
        yield from _glob_problems(cache.patterns, ("cache", "patterns"), code)
        yield from _glob_problems(cache.exclude, ("cache", "exclude"))
        yield from _ttl_problems(cache.ttl)


def _child_problems(child: Task, position: int) -> Iterator[Problem]:
    if not isinstance(child, RunnableTask) or child.updates_execution:
        yield Problem(
            f"The task {child.id!r} of type {child.type!r} cannot run inside a WorkingDirectory.",
            f"Only tasks that a worker runs can: {_KINDS}. Put it before or after the WorkingDirectory.",
            "workingDirectory.child.notRunnable",
            ("tasks", position, "type"),
        )
    if child.worker_group is not None:
        yield Problem(
            f"The task {child.id!r} names a worker group, but it runs where its WorkingDirectory runs.",
            "Write `workerGroup` on the WorkingDirectory instead.",
            "workingDirectory.child.workerGroup",
            ("tasks", position, "workerGroup"),
        )


def _input_problems(files: object) -> Iterator[Problem]:
    if not isinstance(files, str) or "{{" in files or "{%" in files or files.strip() in ("", "null"):
        return
    try:
        is_map = isinstance(msgspec.json.decode(files), dict)
    except msgspec.DecodeError:
        is_map = False
    if not is_map:
        yield Problem(
            f"`inputFiles` is the text {files[:100]!r}, which is no map of names to contents.",
            "Write a map, such as `data.csv: ...`, or an expression that gives one.",
            "workingDirectory.inputFiles",
            ("inputFiles",),
        )


def _ttl_problems(ttl: str | None) -> Iterator[Problem]:
    if ttl is None or "{" in ttl:
        return
    path = ("cache", "ttl")
    try:
        if parse_duration(ttl) < timedelta(0):
            yield Problem(
                f"The cache's ttl {ttl!r} is negative.",
                "PT0S never reuses an entry; leave `ttl` out to keep it for ever.",
                "workingDirectory.cache.ttl",
                path,
            )
    except ValueError as error:
        yield Problem(f"The cache's ttl is not a duration: {error}.", "", "workingDirectory.cache.ttl", path)


def _glob_problems(
    patterns: Iterable[str] | str, path: tuple[str | int, ...], code: str = "workingDirectory.glob"
) -> Iterator[Problem]:
    from tercel.model.globs import compile_glob  # noqa: PLC0415  # only flows with globs pay for it

    for position, pattern in enumerate([patterns] if isinstance(patterns, str) else patterns):
        # A text with an expression, or a list written as one, is only known when it is rendered.
        if "{{" in pattern or "{%" in pattern or (isinstance(patterns, str) and pattern.lstrip().startswith("[")):
            continue
        try:
            compile_glob(pattern)
        except UserError as error:
            at = path if isinstance(patterns, str) else (*path, position)
            yield Problem(error.message, error.hint, code, at)
