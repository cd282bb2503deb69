"""Spans of executions and task runs, as a collector gets them over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tercel.errors import MissingToolError
from tercel.model import Execution
from tercel.model.labels import CORRELATION
from tercel.tracing import Tracer
from tests.builders import NOON, a_history, a_task_run, an_execution
from tests.servers import Answer, http_server


class Collector:
    """What was sent."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []

    def take(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        assert (method, path, headers["content-type"]) == ("POST", "/v1/traces", "application/x-protobuf")
        self.requests.append(ExportTraceServiceRequest.FromString(body))
        return 200, {}, b""

    @property
    def spans(self) -> list[Span]:
        """All that came."""
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@contextmanager
def tracing(monkeypatch: pytest.MonkeyPatch) -> Generator[tuple[Tracer, Collector]]:
    collector = Collector()
    with http_server(collector.take) as address:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        tracer = Tracer()
        try:
            yield tracer, collector
        finally:
            tracer.close()


def facts(span: Span) -> dict[str, str | int]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


def nanoseconds(seconds: float) -> int:
    return int((NOON + timedelta(seconds=seconds)).timestamp() * 1e9)


def ended(**properties: object) -> Execution:
    return an_execution("CREATED", "RUNNING", "SUCCESS", **properties)


class TestChanged:
    def test_given_an_execution_that_ends_then_it_and_its_task_runs_are_one_trace(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inside = a_task_run("inside", "CREATED", "RUNNING", "FAILED", parent_id="run-around", value="x", message="no")
        around = a_task_run("around", "CREATED", "RUNNING", "FAILED")
        running = an_execution("CREATED", "RUNNING")

        with tracing(monkeypatch) as (tracer, collector):
            tracer.changed(running, [a_task_run("inside", "CREATED", "RUNNING", parent_id="run-around")])
            tracer.changed(running, [inside])
            tracer.changed(an_execution("CREATED", "RUNNING", "FAILED", message="It failed."), [around])

        first, second, whole = collector.spans
        assert [span.name for span in collector.spans] == ["inside", "around", "tests.flow"]
        assert len({span.trace_id for span in collector.spans}) == 1
        assert first.parent_span_id == second.span_id
        assert second.parent_span_id == whole.span_id
        assert whole.parent_span_id == b""
        assert (whole.start_time_unix_nano, whole.end_time_unix_nano) == (nanoseconds(0), nanoseconds(2))
        assert [(event.name, event.time_unix_nano) for event in whole.events] == [
            ("RUNNING", nanoseconds(1)),
            ("FAILED", nanoseconds(2)),
        ]
        assert (first.status.code, first.status.message) == (Status.STATUS_CODE_ERROR, "no")
        assert whole.status.message == "It failed."
        shared = {
            "tercel.namespace": "tests",
            "tercel.flow.id": "flow",
            "tercel.flow.revision": 1,
            "tercel.execution.id": "execution",
            "tercel.state": "FAILED",
        }
        assert facts(whole) == shared
        assert facts(first) == {
            **shared,
            "tercel.task.id": "inside",
            "tercel.taskrun.id": "run-inside",
            "tercel.taskrun.value": "x",
        }
        resource = collector.requests[0].resource_spans[0].resource
        assert next(one.value.string_value for one in resource.attributes if one.key == "service.name") == "tercel"

    def test_given_what_was_told_before_a_crash_then_its_span_is_the_same(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with tracing(monkeypatch) as (tracer, collector):
            tracer.changed(ended(), [])
        with tracing(monkeypatch) as (tracer, again):
            tracer.changed(ended(), [])

        assert [(span.trace_id, span.span_id) for span in collector.spans] == [
            (span.trace_id, span.span_id) for span in again.spans
        ]

    def test_given_a_subflow_then_its_span_is_below_the_task_run_that_started_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trigger = {
            "id": "call",
            "type": "io.kestra.plugin.core.flow.Subflow",
            "variables": {"executionId": "execution"},
            "taskRunId": "run-call",
            "fence": 1,
            "number": 0,
        }

        with tracing(monkeypatch) as (tracer, collector):
            labels = {CORRELATION: "execution"}
            tracer.changed(ended(id="child", trigger=trigger, labels=labels), [])
            tracer.changed(ended(labels=labels), [a_task_run("call", "CREATED", "RUNNING", "SUCCESS")])

        child, call, whole = collector.spans
        assert child.parent_span_id == call.span_id
        assert child.trace_id == call.trace_id == whole.trace_id

    def test_given_a_restart_then_its_span_is_another_one_from_then_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        history = a_history("CREATED", "RUNNING", "FAILED", "RESTARTED", "RUNNING", "SUCCESS")

        with tracing(monkeypatch) as (tracer, collector):
            tracer.changed(ended(), [])
            tracer.changed(ended(history=history, attempt_number=2), [])

        first, second = collector.spans
        assert first.trace_id == second.trace_id
        assert first.span_id != second.span_id
        assert second.start_time_unix_nano == nanoseconds(3)
        assert second.status.code == Status.STATUS_CODE_UNSET


def test_given_no_library_then_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with pytest.raises(MissingToolError, match="TERCEL_TRACES=otlp needs OpenTelemetry's library"):
        Tracer()
