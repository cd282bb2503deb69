from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tercel.model.input_types import Input, compile_pattern
from tercel.model.input_values import parse_output, parse_value, quoted


def refusal(raw: object, type: str, **properties: object) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the text is asserted by whoever calls
        parse_value(Input(id="x", type=type, **properties), raw, None)  # type: ignore[arg-type]
    return str(caught.value)


class TestParseValue:
    @pytest.mark.parametrize("raw", ["1_0", "infinity", "1e999", "", "0x10"])
    def test_given_a_text_that_only_python_takes_for_a_number_then_it_is_refused(self, raw: str) -> None:
        assert refusal(raw, "FLOAT") == f"'{raw}' is not a number"

    @pytest.mark.parametrize(("raw", "expected"), [("1.", 1.0), (".5", 0.5), (" -1e3 ", -1000.0), (3, 3.0)])
    def test_given_a_number_in_whatever_form_then_it_is_taken(self, raw: object, expected: float) -> None:
        assert parse_value(Input(id="x", type="FLOAT"), raw, None) == expected

    def test_given_a_number_that_json_does_not_know_then_it_is_refused(self) -> None:
        assert refusal("[NaN]", "JSON") == "'[NaN]' is not JSON"

    def test_given_an_instant_outside_of_time_then_it_is_refused(self) -> None:
        early = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))

        assert refusal(early.isoformat(), "DATETIME") == f"'{early.isoformat()}' is outside of the years 1 to 9999"

    def test_given_a_list_of_lists_then_each_is_one_of_texts(self) -> None:
        one = Input(id="x", type="ARRAY", item_type="MULTISELECT")

        assert parse_value(one, '[["a"], "[1]"]', None) == [["a"], ["1"]]

    def test_given_both_lists_of_choices_then_no_value_fits(self) -> None:
        assert refusal(["a"], "MULTISELECT", values=["a"], options=["a"]) == (
            "the flow gives both 'values' and 'options' to choose from; only 'values' may stay"
        )

    @pytest.mark.parametrize("raw", ["open-sesame", '["open-sesame"', [{"open-sesame": 1}], "{}"])
    def test_given_secrets_that_do_not_fit_then_they_are_not_told(self, raw: object) -> None:
        assert "open-sesame" not in refusal(raw, "ARRAY", item_type="SECRET")

    def test_given_a_pattern_then_all_of_the_value_has_to_match(self) -> None:
        assert refusal("ab", "STRING", validator="a") == "'ab' does not match a"
        assert parse_value(Input(id="x", type="STRING", validator=r"\p{Lu}[a-z&&[^x]]+"), "Éab", None) == "Éab"


class TestCompilePattern:
    @pytest.mark.parametrize(
        ("pattern", "fits", "fits_not"),
        [
            (r"\d+", "12", "１２"),
            (r"\p{L}+", "é", "1"),
            (r"(?<year>[0-9]{4})", "2030", "230"),
            (r"[a-c&&[^b]]", "a", "b"),
            (r"\Qa+b\E\d\z", "a+b1", "aab1"),
            (r"\Q(", "(", "x"),
            (r"a++b", "aab", "b"),
        ],
    )
    def test_given_what_java_knows_then_it_means_the_same(self, pattern: str, fits: str, fits_not: str) -> None:
        compiled = compile_pattern(pattern)

        assert compiled.fullmatch(fits)
        assert not compiled.fullmatch(fits_not)

    @pytest.mark.parametrize("pattern", ["[", "(?<a", "*", r"\p{Nothing}", "a{99999999999}"])
    def test_given_no_pattern_then_it_is_refused(self, pattern: str) -> None:
        with pytest.raises(ValueError, match=r"."):
            compile_pattern(pattern)


class TestParseOutput:
    @pytest.mark.parametrize(
        ("type", "rendered", "expected"),
        [
            ("STRING", 5, "5"),
            ("STRING", None, None),
            ("SECRET", "x", "x"),
            ("INT", "5", 5),
            ("ARRAY", [1, "a", None], [1, "a", None]),
            ("ARRAY", "[1]", [1]),
            ("MULTISELECT", ["a"], ["a"]),
            ("SELECT", "a", "a"),
            ("JSON", {"a": 1}, {"a": 1}),
            ("DATETIME", datetime(2030, 1, 1, tzinfo=UTC), "2030-01-01T00:00:00Z"),
            ("FILE", "kestra:///a", "kestra:///a"),
        ],
    )
    def test_given_what_fits_then_it_is_parsed(self, type: str, rendered: object, expected: object) -> None:
        assert parse_output(type, rendered) == expected  # type: ignore[arg-type]

    @pytest.mark.parametrize("type", ["INT", "JSON", "ARRAY", "BOOLEAN", "DATE"])
    def test_given_nothing_for_a_type_without_text_then_it_is_refused(self, type: str) -> None:
        with pytest.raises(ValueError, match=r"^it has no value$"):
            parse_output(type, None)  # type: ignore[arg-type]


def test_given_a_value_then_it_is_quoted_and_cut() -> None:
    assert (quoted("a"), quoted([1]), quoted("x" * 81)) == ("'a'", "'[1]'", f"'{'x' * 80}…'")
