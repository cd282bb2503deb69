"""A polling trigger for tests: it does what a test says, or takes the files of a folder as an object store's would."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, cast

from tercel.plugin_api import Dynamic, PollContext, PollingTrigger, plugin


class Calls(PollingTrigger, frozen=True, kw_only=True):
    """Does what the test says."""

    type: str = "test.Calls"
    functions: ClassVar[dict[str, Callable[[PollContext], Mapping[str, object] | None]]] = {}
    settled: ClassVar[dict[str, Callable[[PollContext], object]]] = {}

    def evaluate(self, context: PollContext) -> Mapping[str, object] | None:
        return self.functions[self.id](context)

    def settle(self, context: PollContext) -> None:
        self.settled[self.id](context)


@plugin("io.test.Inbox")
class Inbox(PollingTrigger, frozen=True, kw_only=True):
    """Take every file of a folder once, and remove it from there.

    While a file `kills` beside the folder has lines of a place and a number, a visit of the first one's place uses it
    up and has the process killed so many milliseconds later.
    """

    settles: ClassVar[bool] = True

    folder: Dynamic

    def evaluate(self, context: PollContext) -> Mapping[str, object] | None:
        folder = Path(context.render(self.folder))
        taken = set(cast("list[str]", context.memory.get("taken", [])))
        new = sorted(path for path in folder.iterdir() if path.name not in taken)[:2]
        if not new:
            return None
        objects = [{"name": path.name, "uri": context.save_file(path, path.name)} for path in new]
        context.memory["taken"] = [path.name for path in new]
        _visit(folder, "evaluate")
        return {"objects": objects}

    def settle(self, context: PollContext) -> None:
        folder = Path(context.render(self.folder))
        _visit(folder, "settle")
        for name in cast("list[str]", context.memory.get("taken", [])):
            (folder / name).unlink(missing_ok=True)
        context.memory["taken"] = []
        _visit(folder, "settled")


_pending: list[threading.Timer] = []


def _visit(folder: Path, place: str) -> None:
    kills = folder.with_name("kills")
    lines = kills.read_text().splitlines() if kills.exists() else []
    if _pending or not lines or lines[0].split()[0] != place:
        return
    kills.with_suffix(".new").write_text("\n".join(lines[1:]))
    kills.with_suffix(".new").replace(kills)
    after_ms = int(lines[0].split()[1])
    _pending.append(threading.Timer(after_ms / 1000, os.kill, (os.getpid(), signal.SIGKILL)))
    _pending[0].start()
    if not after_ms:
        _pending[0].join()
