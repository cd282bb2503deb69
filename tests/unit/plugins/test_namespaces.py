"""namespace.UploadFiles, DownloadFiles, DeleteFiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tercel.model import LogLevel, State
from tercel.plugins.namespaces import DeleteFiles, DownloadFiles, UploadFiles
from tests.job_runners import Bench, a_directory, a_shell

OWN = "company.team"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def contents(bench: Bench, namespace: str = OWN) -> dict[str, bytes]:
    files = bench.services.namespace_files(namespace)
    found: dict[str, bytes] = {}
    for file in files.list():
        with files.get(file.path) as stream:
            found[file.path] = stream.read()
    return found


def upload(bench: Bench, **properties: Any) -> Any:
    """Upload from a directory with `a.py`, `d/b.py`, `c.txt`."""
    made = a_shell("make", "mkdir d; echo a > a.py; echo b > d/b.py; chmod +x d/b.py; echo c > c.txt")
    result = bench.run(a_directory(made, UploadFiles(id="u", type="U", **properties)))
    return result, bench.child("u")


class TestUploadFiles:
    def test_given_globs_then_the_files_they_fit_are_put_under_their_paths(self, bench: Bench) -> None:
        result, run = upload(bench, files=["**.py", "{{ 'none' }}.x"], destination="/src/{{ flow.id }}/")

        assert result.state is State.SUCCESS, result.message
        assert contents(bench) == {"src/flow/a.py": b"a\n", "src/flow/d/b.py": b"b\n"}
        assert run.outputs == {
            "files": {
                "src/flow/a.py": "kestra:///company/team/_files/src/flow/a.py",
                "src/flow/d/b.py": "kestra:///company/team/_files/src/flow/d/b.py",
            }
        }
        modes = {file.path: file.executable for file in bench.services.namespace_files(OWN).list()}
        assert modes == {"src/flow/a.py": False, "src/flow/d/b.py": True}

    @pytest.mark.parametrize(
        "files_map", [{"{{ flow.id }}/x.txt": "{{ made['x.txt'] }}"}, "{{ {'flow/x.txt': made['x.txt']} | toJson }}"]
    )
    def test_given_a_map_then_files_of_internal_storage_are_put(self, bench: Bench, files_map: Any) -> None:
        uri = bench.put("/x/y", b"content")

        result = bench.run(
            UploadFiles(id="u", type="U", files_map=files_map, namespace="other"), variables={"made": {"x.txt": uri}}
        )

        assert result.outputs == {"files": {"flow/x.txt": "kestra:///other/_files/flow/x.txt"}}
        assert contents(bench, "other") == {"flow/x.txt": b"content"}
        assert contents(bench) == {}

    def test_given_files_that_are_there_when_overwritten_then_the_former_are_versions(self, bench: Bench) -> None:
        bench.namespace_files({"a.py": "before"})

        upload(bench, files=["*.py"])

        assert contents(bench) == {"a.py": b"a\n"}
        assert len(bench.services.namespace_files(OWN).versions("a.py")) == 2

    def test_given_files_that_are_there_when_skipped_then_they_stay(self, bench: Bench) -> None:
        bench.namespace_files({"a.py": "before"})

        _, run = upload(bench, files=["**.py"], conflict="SKIP")

        assert contents(bench) == {"a.py": b"before", "d/b.py": b"b\n"}
        assert list(run.outputs["files"]) == ["d/b.py"]
        assert "The namespace has a file 'a.py' already; it is kept." in bench.records.messages(LogLevel.DEBUG)

    def test_given_files_that_are_there_when_it_is_an_error_then_it_fails(self, bench: Bench) -> None:
        bench.namespace_files({"a.py": "before"})

        _, run = upload(bench, files=["a.py"], conflict="ERROR")

        assert run.state is State.FAILED
        assert run.message == "The namespace has a file 'a.py' already. Set 'conflict' to OVERWRITE or SKIP."
        assert contents(bench) == {"a.py": b"before"}

    @pytest.mark.parametrize(
        ("properties", "message"),
        [
            ({"files_map": "x"}, "'filesMap' renders to a text that is no JSON object: "),
            ({"files_map": "[1]"}, "'filesMap' has to be a map of names to addresses."),
            ({"files_map": {"a": "kestra:///no"}}, "There is no file kestra:///no in internal storage."),
            ({"files_map": {"../a": "kestra:///x/y"}}, "Internal storage refuses "),
        ],
    )
    def test_given_a_map_that_is_none_then_it_fails(
        self, bench: Bench, properties: dict[str, Any], message: str
    ) -> None:
        bench.put("/x/y", b"1")

        result = bench.run(UploadFiles(id="u", type="U", **properties))

        assert (result.state, result.message[: len(message)]) == (State.FAILED, message)
        assert contents(bench) == {}

    def test_given_neither_then_nothing_is_put(self, bench: Bench) -> None:
        assert bench.run(UploadFiles(id="u", type="U")).outputs == {"files": {}}


FILES = {"main.py": "m", "lib/u.py": "u", "data/a b.csv": "1"}


class TestDownloadFiles:
    @pytest.mark.parametrize(
        ("files", "paths"),
        [
            (["*.py"], ["lib/u.py", "main.py"]),
            ("/*.py", ["main.py"]),
            ("{{ ['data/**', 'lib/*'] | toJson }}", ["data/a b.csv", "lib/u.py"]),
            (["**"], ["data/a b.csv", "lib/u.py", "main.py"]),
            ([], []),
            ([""], []),
        ],
    )
    def test_given_globs_then_the_files_they_fit_are_copied(self, bench: Bench, files: Any, paths: list[str]) -> None:
        bench.namespace_files(FILES)

        result = bench.run(DownloadFiles(id="d", type="D", files=files))

        copies: dict[str, str] = result.outputs["files"]  # type: ignore[assignment]
        assert (result.message, list(copies)) == ("", paths)
        assert [bench.read(uri).decode() for uri in copies.values()] == [FILES[path] for path in paths]
        assert bench.records.values() == {"downloaded": float(len(paths))}

    def test_given_another_namespace_and_a_destination_then_both_count(self, bench: Bench) -> None:
        bench.namespace_files(FILES, "other")

        result = bench.run(DownloadFiles(id="d", type="D", namespace="{{ 'other' }}", files=["a*"], destination="/x/y"))

        own = "kestra:///company/team/flow/executions/execution/tasks/d/run"
        assert result.outputs == {"files": {"data/a b.csv": f"{own}/x/y/data/a%20b.csv"}}


class TestDeleteFiles:
    @pytest.mark.parametrize(
        ("files", "left"),
        [
            (["*.py"], ["data/a b.csv"]),
            ("/main.py", ["data/a b.csv", "lib/u.py"]),
            ([], ["data/a b.csv", "lib/u.py", "main.py"]),
            ("", ["data/a b.csv", "lib/u.py", "main.py"]),
        ],
    )
    def test_given_globs_then_the_files_they_fit_are_gone_but_for_their_versions(
        self, bench: Bench, files: Any, left: list[str]
    ) -> None:
        bench.namespace_files(FILES)

        result = bench.run(DeleteFiles(id="d", type="D", files=files))

        assert (result.state, result.outputs) == (State.SUCCESS, {})
        assert list(contents(bench)) == left
        assert bench.records.values() == {"deleted": float(3 - len(left))}
        namespace = bench.services.namespace_files(OWN)
        for path in FILES.keys() - set(left):
            assert [version.is_deletion for version in namespace.versions(path)] == [False, True]

    def test_given_another_namespace_then_its_files(self, bench: Bench) -> None:
        bench.namespace_files(FILES)
        bench.namespace_files({"main.py": "1"}, "other")

        bench.run(DeleteFiles(id="d", type="D", namespace="other", files=["main.py"]))

        assert (contents(bench, "other"), len(contents(bench))) == ({}, 3)
