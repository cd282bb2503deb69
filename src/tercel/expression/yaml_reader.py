"""YAML texts to values: YAML 1.1 scalars, dates kept as text, aliases and merge keys resolved.

PyYAML scans and parses; which value a scalar means is decided here, because its own resolver knows base-60 numbers
and dates and refuses `1e3`. Values are built from events, without recursion, so that depth cannot hurt.
"""

import re
from typing import TYPE_CHECKING, Protocol, TypeGuard, cast

from msgspec import Struct

from tercel.errors import ExpressionError
from tercel.expression.budget import Budget

if TYPE_CHECKING:
    from yaml import ScalarEvent
    from yaml.events import Event

_MAX_DEPTH = 200
_MAX_DIGITS = 4000
_TAG = "tag:yaml.org,2002:"
_TRUE = frozenset({"yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})
_FALSE = frozenset({"no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_INTEGER = re.compile(
    r"([-+]?)(?:0b([01_]+)|0x([0-9a-fA-F_]+)|0([0-7_]+)|(0|[1-9][0-9_]*))",
    re.ASCII,
)
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?)",
    re.ASCII,
)
_SPECIAL = re.compile(r"([-+]?)\.(?:(inf|Inf|INF)|(nan|NaN|NAN))")
_MERGE = "<<"


class _Loader(Protocol):
    def get_event(self) -> "Event": ...


class _Node(Struct):
    """A list or map being built.

    Attributes:
        value: what is built.
        anchor: its name, or None.
        nodes: nodes in it so far, aliases expanded.
        key: the key whose value is awaited, None where a key is next.
        merged: maps that `<<` names, in order.
    """

    value: list[object] | dict[object, object]
    anchor: str | None
    nodes: int = 1
    key: str | None = None
    merged: list[object] | None = None


def parse_yaml(text: str, budget: Budget) -> object:
    """Read the first document of a YAML text.

    Keys are texts as written; of equal keys the last one counts. Unknown tags make texts. An alias gives the
    anchored value itself.

    Args:
        text: the YAML text.
        budget: pays for every node, those behind aliases each time they are named.

    Raises:
        ExpressionError: the text is empty, malformed or nested too deep, or expands beyond the budget.
    """
    import yaml  # noqa: PLC0415 - slow to import, and most templates read no YAML

    budget.text(len(text))
    loader_class = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        loader = cast("_Loader", loader_class(text))
        return _Builder(budget).document(loader)
    except yaml.MarkedYAMLError as error:
        place = (
            f", line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
            if error.problem_mark
            else ""
        )
        raise ExpressionError(f"The text is not YAML: {error.problem or error.context}{place}.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ExpressionError(f"The text is not YAML: {str(error).splitlines()[0]}.") from error


class _Builder:
    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._anchors: dict[str, tuple[object, int]] = {}
        self._open: list[_Node] = []

    def document(self, loader: "_Loader") -> object:
        import yaml  # noqa: PLC0415 - see parse_yaml

        while True:
            match event := loader.get_event():
                case yaml.StreamEndEvent():
                    raise ExpressionError("The YAML text is empty.")
                case yaml.ScalarEvent():
                    done = self._add(_scalar(event), event.anchor, 1, event.value)
                case yaml.AliasEvent():
                    done = self._alias(event.anchor or "")
                case yaml.SequenceStartEvent():
                    done = self._begin([], event.anchor)
                case yaml.MappingStartEvent():
                    done = self._begin({}, event.anchor)
                case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                    done = self._end()
                case _:
                    continue
            if done:
                return self._anchors[""][0]

    def _begin(self, value: list[object] | dict[object, object], anchor: str | None) -> bool:
        if len(self._open) >= _MAX_DEPTH:
            raise ExpressionError(f"The YAML text is nested deeper than {_MAX_DEPTH}.")
        self._open.append(_Node(value, anchor))
        return False

    def _end(self) -> bool:
        node = self._open.pop()
        if isinstance(node.value, dict) and node.merged is not None:
            node.value = _merged(node.value, node.merged)
        return self._add(node.value, node.anchor, node.nodes, None)

    def _alias(self, anchor: str) -> bool:
        if anchor not in self._anchors:
            raise ExpressionError(f"The YAML text has the alias *{anchor} without an anchor &{anchor} before it.")
        value, nodes = self._anchors[anchor]
        return self._add(value, None, nodes, value if isinstance(value, str) else None)

    def _add(self, value: object, anchor: str | None, nodes: int, text: str | None) -> bool:
        """Put a finished value where it belongs; True when it is the whole document."""
        self._budget.spend(nodes)
        if anchor is not None:
            self._anchors[anchor] = (value, nodes)
        if not self._open:
            self._anchors[""] = (value, nodes)
            return True
        parent = self._open[-1]
        parent.nodes += nodes
        if isinstance(parent.value, list):
            parent.value.append(value)
        elif parent.key is None:
            if text is None:
                raise ExpressionError("The YAML text has a list or map as the key of a map, expected text.")
            parent.key = text
        elif parent.key == _MERGE and isinstance(value, (dict, list)):
            parent.merged = [*(parent.merged or []), *(value if isinstance(value, list) else [value])]
            parent.key = None
        else:
            parent.value[parent.key] = value
            parent.key = None
        return False


def _merged(own: dict[object, object], others: list[object]) -> dict[object, object]:
    merged: dict[object, object] = {}
    for other in reversed(others):
        if not _is_map(other):
            raise ExpressionError("The YAML text merges (<<) something that is not a map.")
        merged.update(other)
    return {**merged, **own}


def _is_map(value: object) -> TypeGuard[dict[object, object]]:
    return isinstance(value, dict)


def _scalar(event: "ScalarEvent") -> object:
    text: str = event.value
    tag: str | None = event.tag
    if tag is None or tag == "!":
        return _plain(text) if event.implicit[0] or tag == "!" else text
    match tag.removeprefix(_TAG):
        case "null":
            return None
        case "bool":
            return text in _TRUE if text in _TRUE or text in _FALSE else text
        case "int":
            number = _integer(text)
            return text if number is None else number
        case "float":
            number = _float(text)
            if number is None:
                whole = _integer(text)
                if whole is None:
                    raise ExpressionError("The YAML text has a !!float that is no number.")
                number = float(whole)
            return number
        case "binary":
            from base64 import b64decode  # noqa: PLC0415 - rarely used

            return b64decode("".join(text.split()), validate=True)
        case _:
            return text


def _plain(text: str) -> object:
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text[0] not in "-+.0123456789":
        return text
    number = _integer(text)
    if number is None:
        number = _float(text)
    return text if number is None else number


def _integer(text: str) -> int | None:
    found = _INTEGER.fullmatch(text)
    if found is None:
        return None
    sign, *digits = found.groups()
    if len(text) > _MAX_DIGITS:
        raise ExpressionError(f"The YAML text has a number of more than {_MAX_DIGITS:,} digits.")
    for part, base in zip(digits, (2, 16, 8, 10), strict=True):
        if part is not None:
            number = part.replace("_", "")
            if not number:
                return 0 if base == 8 else None
            return -int(number, base) if sign == "-" else int(number, base)
    return None


def _float(text: str) -> float | None:
    if _FLOAT.fullmatch(text) is not None:
        return float(text.replace("_", ""))
    special = _SPECIAL.fullmatch(text)
    if special is None:
        return None
    number = float("inf") if special[2] else float("nan")
    return -number if special[1] == "-" else number
