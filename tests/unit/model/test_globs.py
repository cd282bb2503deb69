import re

import pytest

from tercel.model.globs import Globs, GlobSyntaxError, compile_glob, namespace_globs

TREE = ["a.csv", ".h.csv", "d/b.csv", "d/e/c.csv"]


def taken(pattern: str, paths: list[str] = TREE) -> list[str]:
    return [path for path in paths if compile_glob(pattern).matches(path)]


class TestCompileGlob:
    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("*.csv", ["a.csv", ".h.csv"]),
            ("/*.csv", ["a.csv", ".h.csv"]),
            ("**/*.csv", TREE),
            ("**.csv", TREE),
            ("d/**", ["d/b.csv", "d/e/c.csv"]),
            ("d/*", ["d/b.csv"]),
            ("d", []),
            ("{a,x}.csv", ["a.csv"]),
            ("{a.csv,d/**}", ["a.csv", "d/b.csv", "d/e/c.csv"]),
            ("d/**/c.csv", ["d/e/c.csv"]),
            ("d/**/b.csv", ["d/b.csv"]),
            ("?.csv", ["a.csv"]),
            ("[a-c].csv", ["a.csv"]),
            ("[!.]*.csv", ["a.csv"]),
            ("d?b.csv", []),
            ("d[!x]b.csv", []),
            ("A.csv", []),
            ("", []),
        ],
    )
    def test_given_the_tree_of_the_specification_when_matched_then_exactly_these(
        self, pattern: str, expected: list[str]
    ) -> None:
        assert taken(pattern) == expected

    @pytest.mark.parametrize(
        ("pattern", "path"),
        [
            (r"\*.txt", "*.txt"),
            (r"a\{b", "a{b"),
            ("a}b", "a}b"),
            ("a]b", "a]b"),
            ("a,b", "a,b"),
            ("[-x]", "-"),
            ("[x-]", "-"),
            (r"[\]]", "]"),
            ("[^a]", "^"),
            ("[&&[]", "&"),
            ("a.b+c(d)$", "a.b+c(d)$"),
            ("*", "é\n x"),
            ("x*y", "xy"),
            ("{,pre}x", "x"),
            ("{**/a,b}", "a"),
        ],
    )
    def test_given_special_characters_then_they_mean_what_the_table_says(self, pattern: str, path: str) -> None:
        assert compile_glob(pattern).matches(path)

    @pytest.mark.parametrize(
        ("pattern", "message"),
        [
            ("a[b", "The pattern 'a[b' has `[` without `]`. Write `\\[` for the character."),
            ("a{b", "The pattern 'a{b' has `{` without `}`. Write `\\{` for the character."),
            ("{a{b}}", "The pattern '{a{b}}' has `{` inside `{…}`. Braces cannot be nested."),
            ("[]", "The pattern '[]' has an empty `[]`."),
            ("[a/b]", "The pattern '[a/b]' has `/` inside `[…]`."),
            ("a\\", "The pattern 'a\\\\' ends with `\\`. Write `\\\\` for the character."),
            ("[z-a]", "The pattern '[z-a]' has a wrong `[…]`: bad character range z-a at position 1."),
            ("regex:(", "The pattern 'regex:(' is not a regular expression: missing ), unterminated subpattern"),
        ],
    )
    def test_given_a_pattern_that_does_not_pair_when_read_then_the_message_quotes_it(
        self, pattern: str, message: str
    ) -> None:
        with pytest.raises(GlobSyntaxError, match=re.escape(message)):
            compile_glob(pattern)

    def test_given_a_prefix_when_matched_then_the_absolute_path_counts(self) -> None:
        assert compile_glob("glob:**/dbt/**").matches("x", root="/tmp/dbt")
        assert compile_glob("glob:/tmp/*/x").matches("x", root="/tmp/w")
        assert compile_glob("regex:.*/w/[xy]").matches("x", root="/tmp/w")
        assert not compile_glob("glob:x").matches("x", root="/tmp/w")

    @pytest.mark.parametrize(
        ("pattern", "literal"),
        [("a/b.txt", "a/b.txt"), ("/a", "a"), (r"a\*b", "a*b"), ("*.x", None), ("{a}", None), ("glob:/a", None)],
    )
    def test_given_no_wildcard_then_the_only_path_is_known(self, pattern: str, literal: str | None) -> None:
        assert compile_glob(pattern).literal == literal


