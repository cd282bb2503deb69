"""YAML nodes to Parts, every violation collected on the way.

Nothing stops the reading: where a value cannot be used, the issue is told, a stand-in of the right kind is taken
and the reading goes on, so that one answer tells all. Rules that a Part checks itself are not told about spots
that only hold a stand-in.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import cast

import msgspec
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tercel.errors import MissingToolError
from tercel.model.catalog import Catalog
from tercel.model.defaults import Defaults
from tercel.model.duration import parse_duration
from tercel.model.flow import PluginDefault
from tercel.model.issue import Issue, nearest
from tercel.model.shapes import (
    Anything,
    Choice,
    Duration,
    Either,
    Field,
    Flag,
    Kind,
    LabelMap,
    ListOf,
    MapOf,
    Moment,
    Nested,
    Number,
    Shape,
    Text,
    accepted,
    is_family,
    shape_of,
)
from tercel.model.task import Part, Problem
from tercel.model.yaml_errors import UNQUOTED_TEMPLATE
from tercel.model.yaml_nodes import (
    Entries,
    Pairs,
    Path,
    as_bool,
    as_float,
    as_int,
    is_null,
    is_plain,
    is_unquoted_template,
    issue_at,
)

_LONGEST_QUOTE = 60


class Seen(msgspec.Struct, frozen=True):
    """A plugin's mapping that was met.

    Attributes:
        family: of the plugin that stands there, or should.
        part: its class; None where its `type` names none.
        id: "" without one.
        node: of the id; of the mapping without one.
        mapping: the whole of it.
        path: where it stands.
    """

    family: str
    part: type[Part] | None
    id: str
    node: Node
    mapping: MappingNode
    path: Path


class Reading:
    """One reading of one text.

    Attributes:
        issues: violations so far, in the order met.
        warnings: what works but should be written otherwise.
        seen: every mapping of a plugin that was met, whatever was wrong with it.
    """

    def __init__(self, catalog: Catalog, entries: Entries, defaults: Defaults) -> None:
        self.issues = list(entries.issues)
        self.warnings: list[Issue] = []
        self.seen: list[Seen] = []
        self._catalog = catalog
        self._entries = entries
        self._defaults = defaults
        self._stand_ins: set[int] = set()
        self._missing: set[tuple[int, str]] = set()
        self._read_by: Mapping[type[Kind], Callable[[Kind, Node, Path], object]] = {
            Text: self._text,
            Flag: self._flag,
            Number: self._number,
            Choice: self._choice,
            Duration: self._duration,
            Moment: self._moment,
            Anything: self._anything,
            ListOf: self._list,
            MapOf: self._map,
            LabelMap: self._labels,
            Nested: self._nested,
            Either: self._either,
        }

    def read(self, kind: Kind, node: Node, path: Path) -> object:
        """What *node*, which stands at *path*, is as a value of *kind*; a stand-in, and an issue, if it is none."""
        return self._read_by[type(kind)](kind, node, path)

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────────

    def tell(self, node: Node, path: Path, problem: Problem, accepted: Sequence[str] = ()) -> None:
        """Note an issue at *node*; one told before, as by an alias, is not told again."""
        if self._defaults.is_global(node):
            hint = f"{problem.hint} It comes from the plugin defaults of tercel's settings.".lstrip()
            problem = msgspec.structs.replace(problem, hint=hint)
        _note(self.issues, node, path, problem, accepted)

    def has_told(self, node: Node, code: str) -> bool:
        """True where an issue of this code was noted at *node*."""
        spot = (node.start_mark.line + 1, node.start_mark.column + 1, code)
        return any((issue.line, issue.column, issue.code) == spot for issue in self.issues)

    def warn(self, node: Node, path: Path, problem: Problem) -> None:
        """Note a warning at *node*."""
        _note(self.warnings, node, path, problem)

    def tell_problem(self, problem: Problem, node: MappingNode, path: Path) -> None:
        """Tell what the part that *node*, which stands at *path*, is says of itself, unless the spot holds a stand-in.

        A label's key leads to its place in either form of labels.
        """
        spot = self._spot(problem, node)
        if spot is not None:
            self.tell(spot, (*path, *problem.path), problem)

    def _spot(self, problem: Problem, node: MappingNode) -> Node | None:
        """The node that a part's problem is at; None where a stand-in takes the place of what the part complains of."""
        if not problem.path and self._holds_stand_in(node):
            return None
        spot: Node = node
        inner: Node | None = node
        for step in problem.path:
            if inner is None:
                break
            if isinstance(inner, MappingNode):
                if (id(inner), str(step)) in self._missing:
                    return None
                entry = self._entries.of(inner).get(str(step))
                spot, inner = entry if entry is not None else (spot, None)
            elif isinstance(inner, SequenceNode) and isinstance(step, int) and step < len(inner.value):
                spot = inner = inner.value[step]
            elif isinstance(inner, SequenceNode):
                spot, inner = self._labelled(inner, step) or spot, None
            else:
                inner = None
            if inner is not None and id(inner) in self._stand_ins:
                return None
        return spot

    def _labelled(self, node: SequenceNode, key: str | int) -> Node | None:
        """The key of a label in a list of labels."""
        for item in node.value:
            entry = self._entries.of(item).get("key")
            if entry is not None and entry[1].value == key:
                return entry[1]
        return None

    def _refuse(self, kind: Kind, node: Node, path: Path, problem: Problem) -> object:
        self.tell(node, path, problem, () if isinstance(kind, Text) else accepted(kind))
        return self._stand_in(kind, node)

    def _refuse_kind(self, kind: Kind, node: Node, path: Path) -> object:
        """Refuse *node* because it is of another kind."""
        if isinstance(node, ScalarNode):
            message = "Nothing stands here." if is_null(node) else f"{_quoted(node.value)} is not {_one_of(kind)}."
            hint = kind.hint
            if "{{" in node.value:
                hint = "This property is read before the flow runs, so it cannot be an expression."
            elif isinstance(kind, ListOf):
                hint = "Write each item on a line of its own, after '- '."
            return self._refuse(kind, node, path, Problem(message, hint, kind.code or "property.type"))
        if is_unquoted_template(node):
            return self._refuse(kind, node, path, UNQUOTED_TEMPLATE)
        found = "A list" if isinstance(node, SequenceNode) else "A mapping"
        hint = kind.hint
        if isinstance(kind, Text) and isinstance(node, MappingNode) and not node.flow_style:
            hint = "A ': ' makes a mapping of a text: put the text in quotes."
        message = f"{found} stands where {_one_of(kind)} is expected."
        return self._refuse(kind, node, path, Problem(message, hint, kind.code or "property.type"))

    def _stand_in(self, kind: Kind, node: Node) -> object:
        self._stand_ins.add(id(node))
        return _stand_in(kind)

    # ── scalars ──────────────────────────────────────────────────────────────────────────────────────────────

    def _text(self, kind: Kind, node: Node, path: Path) -> object:
        assert isinstance(kind, Text)
        if not isinstance(node, ScalarNode) or is_null(node):
            return self._refuse_kind(kind, node, path)
        text: str = node.value
        if kind.pattern is not None and kind.pattern.fullmatch(text) is None:
            code = f"{kind.code}.pattern" if kind.code else "property.pattern"
            return self._refuse(kind, node, path, Problem(f"{_quoted(text)} is not allowed here.", kind.hint, code))
        if kind.max_length is not None and len(text) > kind.max_length:
            code = f"{kind.code}.length" if kind.code else "property.length"
            message = f"This text has {len(text)} characters, more than {kind.max_length}."
            return self._refuse(kind, node, path, Problem(message, "Shorten it.", code))
        if kind.min_length is not None and len(text) < kind.min_length:
            code = f"{kind.code}.length" if kind.code else "property.length"
            return self._refuse(kind, node, path, Problem("This text is empty.", kind.hint, code))
        if kind.is_duration and "{{" not in text and "{%" not in text:
            try:
                parse_duration(text)
            except ValueError as error:
                return self._refuse(kind, node, path, _problem(error, kind.code))
        return text

    def _flag(self, kind: Kind, node: Node, path: Path) -> object:
        known = as_bool(node) if isinstance(node, ScalarNode) else None
        return self._refuse_kind(kind, node, path) if known is None else known

    def _number(self, kind: Kind, node: Node, path: Path) -> object:
        assert isinstance(kind, Number)
        number: float | None = None
        if isinstance(node, ScalarNode):
            number = as_int(node.value) if kind.is_whole else as_float(node.value)
        if number is None:
            return self._refuse_kind(kind, node, path)
        for bound, is_broken, words in (
            (kind.ge, kind.ge is not None and number < kind.ge, "less than"),
            (kind.gt, kind.gt is not None and number <= kind.gt, "not more than"),
            (kind.le, kind.le is not None and number > kind.le, "more than"),
            (kind.lt, kind.lt is not None and number >= kind.lt, "not less than"),
        ):
            if is_broken:
                message = f"{number} is {words} {bound}."
                return self._refuse(kind, node, path, Problem(message, kind.hint, kind.code or "property.bound"))
        return number if kind.is_whole else float(number)

    def _choice(self, kind: Kind, node: Node, path: Path) -> object:
        assert isinstance(kind, Choice)
        if not isinstance(node, ScalarNode) or is_null(node):
            return self._refuse_kind(kind, node, path)
        if node.value in kind.values:
            if node.value in kind.deprecated:
                problem = Problem(f"{node.value} is deprecated.", kind.deprecated[node.value], "property.deprecated")
                self.warn(node, path, problem)
            return kind.values[node.value]
        near = nearest(node.value, tuple(kind.values))
        hint = f"Did you mean {near}?" if near else ""
        message = f"{_quoted(node.value)} is none of the values that may stand here."
        return self._refuse(kind, node, path, Problem(message, hint, kind.code or "property.type"))

    def _duration(self, kind: Kind, node: Node, path: Path) -> object:
        if not isinstance(node, ScalarNode) or is_null(node):
            return self._refuse_kind(kind, node, path)
        try:
            return parse_duration(node.value)
        except ValueError as error:
            return self._refuse(kind, node, path, _problem(error, kind.code))

    def _moment(self, kind: Kind, node: Node, path: Path) -> object:
        assert isinstance(kind, Moment)
        if not isinstance(node, ScalarNode) or is_null(node):
            return self._refuse_kind(kind, node, path)
        try:
            moment = kind.type.fromisoformat(node.value)
        except ValueError:
            return self._refuse_kind(kind, node, path)
        if isinstance(moment, datetime) and moment.tzinfo is None:
            return self._refuse_kind(kind, node, path)
        return moment

    def _anything(self, kind: Kind, node: Node, path: Path) -> object:
        assert isinstance(kind, Anything)
        if isinstance(node, ScalarNode) and kind.is_raw:
            return None if is_null(node) else node.value
        if self._defaults:
            self._give_defaults(node)
        return self._entries.value(node)

    def _give_defaults(self, node: Node) -> None:
        """Put plugin defaults into every mapping with a `type` that is, or lies in, the free value *node*."""
        if isinstance(node, MappingNode):
            self._give_own_defaults(node)
            for _, value in self._entries.of(node).values():
                self._give_defaults(value)
        elif isinstance(node, SequenceNode):
            for item in node.value:
                self._give_defaults(item)

    def _give_own_defaults(self, node: MappingNode) -> None:
        """Put plugin defaults into a mapping that is no plugin, by the text of its `type`."""
        entries = self._entries.of(node)
        key, type_ = entries.get("type", (node, node))
        if isinstance(type_, ScalarNode) and not is_null(type_) and not self._defaults.brought(key):
            self._entries.replace(node, self._defaults.applied((type_.value,), entries, node))

    # ── collections ──────────────────────────────────────────────────────────────────────────────────────────

    def _list(self, kind: Kind, node: Node, path: Path) -> object:
        assert isinstance(kind, ListOf)
        if not isinstance(node, SequenceNode):
            return self._refuse_kind(kind, node, path)
        items = [self.read(kind.item, item, (*path, index)) for index, item in enumerate(node.value)]
        if kind.min_length is not None and len(items) < kind.min_length:
            message = f"'{path[-1]}' is empty."
            return self._refuse(kind, node, path, Problem(message, kind.hint, kind.code or "property.length"))
        return items

    def _map(self, kind: Kind, node: Node, path: Path) -> object:
        assert isinstance(kind, MapOf)
        if not isinstance(node, MappingNode) or is_unquoted_template(node):
            return self._refuse_kind(kind, node, path)
        return {
            name: self.read(kind.value, value, (*path, name)) for name, (_, value) in self._entries.of(node).items()
        }

    def _labels(self, kind: Kind, node: Node, path: Path) -> object:
        if isinstance(node, MappingNode) and not is_unquoted_template(node):
            return {
                name: cast("str", self.read(Text(), value, (*path, name)))
                for name, (_, value) in self._entries.of(node).items()
            }
        if not isinstance(node, SequenceNode):
            return self._refuse_kind(kind, node, path)
        labels: dict[str, str] = {}
        for index, item in enumerate(node.value):
            label = self._part(_Label, item, (*path, index))
            if isinstance(label, _Label):
                labels.setdefault(label.key, label.value)
        return labels

    def _either(self, kind: Kind, node: Node, path: Path) -> object:
        """The first kind that fits by the node's form and text; told against the likeliest when none does."""
        assert isinstance(kind, Either)
        fitting = [one for one in kind.kinds if _may_be(one, node)]
        if not fitting or is_null(node):
            return self._refuse_kind(kind, node, path)
        return self.read(min(fitting, key=_rank), node, path)

    # ── parts ────────────────────────────────────────────────────────────────────────────────────────────────

    def _nested(self, kind: Kind, node: Node, path: Path) -> object:
        assert isinstance(kind, Nested)
        if not isinstance(node, MappingNode) or is_unquoted_template(node):
            return self._refuse_kind(kind, node, path)
        if is_family(kind.part):
            return self._plugin(kind.part, node, path)
        if self._defaults and kind.part is not PluginDefault:
            self._give_own_defaults(node)
        return self._part(kind.part, node, path)

    def _plugin(self, base: type[Part], node: MappingNode, path: Path) -> Part:
        entries = self._entries.of(node)
        id_node = entries["id"][1] if "id" in entries else node
        part = self._class(base, node, path)
        id_ = id_node.value if isinstance(id_node, ScalarNode) else ""
        self.seen.append(Seen(base.family, part, id_, id_node, node, path))
        if part is None:
            self._stand_ins.add(id(node))
            self._guess_tasks(base, entries, path)
            return self._part(base, node, path, is_known=False)
        names = (part.plugin_type, *part.plugin_aliases)
        self._entries.replace(node, self._defaults.applied(names, entries, node))
        return self._part(part, node, path)

    def _class(self, base: type[Part], node: MappingNode, path: Path) -> type[Part] | None:
        """The class that the mapping's `type` names; None, and an issue, where there is none."""
        entry = self._entries.of(node).get("type")
        if entry is None or is_null(entry[1]) or not isinstance(entry[1], ScalarNode):
            if entry is None or is_null(entry[1]):
                hint = f"Add 'type', the full name of a {base.family}; `tercel plugin list` shows them."
                problem = Problem("The property 'type' is missing.", hint, "property.missing")
                self.tell(node, (*path, "type"), problem)
            return None
        name, at = entry[1], (*path, "type")
        try:
            part = self._catalog.find(name.value)
        except MissingToolError as error:
            self.tell(name, at, Problem(error.message, error.hint, "type.broken"))
            return None
        if part is None:
            self._unknown_type(base, name, at)
        elif not issubclass(part, base):
            message = f"{name.value} is a {part.family}, and a {base.family} is expected here."
            self.tell(name, at, Problem(message, f"Name a {base.family}.", "type.family"))
            return None
        elif name.value != part.plugin_type:
            self.warn(name, at, Problem(f"{name.value} is now called {part.plugin_type}.", code="type.alias"))
        return part

    def _unknown_type(self, base: type[Part], name: ScalarNode, path: Path) -> None:
        if base.family == "task" and not _is_dotted(name.value):
            message = f"{_quoted(name.value)} is not the name of a type."
            hint = "Write the full name, such as io.kestra.plugin.core.log.Log; `tercel plugin list` shows them."
            self.tell(name, path, Problem(message, hint, "task.type.pattern"))
            return
        near = self._catalog.nearest(name.value)
        hint = f"Did you mean {near}?" if near else "`tercel plugin list` shows every type there is."
        message = f"No plugin provides the {base.family} type {name.value}."
        self.tell(name, path, Problem(message, hint, "type.unknown"))

    def _guess_tasks(self, base: type[Part], entries: Pairs, path: Path) -> None:
        """Read what look like tasks inside a mapping of unknown type: their issues can be told all the same."""
        known = shape_of(base).fields
        for name, (_, value) in entries.items():
            if name in known or not isinstance(value, SequenceNode):
                continue
            for index, item in enumerate(value.value):
                inner = self._entries.of(item)
                if isinstance(item, MappingNode) and "id" in inner and "type" in inner:
                    self._plugin(base, item, (*path, name, index))

    def _part(self, part: type[Part], node: Node, path: Path, is_known: bool = True) -> Part:
        """Build *part*; where not *is_known*, it is but the base of what should be there."""
        shape = shape_of(part)
        if not isinstance(node, MappingNode):
            return cast("Part", self._refuse_kind(Nested(part=part), node, path))
        entries = self._entries.of(node)
        values: dict[str, object] = {}
        for name, (key, value) in entries.items():
            field = shape.fields.get(name)
            if name in shape.former and shape.former[name] not in entries:
                field = shape.fields[shape.former[name]]
                self._warn_former(key, (*path, name), field.name)
            elif field is None:
                if is_known and not self._defaults.brought(key):
                    self._unknown_property(shape, key, path)
                continue
            if name in part.deprecated:
                problem = Problem(f"'{name}' is deprecated.", part.deprecated[name], "property.deprecated")
                self.warn(key, (*path, name), problem)
            if name in part.without_effect:
                problem = Problem(f"'{name}' has no effect yet.", part.without_effect[name], "property.noEffect")
                self.warn(key, (*path, name), problem)
            if not is_null(value):
                values[field.attribute] = self.read(field.kind, value, (*path, name))
        for field in shape.required:
            if field.attribute not in values:
                if field.name != "type" or not part.family:  # told already, by whoever looked for the class
                    self._missing_property(part, field, node, path)
                self._missing.add((id(node), field.name))
                values[field.attribute] = _stand_in(field.kind)
        built = part(**values)
        is_of_type = "type" not in entries or id(entries["type"][1]) not in self._stand_ins
        if is_known and is_of_type:
            for problem in built.problems():
                self.tell_problem(problem, node, path)
            cautions: Callable[[], Iterable[Problem]] | None = getattr(built, "cautions", None)
            for problem in cautions() if cautions is not None else ():
                spot = self._spot(problem, node)
                if spot is not None:
                    self.warn(spot, (*path, *problem.path), problem)
        return built

    def _unknown_property(self, shape: Shape, key: Node, path: Path) -> None:
        name = cast("str", key.value)
        at = (*path, name)
        if name in shape.part.not_yet:
            problem = Problem(f"Tercel does not support '{name}' yet.", "Remove it.", "property.unsupported")
            self.tell(key, at, problem)
            return
        known = tuple(shape.fields)
        near = nearest(name, known)
        hint = f"Did you mean '{near}'?" if near else ""
        self.tell(key, at, Problem(f"Unknown property '{name}'.", hint, "property.unknown"), known)

    def _missing_property(self, part: type[Part], field: Field, node: Node, path: Path) -> None:
        code = field.kind.code if field.kind.code and not isinstance(field.kind, Text) else "property.missing"
        hint = f"Add '{field.name}', {_one_of(field.kind)}."
        self.tell(node, (*path, field.name), Problem(f"The property '{field.name}' is missing.", hint, code))

    def _warn_former(self, key: Node, path: Path, name: str) -> None:
        self.warn(key, path, Problem(f"'{path[-1]}' is now called '{name}'.", code="property.alias"))

    def _holds_stand_in(self, node: MappingNode) -> bool:
        return any(id(value) in self._stand_ins for _, value in self._entries.of(node).values()) or any(
            owner == id(node) for owner, _ in self._missing
        )


