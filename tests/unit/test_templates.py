from pathlib import Path

import pytest

from tercel.errors import InvalidFlowError
from tercel.model.flow import Flow
from tercel.model.source import read_flow
from tercel.plugins import catalog
from tercel.templates import with_templates

GREET = """
id: greet
namespace: company.shared
tasks:
  - {id: say, type: io.kestra.plugin.core.log.Log, message: "{{ parent.outputs.args.name }}"}
errors:
  - {id: sorry, type: io.kestra.plugin.core.log.Log, message: sorry}
"""


def use(id_: str = "use", template: str = "greet") -> str:
    kind = "io.kestra.plugin.core.flow.Template"
    return f"{{id: {id_}, type: {kind}, namespace: company.shared, templateId: {template}, args: {{name: ann}}}}"


def a_flow(*tasks: str) -> Flow:
    listed = "".join(f"  - {task}\n" for task in tasks)
    return read_flow(f"id: flow\nnamespace: company.team\ntasks:\n{listed}", catalog())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "greet.yaml").write_text(GREET)
    return tmp_path


def ids(flow: Flow) -> list[str]:
    return [task.id for task in flow.walk()]


def test_given_a_template_then_its_tasks_stand_in_the_flow(folder: Path) -> None:
    assert ids(with_templates(a_flow(use()), folder, catalog())) == ["use", "say", "sorry"]


def test_given_one_inside_other_tasks_then_it_is_filled_too(folder: Path) -> None:
    dag = (
        "{id: dag, type: io.kestra.plugin.core.flow.Dag, tasks: [{task: {id: seq, "
        f"type: io.kestra.plugin.core.flow.Sequential, tasks: [{use()}]}}}}]}}"
    )

    assert ids(with_templates(a_flow(dag), folder, catalog())) == ["dag", "seq", "use", "say", "sorry"]


def test_given_it_is_filled_already_then_it_stays(folder: Path) -> None:
    once = with_templates(a_flow(use()), folder, catalog())

    assert with_templates(once, folder, catalog()) == once


def test_given_a_flow_without_any_then_no_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("[")
    flow = a_flow("{id: a, type: io.kestra.plugin.core.log.Log, message: x}")

    assert with_templates(flow, tmp_path, catalog()) is flow


@pytest.mark.parametrize(
    ("tasks", "file", "message"),
    [
        ([use(template="other")], GREET, r"The template company\.shared\.other of task 'use' is not there\."),
        ([use(), use("again")], GREET, r"The task id 'say' is used more than once"),
        ([use()], "[", r"greet\.yaml is not valid"),
        ([use()], "id: greet", r"greet\.yaml is not valid"),
        (
            [use()],
            f"id: greet\nnamespace: company.shared\ntasks:\n  - {use('inner')}\n",
            r"The template company\.shared\.greet of task 'inner' holds itself\.",
        ),
    ],
)
def test_given_one_that_cannot_be_used_then_it_is_said(folder: Path, tasks: list[str], file: str, message: str) -> None:
    (folder / "shared" / "greet.yaml").write_text(file)

    with pytest.raises(InvalidFlowError, match=message):
        with_templates(a_flow(*tasks), folder, catalog())
