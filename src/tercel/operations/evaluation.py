"""Expressions tried out on executions: what they see is what tasks see, but for secrets, which never come out."""

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import cast

import msgspec

from tercel.errors import NotFoundError, TercelError
from tercel.expression import render
from tercel.machine import LiveExecution, variables
from tercel.operations.starts import Starts
from tercel.texts import whole

_HIDDEN = "******"


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an expression.

    Attributes:
        result: the text that it renders to; None where it fails.
        error: why it fails; empty where it does not.
        kind: of the error.
        hint: what to do about the error.
    """

    result: str | None = None
    error: str = ""
    kind: str = ""
    hint: str = ""


class Evaluations(Starts):
    """Trying out expressions."""

    async def try_expression(self, execution_id: str, template: str, task_run_id: str | None = None) -> Evaluation:
        """Render an expression with what an execution sees, or one of its task runs.

        In place of secrets, also of such in inputs, outputs and key-value pairs, it sees stars.

        Raises:
            NotFoundError: there is no such execution, it has no such task run, or its flow is gone.
            InvalidFlowError: its flow cannot be read any more.
        """
        execution = await self._store.executions.get(execution_id)
        runs = {run.id: run for run in await self._store.executions.task_runs(execution_id)}
        if task_run_id is not None and task_run_id not in runs:
            raise NotFoundError(f"The execution {execution_id} has no task run {task_run_id}.")
        flow = await self._flows.find(execution.namespace, execution.flow_id, execution.revision)
        live = LiveExecution.from_rows(flow, execution, runs.values())
        seen = variables(flow, live, None if task_run_id is None else runs[task_run_id], self._surroundings)
        try:
            result = render(template, seen, self._masked_functions(self._functions(execution)), clock=monotonic)
        except TercelError as error:
            return Evaluation(error=self._shown(error.message), kind=type(error).__name__, hint=self._shown(error.hint))
        return Evaluation(result=self._shown(str(result)))

    def _shown(self, text: str) -> str:
        """*text* as it can be sent: secrets masked, and half characters replaced."""
        return whole(self._mask(text))

    def _masked_functions(self, functions: Mapping[str, Callable[..., object]]) -> dict[str, Callable[..., object]]:
        """The functions, of which none gives a secret: what is made of one could not be told from other texts."""

        def secret(*given: object, **named: object) -> str:
            functions["secret"](*given, **named)
            return _HIDDEN

        def masked(function: Callable[..., object]) -> Callable[..., object]:
            return lambda *given, **named: self._masked(function(*given, **named))

        found = {
            name: masked(function) if name in _GIVES_TEXTS else function for name, function in dict(functions).items()
        }
        return {**found, "secret": secret} if "secret" in found else found

    def _masked(self, value: object) -> object:
        if isinstance(value, str):
            return self._mask(value)
        if isinstance(value, Mapping):
            entries = cast("Mapping[object, object]", value).items()
            return {self._masked(key): self._masked(item) for key, item in entries}
        if isinstance(value, list | tuple):
            return [self._masked(item) for item in cast("Sequence[object]", value)]
        return value


_GIVES_TEXTS = frozenset({"kv", "read", "error_logs"})
"""Functions that give what others stored, which may hold secrets."""
