import pytest

from tercel.texts import whole


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\ud83d\ude00", "\U0001f600"),
        ("a\ud83d", "a\ufffd"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("caf\udce9.txt", "caf\ufffd.txt"),
        ("\U0001f600\ud800", "\U0001f600\ufffd"),
    ],
)
def test_given_halves_of_characters_then_those_that_belong_together_are_one_and_others_are_replaced(
    text: str, expected: str
) -> None:
    assert whole(text) == expected


@pytest.mark.parametrize("text", ["", "abc", "é", "\U0001f600"])
def test_given_none_then_it_is_the_same_text(text: str) -> None:
    assert whole(text) is text
