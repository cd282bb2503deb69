from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yaml.nodes import MappingNode, ScalarNode

from tercel.model import yaml_nodes
from tercel.model.yaml_nodes import Entries, as_float, as_int, compose, load


def told(text: str) -> list[str]:
    """Every issue of a text, as people read it."""
    root, faults = compose(text)
    return [issue.text for issue in (faults if root is None else Entries(root).issues)]


class TestTabs:
    def test_given_a_line_indented_with_a_tab_then_it_is_explained(self) -> None:
        assert told("a:\n  b: 1\n\tc: 2\n") == [
            "Line 3, column 1: This line is indented with a tab. YAML allows only spaces there: replace the tab with "
            "spaces."
        ]

    def test_given_several_lines_indented_with_tabs_then_each_is_told(self) -> None:
        text = "a:\n\tb:\n\t\tc: 1\nd:\n  \te: 2\n"

        assert [(issue.line, issue.column) for issue in compose(text)[1]] == [(2, 1), (3, 1), (5, 3)]

    def test_given_tabs_and_another_fault_then_the_tabs_are_told_alone(self) -> None:
        assert [issue.code for issue in compose("a:\n\tb: 1\nc: 'x\n")[1]] == ["yaml.tab"]

    def test_given_a_tab_after_a_dash_then_a_space_is_asked_for(self) -> None:
        assert told("-\ta: 1\n") == [
            "Line 1, column 2: A tab stands where YAML allows only spaces. Replace it with a space."
        ]

    def test_given_a_block_text_indented_with_a_tab_then_it_is_explained(self) -> None:
        assert [(issue.line, issue.code) for issue in compose("a: |\n\tx\n")[1]] == [(2, "yaml.tab")]

    @pytest.mark.parametrize("text", ["a: |\n  if x:\n  \ty\n", "a:\tb\n", "a: 'x\ty'\n", "a: b # \tc\n"])
    def test_given_a_tab_where_yaml_allows_it_then_nothing_is_told(self, text: str) -> None:
        assert told(text) == []


