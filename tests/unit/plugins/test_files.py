"""Tasks on files: LocalFiles, Concat, Split, Size, Delete, Write, PurgeCurrentExecutionFiles, Reverse, rows."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tercel import item_files
from tercel.item_files import stream_of
from tercel.model import State
from tercel.plugin_api import Problem
from tercel.plugins import files
from tercel.plugins.files import (
    Concat,
    DeduplicateItems,
    Delete,
    FilterItems,
    LocalFiles,
    PurgeCurrentExecutionFiles,
    Reverse,
    Size,
    Split,
    Write,
)
from tests.job_runners import Bench

EXECUTION = "/company/team/flow/executions/execution"
OWN = f"kestra://{EXECUTION}"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def a_file(bench: Bench, content: str | bytes, name: str = "in.ion") -> str:
    """A file of an earlier task of the execution; gives its address."""
    return bench.put(f"{EXECUTION}/tasks/t/r/{name}", content if isinstance(content, bytes) else content.encode())


class TestLocalFiles:
    def test_given_inputs_and_outputs_then_they_are_written_and_captured(self, bench: Bench) -> None:
        result = bench.run(LocalFiles(id="l", type="L", inputs={"d/a.txt": "1", "b": "2"}, outputs=["**/*.txt"]))

        uris: dict[str, str] = result.outputs["uris"]  # type: ignore[assignment]
        assert list(uris) == ["d/a.txt"]
        assert bench.read(uris["d/a.txt"]) == b"1"
        assert bench.left() == []

    def test_given_neither_then_it_succeeds_with_empty_maps_and_no_directory(self, bench: Bench) -> None:
        result = bench.run(LocalFiles(id="l", type="L"))

        assert (result.state, result.outputs) == (State.SUCCESS, {"uris": {}, "outputFiles": {}})
        assert not bench.base.exists()

    def test_given_two_alone_then_the_second_sees_nothing_of_the_first(self, bench: Bench) -> None:
        bench.run(LocalFiles(id="l", type="L", inputs={"a.txt": "1"}))

        assert bench.run(LocalFiles(id="l", type="L", outputs=["*.txt"])).outputs["uris"] == {}


class TestConcat:
    def test_given_files_then_they_are_joined_with_the_separator_after_each(self, bench: Bench) -> None:
        first, second = a_file(bench, "1", "a"), a_file(bench, "2\n", "b")
        bench.namespace_files({"n.txt": "3"})
        uris = [first, "{{ second }}", "nsfile:///n.txt", ""]

        result = bench.run(
            Concat(id="c", type="C", files=uris, separator="{{ ';' }}", extension=".csv"), variables={"second": second}
        )

        assert result.outputs == {"uri": f"{OWN}/tasks/c/run/concat.csv"}
        assert bench.read(result.outputs["uri"]) == b"1;2\n;3;"

    @pytest.mark.parametrize("files", ["{{ all | toJson }}", '["{{ all[0] }}", "{{ all[1] }}"]'])
    def test_given_a_text_then_it_is_a_list_in_json(self, bench: Bench, files: str) -> None:
        uris = [a_file(bench, "1", "a"), a_file(bench, "2", "b")]

        result = bench.run(Concat(id="c", type="C", files=files), variables={"all": uris})

        assert (result.message, result.outputs) == ("", {"uri": f"{OWN}/tasks/c/run/concat.tmp"})
        assert bench.read(result.outputs["uri"]) == b"12"

    def test_given_a_file_that_is_not_there_then_it_fails_and_nothing_is_stored(self, bench: Bench) -> None:
        result = bench.run(Concat(id="c", type="C", files=[a_file(bench, "1"), f"{OWN}/none"]))

        assert result.message == f"There is no file {OWN}/none in internal storage."
        assert len(list(bench.storage.list(EXECUTION))) == 1


class TestSplit:
    @pytest.mark.parametrize(
        ("how", "contents"),
        [
            ({"rows": 2}, [b"1\n2\n", b"3\n"]),
            ({"rows": "{{ 2 }}"}, [b"1\n2\n", b"3\n"]),
            ({"partitions": 2}, [b"1\n3\n", b"2\n"]),
            ({"partitions": "2"}, [b"1\n3\n", b"2\n"]),
            ({"bytes": "4B", "partitions": 1, "rows": 1}, [b"1\n2\n", b"3\n"]),
            ({"bytes": 1}, [b"1\n", b"2\n", b"3\n"]),
            ({"bytes": "{{ 1 }}KB", "rows": 1}, [b"1\n2\n3\n"]),
            ({"rows": 1, "separator": "3"}, [b"1\n2\n3"]),
        ],
    )
    def test_given_a_measure_then_whole_lines_are_stored(
        self, bench: Bench, how: dict[str, Any], contents: list[bytes]
    ) -> None:
        task = Split(id="s", type="S", from_="{{ uri }}", **how)

        result = bench.run(task, variables={"uri": a_file(bench, "1\n2\n3", "in.csv")})

        uris: list[str] = result.outputs["uris"]  # type: ignore[assignment]
        assert (result.message, [bench.read(uri) for uri in uris]) == ("", contents)
        assert uris[0] == f"{OWN}/tasks/s/run/split-1.csv"
        assert bench.left() == []

    @pytest.mark.parametrize(
        ("how", "message"),
        [
            ({"rows": "{{ 'x' }}"}, "'rows' is 'x', which is not a whole number."),
            ({"bytes": "much"}, "'bytes' is 'much', which is not a size such as 10MB."),
            ({"partitions": 0}, "A file cannot be split by partitions of 0: it takes at least one."),
        ],
    )
    def test_given_a_measure_that_is_none_then_it_fails(self, bench: Bench, how: dict[str, Any], message: str) -> None:
        assert bench.run(Split(id="s", type="S", from_=a_file(bench, "1"), **how)).message == message

    def test_given_none_then_validation_says_so(self) -> None:
        assert list(Split(id="s", type="S", from_="x").problems()) == [
            Problem("Nothing says where to cut the file.", "Set one of 'bytes', 'partitions' and 'rows'.")
        ]
        assert list(Split(id="s", type="S", from_="x", rows=1).problems()) == []


class TestSize:
    def test_given_a_file_then_its_bytes(self, bench: Bench) -> None:
        assert bench.run(Size(id="s", type="S", uri=a_file(bench, "é"))).outputs == {"size": 2}
        assert bench.run(Size(id="s", type="S", uri=f"{OWN}/none")).message == (
            f"There is no file {OWN}/none in internal storage."
        )


class TestDelete:
    def test_given_a_file_then_it_is_gone(self, bench: Bench) -> None:
        uri = a_file(bench, "1")
        task = Delete(id="d", type="D", uri="{{ uri }}")

        assert bench.run(task, variables={"uri": uri}).outputs == {"uri": uri, "deleted": True}
        assert bench.run(task, variables={"uri": uri}).outputs == {"uri": uri, "deleted": False}
        assert bench.run(Delete(id="d", type="D", uri=uri, error_on_missing=True)).message == (
            f"There is no file {uri} to delete."
        )

    def test_given_a_file_of_another_execution_then_it_stays(self, bench: Bench) -> None:
        uri = bench.put("/company/team/flow/executions/other/tasks/t/r/x", b"1")

        result = bench.run(Delete(id="d", type="D", uri=uri))

        assert result.message.endswith("belongs neither to this execution nor to its namespace.")
        assert bench.read(uri) == b"1"


class TestWrite:
    def test_given_a_text_then_it_is_a_file(self, bench: Bench) -> None:
        result = bench.run(Write(id="w", type="W", content="é {{ flow.id }}", extension=".{{ 'txt' }}"))

        assert result.outputs == {"uri": f"{OWN}/tasks/w/run/content.txt"}
        assert bench.read(result.outputs["uri"]) == "é flow".encode()
        assert bench.run(Write(id="w", type="W", content="")).outputs == {"uri": f"{OWN}/tasks/w/run/content"}


class TestPurgeCurrentExecutionFiles:
    def test_given_an_execution_then_all_its_files_are_gone_and_no_others(self, bench: Bench) -> None:
        mine = [a_file(bench, "1", name) for name in ("a", "b/c")]
        other = bench.put("/company/team/flow/executions/execution2/x", b"1")

        assert bench.run(PurgeCurrentExecutionFiles(id="p", type="P")).outputs == {"uris": mine}
        assert bench.run(PurgeCurrentExecutionFiles(id="p", type="P")).outputs == {"uris": []}
        assert bench.read(other) == b"1"


class TestReverse:
    @pytest.fixture(params=[1 << 20, 1, 2, 3])
    def block_bytes(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "_BLOCK_BYTES", request.param)

    @pytest.mark.usefixtures("block_bytes")
    @pytest.mark.parametrize(
        ("content", "separator", "reversed_"),
        [
            ("1\n2\n3\n", "\n", "3\n2\n1\n"),
            ("1\n2\n3", "\n", "3\n2\n1\n"),
            ("\n\na\n\n", "\n", "\na\n\n\n"),
            ("", "\n", ""),
            ("\n", "\n", "\n"),
            ("only", "\n", "only\n"),
            ("a--bé--c\n", "--", "c\n--bé--a--"),
            ("1\r\n2\r\n", "\r\n", "2\r\n1\r\n"),
        ],
    )
    def test_given_a_file_then_its_lines_come_last_first(
        self, bench: Bench, content: str, separator: str, reversed_: str
    ) -> None:
        result = bench.run(Reverse(id="r", type="R", from_=a_file(bench, content, "in.txt"), separator=separator))

        assert (result.message, result.outputs) == ("", {"uri": f"{OWN}/tasks/r/run/reversed.txt"})
        assert bench.read(result.outputs["uri"]).decode() == reversed_
        assert bench.left() == []

    @given(lines=st.lists(st.text(alphabet="ab;é", max_size=4), min_size=1), size=st.integers(1, 6))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_given_any_lines_then_twice_reversed_they_are_the_same(
        self, bench: Bench, lines: list[str], size: int
    ) -> None:
        content = "".join(f"{line}=|" for line in lines)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "_BLOCK_BYTES", size)
            once = bench.run(Reverse(id="a", type="R", from_=a_file(bench, content), separator="=|")).outputs["uri"]
            twice = bench.run(Reverse(id="b", type="R", from_=str(once), separator="=|")).outputs["uri"]

        assert bench.read(once).decode() == "".join(f"{line}=|" for line in reversed(lines))
        assert bench.read(twice).decode() == content

    @pytest.mark.parametrize("charset", ["UTF-16", "utf-16-be", "Shift_JIS", "ISO-8859-1", "windows-1252"])
    def test_given_a_charset_then_its_characters_stay_whole(self, bench: Bench, charset: str) -> None:
        text = "\u0a41\u0100b\nx\n" if charset.lower().startswith("utf") else "ab\nx\n"

        result = bench.run(Reverse(id="r", type="R", from_=a_file(bench, text.encode(charset)), charset=charset))

        first, second = text.splitlines()
        assert (result.message, bench.read(result.outputs["uri"]).decode(charset)) == ("", f"{second}\n{first}\n")

    @pytest.mark.parametrize(
        ("properties", "message"),
        [
            ({"charset": "klingon"}, "There is no charset 'klingon'. Name one such as UTF-8."),
            ({"charset": "hex"}, "There is no charset 'hex'. Name one such as UTF-8."),
            ({"separator": ""}, "A file cannot be cut into lines at an empty separator."),
        ],
    )
    def test_given_what_cannot_be_then_it_fails(self, bench: Bench, properties: dict[str, str], message: str) -> None:
        assert bench.run(Reverse(id="r", type="R", from_=a_file(bench, "1"), **properties)).message == message

    def test_given_bytes_that_are_no_text_then_it_fails(self, bench: Bench) -> None:
        result = bench.run(Reverse(id="r", type="R", from_=a_file(bench, b"\x00"), charset="UTF-16"))

        assert result.message.startswith("The file, or the separator, is not text in utf-16: ")


ROWS = '{"id":1,"n":"a"}\n{id:2,n:null}\n{"id":3}\n{id:4, n:"d"}\n'


class TestFilterItems:
    @pytest.mark.parametrize(
        ("properties", "kept"),
        [
            ({"filter_condition": "{{ id > 2 }}"}, [3, 4]),
            ({"filter_condition": "{{ id > 2 }}\n"}, [3, 4]),
            ({"filter_condition": "{{ id > 2 }}", "filter_type": "EXCLUDE"}, [1, 2]),
            ({"filter_condition": "{{ id > limit }}"}, [4]),
            ({"filter_condition": "{{ id - 1 }}"}, [2, 3, 4]),
            ({"filter_condition": "{{ id == 2 ? '' : 'x' }}"}, [1, 3, 4]),
            ({"filter_condition": "{{ n == 'a' }}", "error_or_null_behavior": "EXCLUDE"}, [1]),
            ({"filter_condition": "{{ n == 'a' }}", "error_or_null_behavior": "INCLUDE"}, [1, 3]),
            ({"filter_condition": "{{ n }}", "error_or_null_behavior": "EXCLUDE"}, [1, 4]),
            ({"filter_condition": "{{ n }}", "error_or_null_behavior": "INCLUDE"}, [1, 2, 3, 4]),
            (
                {"filter_condition": "{{ n }}", "error_or_null_behavior": "INCLUDE", "filter_type": "EXCLUDE"},
                [2, 3],
            ),
        ],
    )
    def test_given_a_condition_then_the_rows_for_which_it_holds(
        self, bench: Bench, properties: dict[str, Any], kept: list[int]
    ) -> None:
        task = FilterItems(id="f", type="F", from_="{{ uri }}", **properties)

        result = bench.run(task, variables={"uri": a_file(bench, ROWS), "limit": 3, "id": "of the flow"})

        assert result.message == ""
        lines = {1: '{"id":1,"n":"a"}', 2: "{id:2,n:null}", 3: '{"id":3}', 4: '{id:4, n:"d"}'}
        assert bench.read(result.outputs["uri"]).decode() == "".join(f"{lines[id]}\n" for id in kept)
        assert result.outputs == {
            "uri": f"{OWN}/tasks/f/run/filtered.ion",
            "processedItemsTotal": 4,
            "droppedItemsTotal": 4 - len(kept),
        }

    @pytest.mark.parametrize(
        ("rows", "condition", "message"),
        [
            (ROWS, "{{ n == 'a' }}", "The condition cannot be evaluated for row 3: Unable to find `n` used in"),
            (ROWS, "{{ n }}", "The condition cannot be evaluated for row 2: It gives null."),
            ("1", "{{ n }}", "The condition cannot be evaluated for row 1: It has no members: it is a int, not a map."),
            (ROWS + "{", "{{ true }}", "Row 5 of the file cannot be read: The text ends in the middle of a value."),
        ],
    )
    def test_given_a_row_that_cannot_be_judged_then_it_fails_and_nothing_is_stored(
        self, bench: Bench, rows: str, condition: str, message: str
    ) -> None:
        result = bench.run(FilterItems(id="f", type="F", from_=a_file(bench, rows), filter_condition=condition))

        assert result.message.startswith(message)
        assert len(list(bench.storage.list(EXECUTION))) == 1


class TestDeduplicateItems:
    def test_given_equal_keys_then_the_last_row_of_each_is_kept_in_order(self, bench: Bench) -> None:
        rows = '{"k":"a","v":1}\n{k:"b",v:2}\nnull\n{k:"a",v:3}\n{k:"c",v:4}\n{k:"b",v:5}\n'
        task = DeduplicateItems(id="d", type="D", from_="{{ uri }}", expr="{{ k }}-{{ flow.id }}")

        result = bench.run(task, variables={"uri": a_file(bench, rows, "in.jsonl")})

        assert result.message == ""
        assert result.outputs == {
            "uri": f"{OWN}/tasks/d/run/deduplicated.jsonl",
            "numKeys": 3,
            "processedItemsTotal": 5,
            "droppedItemsTotal": 2,
        }
        assert bench.read(result.outputs["uri"]) == b'{k:"a",v:3}\n{k:"c",v:4}\n{k:"b",v:5}\n'

    def test_given_an_empty_file_then_the_new_one_is_too(self, bench: Bench) -> None:
        result = bench.run(DeduplicateItems(id="d", type="D", from_=a_file(bench, "", "in"), expr="{{ k }}"))

        assert result.outputs["numKeys"] == 0
        assert bench.read(f"{OWN}/tasks/d/run/deduplicated.ion") == b""

    def test_given_a_row_without_key_then_it_fails_and_names_it(self, bench: Bench) -> None:
        rows = a_file(bench, '{"k":1}\n{"l":1}\n')

        result = bench.run(DeduplicateItems(id="d", type="D", from_=rows, expr="{{ k }}"))

        assert result.message.startswith("The key of row 2 cannot be rendered: Unable to find `k` used in")


def large() -> Iterator[bytes]:
    return (b'{"id":%d,"text":"%s"}\n' % (number, b"x" * 1_300) for number in range(2_500))


@pytest.mark.parametrize(
    "task",
    [
        Reverse(id="t", type="T", from_="{{ uri }}"),
        Reverse(id="t", type="T", from_="{{ uri }}", charset="ISO-8859-2"),
        FilterItems(id="t", type="T", from_="{{ uri }}", filter_condition="{{ id > 10 }}"),
        DeduplicateItems(id="t", type="T", from_="{{ uri }}", expr="{{ id }}"),
        Split(id="t", type="T", from_="{{ uri }}", partitions=2),
    ],
    ids=["reverse", "reverse-charset", "filter", "deduplicate", "split"],
)
def test_given_a_large_file_then_little_of_it_is_in_memory(
    bench: Bench, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (files, item_files):
        monkeypatch.setattr(module, "_BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr(item_files, "_MOST_SPOOLED_BYTES", 1 << 16)
    monkeypatch.setattr("tercel.storage.local._BLOCK_BYTES", 1 << 16)
    uri = bench.storage.put(f"{EXECUTION}/large.ion", stream_of(large()))
    bench.run(task, variables={"uri": a_file(bench, '{"id":1}\n')})  # loads what it needs
    tracemalloc.start()

    result = bench.run(task, variables={"uri": uri})

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (result.state, result.message) == (State.SUCCESS, "")
    assert bench.storage.stat(uri).size > 3_250_000
    assert peak < 1_650_000
