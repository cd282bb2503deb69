"""YAML text to a graph of nodes that know their line and column; what a scalar means is decided by who reads it.

Keeps out what flows are: this module knows mappings, lists and scalars only.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from yaml.error import MarkedYAMLError, YAMLError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tercel.model.issue import Issue, path_text
from tercel.model.task import Problem
from tercel.model.yaml_errors import UNQUOTED_TEMPLATE, line_start, syntax_issue, tab_index, tab_issue

if TYPE_CHECKING:
    from yaml._yaml import CParser as _Parser
else:
    try:
        from yaml._yaml import CParser as _Parser
    except ImportError:  # PyYAML was built without libyaml: the same by its Python parts, some 20 times slower
        from yaml.composer import Composer
        from yaml.parser import Parser
        from yaml.reader import Reader
        from yaml.scanner import Scanner

        class _Parser(Reader, Scanner, Parser, Composer):
            def __init__(self, text: str) -> None:
                Reader.__init__(self, text)
                Scanner.__init__(self)
                Parser.__init__(self)
                Composer.__init__(self)


PLAIN = "plain"
"""Tag of a scalar without quotes or tag: its text decides what it is."""
TEXT = "tag:yaml.org,2002:str"
_DEEPEST = 100
_TAB_ROUNDS = 20
_MOST_VALUES = 100_000

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)")
_INT_BASED = re.compile(r"([-+]?)0(?:b([01_]+)|o?([0-7_]+)|x([0-9a-fA-F_]+))")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+")
_SPECIAL = re.compile(r"([-+]?)\.(?:(inf|Inf|INF)|(nan|NaN|NAN))")
_LONGEST_INT = 4000


class _TooDeepError(Exception):
    """Nodes are nested deeper than any flow needs."""


class _Composer(_Parser):
    """Composes nodes without resolving what plain scalars mean."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0

    def descend_resolver(self, current_node: object, current_index: object) -> None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _TooDeepError

    def ascend_resolver(self) -> None:
        self.depth -= 1

    def resolve(self, kind: type[Node], value: str | None, implicit: bool | tuple[bool, bool]) -> str:
        return PLAIN if kind is not ScalarNode or (isinstance(implicit, tuple) and implicit[0]) else TEXT


def compose(text: str) -> tuple[Node | None, list[Issue]]:
    """Read *text*, one YAML document.

    Returns:
        Its root and no issues; or None and what keeps it from being YAML, tabs all at once.
    """
    text = text.removeprefix("\ufeff")
    tabs: list[Issue] = []
    mended = text
    for _ in range(_TAB_ROUNDS):
        try:
            root = _documents(mended)
        except MarkedYAMLError as error:
            at = tab_index(error, mended)
            if at is None:
                return None, tabs or [syntax_issue(error, mended)]
            tabs.append(tab_issue(error, mended))
            mended = _without_tab(mended, at)
        except YAMLError as error:
            return None, tabs or [syntax_issue(error, mended)]
        except UnicodeEncodeError as error:
            return None, [_at(text, error.start, "This text holds half of a character.", "Save the file as UTF-8.")]
        except _TooDeepError:
            return None, [Issue(line=1, column=1, message=f"The text is nested deeper than {_DEEPEST} levels.")]
        else:
            return (None, tabs) if tabs else root
    return None, tabs


def load(text: str) -> object:
    """The value that *text*, one YAML document, stands for.

    Raises:
        ValueError: it is not YAML; with a sentence for people.
    """
    root, faults = compose(text)
    entries = Entries(root) if root is not None else None
    faults = faults if entries is None else entries.issues
    if faults or entries is None or root is None:
        raise ValueError(faults[0].text)
    return entries.value(root)


def _documents(text: str) -> tuple[Node | None, list[Issue]]:
    composer = _Composer(text)
    take = cast("Callable[[], Node]", composer.get_node)
    if not composer.check_node():
        return None, [Issue(line=1, column=1, message="The text is empty.", hint="A flow has id, namespace and tasks.")]
    root = take()
    if composer.check_node():
        line = take().start_mark.line + 1
        return None, [
            Issue(
                line=line,
                column=1,
                code="yaml.documents",
                message="The text holds more than one flow: another one begins here.",
                hint="Keep each flow in a file of its own.",
            )
        ]
    issue = _alias_issue(root) if "&" in text else None
    return (root, []) if issue is None else (None, [issue])


