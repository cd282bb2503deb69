from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tercel.errors import ExpressionError, UserError
from tercel.model.state import State
from tercel.plugins.flow.subflow import Subflow
from tests.engine_calls import EngineContext

VARIABLES = {
    "flow": {"id": "flow", "namespace": "company.team"},
    "inputs": {"name": "Ann", "n": 3, "at": "2030-01-01T12:00:00Z"},
    "taskrun": {"id": "run", "value": "x"},
}


def a_subflow(**properties: Any) -> Subflow:
    return Subflow(**{"id": "sub", "type": "subflow", "namespace": "other", "flow_id": "child", **properties})


@pytest.fixture
def context(tmp_path: Path) -> EngineContext:
    return EngineContext(tmp_path, VARIABLES)


class TestRequests:
    def test_given_only_a_flow_then_its_latest_revision_is_started_once_and_at_once(
        self, context: EngineContext
    ) -> None:
        requests = a_subflow().requests(context)

        request = requests.one(0)
        assert requests.total == 1
        assert (request.namespace, request.flow_id, request.revision) == ("other", "child", None)
        assert (request.inputs, request.labels, request.inherit_labels) == ({}, {}, False)
        assert request.schedule_date is None

    def test_given_expressions_then_all_is_rendered(self, context: EngineContext) -> None:
        subflow = a_subflow(
            namespace="{{ flow.namespace }}.sub",
            flow_id="{{ inputs.name | lower }}",
            revision="{{ inputs.n }}",
            inputs={"text": "{{ taskrun.value }}", "list": ["{{ inputs.n }}", 1], "map": {"{{ inputs.name }}": True}},
            labels={"by": "{{ inputs.name }}"},
            inherit_labels=True,
            schedule_date="{{ inputs.at }}",
        )

        request = subflow.requests(context).one(0)

        assert (request.namespace, request.flow_id, request.revision) == ("company.team.sub", "ann", 3)
        assert request.inputs == {"text": "x", "list": ["3", 1], "map": {"Ann": True}}
        assert request.labels == {"by": "Ann"}
        assert request.inherit_labels
        assert request.schedule_date == datetime(2030, 1, 1, 12, tzinfo=UTC)

    def test_given_a_number_as_revision_then_it_is_taken(self, context: EngineContext) -> None:
        assert a_subflow(revision=7).requests(context).one(0).revision == 7

    def test_given_a_revision_that_renders_to_nothing_then_it_is_the_latest(self, context: EngineContext) -> None:
        assert a_subflow(revision="{{ '' }}").requests(context).one(0).revision is None

    @pytest.mark.parametrize("written", ["{{ inputs.name }}", "-1", "1.5"])
    def test_given_a_revision_that_is_none_then_it_is_refused(self, context: EngineContext, written: str) -> None:
        with pytest.raises(UserError, match=r"The `revision` of task 'sub' is '.*', not a whole number\."):
            a_subflow(revision=written).requests(context)

    @pytest.mark.parametrize(
        ("written", "hour"),
        [
            ("2030-01-01T12:00:00Z", 12),
            ("2030-01-01T12:00:00", 12),
            ("2030-01-01T12:00:00+02:00", 10),
            ("2030-01-01", 0),
        ],
    )
    def test_given_a_date_then_it_is_an_instant(self, context: EngineContext, written: str, hour: int) -> None:
        request = a_subflow(schedule_date=written).requests(context).one(0)

        assert request.schedule_date == datetime(2030, 1, 1, hour, tzinfo=UTC)

    def test_given_a_date_that_is_none_then_it_is_refused(self, context: EngineContext) -> None:
        with pytest.raises(UserError, match=r"The `scheduleDate` of task 'sub' is no date: 'Ann'\."):
            a_subflow(schedule_date="{{ inputs.name }}").requests(context)

    def test_given_an_expression_that_cannot_be_rendered_then_that_is_told(self, context: EngineContext) -> None:
        with pytest.raises(ExpressionError, match="nope"):
            a_subflow(inputs={"x": "{{ nope }}"}).requests(context)


class TestOutputs:
    def test_given_it_starts_then_the_id_is_known(self) -> None:
        assert a_subflow().started(["id"], 1, "kestra:///x") == {"executionId": "id", "state": "CREATED"}

    def test_given_its_end_then_state_and_outputs_are(self) -> None:
        outputs = a_subflow().counted({"executionId": "id", "state": "CREATED"}, {"FAILED": 1}, State.FAILED, {"n": 1})

        assert outputs == {"executionId": "id", "state": "FAILED", "outputs": {"n": 1}}

    def test_given_nothing_is_said_then_it_waits_and_transmits_failures(self) -> None:
        assert (a_subflow().wait, a_subflow().transmit_failed) == (True, True)
