"""Values to YAML texts, as Kestra's filter writes them."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercel.errors import ExpressionError
from tercel.expression.budget import Budget
from tercel.expression.yaml_reader import parse_yaml
from tercel.expression.yaml_writer import yaml_text


def write(value: object) -> str:
    return yaml_text(value, Budget())


class TestStructure:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ({"a": 1, "b": "x"}, "a: 1\nb: x\n"),
            ({"a": {"b": {"c": True}}, "d": 1.5}, "a:\n  b:\n    c: true\nd: 1.5\n"),
            (["a", 1], " - a\n - 1\n"),
            ({"a": [1, [2, 3], {"b": []}], "c": {}}, "a:\n - 1\n -\n   - 2\n   - 3\n -\n  b: []\nc: {}\n"),
            ([[1]], " -\n   - 1\n"),
            ({"a": {"b": [[1], {"x": {"z": [1]}}]}}, "a:\n  b:\n   -\n     - 1\n   -\n    x:\n      z:\n       - 1\n"),
            ([{}, []], " - {}\n - []\n"),
            ({"a": None, "b": [None]}, "a: null\nb:\n - null\n"),
            ("text", "text\n"),
            (5, "5\n"),
            (True, "true\n"),
            (None, "null\n"),
            ({}, "{}\n"),
            ("", '--- ""\n'),
            ({"d": 1.0e7, "t": datetime(2024, 3, 5, tzinfo=UTC)}, "d: 1.0E7\nt: 2024-03-05T00:00:00Z\n"),
        ],
    )
    def test_given_a_value_then_block_style(self, value: object, text: str) -> None:
        assert write(value) == text


class TestTexts:
    @pytest.mark.parametrize(
        ("text", "written"),
        [
            ("", '""'),
            ("yes", '"yes"'),
            ("True", '"True"'),
            ("tRue", "tRue"),
            ("n", '"n"'),
            ("~a", '"~a"'),
            ("a~", "a~"),
            ("a[", '"a["'),
            ("a,b", '"a,b"'),
            ("#a", '"#a"'),
            ("a #b", '"a #b"'),
            ("a#b", "a#b"),
            ("a:", '"a:"'),
            ("a: b", '"a: b"'),
            ("a:b", "a:b"),
            (":a", ":a"),
            ("a\tb", '"a\\tb"'),
            ("\x01", '"\\x01"'),
            ("é😀", "é😀"),
            (" a", "' a'"),
            ("a ", "'a '"),
            ("&a", "'&a'"),
            ("'a", "'''a'"),
            ('"a', "'\"a'"),
            ("it's", "it's"),
            ("- a", "'- a'"),
            ("-a", "-a"),
            ("---a", "'---a'"),
            ("? a", "'? a'"),
            (": a", '": a"'),
            ("123", "123"),
            ("010", "'010'"),
            ("=", "="),
            ("2024-01-01", "2024-01-01"),
            ("a\r\nb", '"a\\r\\nb"'),
            ("http://x/y#z", "http://x/y#z"),
        ],
    )
    def test_given_a_text_then_quotes_only_where_needed(self, text: str, written: str) -> None:
        assert write({"k": text}) == f"k: {written}\n"

    @pytest.mark.parametrize(
        ("text", "written"),
        [("a\nb", "|-\n  a\n  b\n"), ("a\n", "|\n  a\n"), ("a\n\n", "|+\n  a\n\n"), ("\na", "|2-\n\n  a\n"),
         (" a\nb", "|2-\n   a\n  b\n"), ("\n", "|2+\n\n"), ("a \nb", '"a \\nb"\n'), ("a\n\n\nb", "|-\n  a\n\n\n  b\n")],
    )  # fmt: skip
    def test_given_several_lines_then_a_literal_block(self, text: str, written: str) -> None:
        assert write({"k": text}) == f"k: {written}"

    @pytest.mark.parametrize(
        ("key", "written"),
        [
            ("a b", "a b:"),
            ("yes", '"yes":'),
            ("1", '"1":'),
            ("-a", '"-a":'),
            ("x: y", "'x: y':"),
            ("#a", "'#a':"),
            ("[a", "'[a':"),
            ("a,b", "a,b:"),
            ("", '? ""\n:'),
            ("a\nb", '? "a\\nb"\n:'),
            ("é", "é:"),
            ("a\tb", '"a\\tb":'),
        ],
    )
    def test_given_a_key_then_quotes_only_where_needed(self, key: str, written: str) -> None:
        assert write({key: "v"}) == f"{written} v\n"

    def test_given_keys_of_other_kinds_then_they_become_texts(self) -> None:
        assert write({1: "a", None: "b"}) == '"1": a\n"null": b\n'


_TEXTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["a\nb", " a\nb", "\n", "a: b", "# x"]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXTS.filter(lambda text: not text or text[0] not in "-+.0123456789"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_TEXTS.filter(lambda key: key != "<<"), inner, max_size=3)
    ),
    max_leaves=8,
)


class TestRoundTrip:
    @given(_VALUES)
    def test_given_any_value_without_numeric_texts_then_it_reads_back(self, value: object) -> None:
        text = write(value)

        assert json.dumps(parse_yaml(text, Budget())) == json.dumps(value)


class TestLimits:
    def test_given_a_shared_structure_then_its_printed_nodes_count(self) -> None:
        value: object = ["x"]
        for _ in range(40):
            value = [value, value]

        with pytest.raises(ExpressionError, match=r"steps|bytes"):
            write(value)

    def test_given_a_value_nested_too_deep_then_an_error(self) -> None:
        value: object = []
        for _ in range(100_000):
            value = [value]

        with pytest.raises(ExpressionError, match="deeper than 200"):
            write(value)
