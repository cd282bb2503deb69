from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from threading import Thread

import pytest

from tercel.errors import NotFoundError, StorageError, UserError
from tercel.storage.local import LocalStorage
from tercel.storage.namespace_files import (
    FolderNamespaceFiles,
    NamespaceFiles,
    StoredNamespaceFiles,
    namespaces_with_files,
)

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


class TestVersions:
    @pytest.fixture
    def files(self, tmp_path: Path) -> StoredNamespaceFiles:
        return StoredNamespaceFiles(LocalStorage(tmp_path / "s"), "company.team")

    def test_given_puts_and_a_deletion_then_all_versions_are_there(self, files: StoredNamespaceFiles) -> None:
        files.put("a/b.txt", b"1")
        files.put("/a/b.txt", BytesIO(b"22"), executable=True)
        files.delete("a/b.txt")
        buried = files.versions("a/b.txt")
        files.put("a/b.txt", b"4444")

        assert [version.number for version in buried] == [1, 2, 3]
        versions = files.versions("a/b.txt")
        assert [(one.number, one.size, one.is_deletion) for one in versions] == [
            (1, 1, False),
            (2, 2, False),
            (3, 0, True),
            (4, 4, False),
        ]
        assert [content(files, "a/b.txt", number) for number in (1, 2, 4, None)] == [b"1", b"22", b"4444", b"4444"]
        assert [file.path for file in files.list()] == ["a/b.txt"]

    def test_given_no_such_version_then_the_message_says_why(self, files: StoredNamespaceFiles) -> None:
        files.put("x", b"1")
        files.delete("x")

        assert files.versions("y") == ()
        for path, number, message in (
            ("x", 2, "There is no version 2 of the namespace file 'x'. It was deleted then."),
            ("x", 3, "There is no version 3 of the namespace file 'x'."),
            ("y", 1, "There is no version 1 of the namespace file 'y'."),
        ):
            with pytest.raises(NotFoundError) as error:
                files.get(path, number)
            assert str(error.value) == message

    def test_given_an_earlier_version_when_restored_then_it_is_the_next_one(self, files: StoredNamespaceFiles) -> None:
        files.put("x", b"1", executable=True)
        files.put("x", b"2")

        restored = files.restore("x", 1)

        assert (restored.size, restored.executable) == (1, True)
        assert [content(files, "x", number) for number in (1, 2, 3)] == [b"1", b"2", b"1"]

    def test_given_a_path_that_was_a_folder_and_names_like_numbers_then_versions_are_kept_apart(
        self, files: StoredNamespaceFiles
    ) -> None:
        for path, text in (("x/1", b"a"), ("x/1", b"b"), ("x/=1", b"c"), ("x/=1", b"d")):
            files.put(path, text)
        files.delete("x")
        files.put("x", b"e")
        files.put("x", b"f")

        assert [content(files, "x", number) for number in (1, 2)] == [b"e", b"f"]
        assert [content(files, "x/1", number) for number in (1, 2)] == [b"a", b"b"]
        assert [content(files, "x/=1", number) for number in (1, 2)] == [b"c", b"d"]

    def test_given_a_file_when_moved_over_another_then_both_keep_their_versions(
        self, files: StoredNamespaceFiles
    ) -> None:
        files.put("old", b"1")
        files.put("new", b"2")

        files.move("old", "new")

        assert [(one.number, one.is_deletion) for one in files.versions("old")] == [(1, False), (2, True)]
        assert [content(files, "new", number) for number in (1, 2)] == [b"2", b"1"]
        files.move("new", "new")
        assert content(files, "new") == b"1"

    def test_given_many_puts_at_once_then_none_is_lost(self, files: StoredNamespaceFiles) -> None:
        texts = [str(number).encode() for number in range(12)]
        threads = [Thread(target=files.put, args=("x", BytesIO(text))) for text in texts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(content(files, "x", number) for number in range(1, 13)) == sorted(texts)

    def test_given_a_stream_that_breaks_then_nothing_has_changed(
        self, files: StoredNamespaceFiles, tmp_path: Path
    ) -> None:
        files.put("x", b"1")

        class Broken(BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                raise OSError("cable")

        with pytest.raises(OSError, match="cable"):
            files.put("x", Broken())

        assert [one.number for one in files.versions("x")] == [1]
        assert [path.name for path in (tmp_path / "s").rglob("*") if path.is_file()] == ["x"]

    def test_given_a_folder_of_the_user_then_its_files_have_one_version(self, tmp_path: Path) -> None:
        folder = from_folder(tmp_path)

        assert [(one.number, one.size) for one in folder.versions("main.py")] == [(1, 1)]
        assert folder.versions("none") == ()
        with folder.get("main.py", 1) as stream:
            assert stream.read() == b"m"
        with pytest.raises(NotFoundError, match=r"no version 2 of the namespace file 'main\.py': it is from a folder"):
            folder.get("main.py", 2)
        with pytest.raises(UserError, match="cannot be changed"):
            folder.restore("main.py", 1)


def content(files: StoredNamespaceFiles, path: str, version: int | None = None) -> bytes:
    with files.get(path, version) as stream:
        return stream.read()


class TestFolders:
    @pytest.fixture
    def files(self, tmp_path: Path) -> StoredNamespaceFiles:
        made = StoredNamespaceFiles(LocalStorage(tmp_path), "company.team")
        made.put("lib/u.py", b"u")
        return made

    def test_given_folders_that_were_made_then_they_are_there_while_nothing_is_in_them(
        self, files: StoredNamespaceFiles
    ) -> None:
        files.make_folder("/new/=odd/")
        files.make_folder("/new")

        assert files.made_folders() == ("new", "new/=odd")
        assert files.made_folders("new/=odd") == ("new/=odd",)
        assert [files.has_folder(path) for path in ("", "/", "lib", "new", "/new/=odd", "ne", "lib/u.py")] == [
            *(True, True, True, True, True),
            *(False, False),
        ]
        assert [file.path for file in files.list()] == ["lib/u.py"]

    def test_given_a_file_in_the_way_then_there_can_be_no_folder_and_the_other_way_round(
        self, files: StoredNamespaceFiles
    ) -> None:
        files.make_folder("new/deep")

        for path in ("lib/u.py", "lib/u.py/x"):
            with pytest.raises(StorageError, match=r"'lib/u.py' is a file"):
                files.make_folder(path)
        for path in ("new", "new/deep"):
            with pytest.raises(StorageError, match="it is a folder"):
                files.put(path, b"x")
        with pytest.raises(StorageError):
            files.make_folder("../new")

    def test_given_the_last_file_of_folders_when_deleted_then_they_go_with_it(
        self, files: StoredNamespaceFiles
    ) -> None:
        files.make_folder("a/b/c")
        files.make_folder("a/kept")
        files.put("a/b/c/d/file", b"x")

        files.delete("a/b/c/d/file")

        assert files.made_folders() == ("a/kept",)

    def test_given_a_folder_when_deleted_then_all_folders_in_it_go(self, files: StoredNamespaceFiles) -> None:
        for path in ("a", "a/b", "other"):
            files.make_folder(path)

        assert files.delete("a") == 0

        assert files.made_folders() == ("other",)
        files.delete("/")
        assert files.made_folders() == ()

    def test_given_a_folder_when_moved_then_empty_folders_go_along(self, files: StoredNamespaceFiles) -> None:
        files.make_folder("lib/empty")
        files.make_folder("alone")

        assert files.move("lib", "src") == 1
        assert files.move("alone", "src/alone") == 0
        assert files.move("src", "src") == 1

        assert files.made_folders() == ("src/alone", "src/empty")
        assert [file.path for file in files.list()] == ["src/u.py"]


def test_given_a_storage_then_the_namespaces_with_files_or_folders_are_found(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    for namespace in ("company.team", "company", "other.deep.down"):
        StoredNamespaceFiles(storage, namespace).put("a", b"a")
    StoredNamespaceFiles(storage, "folders.only").make_folder("a")
    storage.put("/company/team/flow/executions/id/tasks/a", BytesIO())

    assert namespaces_with_files(storage) == ["company", "company.team", "folders.only", "other.deep.down"]