class _Label(Part, frozen=True, kw_only=True):
    """One label of the list form."""

    key: str
    value: str


def _note(issues: list[Issue], node: Node, path: Path, problem: Problem, accepted: Sequence[str] = ()) -> None:
    issue = issue_at(node, path, problem, accepted)
    for told in issues:
        if told.line == issue.line and told.column == issue.column and told.message == issue.message:
            return
    issues.append(issue)


def _problem(error: ValueError, code: str) -> Problem:
    """A parser's error, whose message and hint are parted by a semicolon."""
    message, _, hint = str(error).partition("; ")
    return Problem(f"{message}.", f"{hint[:1].upper()}{hint[1:]}." if hint else "", code or "property.type")


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.replace("$", "_").split(".")) and name.isascii()


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…")


def _one_of(kind: Kind) -> str:
    match kind:
        case Flag():
            return "true or false"
        case Choice():
            return "one of the values that may stand here"
        case _:
            return " or ".join(dict.fromkeys(accepted(kind)))


def _stand_in(kind: Kind) -> object:
    match kind:
        case Text():
            return ""
        case Flag():
            return False
        case Number(is_whole=True):
            return 0
        case Number():
            return 0.0
        case Choice(values=values):
            return next(iter(values.values()))
        case Duration():
            return parse_duration("PT0S")
        case Moment(type=type_):
            return date.min if type_ is date else time.min if type_ is time else datetime.min.replace(tzinfo=UTC)
        case ListOf():
            return []
        case MapOf() | LabelMap():
            return {}
        case Nested(part=part):
            return part(**{field.attribute: _stand_in(field.kind) for field in shape_of(part).required})
        case Either(kinds=kinds):
            return _stand_in(kinds[0])
        case _:
            return None


def _may_be(kind: Kind, node: Node) -> bool:
    """True where *node* has the form of *kind*, and a scalar without quotes also the text."""
    if isinstance(node, MappingNode):
        return isinstance(kind, (MapOf, LabelMap, Nested, Anything))
    if isinstance(node, SequenceNode):
        return isinstance(kind, (ListOf, LabelMap, Anything))
    assert isinstance(node, ScalarNode)
    match kind:
        case Text() | Anything():
            return True
        case Flag():
            return is_plain(node) and as_bool(node) is not None
        case Number(is_whole=is_whole):
            return is_plain(node) and (as_int(node.value) if is_whole else as_float(node.value)) is not None
        case Choice(values=values):
            return node.value in values
        case Duration():
            return node.value[:1] in {"P", "p"}
        case Moment():
            return node.value[:1].isdigit()
        case _:
            return False


def _rank(kind: Kind) -> int:
    """Which kind is tried first where several fit: what says more goes before text, anything comes last."""
    return 2 if isinstance(kind, Anything) else 1 if isinstance(kind, Text) else 0
