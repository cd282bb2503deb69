from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tercel.errors import NotFoundError
from tercel.plugins.http.content import StoredContent, form_part, is_stored
from tests.run_contexts import DirectoryContext


@pytest.fixture
def context(tmp_path: Path) -> DirectoryContext:
    made = DirectoryContext(tmp_path)
    made.stored["kestra:///a/f%20g.csv"] = b"a,b\n"
    return made


class TestStoredContent:
    def test_given_a_file_then_it_can_be_read_again_and_again(self, context: DirectoryContext) -> None:
        content = StoredContent("kestra:///a/f%20g.csv", context)

        assert [b"".join(content), b"".join(content)] == [b"a,b\n"] * 2
        assert (content.length, content.content_type) == (4, "text/csv")

    def test_given_no_such_file_then_it_fails_before_anything_is_sent(self, context: DirectoryContext) -> None:
        with pytest.raises(NotFoundError):
            StoredContent("kestra:///none", context)

    @pytest.mark.parametrize(
        ("text", "is_one"),
        [
            ("kestra:///a/b", True),
            ("nsfile:///a", True),
            ('{"uri": "kestra:///a"}', False),
            ("kestra:///a\nkestra:///b", False),
            ("https://x/", False),
            ("", False),
        ],
    )
    def test_given_a_text_then_only_an_address_is_one(self, text: str, is_one: bool) -> None:
        assert is_stored(text) is is_one


class TestFormPart:
    @pytest.mark.parametrize(
        ("value", "part"),
        [
            ("text", (None, "text")),
            (5, (None, "5")),
            ({"a": [1, "é"]}, (None, '{"a":[1,"é"]}')),
            ({"name": "n.txt", "content": "abc"}, ("n.txt", "abc")),
            ({"name": "n.json", "content": {"a": 1}}, ("n.json", '{"a":1}')),
            ({"name": "only"}, (None, '{"name":"only"}')),
        ],
    )
    def test_given_a_value_then_it_is_a_field_or_a_named_file(
        self, context: DirectoryContext, value: object, part: object
    ) -> None:
        with ExitStack() as files:
            assert form_part(context, "f", value, files) == ("f", part)

    @pytest.mark.parametrize(
        ("value", "name"),
        [("kestra:///a/f%20g.csv", "f g.csv"), ({"name": "n", "content": "kestra:///a/f%20g.csv"}, "n")],
    )
    def test_given_a_stored_file_then_it_is_opened_and_closed_with_the_rest(
        self, context: DirectoryContext, value: object, name: str
    ) -> None:
        with ExitStack() as files:
            _, (told, file) = form_part(context, "f", value, files)
            assert not isinstance(file, str)
            assert (told, file.read()) == (name, b"a,b\n")
        assert file.closed