class TestFaults:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a: b: c", "Line 1, column 5: A second ': ' stands in one line. "
             "Put the value in quotes if the colon belongs to it."),
            ("a: 1\n  b: 2", "Line 2, column 4: A key stands where YAML expects none. Indent it like the other keys of "
             "its mapping, and see whether the line above lacks a ':'."),
            ("a:\n  b: 1\n c: 2\n", "Line 3, column 2: This line does not fit into the mapping that begins on line 1. "
             "Indent all keys of a mapping by the same number of spaces."),
            ("- a\nb: 1", "Line 2, column 1: This line does not fit into the list that begins on line 1. "
             "Start every item of the list with '- ', all at the same indentation."),
            ("  a: 1\nb: 2", "Line 2, column 1: This line is indented less than the first one. "
             "Start all keys of the flow in the same column, best the first."),
            ("a: >\n x\nz", "Line 3, column 1: Line 3 looks like a key, but no ':' follows. "
             "Write `key: value`, or indent the text."),
            ("a: 'foo\nb: 1\n", "Line 3, column 1: The quoted text that begins on line 1 never ends. "
             "Close it with the quote it began with."),
            ("a: 'foo\n---\n", "Line 2, column 1: The quoted text that begins on line 1 never ends. "
             "Close it with the quote it began with."),
            ("a: 'it's'", "Line 1, column 8: Text follows a closing quote. "
             "Put the whole value in quotes; double a single quote that belongs to the text ('it''s')."),
            ('a: "x" y', "Line 1, column 8: Text follows a closing quote. "
             "Put the whole value in quotes; double a single quote that belongs to the text ('it''s')."),
            ("a: [1, 2\nb: 3\n", "Line 2, column 2: The [ of line 1 is not closed properly. "
             "Separate its items by commas and end it with ]; put a text that begins with [ in quotes."),
            ("a: {x: 1\n", "Line 2, column 1: The { of line 1 is not closed properly. "
             "Separate its items by commas and end it with }; put a text that begins with { in quotes."),
            ("a: - b", "Line 1, column 4: A list item '- ' stands in the line of its key. "
             "Begin the list on the next line."),
            ("a: *csv", "Line 1, column 4: *csv refers to an anchor that does not exist. "
             "Put a text that begins with * in quotes, or define the anchor with & before."),
            ("a: *.csv", "Line 1, column 5: A text begins with *, which has a meaning in YAML. Put it in quotes."),
            ("a: @x", "Line 1, column 4: A text begins with @, which YAML reserves. Put it in quotes."),
            ("a: %x", "Line 1, column 4: A text begins with %, which YAML reserves. Put it in quotes."),
            ('a: "\\d"', "Line 1, column 5: \\d is no escape that YAML knows inside double quotes. "
             "Use single quotes, or write the backslash twice."),
            ("a: &x 1\nb: &x 2\n", "Line 2, column 4: The anchor of line 1 is defined a second time. "
             "Give each anchor its own name."),
            ("%FOO\n---\na: 1", "Line 1, column 5: This is not valid YAML: found unknown directive name. "
             "See the indentation, the quotes and the colons of this line and the one above."),
            ("a: 1\nb: x\x01", "Line 2, column 5: The character U+0001 cannot stand in YAML. "
             "Remove it, or write it as an escape inside double quotes."),
            ("a: x\ud800", "Line 1, column 5: This text holds half of a character. Save the file as UTF-8."),
            ("a: {{ x }} y\n", "Line 1, column 4: A value that starts with {{ is not in quotes, and YAML takes { for "
             'the start of a mapping. Put the whole value in quotes: "{{ … }}".'),
            ("a: {{ outputs.x['a'] }}", "Line 1, column 4: A value that starts with {{ is not in quotes, and YAML "
             'takes { for the start of a mapping. Put the whole value in quotes: "{{ … }}".'),
            ("a: {% if x %}b{% endif %}", "Line 1, column 4: A value that starts with {% is not in quotes, and YAML "
             'takes { for the start of a mapping. Put the whole value in quotes: "{% … %}".'),
            ("", "Line 1, column 1: The text is empty. A flow has id, namespace and tasks."),
            ("# nothing\n", "Line 1, column 1: The text is empty. A flow has id, namespace and tasks."),
            ("---\na: 1\n---\nb: 2\n", "Line 4, column 1: The text holds more than one flow: another one begins here. "
             "Keep each flow in a file of its own."),
        ],
    )  # fmt: skip
    def test_given_a_fault_then_the_line_and_the_remedy_are_told(self, text: str, expected: str) -> None:
        assert told(text) == [expected]

    @pytest.mark.parametrize("text", ["[" * 5000, "- " * 5000, "{a: " * 5000])
    def test_given_endless_nesting_then_it_is_refused(self, text: str) -> None:
        assert told(text) == ["Line 1, column 1: The text is nested deeper than 100 levels."]

    def test_given_windows_line_ends_and_a_byte_order_mark_then_they_are_taken(self) -> None:
        assert load("\ufeffa: 1\r\nb: |\r\n  x\r\n") == {"a": 1, "b": "x\n"}

    @given(st.text(st.sampled_from("ab:-{}[]*&!|>'\"#%@`,? \t\n0.~<\r\x85\u2028"), max_size=40))
    def test_given_any_text_then_it_is_read_or_explained(self, text: str) -> None:
        root, faults = compose(text)

        assert (root is None) == bool(faults)
        assert all(issue.line >= 1 and issue.column >= 1 and issue.message for issue in faults)
        if root is not None:
            Entries(root).value(root)


