"""What a task reaches through its context, as far as no other test shows it."""

from __future__ import annotations

import stat
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from tercel.errors import InvalidFlowError, NotFoundError
from tercel.model import LogLevel, State
from tercel.model.catalog import Catalog
from tercel.plugin_api import Outputs, RunContext, TaskFailedError
from tercel.plugins.debug import Return
from tests.job_runners import Bench, Calls

EXECUTION = "/company/team/flow/executions/execution"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(
        tmp_path,
        settings={"a": 1},
        catalog=Catalog(
            {
                "io.kestra.plugin.core.runner.Process": "tercel.plugins.process",
                "io.kestra.plugin.core.debug.Return": "tercel.plugins.debug",
            }
        ),
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

    @pytest.mark.parametrize(
        ("template", "value"),
        [("{{ a + 1 }}", 3), ("{{ m }}", {"x": [1]}), ("{{ a }}!", "2!"), ("{{ null }}", None), ("plain", "plain")],
    )
    def test_given_one_expression_then_its_type_is_kept(self, bench: Bench, template: str, value: object) -> None:
        variables = {"a": 2, "m": {"x": [1]}}

        assert within(bench, lambda context: context.render_typed(template), variables=variables) == value

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

    def test_given_files_then_their_sizes_are_told(self, bench: Bench) -> None:
        bench.namespace_files({"n.txt": "12"})
        uri = bench.put("/x/y", b"content")

        def look(context: RunContext) -> object:
            with pytest.raises(NotFoundError):
                context.file_size("kestra:///no")
            return context.file_size(uri), context.file_size("nsfile:///n.txt")

        assert within(bench, look) == (7, 2)

    def test_given_files_of_the_execution_or_its_namespace_then_they_are_deleted(self, bench: Bench) -> None:
        bench.namespace_files({"d/n.txt": "12"})
        other = bench.put(f"{EXECUTION}/inputs/i/a b.txt", b"1")

        def look(context: RunContext) -> object:
            own = context.save_stream(BytesIO(b"1"), "own")
            uris = [own, other, "nsfile:///d", "nsfile:///d/n.txt", "kestra:///company/team/_files/d/n.txt"]
            return [context.delete_file(uri) for uri in uris], context.delete_file(own)

        assert within(bench, look) == ([True, True, False, True, False], False)

    @pytest.mark.parametrize(
        ("uri", "message"),
        [
            (
                "kestra:///company/team/flow/executions/execution2/tasks/t/r/x",
                "{} is not deleted: it belongs neither to this execution nor to its namespace.",
            ),
            (
                "kestra:///company/team/_versions/=n.txt/1",
                "{} is not deleted: it belongs neither to this execution nor to its namespace.",
            ),
            ("nsfile://other/n.txt", "{} is not deleted: it belongs to the namespace 'other'."),
            ("kestra:///other/_files/n.txt", "{} is not deleted: it belongs to the namespace 'other'."),
        ],
    )
    def test_given_a_file_of_others_then_it_is_not_deleted(self, bench: Bench, uri: str, message: str) -> None:
        bench.namespace_files({"n.txt": "1"}, "other")

        def look(context: RunContext) -> object:
            with pytest.raises(TaskFailedError) as error:
                context.delete_file(uri)
            return str(error.value)

        assert within(bench, look) == message.format(uri)
        assert bench.services.namespace_files("other").find("n.txt") is not None

    def test_given_an_execution_then_all_its_files_are_listed_and_no_others(self, bench: Bench) -> None:
        bench.put("/company/team/flow/executions/execution2/tasks/t/r/x", b"1")
        uris = [bench.put(f"{EXECUTION}/{name}", b"1") for name in ("tasks/b/r/x", "tasks/a/r/y", "inputs/i/z")]

        assert within(bench, lambda context: context.list_execution_files()) == sorted(uris)

    def test_given_globs_then_the_files_they_fit_are_handed_over_open(self, bench: Bench) -> None:
        def look(context: RunContext) -> object:
            for name in ("b.txt", "a.txt", "c.csv"):
                (context.working_directory / name).write_text(name)
            (context.working_directory / "out.txt").symlink_to("/etc/hostname")
            seen: list[object] = []
            context.each_file("*.txt", lambda name, file: seen.append((name, file.read())))
            return seen

        assert within(bench, look) == [("a.txt", b"a.txt"), ("b.txt", b"b.txt")]
        assert bench.records.messages(LogLevel.WARN) == [
            "'out.txt' is a link that leads out of the directory or nowhere; it is not captured."
        ]

    def test_given_a_namespace_then_its_files_are_listed_read_written_and_deleted(self, bench: Bench) -> None:
        bench.namespace_files({"a.py": "a", "lib/b.py": "b", "c.txt": "c"}, "other")

        def look(context: RunContext) -> object:
            folder = context.namespace_folder("other")
            with folder.open("lib/b.py") as file:
                read = file.read()
            uri = folder.put("/d e", BytesIO(b"new"), executable=True)
            folder.delete("c.txt")
            return read, uri, folder.list(), folder.list(["*.py"]), folder.list(["/*.py"])

        assert within(bench, look) == (
            b"b",
            "kestra:///other/_files/d%20e",
            ["a.py", "d e", "lib/b.py"],
            ["a.py", "lib/b.py"],
            ["a.py"],
        )
        [new] = [file for file in bench.services.namespace_files("other").list() if file.path == "d e"]
        assert new.executable


class TestEngine:
    def test_given_a_process_without_them_then_store_and_engine_are_missed_clearly(self, bench: Bench) -> None:
        def look(context: RunContext) -> object:
            with pytest.raises(TaskFailedError, match=r"^This process keeps no key-value pairs\.$"):
                context.key_values.find("n", "k")
            with pytest.raises(TaskFailedError, match=r"^Here is no engine that a task could ask about"):
                context.engine.kill("x")
            return True

        assert within(bench, look) is True


class TestReadTask:
    def test_given_yaml_then_it_is_a_task(self, bench: Bench) -> None:
        text = "# hi\nid: t\ntype: io.kestra.core.tasks.debugs.Return\nformat: |\n  a\n"

        task = within(bench, lambda context: context.read_task(text))

        assert task == Return(id="t", type="io.kestra.core.tasks.debugs.Return", format="a\n")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("- a", "A task is a mapping. Begin with `type: …`."),
            ("", None),
            ("id: [", None),
            (
                "id: t\ntype: io.kestra.plugin.core.debug.Return\nform: a\nlogLevel: LOUD\n",
                "The task is not valid. Line 3, column 1 (form): Unknown property 'form'. Did you mean 'format'? "
                "Accepted: id, type, description, disabled, runIf, timeout, retry, allowFailure, allowWarning, "
                "workerGroup, logLevel, logToFile, format. Line 4, column 11 (logLevel): 'LOUD' is none of the values "
                "that may stand here. Accepted: TRACE, DEBUG, INFO, WARN, ERROR.",
            ),
        ],
    )
    def test_given_what_is_no_task_then_every_issue_is_told(self, bench: Bench, text: str, message: str | None) -> None:
        def look(context: RunContext) -> object:
            with pytest.raises(InvalidFlowError) as error:
                context.read_task(text)
            return str(error.value)

        said = within(bench, look)

        assert said == message or (message is None and str(said).startswith("The task is not valid. "))


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
