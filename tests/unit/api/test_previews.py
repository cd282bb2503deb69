from __future__ import annotations

import io
from typing import Any

import pytest

from tercel.api import previews
from tercel.api.execution_files import byte_range
from tercel.api.previews import preview_json
from tercel.api.problems import RequestError


def preview(content: bytes, name: str = "a.txt", *, max_rows: int = 100, encoding: str = "UTF-8") -> dict[str, Any]:
    found = preview_json(io.BytesIO(content), name, size=len(content), max_rows=max_rows, encoding=encoding)
    return {"content": found["content"], "truncated": found["truncated"]}


class TestText:
    @pytest.mark.parametrize(
        ("content", "shown", "is_cut"),
        [
            (b"", "", False),
            (b"1\n2", "1\n2", False),
            (b"1\n2\n", "1\n2\n", False),
            (b"1\n2\n3", "1\n2\n", True),
            (b"1\r\n2\r\n\r\n", "1\r\n2\r\n", True),
        ],
    )
    def test_given_two_lines_at_most_then_the_rest_is_cut(self, content: bytes, shown: str, is_cut: bool) -> None:
        assert preview(content, max_rows=2) == {"content": shown, "truncated": is_cut}

    def test_given_bytes_that_are_no_text_then_they_are_replaced(self) -> None:
        assert preview(b"a\xffb")["content"] == "a\ufffdb"

    def test_given_a_very_long_line_then_it_is_cut_between_characters(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(previews, "_MOST_TEXT_BYTES", 5)

        assert preview("äää".encode()) == {"content": "ää", "truncated": True}

    @pytest.mark.parametrize("encoding", ["klingon", "zip", "rot13", "idna", "undefined", "a\0b", "../x"])
    def test_given_what_is_no_encoding_of_text_then_it_is_refused(self, encoding: str) -> None:
        with pytest.raises(RequestError, match="There is no encoding"):
            preview(b"x", encoding=encoding)

    @pytest.mark.parametrize("encoding", ["utf-16le", "latin1", "Windows-1252", "ISO-8859-15", "Shift_JIS", "UTF-7"])
    def test_given_any_encoding_of_text_then_any_bytes_can_be_shown(self, encoding: str) -> None:
        assert isinstance(preview(bytes(range(256)), encoding=encoding)["content"], str)

    def test_given_a_text_that_does_not_begin_as_its_encoding_wants_then_it_is_told(self) -> None:
        with pytest.raises(RequestError, match="cannot be read"):
            preview(b"abcd", encoding="UTF-16")


class TestRows:
    def test_given_rows_then_values_come_that_json_knows(self) -> None:
        found = preview(b'{a: 1.5, "b": [true, null], c: 2030-01-01T00:00:00Z}\n"x"', "a.ion")

        assert found["content"] == [{"a": 1.5, "b": [True, None], "c": found["content"][0]["c"]}, "x"]
        assert str(found["content"][0]["c"]).startswith("2030-01-01")

    def test_given_as_many_rows_as_are_shown_then_nothing_is_cut(self) -> None:
        assert not preview(b"{a: 1}\n{a: 2}\n", "a.ion", max_rows=2)["truncated"]
        assert preview(b"{a: 1}\n{a: 2}\n{a: 3}", "a.ion", max_rows=2)["truncated"]

    def test_given_rows_that_cannot_be_read_then_it_is_told_which(self) -> None:
        with pytest.raises(RequestError, match="Row 2"):
            preview(b"{a: 1}\n{a: ", "a.ion")


class TestPictures:
    def test_given_a_picture_that_is_too_large_then_nothing_is_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(previews, "_MOST_BINARY_BYTES", 3)

        assert preview(b"abcd", "a.png") == {"content": "", "truncated": True}
        assert preview(b"abc", "a.pdf") == {"content": "YWJj", "truncated": False}


class TestByteRange:
    @pytest.mark.parametrize(
        ("header", "part"),
        [
            ("", None),
            ("bytes=0-", (0, 10)),
            ("bytes=0-0", (0, 1)),
            ("bytes=5-99", (5, 10)),
            ("bytes=-99", (0, 10)),
            ("bytes=5-4", None),
            ("bytes=-", None),
            ("bytes=0-1, 3-4", None),
            ("rows=0-1", None),
            ("bytes=x-1", None),
            (f"bytes={'9' * 30}-", None),
        ],
    )
    def test_given_a_header_then_one_part_is_meant_or_all(self, header: str, part: tuple[int, int] | None) -> None:
        assert byte_range(header, 10) == part

    @pytest.mark.parametrize(
        ("header", "size"), [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0), ("bytes=-1", 0)]
    )
    def test_given_a_part_beyond_the_end_then_it_is_refused(self, header: str, size: int) -> None:
        with pytest.raises(RequestError) as refused:
            byte_range(header, size)

        assert refused.value.status == 416
        assert refused.value.headers == {"Content-Range": f"bytes */{size}"}
