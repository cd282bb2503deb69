from typing import Any

import pytest

from tercel.model.catalog import Catalog
from tercel.model.task import Task, WorkerGroup
from tercel.model.working_directory import Cache, NamespaceFiles
from tercel.plugin_api import RunnableTask
from tercel.plugins.flow.sequence import Sequential
from tercel.plugins.flow.working_directory import WorkingDirectory


class Work(RunnableTask, frozen=True, kw_only=True):
    type: str = "work"


class Changes(RunnableTask, frozen=True, kw_only=True):
    updates_execution = True
    type: str = "changes"


def a_directory(*tasks: Task, **properties: Any) -> WorkingDirectory:
    return WorkingDirectory(id="wd", type="wd", tasks=list(tasks), **properties)


def codes(directory: WorkingDirectory) -> list[str]:
    return [problem.code for problem in directory.problems()]


class TestProblems:
    def test_given_runnable_tasks_then_there_are_none(self) -> None:
        directory = a_directory(
            Work(id="a"),
            cache=Cache(patterns=["data/**", "{{ inputs.more }}"], ttl="PT0S", exclude=["*.tmp"]),
            output_files=["*.csv"],
            input_files={"a.txt": "x"},
            errors=[Sequential(id="s", type="s", tasks=[])],
        )

        assert codes(directory) == []

    def test_given_no_tasks_then_it_is_said_that_this_is_a_fragment(self) -> None:
        [problem] = a_directory(cache=Cache(patterns=["x"])).problems()

        assert problem.code == "workingDirectory.tasks.empty"
        assert problem.path == ("tasks",)
        assert problem.message == "The WorkingDirectory has no tasks."

    @pytest.mark.parametrize(
        "child",
        [
            Sequential(id="inner", type="io.kestra.plugin.core.flow.Sequential", tasks=[]),
            WorkingDirectory(id="inner", type="wd", tasks=[Work(id="x")]),
            Changes(id="inner"),
            Sequential(id="inner", type="s", tasks=[], disabled=True),
        ],
    )
    def test_given_a_child_that_no_worker_runs_then_its_id_and_type_are_named(self, child: Task) -> None:
        [problem] = a_directory(Work(id="a"), child).problems()

        assert problem.code == "workingDirectory.child.notRunnable"
        assert problem.path == ("tasks", 1, "type")
        assert problem.message == f"The task 'inner' of type '{child.type}' cannot run inside a WorkingDirectory."
        assert problem.hint.startswith("Only tasks that a worker runs can: ")

    def test_given_a_child_with_a_worker_group_then_it_is_refused(self) -> None:
        assert codes(a_directory(Work(id="a", worker_group=WorkerGroup(key="gpu")))) == [
            "workingDirectory.child.workerGroup"
        ]

    @pytest.mark.parametrize("patterns", [[], [" "], ["/etc/**"], ["../up"], ["a/../b"], ["a["], "", "../x"])
    def test_given_cache_patterns_that_cannot_be_used_then_they_are_refused(self, patterns: Any) -> None:
        assert set(codes(a_directory(Work(id="a"), cache=Cache(patterns=patterns)))) == {
            "workingDirectory.cache.patterns"
        }

    @pytest.mark.parametrize("ttl", ["-PT1S", "soon"])
    def test_given_a_ttl_that_cannot_be_used_then_it_is_refused(self, ttl: str) -> None:
        assert codes(a_directory(Work(id="a"), cache=Cache(patterns=["x"], ttl=ttl))) == ["workingDirectory.cache.ttl"]

    def test_given_a_glob_that_is_not_well_formed_then_its_place_is_named(self) -> None:
        directory = a_directory(
            Work(id="a"), output_files=["ok", "{a,b"], namespace_files=NamespaceFiles(include=["["])
        )

        problems = list(directory.problems())

        assert [problem.path for problem in problems] == [("outputFiles", 1), ("namespaceFiles", "include", 0)]
        assert {problem.code for problem in problems} == {"workingDirectory.glob"}

    @pytest.mark.parametrize("files", ["just text", "[1]", "12"])
    def test_given_input_files_that_can_never_be_a_map_then_they_are_refused(self, files: str) -> None:
        assert codes(a_directory(Work(id="a"), input_files=files)) == ["workingDirectory.inputFiles"]

    @pytest.mark.parametrize("files", ["{{ outputs.x.files }}", '{"a": "b"}', "", None])
    def test_given_input_files_that_may_be_a_map_then_they_are_left_alone(self, files: str | None) -> None:
        assert codes(a_directory(Work(id="a"), input_files=files)) == []

    def test_given_its_former_names_then_they_are_the_same_class(self) -> None:
        for name in ("io.kestra.core.tasks.flows.WorkingDirectory", "io.kestra.core.tasks.flows.Worker"):
            assert Catalog({}).find(name) is WorkingDirectory
