"""The deprecated Template over the whole engine."""

from pathlib import Path

from tercel.model.state import State
from tercel.server import open_home
from tercel.settings import read_settings

GREET = """
id: greet
namespace: company.shared
tasks:
  - {id: say, type: io.kestra.plugin.core.debug.Return, format: "hello {{ parent.outputs.args.name }}"}
  - {id: check, type: io.kestra.plugin.core.execution.Fail, condition: "{{ parent.outputs.args.name == 'nobody' }}"}
errors:
  - {id: sorry, type: io.kestra.plugin.core.debug.Return, format: sorry}
"""
FLOW = """
id: flow
namespace: company.team
inputs:
  - {id: name, type: STRING}
tasks:
  - id: use
    type: io.kestra.core.tasks.flows.Template
    namespace: company.shared
    templateId: greet
    args: {name: "{{ inputs.name }}"}
"""


def test_given_a_template_then_its_tasks_and_errors_run_with_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "greet.yaml").write_text(GREET)
    settings = read_settings({"TERCEL_TEMPLATES": str(tmp_path)}, home=tmp_path / "home")
    with open_home(settings) as engine:
        flow = engine.call(engine.operations.save_flow(FLOW))
        ids = [engine.call(engine.operations.start(flow, {"name": name})).id for name in ("ann", "nobody")]
        good, bad = (engine.call(engine.operations.wait(one)) for one in ids)
        runs = [{run.task_id: run for run in engine.call(engine.queries.task_runs(one))} for one in ids]

    assert (good.state, bad.state) == (State.SUCCESS, State.FAILED)
    assert runs[0]["say"].outputs["value"] == "hello ann"
    assert {task_id: run.state.value for task_id, run in runs[1].items()} == {
        "use": "FAILED",
        "say": "SUCCESS",
        "check": "FAILED",
        "sorry": "SUCCESS",
    }


def test_given_templates_are_off_then_the_task_fails_and_says_so(tmp_path: Path) -> None:
    with open_home(read_settings({}, home=tmp_path / "home")) as engine:
        flow = engine.call(engine.operations.save_flow(FLOW))
        started = engine.call(engine.operations.start(flow, {"name": "ann"}))
        ended = engine.call(engine.operations.wait(started.id))
        [run] = engine.call(engine.queries.task_runs(started.id))

    assert ended.state is State.FAILED
    assert "TERCEL_TEMPLATES" in run.message
