"""Traces: a span of each execution and task run that ends, sent to an OpenTelemetry collector.

Ids follow from those of executions and task runs, so that a span that is sent twice, by the process that went on after
a crash, is the same one; and a subflow's spans are in the trace of the execution that started it.
"""

import os
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from tercel.errors import MissingToolError
from tercel.executor import parent_of
from tercel.model.execution import Execution, TaskRun
from tercel.model.labels import CORRELATION
from tercel.model.state import State, StateChange

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_FAILURES = frozenset({State.FAILED, State.KILLED, State.CANCELLED})
_PATIENCE_MS = 5_000


class Tracer:
    """Tells a collector of what ends. It never waits for the collector; what that does not take in time is dropped.

    Args:
        exporter: where spans go; one that the `OTEL_…` variables of the environment describe where None.

    Raises:
        MissingToolError: the library is not installed.
    """

    def __init__(self, exporter: "SpanExporter | None" = None) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  # an extra
            from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415  # same
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415  # same
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415  # same
        except ImportError as error:
            raise MissingToolError(
                "TERCEL_TRACES=otlp needs OpenTelemetry's library.", "Install it: pip install 'tercel[otel]'"
            ) from error
        self._ids = _Ids()
        self._provider = TracerProvider(
            id_generator=self._ids,  # pyright: ignore[reportArgumentType]  # its methods are all that is asked for
            resource=Resource.create({SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME") or "tercel"}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("tercel")

    def changed(self, execution: Execution, runs: Sequence[TaskRun]) -> None:
        """Take note of a change that was committed."""
        trace_id = _number(execution.labels.get(CORRELATION, execution.id), 16)
        facts = {
            "tercel.namespace": execution.namespace,
            "tercel.flow.id": execution.flow_id,
            "tercel.flow.revision": execution.revision,
            "tercel.execution.id": execution.id,
        }
        own = _span_id(execution.id, execution)
        for run in runs:
            if run.state.is_terminal:
                more: dict[str, str | int] = {"tercel.task.id": run.task_id, "tercel.taskrun.id": run.id}
                if run.value is not None:
                    more["tercel.taskrun.value"] = run.value
                parent = own if run.parent_id is None else _span_id(run.parent_id, execution)
                ids = trace_id, _span_id(run.id, execution), parent
                self._tell(run.task_id, run.history, ids, {**facts, **more}, run.message)
        if not execution.is_open:
            starter = parent_of(execution)
            ids = trace_id, own, None if starter is None else _number(starter.run_id, 8)
            name = f"{execution.namespace}.{execution.flow_id}"
            self._tell(name, execution.history, ids, facts, execution.message)

    def _tell(
        self,
        name: str,
        history: Sequence[StateChange],
        ids: tuple[int, int, int | None],
        facts: dict[str, str | int],
        message: str,
    ) -> None:
        from opentelemetry.trace import (  # noqa: PLC0415  # loaded above
            INVALID_SPAN_CONTEXT,
            NonRecordingSpan,
            SpanContext,
            Status,
            StatusCode,
            TraceFlags,
            set_span_in_context,
        )

        trace_id, span_id, parent_id = ids
        parent = INVALID_SPAN_CONTEXT
        if parent_id is not None:
            parent = SpanContext(trace_id, parent_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        self._ids.trace_id, self._ids.span_id = trace_id, span_id
        begun = next((at for at in reversed(range(len(history))) if history[at].state is State.RESTARTED), 0)
        changes = history[begun:]
        span = self._tracer.start_span(
            name,
            set_span_in_context(NonRecordingSpan(parent)),
            attributes={**facts, "tercel.state": str(changes[-1].state)},
            start_time=_nanoseconds(changes[0]),
        )
        for change in changes[1:]:
            span.add_event(str(change.state), timestamp=_nanoseconds(change))
        if changes[-1].state in _FAILURES:
            span.set_status(Status(StatusCode.ERROR, message or str(changes[-1].state)))
        span.end(_nanoseconds(changes[-1]))

    def close(self) -> None:
        """Send what is left, for five seconds at most."""
        self._provider.force_flush(_PATIENCE_MS)
        self._provider.shutdown()


class _Ids:
    """Gives the ids that it was told, as spans are made by one thread at a time."""

    trace_id = 1
    span_id = 1

    def generate_trace_id(self) -> int:
        """That of the next span, unless its parent says it."""
        return self.trace_id

    def generate_span_id(self) -> int:
        """That of the next span."""
        return self.span_id

    def is_trace_id_random(self) -> bool:
        """False: it follows from an execution's id."""
        return False


def _span_id(id: str, execution: Execution) -> int:
    again = "" if execution.attempt_number == 1 else f":{execution.attempt_number}"
    return _number(id + again, 8)


def _number(text: str, length: int) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:length]) or 1


def _nanoseconds(change: StateChange) -> int:
    return round(change.date.timestamp() * 1_000_000) * 1_000
