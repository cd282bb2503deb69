from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercel.model.size import format_size, parse_count, parse_size, size_text


class TestParseSize:
    @pytest.mark.parametrize(
        ("text", "size"),
        [("0", 0), ("500", 500), ("2k", 2048), (" 10 M ", 10 << 20), ("1GiB", 1 << 30), ("3tb", 3 << 40), ("7B", 7)],
    )
    def test_given_a_size_then_its_bytes(self, text: str, size: int) -> None:
        assert parse_size(text) == size

    @pytest.mark.parametrize("text", ["", "k", "-1", "1.5G", "many", "1x", "1kk"])
    def test_given_anything_else_then_it_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"^a size such as 500M or 10G$"):
            parse_size(text)


class TestParseCount:
    @pytest.mark.parametrize(("text", "count"), [("1", 1), (" 20 ", 20)])
    def test_given_a_number_above_zero_then_it(self, text: str, count: int) -> None:
        assert parse_count(text) == count

    @pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "many"])
    def test_given_anything_else_then_it_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError):  # noqa: PT011  # whoever asks says what it is for
            parse_count(text)


class TestFormatSize:
    @given(size=st.integers(0, 1 << 50))
    def test_given_any_size_then_it_reads_as_the_same(self, size: int) -> None:
        assert parse_size(format_size(size)) == size

    @pytest.mark.parametrize(("size", "text"), [(0, "0"), (1500, "1500"), (5 << 30, "5G"), (1536 << 20, "1536M")])
    def test_given_a_size_then_the_largest_unit_that_fits(self, size: int, text: str) -> None:
        assert format_size(size) == text


class TestSizeText:
    @pytest.mark.parametrize(
        ("size", "text"),
        [(0, "0 B"), (999, "999 B"), (5000, "5.0 kB"), (1_234_567, "1.2 MB"), (10**16, "10000.0 TB")],
    )
    def test_given_a_size_then_people_can_read_it(self, size: int, text: str) -> None:
        assert size_text(size) == text