def _without_tab(text: str, at: int) -> str:
    """*text* with the tab at index *at*, and all others of its line's indentation, made spaces."""
    start = line_start(text, at)
    rest = text[start:].lstrip(" \t")
    end = len(text) - len(rest)
    if at < end:
        return text[:start] + text[start:end].replace("\t", "  ") + rest
    return f"{text[:at]} {text[at + 1 :]}"


def _at(text: str, index: int, message: str, hint: str) -> Issue:
    before = text[:index]
    return Issue(line=before.count("\n") + 1, column=index - (before.rfind("\n") + 1) + 1, message=message, hint=hint)


Path = tuple[str | int, ...]
"""Keys and indexes from the root to a node."""

Pairs = Mapping[str, tuple[Node, Node]]
"""A mapping by key text: the node of the key and the node of the value."""


_NO_PAIRS: Pairs = {}


class Entries:
    """Reads mappings: each key once, merge keys (`<<`) resolved.

    Attributes:
        issues: keys given twice and other faults of the mappings, found when this is made.
    """

    def __init__(self, root: Node) -> None:
        self.issues: list[Issue] = []
        self._known: dict[int, Pairs] = {}
        self._look_through(root, (), set())

    def of(self, node: Node | None) -> Pairs:
        """The keys and values of *node*, which may be made later than the text was read; none if it is no mapping."""
        found = self._known.get(id(node))
        if found is not None:
            return found
        return self._read(node, ()) if isinstance(node, MappingNode) else _NO_PAIRS

    def value(self, node: Node) -> object:
        """What *node* is by itself, with text keys; see `scalar`."""
        if isinstance(node, ScalarNode):
            return scalar(node)
        if isinstance(node, MappingNode):
            return {name: self.value(value) for name, (_, value) in self.of(node).items()}
        return [self.value(item) for item in node.value]

    def replace(self, node: MappingNode, pairs: Pairs) -> None:
        """Take *pairs* for *node* from now on."""
        self._known[id(node)] = pairs

    def _look_through(self, node: Node, path: Path, met: set[int]) -> None:
        if type(node) is ScalarNode:
            if node.tag[0] == "!":
                self._tell(node, path, f"The tag {node.tag} means nothing here.", "Remove the tag.", "yaml.tag")
        elif id(node) in met:
            return
        elif isinstance(node, MappingNode):
            met.add(id(node))
            for name, (_, value) in self._read(node, path).items():
                self._look_through(value, (*path, name), met)
        else:
            met.add(id(node))
            for index, item in enumerate(node.value):
                self._look_through(item, (*path, index), met)

    def _read(self, node: MappingNode, path: Path) -> Pairs:
        known = self._known.get(id(node))
        if known is not None:
            return known
        pairs: dict[str, tuple[Node, Node]] = {}
        merged: list[Pairs] = []
        self._known[id(node)] = pairs
        for key, value in node.value:
            if type(key) is not ScalarNode:
                self._tell_key(node, key, path)
            elif key.value == "<<" and key.tag == PLAIN:
                merged.extend(self._merged(value, path))
            elif key.value in pairs:
                first = pairs[key.value][0].start_mark.line + 1
                second = key.start_mark.line + 1
                message = f"The key '{key.value}' is given twice, on lines {first} and {second}."
                self._tell(key, (*path, key.value), message, "Keep one of them.", "key.duplicate")
            else:
                pairs[key.value] = (key, value)
        for other in merged:
            for name, entry in other.items():
                pairs.setdefault(name, entry)
        return pairs

    def _merged(self, value: Node, path: Path) -> Iterator[Pairs]:
        for source in value.value if isinstance(value, SequenceNode) else [value]:
            if isinstance(source, MappingNode):
                yield self._read(source, path)
            else:
                hint = "Write it like <<: *name."
                self._tell(source, (*path, "<<"), "Only a mapping can be merged with <<.", hint, "yaml.merge")

    def _tell_key(self, node: MappingNode, key: Node, path: Path) -> None:
        if is_unquoted_template(node):
            self.issues.append(issue_at(node, path, UNQUOTED_TEMPLATE))
        else:
            hint = "Put the key in quotes if it is meant as text."
            self._tell(key, path, "A list or mapping stands where a key is expected.", hint, "yaml.key")

    def _tell(self, node: Node, path: Path, message: str, hint: str, code: str) -> None:
        self.issues.append(issue_at(node, path, Problem(message, hint, code)))


