"""The table of methods and properties, and that nothing else can be reached."""

import pytest

from tercel.errors import MissingError
from tercel.expression import render

CONTEXT: dict[str, object] = {
    "s": " Hello ",
    "l": [3, 1, 2],
    "m": {"a": 1, "size": "mine", "z": None},
    "empty": {},
}


def _value(expression: str) -> object:
    return render(f"{{{{ {expression} }}}}", CONTEXT, mode="typed")


class TestMethods:
    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("s.trim().toUpperCase()", "HELLO"),
            ("s.strip.toLowerCase", "hello"),
            ("s.length", 7),
            ("''.empty", True),
            ("' '.isBlank()", True),
            ("'abc'.indexOf('c') + 'abca'.lastIndexOf('a')", 5),
            ("'a.b'.replace('.', '-')", "a-b"),
            ("'a.b'.replaceAll('(.)[.]', '$1')", "ab"),
            ("'a1b2'.split('[0-9]')", ["a", "b"]),
            ("'abc'.matches('a.c')", True),
            ("'abc'.matches('b')", False),
            ("'a'.concat('b').equalsIgnoreCase('AB')", True),
            ("l.first + l.getLast()", 5),
            ("l.indexOf(1.0)", 1),
            ("l.isEmpty()", False),
            ("l.size", 3),
            ("m.size", "mine"),
            ("empty.size()", 0),
            ("m.get('q')", None),
            ("m.getOrDefault('q', 'd')", "d"),
            ("m.containsKey('z')", True),
            ("m.containsValue(1.0)", True),
            ("m.keySet()", ["a", "size", "z"]),
            ("m.values() | length", 3),
            ("(m.entrySet() | first).getKey()", "a"),
        ],
    )
    def test_given_a_method_of_the_table_when_called_then_it_answers(self, expression: str, expected: object) -> None:
        assert _value(expression) == expected

    @pytest.mark.parametrize(
        "expression",
        [
            "''.__class__",
            "''['__class__']",
            "s.class",
            "s.getClass()",
            "'{0.a}'.format(s)",
            "l.append(1)",
            "l.__len__",
            "m.__class__",
            "m.items()",
            "empty.size",
            "s[0]",
            "s.substring(1)",
            "s.charAt(0)",
            "l.get(0)",
            "s.startsWith(1)",
            "s.concat('a', 'b')",
            "5.real",
            "true.name",
            "[].first ?? [].getLast() ?? m.entrySet",
            "l['²']",
            "m[l]",
            "m[[1]]",
        ],
    )
    def test_given_anything_else_when_asked_for_then_it_is_missing(self, expression: str) -> None:
        written = expression.replace("[].", "([]).")

        with pytest.raises(MissingError):
            _value(written)
