"""Who waits for an execution's end, and the executions that have just ended: asking the store is slower."""

from collections import OrderedDict
from threading import Lock

from tercel.model.execution import Execution
from tercel.store import Promise

_MOST_KEPT = 256


class Ends:
    """Promises of ends; for any thread."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._promises: dict[str, list[Promise[Execution]]] = {}
        self._kept: OrderedDict[str, Execution] = OrderedDict()

    def promise(self, execution_id: str) -> Promise[Execution]:
        """A promise of the execution as it is when it has ended; kept already for one that has just done so."""
        promise: Promise[Execution] = Promise()
        with self._guard:
            kept = self._kept.get(execution_id)
            if kept is None:
                self._promises.setdefault(execution_id, []).append(promise)
        if kept is not None:
            promise.resolve(kept)
        return promise

    def forget(self, execution_id: str, promise: Promise[Execution]) -> None:
        """Nobody waits for *promise* any more."""
        with self._guard:
            promises = self._promises.get(execution_id, [])
            if promise in promises:
                promises.remove(promise)
            if not promises:
                self._promises.pop(execution_id, None)

    def goes_on(self, execution_id: str) -> None:
        """An execution that may have ended is open again."""
        if execution_id in self._kept:
            with self._guard:
                self._kept.pop(execution_id, None)

    def tell(self, execution_id: str, outcome: Execution | BaseException) -> None:
        """Keep the promises of an execution: it has ended, or nothing more can be said of it."""
        with self._guard:
            promises = self._promises.pop(execution_id, ())
            if isinstance(outcome, Execution):
                self._kept[execution_id] = outcome
                if len(self._kept) > _MOST_KEPT:
                    self._kept.popitem(last=False)
        for promise in promises:
            if isinstance(outcome, Execution):
                promise.resolve(outcome)
            else:
                promise.fail(outcome)

    def fail(self, error: BaseException) -> None:
        """Nobody will be told any more, and all who wait are told why."""
        for execution_id in list(self._promises):
            self.tell(execution_id, error)
