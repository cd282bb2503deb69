"""A store and a dispatcher that die, fail or let others go first, at every await and around every commit.

Knows nothing of executions: what it asks is a *gate*, which does nothing, raises, or lets something else happen.
"""

from collections.abc import Callable, Sequence
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Any

from tercel.dispatch import Dispatcher
from tercel.model.jobs import WorkerJob
from tercel.store import Changes, Promise, Store

Gate = Callable[[str], None]
"""Is passed at a point, such as `read task_runs`, `before commit` or `after commit`; raises what happens there."""


class CrashError(BaseException):
    """The process is dead. No `except Exception` may stop it."""


class FaultyTransaction:
    """A transaction that may end before its commit, or after it with its caller none the wiser.

    Args:
        committed: is told what was written, right after the commit.
    """

    def __init__(self, inner: Any, gate: Gate, committed: Callable[[list[Changes]], None]) -> None:
        self.inner = inner
        self.written: list[Changes] = []
        self._gate = gate
        self._committed = committed
        self._actions: list[Callable[[], object]] = []

    def after_commit(self, action: Callable[[], object]) -> None:
        self._actions.append(action)

    async def __aenter__(self) -> "FaultyTransaction":
        self._gate("begin")
        await self.inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                self._gate("before commit")
            except BaseException as fault:
                await self.inner.__aexit__(type(fault), fault, fault.__traceback__)
                raise
        await self.inner.__aexit__(kind, error, traceback)
        if kind is None:
            self._committed(self.written)
            self._gate("after commit")
            for action in self._actions:
                action()


class FaultyRecords:
    """Executions, flows and the like, with a gate before and after each call."""

    def __init__(self, inner: Any, gate: Gate) -> None:
        self._inner = inner
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        gate = self._gate

        async def awaited(*args: Any, **named: Any) -> Any:
            gate(f"read {name}")
            found = await method(*args, **named)
            gate(f"read {name}")
            return found

        def called(*args: Any, **named: Any) -> Any:
            gate(f"call {name}")
            for arg in args:
                if isinstance(arg, FaultyTransaction):
                    arg.written += [each for each in args if isinstance(each, Changes)]
            plain = [arg.inner if isinstance(arg, FaultyTransaction) else arg for arg in args]
            given = method(*plain, **named)
            if isinstance(given, Promise):
                given.wait()
                gate(f"after {name}")
            return given

        return awaited if iscoroutinefunction(method) else called


class FaultyStore:
    """A store with a gate at every point. Its logs are left alone: nothing of the engine follows from them."""

    def __init__(self, inner: Store, gate: Gate, committed: Callable[[list[Changes]], None]) -> None:
        self.inner = inner
        self.logs = inner.logs
        self._gate = gate
        self._committed = committed

    def __getattr__(self, name: str) -> Any:
        return FaultyRecords(getattr(self.inner, name), self._gate)

    def transaction(self) -> FaultyTransaction:
        return FaultyTransaction(self.inner.transaction(), self._gate, self._committed)


class FaultyDispatcher:
    """A dispatcher with a gate before it queues."""

    def __init__(self, inner: Dispatcher, gate: Gate) -> None:
        self._inner = inner
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def enqueue(self, tx: Any, jobs: Sequence[WorkerJob]) -> None:
        self._gate("enqueue")
        await self._inner.enqueue(tx, jobs)
