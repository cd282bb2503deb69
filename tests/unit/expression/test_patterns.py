"""Regular expressions in Java's dialect, their replacements and their limits."""

import pytest

from tercel.errors import ExpressionError
from tercel.expression.budget import Budget
from tercel.expression.patterns import fully_matches, literal, replace_all, search, split


class TestDialect:
    @pytest.mark.parametrize(
        ("pattern", "text", "expected"),
        [
            (r"\Qa.b\E+", "xa.bb", "a.bb"),
            (r"\d+", "٣5", "5"),
            (r"\w+", "éab_1", "ab_1"),
            (r"[\w-]+", "é a-b", "a-b"),
            (r"[^\s]+", " ab ", "ab"),
            (r"\p{L}+", "1éa", "éa"),
            (r"\p{javaUpperCase}", "aB", "B"),
            (r"[a-z&&[^b]]+", "bac", "ac"),
            (r"a++b", "aab", "aab"),
            (r"(?<n>a)\k<n>", "baa", "aa"),
            (r"b\z", "ab", "b"),
            (r"b\Z", "ab\n", "b"),
            (r"\x{1F600}", "a😀", "😀"),
            (r"[|~]", "a~", "~"),
            (r"\R", "a\r\nb", "\r\n"),
        ],
    )
    def test_given_a_java_pattern_then_it_finds_what_java_finds(self, pattern: str, text: str, expected: str) -> None:
        found = search(pattern, text, Budget())

        assert found is not None
        assert found.group() == expected

    def test_given_a_part_only_then_it_is_no_full_match(self) -> None:
        assert fully_matches("a|ab", "ab", Budget())
        assert not fully_matches("a", "ab", Budget())

    @pytest.mark.parametrize("pattern", ["(", "a{2,1}", "[", "*", "(?<n", r"\p{Nonsense}", "(" * 4000 + ")" * 4000])
    def test_given_no_pattern_then_the_error_says_why(self, pattern: str) -> None:
        with pytest.raises(ExpressionError, match="regular expression"):
            search(pattern, "a", Budget())

    @pytest.mark.parametrize("pattern", ["a" * 10_001, "((a{900}){900}){900}", "(" * 6 + "a" + "{99})" * 6])
    def test_given_a_huge_pattern_then_it_is_refused_before_it_is_compiled(self, pattern: str) -> None:
        with pytest.raises(ExpressionError, match="is too large"):
            search(pattern, "a", Budget())

    def test_given_a_huge_text_then_it_is_refused(self) -> None:
        with pytest.raises(ExpressionError, match="is over the limit of 1,000,000 for patterns"):
            search("a*", "b" * 1_000_001, Budget())


class TestReplaceAll:
    @pytest.mark.parametrize(
        ("pattern", "replacement", "text", "expected"),
        [
            ("(a)(b)?", "<$1$2>", "aab", "<a><ab>"),
            ("(a)", "$10", "a", "a0"),
            ("(?<n>a)", "${n}!", "a", "a!"),
            ("a", r"\$1\\", "a", "$1\\"),
            ("x*", "-", "ab", "-a-b-"),
            ("q", "-", "ab", "ab"),
        ],
    )
    def test_given_groups_in_the_replacement_then_they_are_filled_in(
        self, pattern: str, replacement: str, text: str, expected: str
    ) -> None:
        assert replace_all(pattern, replacement, text, Budget()) == expected

    @pytest.mark.parametrize("replacement", ["$", "$x", "${", "\\", "$7", "${nope}"])
    def test_given_a_bad_reference_then_it_is_an_error(self, replacement: str) -> None:
        with pytest.raises(ExpressionError):
            replace_all("(a)", replacement, "a", Budget())


class TestSplit:
    @pytest.mark.parametrize(
        ("pattern", "text", "limit", "expected"),
        [
            (",", "a,b,,", 0, ["a", "b"]),
            (",", "a,b,,", -1, ["a", "b", "", ""]),
            (",", "a,b,c", 2, ["a", "b,c"]),
            (r"\|", "a|b", 0, ["a", "b"]),
            ("", "abc", 0, ["a", "b", "c"]),
            ("(?=b)", "abab", 0, ["a", "ba", "b"]),
            (",", ",a", 0, ["", "a"]),
            (",", "", 0, [""]),
            ("q", "abc", 0, ["abc"]),
            (".", "a.b", 0, []),
        ],
    )
    def test_given_a_limit_then_parts_are_cut_as_in_java(
        self, pattern: str, text: str, limit: int, expected: list[str]
    ) -> None:
        assert split(pattern, text, limit, Budget()) == expected


class TestLiteral:
    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [(",", ","), (r"\.", "."), ("a b", "a b"), (".", None), (r"\d", None), ("", None), ("a|b", None)],
    )
    def test_given_a_pattern_then_only_one_without_special_characters_is_a_text(
        self, pattern: str, expected: str | None
    ) -> None:
        assert literal(pattern) == expected
