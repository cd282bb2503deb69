"""What a task reaches through its context, as far as no other test shows it."""

from __future__ import annotations

import stat
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from tercel.errors import NotFoundError
from tercel.model import State
from tercel.model.catalog import Catalog
from tercel.plugin_api import Outputs, RunContext, TaskFailedError
from tests.job_runners import Bench, Calls


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(
        tmp_path, settings={"a": 1}, catalog=Catalog({"io.kestra.plugin.core.runner.Process": "tercel.plugins.process"})
    )


def within(bench: Bench, look: Callable[[RunContext], object], **properties: object) -> object:
    """What *look* gives inside a run."""
    seen: list[object] = []

    def call(context: RunContext) -> Outputs:
        seen.append(look(context))
        return Outputs()

    Calls.functions["look"] = call
    result = bench.run(Calls(id="look"), **properties)  # type: ignore[arg-type]
    assert result.state is State.SUCCESS, result.message
    return seen[0]


class TestRendering:
    def test_given_extra_variables_then_they_win(self, bench: Bench) -> None:
        seen = within(
            bench, lambda context: context.render("{{ a }}{{ b }}", {"a": "extra"}), variables={"a": "own", "b": 2}
        )

        assert seen == "extra2"

    def test_given_a_structure_then_keys_and_texts_are_rendered(self, bench: Bench) -> None:
        value = {"{{ a }}": ["{{ a }}", 1, None, {"x": "{{ a }}"}]}

        assert within(bench, lambda context: context.render_value(value), variables={"a": "v"}) == {
            "v": ["v", 1, None, {"x": "v"}]
        }

    def test_given_the_name_of_the_directory_then_it_is_the_real_one(self, bench: Bench) -> None:
        seen = within(bench, lambda context: (context.render("{{ workingDir }}"), str(context.working_directory)))

        assert isinstance(seen, tuple)
        assert seen[0] == seen[1]

    def test_given_a_setting_then_it_is_found_or_the_default(self, bench: Bench) -> None:
        assert within(bench, lambda context: (context.setting("a", 2), context.setting("b", 2))) == (1, 2)


class TestFiles:
    def test_given_a_file_and_a_stream_then_they_are_stored_under_the_task_run(self, bench: Bench) -> None:
        def save(context: RunContext) -> object:
            path = context.working_directory / "x"
            path.write_text("of file")
            return context.save_file(path, "a/b.txt"), context.save_stream(BytesIO(b"of stream"), "c d")

        assert within(bench, save) == (
            "kestra:///company/team/flow/executions/execution/tasks/look/run/a/b.txt",
            "kestra:///company/team/flow/executions/execution/tasks/look/run/c%20d",
        )
        assert bench.read("kestra:///company/team/flow/executions/execution/tasks/look/run/c%20d") == b"of stream"

    def test_given_an_address_then_it_is_opened_or_fetched(self, bench: Bench) -> None:
        uri = bench.put("/x/y", b"content")

        def fetch(context: RunContext) -> object:
            target = context.working_directory / "t"
            context.fetch_file(uri, target)
            with context.open_file(uri) as file:
                return target.read_bytes(), file.read()

        assert within(bench, fetch) == (b"content", b"content")

    def test_given_a_missing_object_then_nothing_is_left_of_the_target(self, bench: Bench) -> None:
        def fetch(context: RunContext) -> object:
            target = context.working_directory / "t"
            with pytest.raises(NotFoundError):
                context.fetch_file("kestra:///no", target)
            return target.exists()

        assert within(bench, fetch) is False

    def test_given_a_directory_then_all_files_in_it_are_captured(self, bench: Bench) -> None:
        def capture(context: RunContext) -> object:
            out = context.working_directory / ".kestra" / "out"
            assert context.capture_directory(out) == {}
            (out / "d").mkdir(parents=True)
            (out / "d" / "f").write_text("1")
            (out / ".h").write_text("2")
            return list(context.capture_directory(out))

        assert within(bench, capture) == [".h", "d/f"]

    @pytest.mark.parametrize(
        ("patterns", "names"),
        [
            ('{{ ["a.txt", "b.txt"] | toJson }}', ["a.txt", "b.txt"]),
            ("a.*", ["a.txt"]),
            ("[ab].txt", ["a.txt", "b.txt"]),
            (["{{ 'a' }}.txt", ""], ["a.txt"]),
        ],
    )
    def test_given_globs_as_text_or_list_then_they_are_rendered(
        self, bench: Bench, patterns: object, names: list[str]
    ) -> None:
        def capture(context: RunContext) -> object:
            for name in "abc":
                (context.working_directory / f"{name}.txt").write_text("1")
            return list(context.capture(patterns))

        assert within(bench, capture) == names

    def test_given_two_engine_directories_then_they_are_beside_and_apart(self, bench: Bench) -> None:
        def look(context: RunContext) -> object:
            assert context.engine_directory == context.engine_directory
            return context.engine_directory.parent.name == f"{context.working_directory.name}.engine"

        assert within(bench, look) is True
        assert bench.left() == []

    def test_given_an_output_directory_then_it_is_beside_and_removed_with_what_is_in_it(self, bench: Bench) -> None:
        def look(context: RunContext) -> object:
            assert context.output_directory == context.output_directory
            assert stat.S_IMODE(context.output_directory.stat().st_mode) == 0o700
            (context.output_directory / "a").write_text("1")
            return context.output_directory.parent == context.working_directory.parent

        assert within(bench, look) is True
        assert bench.left() == []


class TestTaskRunner:
    def test_given_a_known_type_then_there_is_a_runner(self, bench: Bench) -> None:
        runner = within(bench, lambda context: context.task_runner("io.kestra.plugin.core.runner.Process"))

        assert type(runner).__name__ == "Process"

    def test_given_an_unknown_type_then_it_is_refused(self, bench: Bench) -> None:
        def look(context: RunContext) -> object:
            with pytest.raises(TaskFailedError, match="no task runner of type 'no'"):
                context.task_runner("no")
            return True

        assert within(bench, look) is True
