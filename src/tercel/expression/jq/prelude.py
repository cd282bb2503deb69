"""jq's builtins that are best said in jq. Each is parsed when a program first calls it."""

from collections.abc import Callable
from functools import cache

from tercel.expression.jq.parser import parse_functions
from tercel.expression.jq.tree import Function

_DEFINITIONS = {
    "with_entries/1": "def with_entries(change): to_entries | map(change) | from_entries;",
    "JOIN/2": "def JOIN($index; key): [.[] | [., $index[key]]];",
    "JOIN/3": "def JOIN($index; source; key): source | [., $index[key]];",
    "JOIN/4": "def JOIN($index; source; key; joined): source | [., $index[key]] | joined;",
}


def _parsed(definition: str) -> Callable[[], Function]:
    return cache(lambda: parse_functions(definition)[0])


PRELUDE: dict[str, Callable[[], Function]] = {name: _parsed(text) for name, text in _DEFINITIONS.items()}