class TestMappings:
    def test_given_a_key_twice_then_both_lines_are_told(self) -> None:
        assert told("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n") == [
            "Line 5, column 1 (a): The key 'a' is given twice, on lines 1 and 5. Keep one of them.",
            "Line 4, column 3 (b.c): The key 'c' is given twice, on lines 3 and 4. Keep one of them.",
        ]

    def test_given_a_mapping_as_a_key_then_it_is_refused(self) -> None:
        assert told("? {a: 1}\n: b\n") == [
            "Line 1, column 3: A list or mapping stands where a key is expected. "
            "Put the key in quotes if it is meant as text."
        ]

    def test_given_a_merge_of_a_text_then_it_is_refused(self) -> None:
        assert told("a:\n  <<: x\n") == [
            "Line 2, column 7 (a.<<): Only a mapping can be merged with <<. Write it like <<: *name."
        ]

    def test_given_merges_then_the_mapping_itself_wins_and_then_the_first(self) -> None:
        assert load("x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz: {<<: [*x, *y], a: 0}\n") == {
            "x": {"a": 1, "b": 1},
            "y": {"b": 2, "c": 2},
            "z": {"a": 0, "b": 1, "c": 2},
        }

    def test_given_a_mapping_merged_into_itself_then_it_is_refused(self) -> None:
        assert told("a: &a\n  b: 1\n  <<: *a\n") == [
            "Line 1, column 4: This anchor is used inside itself. Write the value out."
        ]

    def test_given_an_anchor_inside_itself_then_it_is_refused(self) -> None:
        assert told("a: &a [*a]\n") == ["Line 1, column 4: This anchor is used inside itself. Write the value out."]

    def test_given_aliases_that_multiply_then_they_are_refused(self) -> None:
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]

        assert told("\n".join(lines)) == [
            "Line 1, column 1: Aliases make more than 100000 values of this text. Write less by aliases."
        ]

    def test_given_aliases_that_nest_then_they_are_refused(self) -> None:
        lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 150)]

        assert told("\n".join(lines)) == [
            "Line 100, column 6: Aliases nest this text deeper than 100 levels. Write less by aliases."
        ]


class TestScalars:
    @pytest.mark.parametrize(
        ("text", "number"),
        [("0", 0), ("-0", 0), ("+12", 12), ("1_0", 10), ("012", 10), ("0o12", 10), ("0x1f", 31), ("-0b11", -3)],
    )
    def test_given_a_whole_number_then_it_is_read(self, text: str, number: int) -> None:
        assert as_int(text) == number

    @pytest.mark.parametrize("text", ["", "-", "_1", "0x", "08", "1.0", "1e3", "1:30", "9" * 5000, "0x_", "٣"])
    def test_given_no_whole_number_then_there_is_none(self, text: str) -> None:
        assert as_int(text) is None

    @pytest.mark.parametrize(
        ("text", "number"), [("1.", 1.0), (".5", 0.5), ("-1.5e+3", -1500.0), ("1e3", 1000.0), ("-.INF", float("-inf"))]
    )
    def test_given_a_number_then_it_is_read(self, text: str, number: float) -> None:
        assert as_float(text) == number

    @pytest.mark.parametrize("text", [".", "e3", "1.2.3", "inf", "nan", "x"])
    def test_given_no_number_then_there_is_none(self, text: str) -> None:
        assert as_float(text) is None


class TestLoad:
    def test_given_no_yaml_then_the_error_says_where(self) -> None:
        with pytest.raises(ValueError, match=r"^Line 1, column 5: A second ': ' stands in one line\."):
            load("a: b: c")

    def test_given_a_list_then_it_is_one(self) -> None:
        assert load("[1, a, {b: ~}]") == [1, "a", {"b": None}]


def test_given_entries_replaced_then_the_new_ones_are_seen() -> None:
    root, _ = compose("a: 1\n")
    assert isinstance(root, MappingNode)
    entries = Entries(root)
    key, _ = entries.of(root)["a"]

    entries.replace(root, {"b": (key, ScalarNode("plain", "2"))})

    assert entries.value(root) == {"b": "2"} or entries.value(root) == {"b": 2}
    assert entries.of(key) == {}


def test_given_the_module_then_it_reads_by_the_fast_parser_where_there_is_one() -> None:
    assert yaml_nodes._Composer.__mro__[1].__name__ in {"CParser", "_Parser"}
