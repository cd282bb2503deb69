"""What every internal storage owes its users; a new one joins by one line in `STORAGES`."""

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest

from tercel.errors import NotFoundError, StorageError
from tercel.storage import InternalStorage
from tercel.storage.local import LocalStorage

STORAGES: dict[str, Callable[[Path], InternalStorage]] = {
    "local": lambda folder: LocalStorage(folder / "storage"),
    "local, durable": lambda folder: LocalStorage(folder / "storage", durable=True),
}


@pytest.fixture(params=STORAGES)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> InternalStorage:
    return STORAGES[request.param](tmp_path)


def put(storage: InternalStorage, path: str, content: bytes = b"x") -> str:
    return storage.put(path, BytesIO(content))


def read(storage: InternalStorage, uri: str) -> bytes:
    with storage.get(uri) as stream:
        return stream.read()


class TestPut:
    def test_given_content_when_put_then_the_uri_gives_it_back_byte_for_byte(self, storage: InternalStorage) -> None:
        content = bytes(range(256)) * 10_000

        uri = put(storage, "/team/flow/executions/1/x.bin", content)

        assert uri == "kestra:///team/flow/executions/1/x.bin"
        assert read(storage, uri) == content
        assert storage.stat(uri).size == len(content)

    def test_given_a_file_when_put_again_then_it_is_replaced_and_its_version_changes(
        self, storage: InternalStorage
    ) -> None:
        uri = put(storage, "/a", b"one")
        before = storage.stat(uri).version
        reader = storage.get(uri)

        put(storage, "/a", b"two")

        assert read(storage, uri) == b"two"
        assert storage.stat(uri).version != before
        with reader:
            assert reader.read() == b"one"

    @pytest.mark.parametrize(
        "name",
        ["a b.txt", "x#1.txt", "q?.txt", "p%20.txt", "[z].txt", "é.txt", "a..b.txt", "…", "%", "a+b&c=d", "日" * 80],
    )
    def test_given_a_name_with_special_characters_when_put_then_it_comes_back(
        self, storage: InternalStorage, name: str
    ) -> None:
        uri = put(storage, f"/n/{name}", name.encode())

        assert read(storage, uri) == name.encode()
        assert [file.uri for file in storage.list("/n")] == [uri]
        assert uri.isascii()
        assert not set(uri[len("kestra://") :]) & set(" #?[]")

    @pytest.mark.parametrize("path", ["/../x", "/a/../../x", "/a//b", "", "/", "/a/.", "/a\0b", "/.staging/x"])
    def test_given_a_path_that_could_lead_out_when_put_then_it_is_refused(
        self, storage: InternalStorage, path: str, tmp_path: Path
    ) -> None:
        with pytest.raises(StorageError):
            put(storage, path)

        assert not (tmp_path / "x").exists()

    def test_given_a_stream_that_breaks_when_put_then_what_was_there_stays(self, storage: InternalStorage) -> None:
        uri = put(storage, "/a", b"old")

        class Broken(BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                if self.tell() > 0:
                    raise OSError("the line broke")
                return super().read(4)

        with pytest.raises(OSError, match="the line broke"):
            storage.put("/a", Broken(b"newer content"))

        assert read(storage, uri) == b"old"
        assert [file.uri for file in storage.list("/")] == [uri]

    @pytest.mark.parametrize("move", [False, True])
    def test_given_a_local_file_when_put_then_it_stays_unless_moved(
        self, storage: InternalStorage, tmp_path: Path, move: bool
    ) -> None:
        file = tmp_path / "local.txt"
        file.write_bytes(b"hello")

        uri = storage.put_file("/f/local.txt", file, executable=True, move=move)

        assert read(storage, uri) == b"hello"
        assert storage.stat(uri).executable
        assert file.exists() is not move

    def test_given_a_local_file_with_two_names_when_moved_in_then_the_other_name_cannot_change_it(
        self, storage: InternalStorage, tmp_path: Path
    ) -> None:
        (tmp_path / "one").write_bytes(b"kept")
        os.link(tmp_path / "one", tmp_path / "two")

        uri = storage.put_file("/f", tmp_path / "one", move=True)
        (tmp_path / "two").write_bytes(b"lost")

        assert read(storage, uri) == b"kept"

    def test_given_many_writers_of_one_path_then_a_reader_sees_one_of_them_whole(
        self, storage: InternalStorage
    ) -> None:
        contents = [bytes([65 + number]) * 200_000 for number in range(4)]
        uri = put(storage, "/shared", contents[0])
        seen: set[bytes] = set()

        def write(content: bytes) -> None:
            for _ in range(5):
                put(storage, "/shared", content)

        writers = [threading.Thread(target=write, args=(content,)) for content in contents]
        for writer in writers:
            writer.start()
        while any(writer.is_alive() for writer in writers):
            seen.add(read(storage, uri))
        for writer in writers:
            writer.join()

        assert seen <= set(contents)


class TestGet:
    def test_given_no_such_file_when_read_then_the_message_names_the_uri(self, storage: InternalStorage) -> None:
        put(storage, "/a/b")

        for uri in ("kestra:///none", "kestra:///a", "kestra:///a/b/c"):
            with pytest.raises(NotFoundError, match=f"There is no file {uri} in internal storage."):
                storage.get(uri)
            with pytest.raises(NotFoundError):
                storage.stat(uri)
            assert not storage.exists(uri)

    @pytest.mark.parametrize("uri", ["kestra://a/b", "file:///etc/passwd", "/a", "kestra:///../x", "kestra:///a%2Fb"])
    def test_given_no_address_of_the_storage_when_read_then_it_is_refused(
        self, storage: InternalStorage, uri: str
    ) -> None:
        with pytest.raises(StorageError):
            storage.get(uri)

    def test_given_a_file_when_copied_to_a_descriptor_then_all_bytes_arrive(
        self, storage: InternalStorage, tmp_path: Path
    ) -> None:
        content = os.urandom(300_000)
        uri = put(storage, "/a", content)

        with (tmp_path / "out").open("wb") as out:
            count = storage.copy_to(uri, out.fileno())

        assert count == len(content)
        assert (tmp_path / "out").read_bytes() == content

    def test_given_a_file_when_asked_then_its_date_is_now_in_utc(self, storage: InternalStorage) -> None:
        file = storage.stat(put(storage, "/a"))

        assert abs(datetime.now(UTC) - file.modified_at) < timedelta(minutes=1)
        assert not file.executable


class TestList:
    def test_given_files_when_listed_then_all_below_the_folder_and_no_other(self, storage: InternalStorage) -> None:
        for path in ("/n/b", "/n/a/x", "/n/a/y", "/nn/z", "/m"):
            put(storage, path)

        assert [file.uri for file in storage.list("/n")] == ["kestra:///n/a/x", "kestra:///n/a/y", "kestra:///n/b"]
        assert len(list(storage.list("/"))) == 5
        assert list(storage.list("/none")) == []

    def test_given_folders_when_asked_then_those_right_below(self, storage: InternalStorage) -> None:
        for path in ("/n/b", "/n/a/x", "/n/c/d/y", "/m"):
            put(storage, path)

        assert storage.folders("/n") == ("a", "c")
        assert storage.folders("/") == ("n",)
        assert storage.folders("/none") == ()


class TestMove:
    def test_given_a_file_when_moved_then_only_the_new_address_has_it(self, storage: InternalStorage) -> None:
        old = put(storage, "/a/x", b"1")
        put(storage, "/b/y", b"2")

        new = storage.move(old, "/b/y")

        assert (new, read(storage, new), storage.exists(old)) == ("kestra:///b/y", b"1", False)
        with pytest.raises(NotFoundError):
            storage.move(old, "/c")


class TestDelete:
    def test_given_files_when_deleted_then_gone_and_again_is_no_error(self, storage: InternalStorage) -> None:
        uris = [put(storage, "/a/x"), put(storage, "/a/y"), put(storage, "/b")]

        storage.delete(uris[:2])
        storage.delete(uris[:2])

        assert [file.uri for file in storage.list("/")] == [uris[2]]

    def test_given_a_folder_when_deleted_then_all_below_and_no_other(self, storage: InternalStorage) -> None:
        for path in ("/n/b", "/n/a/x", "/nn/z"):
            put(storage, path)

        assert storage.delete_all("/n") == 2
        assert storage.delete_all("/n") == 0
        assert [file.uri for file in storage.list("/")] == ["kestra:///nn/z"]

    def test_given_a_version_when_deleted_then_only_that_one_goes(self, storage: InternalStorage) -> None:
        uri = put(storage, "/p", b"one")
        first = storage.stat(uri).version
        put(storage, "/p", b"two")

        assert not storage.delete_if(uri, first)
        assert read(storage, uri) == b"two"
        assert storage.delete_if(uri, storage.stat(uri).version)
        assert not storage.exists(uri)
        assert not storage.delete_if(uri, first)
