from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tercel.errors import TaskFailedError
from tercel.plugins.http.answer import Content, file_name, headers_of
from tests.run_contexts import DirectoryContext

REQUEST = httpx.Request("GET", "http://files.example/data/a%20b.csv?x=/y")


class Sent(httpx.SyncByteStream):
    def __init__(self, *blocks: bytes) -> None:
        self._blocks = blocks

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._blocks)


def response(*blocks: bytes, encoding: str = "", headers: list[tuple[str, str]] | None = None) -> httpx.Response:
    given = [*(headers or []), *([("Content-Encoding", encoding)] if encoding else [])]
    return httpx.Response(200, headers=given, stream=Sent(*blocks), request=REQUEST)


@pytest.fixture
def context(tmp_path: Path) -> DirectoryContext:
    return DirectoryContext(tmp_path)


def read_all(content: Content, size: int) -> bytes:
    return b"".join(iter(lambda: content.read(size), b""))


class TestContent:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(blocks=st.lists(st.binary(max_size=50), max_size=10), size=st.integers(1, 60))
    def test_given_any_blocks_and_size_then_all_is_read_and_counted(
        self, context: DirectoryContext, blocks: list[bytes], size: int
    ) -> None:
        content = Content(response(*blocks), context)

        assert read_all(content, size) == b"".join(blocks)
        assert content.length == sum(map(len, blocks))
        assert content.is_at_end()

    def test_given_a_start_that_is_given_back_then_it_is_read_again_and_counted_once(
        self, context: DirectoryContext
    ) -> None:
        content = Content(response(b"abc", b"def", b"ghi"), context)

        start = content.take(4)
        content.give_back(start)

        assert (start, read_all(content, 100), content.length) == (b"abcd", b"abcdefghi", 9)

    def test_given_its_end_reached_by_take_then_it_is_at_its_end(self, context: DirectoryContext) -> None:
        content = Content(response(b"abc", b""), context)

        assert (content.take(3), content.is_at_end()) == (b"abc", True)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(parts=st.lists(st.binary(max_size=2000), min_size=1, max_size=3), cut=st.integers(1, 500))
    def test_given_gzip_of_several_members_cut_anywhere_then_it_is_undone(
        self, context: DirectoryContext, parts: list[bytes], cut: int
    ) -> None:
        packed = b"".join(gzip.compress(part) for part in parts)
        blocks = [packed[at : at + cut] for at in range(0, len(packed), cut)]

        assert read_all(Content(response(*blocks, encoding="gzip"), context), 100) == b"".join(parts)

    @given(cut=st.integers(1, 40))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_given_gzip_without_its_end_then_it_fails(self, context: DirectoryContext, cut: int) -> None:
        packed = gzip.compress(bytes(range(256)))

        with pytest.raises(TaskFailedError, match="ends in the middle of its gzip content"):
            read_all(Content(response(packed[:-cut], encoding="gzip"), context), 1000)

    def test_given_a_few_bytes_that_become_many_then_no_block_has_more_than_a_megabyte(
        self, context: DirectoryContext
    ) -> None:
        bomb = gzip.compress(bytes(50 << 20))
        content = Content(response(bomb, encoding="gzip"), context)

        sizes = [len(block) for block in iter(lambda: content.read(1 << 30), b"")]

        assert (sum(sizes), max(sizes)) == (50 << 20, 1 << 20)

    def test_given_another_encoding_then_httpx_undoes_it(self, context: DirectoryContext) -> None:
        assert read_all(Content(response(zlib.compress(b"abc"), encoding="deflate"), context), 9) == b"abc"

    def test_given_more_than_is_wanted_then_it_fails_at_once(self, context: DirectoryContext) -> None:
        content = Content(response(b"abc", b"def"), context, 5)

        assert content.read() == b"abc"
        with pytest.raises(TaskFailedError) as caught:
            content.read()
        assert caught.value.message == (
            "The answer of http://files.example/data/a%20b.csv has more than the 5 bytes that maxContentLength allows."
        )


class TestHeaders:
    def test_given_names_in_any_case_then_they_are_there_as_written_and_in_lower_case(self) -> None:
        answer = response(headers=[("Set-Cookie", "a"), ("set-cookie", "b"), ("ETag", "c"), ("x", "d")])

        assert headers_of(answer) == {
            "Set-Cookie": ["a"],
            "set-cookie": ["a", "b"],
            "ETag": ["c"],
            "etag": ["c"],
            "x": ["d"],
        }


class TestFileName:
    @pytest.mark.parametrize(
        ("disposition", "name"),
        [
            ("", "a b.csv"),
            ("inline", "a b.csv"),
            ("attachment; filename=plain.txt", "plain.txt"),
            ('attachment; FILENAME="two words.txt"; x=y', "two words.txt"),
            ("attachment; filename*=UTF-8''%C3%A9.csv; filename=e.csv", "é.csv"),
            ('attachment; filename="../../etc/passwd"', "passwd"),
            ('attachment; filename="C:\\\\tmp\\\\x.txt"', "x.txt"),
            ('attachment; filename=".."', "otherwise"),
            ('attachment; filename=""', "otherwise"),
        ],
    )
    def test_given_what_the_server_suggests_then_its_last_part_counts(self, disposition: str, name: str) -> None:
        headers = [("Content-Disposition", disposition)] if disposition else []

        assert file_name(response(headers=headers), "otherwise") == name

    def test_given_no_name_at_all_then_it_is_another(self) -> None:
        answer = httpx.Response(200, request=httpx.Request("GET", "http://files.example/"))

        assert file_name(answer, "download") == "download"

    @given(name=st.text(st.characters(codec="utf-8", exclude_characters='"\\/\0\r\n'), min_size=1, max_size=400))
    def test_given_any_name_then_file_systems_take_it(self, name: str) -> None:
        answer = httpx.Response(200, request=REQUEST)
        answer.headers = httpx.Headers([(b"Content-Disposition", f'attachment; filename="{name}"'.encode())], "utf-8")

        assert 0 < len(file_name(answer, "download").encode()) <= 200
