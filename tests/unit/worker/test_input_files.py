"""What `inputFiles` asks for."""

from __future__ import annotations

import pytest

from tercel.errors import TaskFailedError
from tercel.worker.input_files import InputFile, read_input_files


def read(files: object) -> list[InputFile]:
    """*files* with a rendering that replaces `{{ x }}` by `y`."""

    def render(text: str) -> str:
        return text.replace("{{ x }}", "y")

    return read_input_files(files, render, lambda value: value)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (None, []),
        ({}, []),
        ("", []),
        (" null ", []),
        ('{"a": "1", "b": null}', [InputFile("a", "1"), InputFile("b", "")]),
        ({"{{ x }}/b": "{{ x }}"}, [InputFile("y/b", "y")]),
        (
            {"a": 1.5, "b": False, "c": [1, None]},
            [InputFile("a", "1.5"), InputFile("b", "false"), InputFile("c", "[1,null]")],
        ),
        ({"a": " kestra:///x/y\n"}, [InputFile("a", "", "kestra:///x/y")]),
        ({"a": "nsfile://ns/p"}, [InputFile("a", "", "nsfile://ns/p")]),
        ({"a": "see kestra:///x"}, [InputFile("a", "see kestra:///x")]),
        ({"a": {"uri": "kestra:///x", "mode": "0600"}}, [InputFile("a", "", "kestra:///x", 0o600)]),
        ({"a": {"content": "t", "mode": 755}}, [InputFile("a", "t", None, 0o755)]),
        ({"a": {"content": "t", "other": 1}}, [InputFile("a", '{"content":"t","other":1}')]),
    ],
)
def test_given_a_shape_then_files_are_planned_in_order(files: object, expected: list[InputFile]) -> None:
    assert read(files) == expected


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], "It is a list"),
        ("[1]", "not a JSON object"),
        ("plain", "not a JSON object"),
        ({"a/b": "1", "/a//b": "2"}, "Two input files are named 'a/b'"),
        ({"{{ x }}": "1", "y": "2"}, "Two input files are named 'y'"),
        ({"a": "1", "a/b/c": "2"}, "The input file 'a' stands where 'a/b/c' needs a folder"),
        ({"a/b": "1", "a": "2"}, "The input file 'a' stands where 'a/b' needs a folder"),
        ({"a": "kestra:///x\nkestra:///y"}, "'a' starts like a storage address but is none"),
        ({"a": {"uri": "http://x"}}, "'a' is not a kestra:// or nsfile:// address"),
        ({"a": {"content": "x", "mode": "9"}}, "The mode of input file 'a' is '9'"),
        ({"..": "x"}, "'..' is not a name"),
    ],
)
def test_given_what_cannot_be_then_the_message_says_so(files: object, said: str) -> None:
    with pytest.raises(TaskFailedError) as error:
        read(files)
    assert said in str(error.value)


def test_given_a_text_that_is_no_map_then_its_content_is_not_in_the_message() -> None:
    with pytest.raises(TaskFailedError) as error:
        read("hunter2 is no map")
    assert "hunter2" not in str(error.value)
