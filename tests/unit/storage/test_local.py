import os
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from tercel.errors import NotFoundError, StorageError
from tercel.storage.local import LocalStorage, copy_content


class TestLocalStorage:
    def test_given_a_new_base_when_used_then_it_is_private(self, tmp_path: Path) -> None:
        storage = LocalStorage(tmp_path / "s")

        storage.put("/a/b", BytesIO(b"x"))

        assert (tmp_path / "s" / "a").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "s" / "a" / "b").stat().st_mode & 0o777 == 0o600

    def test_given_a_link_out_of_the_base_then_it_is_never_followed(self, tmp_path: Path) -> None:
        storage = LocalStorage(tmp_path / "s")
        storage.put("/a/b", BytesIO(b"x"))
        (tmp_path / "secret").write_text("s")
        (tmp_path / "s" / "a" / "file").symlink_to(tmp_path / "secret")
        (tmp_path / "s" / "out").symlink_to(tmp_path)

        with pytest.raises(StorageError):
            storage.get("kestra:///a/file")
        with pytest.raises(StorageError, match="it leads out of the storage"):
            storage.get("kestra:///out/secret")
        with pytest.raises(StorageError):
            storage.put("/out/new", BytesIO(b"x"))

        assert [file.uri for file in storage.list("/")] == ["kestra:///a/b"]
        assert not (tmp_path / "new").exists()

    def test_given_the_last_file_of_a_folder_when_deleted_then_the_folder_goes_too(self, tmp_path: Path) -> None:
        storage = LocalStorage(tmp_path / "s")
        uri = storage.put("/a/b/c", BytesIO(b"x"))

        storage.delete([uri])

        assert not (tmp_path / "s" / "a").exists()

    def test_given_leftovers_of_a_crash_when_cleaned_then_only_old_ones_go(self, tmp_path: Path) -> None:
        storage = LocalStorage(tmp_path / "s")
        storage.put("/a", BytesIO(b"x"))
        for name, age_s in (("old", 7200), ("new", 10)):
            file = tmp_path / "s" / ".staging" / name
            file.write_text("half")
            os.utime(file, (time.time() - age_s, time.time() - age_s))

        assert storage.clean() == 1
        assert [file.name for file in (tmp_path / "s" / ".staging").iterdir()] == ["new"]
        assert [file.uri for file in storage.list("/")] == ["kestra:///a"]

    def test_given_everything_deleted_then_nothing_is_listed(self, tmp_path: Path) -> None:
        storage = LocalStorage(tmp_path / "s")
        storage.put("/a/b", BytesIO(b"x"))

        assert storage.delete_all("/") == 1
        assert list(storage.list("/")) == []

    def test_given_a_fifo_in_the_base_when_read_then_it_does_not_hang(self, tmp_path: Path) -> None:
        storage = LocalStorage(tmp_path / "s")
        (tmp_path / "s").mkdir()
        os.mkfifo(tmp_path / "s" / "pipe")

        with pytest.raises(NotFoundError):
            storage.get("kestra:///pipe")

    def test_given_a_folder_when_a_file_is_put_there_then_the_error_says_so(self, tmp_path: Path) -> None:
        storage = LocalStorage(tmp_path / "s")
        storage.put("/a/b", BytesIO(b"x"))

        with pytest.raises(StorageError, match="Is a directory"):
            storage.put("/a", BytesIO(b"x"))
        with pytest.raises(StorageError, match="is a folder"):
            storage.delete(["kestra:///a"])
        with pytest.raises(StorageError):
            storage.put("/a/b/c", BytesIO(b"x"))

    @pytest.mark.parametrize("how", ["put", "put_file", "move"])
    def test_given_a_name_that_is_too_long_then_the_error_tells_the_uri_and_not_where_it_lies(
        self, tmp_path: Path, how: str
    ) -> None:
        storage = LocalStorage(tmp_path / "storage")
        path = "/folder/" + "x" * 300
        file = tmp_path / "file"
        file.write_bytes(b"content")
        uri = storage.put("/a", BytesIO(b""))
        ways: dict[str, Callable[[], object]] = {
            "put": lambda: storage.put(path, BytesIO(b"")),
            "put_file": lambda: storage.put_file(path, file, move=True),
            "move": lambda: storage.move(uri, path),
        }

        with pytest.raises(StorageError) as caught:
            ways[how]()

        assert caught.value.message == f"Internal storage cannot store kestra://{path}: File name too long."
        assert file.read_bytes() == b"content"


class TestCopyContent:
    def test_given_a_file_without_a_size_when_copied_then_its_text_arrives(self, tmp_path: Path) -> None:
        with open("/proc/self/status", "rb") as source, (tmp_path / "x").open("wb") as target:
            count = copy_content(source.fileno(), target.fileno())

        assert count == (tmp_path / "x").stat().st_size > 0
