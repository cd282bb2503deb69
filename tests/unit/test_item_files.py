"""Files cut into batches, joined, and read row by row."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercel import item_files
from tercel.errors import TaskFailedError, TaskKilledError
from tercel.expression.ion import ion_row
from tercel.item_files import concat_items, lines_of, read_rows, split_items, stream_of
from tests.run_contexts import DirectoryContext


@pytest.fixture
def context(tmp_path: Path) -> DirectoryContext:
    context = DirectoryContext(tmp_path)
    context.stored["kestra:///f/numbers.csv"] = b"1\n2\n3\n4\n5"
    return context


@pytest.fixture(params=[1 << 20, 3])
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How much of a file is read at once."""
    monkeypatch.setattr(item_files, "_BLOCK_BYTES", request.param)
    return request.param


class TestSplitItems:
    @pytest.mark.parametrize(
        ("how", "contents"),
        [
            ({"rows": 2}, [b"1\n2\n", b"3\n4\n", b"5\n"]),
            ({"rows": 5}, [b"1\n2\n3\n4\n5\n"]),
            ({"rows": 9}, [b"1\n2\n3\n4\n5\n"]),
            ({"partitions": 2}, [b"1\n3\n5\n", b"2\n4\n"]),
            ({"partitions": 9}, [b"1\n", b"2\n", b"3\n", b"4\n", b"5\n"]),
            ({"size_bytes": 4}, [b"1\n2\n", b"3\n4\n", b"5\n"]),
            ({"size_bytes": 5}, [b"1\n2\n", b"3\n4\n", b"5\n"]),
            ({"size_bytes": 1}, [b"1\n", b"2\n", b"3\n", b"4\n", b"5\n"]),
            ({"size_bytes": 100, "partitions": 1, "rows": 1}, [b"1\n2\n3\n4\n5\n"]),
            ({"partitions": 1, "rows": 1}, [b"1\n2\n3\n4\n5\n"]),
        ],
    )
    def test_given_a_measure_then_whole_lines_are_stored_in_order(
        self, context: DirectoryContext, how: dict[str, int], contents: list[bytes]
    ) -> None:
        uris = split_items(context, "kestra:///f/numbers.csv", **how, name="part")

        assert [context.stored[uri] for uri in uris] == contents
        assert uris == [f"kestra:///part-{number}.csv" for number in range(1, len(contents) + 1)]

    @pytest.mark.parametrize("how", [{"rows": 1}, {"partitions": 3}, {"size_bytes": 1}])
    def test_given_an_empty_file_then_there_is_none(self, context: DirectoryContext, how: dict[str, int]) -> None:
        context.stored["kestra:///empty"] = b""

        assert split_items(context, "kestra:///empty", **how) == []

    def test_given_another_separator_then_it_ends_the_lines(self, context: DirectoryContext, block_bytes: int) -> None:
        context.stored["kestra:///x"] = b"a\n--b--\n--c"

        uris = split_items(context, "kestra:///x", rows=1, separator="\n--")

        assert [context.stored[uri] for uri in uris] == [b"a\n--", b"b--\n--", b"c\n--"]

    @pytest.mark.parametrize(
        ("how", "message"),
        [
            ({}, "A file is split by bytes, partitions or rows, and none is given. Set one."),
            ({"rows": 0}, "A file cannot be split by rows of 0: it takes at least one."),
            ({"partitions": -1}, "A file cannot be split by partitions of -1: it takes at least one."),
            ({"size_bytes": 0}, "A file cannot be split by bytes of 0: it takes at least one."),
        ],
    )
    def test_given_nothing_to_go_by_then_it_fails(
        self, context: DirectoryContext, how: dict[str, int], message: str
    ) -> None:
        with pytest.raises(TaskFailedError) as error:
            split_items(context, "kestra:///f/numbers.csv", **how)

        assert str(error.value) == message

    def test_given_an_empty_separator_then_it_fails(self, context: DirectoryContext) -> None:
        with pytest.raises(TaskFailedError, match="empty separator"):
            split_items(context, "kestra:///f/numbers.csv", rows=1, separator="")

    def test_given_more_lines_than_are_kept_then_partitions_are_spooled_and_nothing_is_left(
        self, context: DirectoryContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(item_files, "_MOST_SPOOLED_BYTES", 5)

        for _ in range(2):
            uris = split_items(context, "kestra:///f/numbers.csv", partitions=2)
            assert [context.stored[uri] for uri in uris] == [b"1\n3\n5\n", b"2\n4\n"]

        assert list(context.engine_directory.iterdir()) == []

    def test_given_a_kill_then_it_ends(self, context: DirectoryContext) -> None:
        context.stop("kill")

        with pytest.raises(TaskKilledError):
            split_items(context, "kestra:///f/numbers.csv", rows=1)

    @given(content=st.binary(max_size=40), rows=st.integers(1, 4))
    def test_given_any_file_then_joined_again_it_is_the_same_up_to_the_last_separator(
        self, tmp_path_factory: pytest.TempPathFactory, content: bytes, rows: int
    ) -> None:
        context = DirectoryContext(tmp_path_factory.mktemp("split"))
        context.stored["kestra:///x"] = content

        joined = concat_items(context, split_items(context, "kestra:///x", rows=rows))

        expected = content + b"\n" if content and not content.endswith(b"\n") else content
        assert context.stored[joined] == expected


class TestConcatItems:
    def test_given_a_separator_then_it_is_after_each_file(self, context: DirectoryContext) -> None:
        context.stored |= {"kestra:///a": b"A", "kestra:///b": b"", "kestra:///c": b"C\n"}

        uri = concat_items(context, ["kestra:///c", "kestra:///a", "kestra:///b"], "é", "all.txt")

        assert (uri, context.stored[uri]) == ("kestra:///all.txt", "C\néAéé".encode())

    def test_given_no_file_then_it_is_empty(self, context: DirectoryContext) -> None:
        assert context.stored[concat_items(context, [], ";")] == b""


class TestLinesOf:
    @given(parts=st.lists(st.sampled_from([b"a", b";", b"=", b";=", b"\n"])), size=st.integers(1, 5))
    def test_given_any_separator_then_it_cuts_as_split_does(self, parts: list[bytes], size: int) -> None:
        content = b"".join(parts)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(item_files, "_BLOCK_BYTES", size)

            lines = list(lines_of(BytesIO(content), b";="))

        *whole, last = content.split(b";=")
        assert lines == [line + b";=" for line in (*whole, *([last] if last else []))]


class TestStreamOf:
    @given(chunks=st.lists(st.binary(max_size=5)), size=st.integers(1, 7))
    def test_given_chunks_then_they_are_read_whole(self, chunks: list[bytes], size: int) -> None:
        stream = stream_of(chunks)

        assert b"".join(iter(lambda: stream.read(size), b"")) == b"".join(chunks)

    def test_given_a_failure_in_the_chunks_then_the_reader_sees_it(self) -> None:
        def chunks() -> Iterator[bytes]:
            yield b"a"
            raise TaskFailedError("no more")

        with pytest.raises(TaskFailedError, match="no more"):
            stream_of(chunks()).read()


class TestReadRows:
    @pytest.mark.parametrize(
        ("text", "rows"),
        [
            ('{"a":1}\n{"a":2}', [('{"a":1}', {"a": 1}), ('{"a":2}', {"a": 2})]),
            ('{"a":1}\r\n\r\n  {"a":2}\n', [('{"a":1}', {"a": 1}), ('{"a":2}', {"a": 2})]),
            ('\ufeff{"a":1}\n', [('{"a":1}', {"a": 1})]),
            ("{a:1} {a:2}", [("{a:1}", {"a": 1}), ("{a:2}", {"a": 2})]),
            ('[{"a":1},\n [2], "x,]" ]\n', [('{"a":1}', {"a": 1}), ("[2]", [2]), ('"x,]"', "x,]")]),
            ('{\n  "a": "}",\n  "b": [1,\n2]\n}\n', [('{ "a": "}", "b": [1, 2] }', {"a": "}", "b": [1, 2]})]),
            ("[]", []),
            ("", []),
            ("null\n1\nnull\n", [("1", 1)]),
            ("$ion_1_0 {a:2030-01-01T}", [("{a:2030-01-01T}", {"a": "2030-01-01"})]),
            ("kind::{a:{{aGk=}}} // b", [("kind::{a:{{aGk=}}}", {"a": b"hi"})]),
            ("kind :: {a:1} b::c::2", [("kind::{a:1}", {"a": 1}), ("b::c::2", 2)]),
            ("/* {\n */ {'a b':'''x\n'''}", [("{'a b':'''x\n'''}", {"a b": "x\n"})]),
            ('{a:{{"}}"}}}', [('{a:{{"}}"}}}', {"a": b"}}"})]),
            ("'é'", [("'é'", "é")]),
            ("(a b) -1.5e3 true", [("(a b)", ["a", "b"]), ("-1.5e3", -1500.0), ("true", True)]),
        ],
    )
    def test_given_values_then_each_is_a_row(self, text: str, rows: list[tuple[str, object]], block_bytes: int) -> None:
        assert [tuple(row) for row in read_rows(BytesIO(text.encode()))] == rows

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b'{"a":1}\n{"a":', "Row 2 of the file cannot be read: The text ends in the middle of a value."),
            (b"[1,2", "Row 3 of the file cannot be read: The text ends in the middle of a value."),
            (b"1]", "Row 2 of the file cannot be read: The text is not Ion: ']' closes nothing."),
            (b"{a:1)", "Row 1 of the file cannot be read: The text is not Ion: ')' closes nothing."),
            (b"{a 1}", "Row 1 of the file cannot be read: The text is not Ion: expected ':' at line 1, column 4."),
            (b'{"a":"x\n"}', "Row 1 of the file cannot be read: The text is not Ion: it cannot go on with '\"x\\n'."),
            (b'{"a":1}\n\xff\n', "Row 2 of the file cannot be read: it is not UTF-8 text."),
            (b"{a:1}\n{a:2}\n\xff\n", "Row 3 of the file cannot be read: it is not UTF-8 text."),
            (
                b"\xe0\x01\x00\xea\x0f",
                "The file is binary Ion, which cannot be read. Have it written as Ion text, JSON or JSON lines.",
            ),
        ],
    )
    def test_given_what_is_no_row_then_the_message_says_which(self, content: bytes, message: str) -> None:
        with pytest.raises(TaskFailedError) as error:
            list(read_rows(BytesIO(content)))

        assert str(error.value) == message

    @given(
        values=st.lists(
            st.recursive(
                st.booleans() | st.integers() | st.text(max_size=8) | st.binary(max_size=4),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
                max_leaves=6,
            ),
            max_size=4,
        ),
        layout=st.sampled_from(["{}\n", "{} ", "[{}]", "[\n{},\n]"]),
        size=st.integers(1, 9),
    )
    def test_given_written_values_in_any_layout_then_they_are_read_back(
        self, values: list[object], layout: str, size: int
    ) -> None:
        between = "," if "[" in layout else layout[2:]
        # A list alone is taken for one around the rows.
        wrapped: list[object] = [{"v": value} for value in values]
        text = layout.replace("{}", between.join(map(ion_row, wrapped)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(item_files, "_BLOCK_BYTES", size)

            rows = list(read_rows(BytesIO(text.encode())))

        assert [row.value for row in rows] == wrapped
        assert [next(read_rows(BytesIO(row.text.encode()))).value for row in rows] == wrapped

    def test_given_an_instant_written_then_it_is_a_timestamp(self) -> None:
        text = ion_row({"at": datetime(2030, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)})

        assert text == "{at:2030-01-02T03:04:05.678Z}"

    @pytest.mark.parametrize(
        "text",
        ['{"a":1.50,"b":[1e2]}', '{"a":1.50,\n"b":[1e2]}', '[{"a":1.50,\n"b":\n[1e2]}]', ' {"a":1.50,"b":[1e2]}'],
    )
    def test_given_json_then_its_numbers_are_the_same_on_any_number_of_lines(self, text: str, block_bytes: int) -> None:
        [row] = read_rows(BytesIO(text.encode()))

        assert row.value == {"a": 1.5, "b": [100.0]}
        assert isinstance(cast("dict[str, object]", row.value)["a"], float)

    def test_given_dates_are_asked_for_then_timestamps_are_dates_and_texts_stay(self) -> None:
        text = b'{at:2030-01-02T03:04Z,text:"2030-01-02"}\n{"at":"2030-01-02"}\n'

        values = [row.value for row in read_rows(BytesIO(text), dates=True)]

        assert values == [{"at": datetime(2030, 1, 2, 3, 4, tzinfo=UTC), "text": "2030-01-02"}, {"at": "2030-01-02"}]

    @pytest.mark.parametrize("text", [b"x" * (3 << 19), rb"a long text\"" * (1 << 17)])
    def test_given_a_row_longer_than_what_is_read_at_once_then_it_is_read_whole(self, text: bytes) -> None:
        content = b'{text:"' + text + b'",a:1}\n{"text":"' + text + b'"}\n'

        one, other = read_rows(BytesIO(content))

        expected = text.decode().replace("\\", "")
        assert one.value == {"text": expected, "a": 1}
        assert other.value == {"text": expected}

    def test_given_each_piece_then_the_caller_may_end_it(self) -> None:
        def check() -> None:
            raise TaskKilledError

        with pytest.raises(TaskKilledError):
            list(read_rows(BytesIO(b"1\n"), check))


def the_rows(count: int) -> Iterator[bytes]:
    return (b'{"id":%d,"text":"%s"}\n' % (number, b"x" * 200) for number in range(count))


class Discarding(DirectoryContext):
    """Reads 3 MB that are nowhere, and keeps only the size of what is stored."""

    content: Callable[[], Iterator[bytes]] = staticmethod(lambda: the_rows(14_000))

    def open_file(self, uri: str) -> object:  # type: ignore[override]
        return stream_of(self.content())

    def save_stream(self, stream: object, name: str) -> str:
        size = 0
        while block := stream.read(1 << 16):  # type: ignore[attr-defined]
            size += len(block)
        self.stored[name] = str(size).encode()
        return name


def one_line() -> Iterator[bytes]:
    yield b"["
    for row in the_rows(14_000):
        yield row.rstrip() + b","
    yield b"]"


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(lambda context: split_items(context, "x", rows=6_000), id="rows"),
        pytest.param(lambda context: split_items(context, "x", size_bytes=1_000_000), id="bytes"),
        pytest.param(lambda context: split_items(context, "x", partitions=3), id="partitions"),
        pytest.param(lambda context: split_items(context, "x", rows=6_000, separator="}\n"), id="separator"),
        pytest.param(lambda context: concat_items(context, ["x", "x"]), id="concat"),
        pytest.param(lambda _: sum(1 for _ in read_rows(stream_of(the_rows(14_000)))), id="rows-read"),
        pytest.param(lambda _: sum(1 for _ in read_rows(stream_of(one_line()))), id="rows-of-one-line"),
    ],
)
def test_given_a_large_file_then_little_of_it_is_in_memory(
    tmp_path: Path, work: Callable[[DirectoryContext], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_files, "_BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr(item_files, "_MOST_SPOOLED_BYTES", 1 << 18)
    context = Discarding(tmp_path)
    tracemalloc.start()

    work(context)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_500_000