def issue_at(node: Node, path: Path, problem: Problem, accepted: Sequence[str] = ()) -> Issue:
    """The issue that *problem* is at *node*."""
    mark = node.start_mark
    return Issue(
        line=mark.line + 1,
        column=mark.column + 1,
        path=path_text(path),
        code=problem.code,
        message=problem.message,
        hint=problem.hint,
        accepted=tuple(accepted),
    )


def children(node: Node) -> Iterator[Node]:
    """The nodes directly inside *node*, keys included."""
    if isinstance(node, SequenceNode):
        yield from node.value
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            yield key
            yield value


def _alias_issue(root: Node) -> Issue | None:
    """Aliases must neither lead into themselves nor blow up: values are counted as if written out."""
    sizes: dict[int, int] = {}
    depths: dict[int, int] = {}
    open_: set[int] = set()
    pending: list[tuple[Node, bool]] = [(root, False)]
    while pending:
        node, is_left = pending.pop()
        if is_left:
            open_.discard(id(node))
            inside = [id(child) for child in children(node)]
            sizes[id(node)] = 1 + sum(sizes[child] for child in inside)
            depths[id(node)] = 1 + max((depths[child] for child in inside), default=0)
            if depths[id(node)] > _DEEPEST:
                return _spot(node, f"Aliases nest this text deeper than {_DEEPEST} levels.", "Write less by aliases.")
        elif id(node) in open_:
            return _spot(node, "This anchor is used inside itself.", "Write the value out.")
        elif id(node) not in sizes:
            open_.add(id(node))
            pending.append((node, True))
            pending.extend((child, False) for child in children(node))
    if sizes[id(root)] > max(_MOST_VALUES, 10 * len(sizes)):
        return _spot(root, f"Aliases make more than {_MOST_VALUES} values of this text.", "Write less by aliases.")
    return None


def _spot(node: Node, message: str, hint: str) -> Issue:
    return issue_at(node, (), Problem(message, hint, "yaml.alias"))


def is_plain(node: ScalarNode) -> bool:
    """True for a scalar without quotes and tag."""
    return node.tag == PLAIN


def is_unquoted_template(node: Node) -> bool:
    """True for `{{ … }}` without quotes, which YAML reads as a mapping that is the key of another one."""
    return (
        isinstance(node, MappingNode)
        and bool(node.flow_style)
        and len(node.value) == 1
        and isinstance(node.value[0][0], MappingNode)
    )


def is_null(node: Node) -> bool:
    """True for `~`, `null` and nothing at all."""
    return type(node) is ScalarNode and node.tag != TEXT and node.value in _NULL


def as_bool(node: ScalarNode) -> bool | None:
    """The truth value that the scalar's text is, quoted or not; None where it is none."""
    return _BOOL.get(node.value)


def as_int(text: str) -> int | None:
    """The whole number that *text* is; None where it is none."""
    if len(text) > _LONGEST_INT:
        return None
    if _INT.fullmatch(text):
        return int(text.replace("_", ""))
    based = _INT_BASED.fullmatch(text)
    if based is None:
        return None
    sign, *digits = based.groups()
    for base, number in zip((2, 8, 16), digits, strict=True):
        bare = (number or "").replace("_", "")
        if bare:
            return int(sign + bare, base)
    return None


def as_float(text: str) -> float | None:
    """The number that *text* is; None where it is none."""
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    special = _SPECIAL.fullmatch(text)
    if special is not None:
        return float(special[1] + (special[2] or special[3]).lower())
    return as_int(text)


def scalar(node: ScalarNode) -> object:
    """What the scalar is by itself: YAML 1.1 without its sexagesimals and dates, which stay text."""
    text: str = node.value
    if node.tag == TEXT:
        return text
    if text in _NULL:
        return None
    known = _BOOL.get(text)
    if known is not None:
        return known
    if text[0] not in "+-.0123456789":
        return text
    number = as_int(text)
    if number is not None:
        return number
    real = as_float(text)
    return text if real is None else real
