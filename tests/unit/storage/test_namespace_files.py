from collections.abc import Callable
from pathlib import Path

import pytest

from tercel.errors import NotFoundError, StorageError, UserError
from tercel.storage.local import LocalStorage
from tercel.storage.namespace_files import FolderNamespaceFiles, NamespaceFiles, StoredNamespaceFiles

FILES = {"main.py": b"m", "lib/u.py": b"u", "ignore/x.txt": b"x", "a b#.txt": b"s"}


def stored(folder: Path) -> NamespaceFiles:
    files = StoredNamespaceFiles(LocalStorage(folder / "s"), "company.team")
    for path, content in FILES.items():
        files.put(path, content)
    return files


def from_folder(folder: Path) -> NamespaceFiles:
    for path, content in FILES.items():
        (folder / "f" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "f" / path).write_bytes(content)
    return FolderNamespaceFiles(folder / "f", "company.team")


@pytest.fixture(params=[stored, from_folder])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> NamespaceFiles:
    make: Callable[[Path], NamespaceFiles] = request.param
    return make(tmp_path)


class TestReading:
    def test_given_files_when_listed_then_all_ordered_by_path(self, files: NamespaceFiles) -> None:
        assert [file.path for file in files.list()] == sorted(FILES)
        assert [(file.path, file.size) for file in files.list("/lib")] == [("lib/u.py", 1)]
        assert files.list("none") == ()

    @pytest.mark.parametrize(
        ("include", "exclude", "expected"),
        [
            ([], ["/ignore/**"], ["a b#.txt", "lib/u.py", "main.py"]),
            (["lib/**"], [], ["lib/u.py"]),
            (["*.py"], [], ["lib/u.py", "main.py"]),
            (["*.py"], ["main.py"], ["lib/u.py"]),
        ],
    )
    def test_given_include_and_exclude_when_selected_then_these(
        self, files: NamespaceFiles, include: list[str], exclude: list[str], expected: list[str]
    ) -> None:
        assert [file.path for file in files.select(include, exclude)] == expected

    def test_given_a_path_when_read_then_its_content(self, files: NamespaceFiles, tmp_path: Path) -> None:
        with files.get("/lib/u.py") as stream:
            assert stream.read() == b"u"
        with (tmp_path / "out").open("wb") as out:
            assert files.copy_to("a b#.txt", out.fileno()) == 1
        found = files.find("main.py")
        assert found is not None
        assert (found.path, found.size, found.executable) == ("main.py", 1, False)

    def test_given_no_such_file_when_read_then_the_message_names_file_and_namespace(
        self, files: NamespaceFiles
    ) -> None:
        with pytest.raises(NotFoundError, match=r"There is no namespace file 'none.py' in 'company.team'\."):
            files.get("none.py")
        assert files.find("none.py") is None
        assert files.find("lib") is None

    def test_given_a_path_that_leads_up_when_read_then_it_is_refused(self, files: NamespaceFiles) -> None:
        with pytest.raises(StorageError):
            files.get("../x")


class TestStoredNamespaceFiles:
    def test_given_an_executable_file_when_put_then_the_bit_is_kept(self, tmp_path: Path) -> None:
        files = stored(tmp_path)
        script = tmp_path / "run.sh"
        script.write_text("#!/bin/sh\n")
        script.chmod(0o755)

        file = files.put_file("bin/run.sh", script)

        assert file.executable
        assert [found.executable for found in files.list("bin")] == [True]
        assert script.exists()

    def test_given_another_namespace_then_it_sees_none_of_them(self, tmp_path: Path) -> None:
        stored(tmp_path)

        assert StoredNamespaceFiles(LocalStorage(tmp_path / "s"), "company").list() == ()

    def test_given_a_file_or_folder_when_moved_then_all_in_it_goes_along(self, tmp_path: Path) -> None:
        files = stored(tmp_path)

        assert files.move("main.py", "src/main.py") == 1
        assert files.move("lib", "src/lib") == 1

        assert [file.path for file in files.list()] == ["a b#.txt", "ignore/x.txt", "src/lib/u.py", "src/main.py"]
        with pytest.raises(StorageError, match="cannot be moved into itself"):
            files.move("src", "src/deeper")
        with pytest.raises(NotFoundError):
            files.move("none", "x")

    def test_given_a_file_or_folder_when_deleted_then_the_number_is_told(self, tmp_path: Path) -> None:
        files = stored(tmp_path)

        assert files.delete("main.py") == 1
        assert files.delete("/lib/") == 1
        assert files.delete("none") == 0
        assert [file.path for file in files.list()] == ["a b#.txt", "ignore/x.txt"]


class TestFolderNamespaceFiles:
    def test_given_links_when_listed_then_only_those_to_files_inside_count(self, tmp_path: Path) -> None:
        files = from_folder(tmp_path)
        (tmp_path / "secret").write_text("s")
        (tmp_path / "f" / "in").symlink_to("main.py")
        (tmp_path / "f" / "out").symlink_to(tmp_path / "secret")
        (tmp_path / "f" / "broken").symlink_to("nowhere")

        assert {file.path for file in files.list()} - set(FILES) == {"in"}
        with pytest.raises(NotFoundError, match="leads out of the folder"):
            files.get("out")

    def test_given_a_change_when_asked_then_it_is_refused_with_the_folder_named(self, tmp_path: Path) -> None:
        files = from_folder(tmp_path)

        with pytest.raises(UserError, match=r"cannot be changed: the files of 'company.team' come from the folder"):
            files.put("x", b"")

    def test_given_no_such_folder_then_the_error_names_it(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="There is no folder"):
            FolderNamespaceFiles(tmp_path / "none", "n")