class TestReach:
    @pytest.mark.parametrize(
        ("pattern", "folder", "expected"),
        [
            ("a/b/c", "a", True),
            ("a/b/c", "a/b", True),
            ("a/b/c", "a/b/c", False),
            ("a/b/c", "b", False),
            ("*.csv", "a", False),
            ("a/*/c/**", "a/x/c/d", True),
            ("a/*/c/**", "a/x/d", False),
            ("**/x", "any/where", True),
            ("a**", "b", True),
            ("{a/b,c}/d", "zz", True),
            ("glob:/x", "a", True),
        ],
    )
    def test_given_a_folder_then_it_is_walked_only_if_something_below_can_fit(
        self, pattern: str, folder: str, expected: bool
    ) -> None:
        assert compile_glob(pattern).may_reach_into(folder) is expected

    @pytest.mark.parametrize(
        ("pattern", "folder", "expected"),
        [
            ("**", "", True),
            ("**/*", "", True),
            ("a/**", "", False),
            ("a/**", "a", True),
            ("a/**", "a/b/c", True),
            ("a/**", "ab", False),
            ("**/m/**", "x/m/y", True),
            ("**/*/**", "", False),
            ("a/*", "a", False),
            ("{a/**,b}", "a", False),
            (r"a\/**", "a", False),
        ],
    )
    def test_given_a_folder_then_all_below_is_taken_only_if_certain(
        self, pattern: str, folder: str, expected: bool
    ) -> None:
        assert compile_glob(pattern).takes_all_below(folder) is expected


class TestGlobs:
    def test_given_excludes_when_matched_then_they_win(self) -> None:
        globs = Globs(["venv/**", " "], exclude=["**/__pycache__/**"])

        assert globs.matches("venv/bin/python")
        assert not globs.matches("venv/lib/__pycache__/x.pyc")
        assert not globs.may_reach_into("venv/lib/__pycache__")
        assert globs.may_reach_into("venv/lib")

    def test_given_no_pattern_then_nothing_matches(self) -> None:
        assert not Globs([]).matches("a")

    def test_given_files_of_the_engine_when_not_named_then_no_pattern_sees_them(self) -> None:
        assert not Globs(["**", "*/*"]).matches(".kestra/script.py")
        assert not Globs(["**"]).may_reach_into(".kestra")
        assert Globs([".kestra/*.py", "**"]).matches(".kestra/script.py")
        assert not Globs([".kestra/*.py", "**"]).matches(".kestra/other.txt")
        assert Globs(["**"]).matches("d/.kestra/x")


class TestNamespaceGlobs:
    FILES = ["main.py", "lib/u.py", "ignore/x.txt", ".env"]

    @pytest.mark.parametrize(
        ("include", "exclude", "expected"),
        [
            ([], [], FILES),
            ([], ["/ignore/**"], ["main.py", "lib/u.py", ".env"]),
            (["lib/**"], [], ["lib/u.py"]),
            (["*.py"], [], ["main.py", "lib/u.py"]),
            (["/*.py"], [], ["main.py"]),
            (["u.py"], ["lib/**"], []),
            ([" "], [], FILES),
        ],
    )
    def test_given_include_and_exclude_then_patterns_without_a_leading_slash_fit_at_any_depth(
        self, include: list[str], exclude: list[str], expected: list[str]
    ) -> None:
        globs = namespace_globs(include, exclude)

        assert [path for path in self.FILES if globs.matches(path)] == expected
