"""`pluginDefaults`: values that a flow, or tercel's settings, give to every task, trigger or other part of a type.

They are put in between reading the YAML and building the parts, so that each value keeps the line it stands on.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import msgspec
from yaml.error import Mark
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tercel.model.flow import PluginDefault
from tercel.model.yaml_nodes import PLAIN, TEXT, Entries, Pairs, Path, as_bool, children

_PROPERTIES = ("pluginDefaults", "taskDefaults")
_KEYS = ("type", "values", "forced")


class Default(msgspec.Struct, frozen=True):
    """One default of the flow: the node of its type, that of its values, where they stand, and whether it is forced."""

    type: ScalarNode
    values: MappingNode
    path: Path
    is_forced: bool


class Defaults:
    """The plugin defaults that a flow is read with.

    Args:
        root: the flow's node; faulty defaults are left out here and told by whoever builds the flow. None for a flow
            that is to be read without its own.
        entries: reads mappings.
        global_defaults: of the settings, the most important source first; all are less important than the flow's.

    Attributes:
        own: the flow's defaults, in the order written.
    """

    def __init__(
        self, root: MappingNode | None, entries: Entries, global_defaults: Sequence[PluginDefault] = ()
    ) -> None:
        self._entries = entries
        self.own = () if root is None else tuple(self._read(root))
        self._global = tuple(global_defaults)
        self._keys: set[int] = set()
        self._made: dict[int, Node] = {}
        """The nodes of global defaults by their address, by which all that is known of a node is kept."""
        self._merges: list[Node] = []
        """The nodes of merged mappings; kept, so that no other node gets the address of one."""
        for default in self.own:
            self._note_keys(default.values)

    def __bool__(self) -> bool:
        """True where there are any."""
        return bool(self.own or self._global)

    def _read(self, root: MappingNode) -> Iterator[Default]:
        for name, (_, listed) in self._entries.of(root).items():
            if name not in _PROPERTIES or not isinstance(listed, SequenceNode):
                continue
            for index, item in enumerate(listed.value):
                inner = self._entries.of(item)
                type_, values, forced = (inner[key][1] if key in inner else None for key in _KEYS)
                if isinstance(type_, ScalarNode) and type_.value and isinstance(values, MappingNode):
                    is_forced = isinstance(forced, ScalarNode) and as_bool(forced) is True
                    yield Default(type_, values, (name, index, "values"), is_forced)

    def _note_keys(self, node: Node) -> None:
        if isinstance(node, MappingNode):
            self._keys.update(id(key) for key, _ in node.value)
        for child in children(node):
            self._note_keys(child)

    def brought(self, key: Node) -> bool:
        """True where *key* stands in plugin defaults: such a property is ignored where nothing knows it."""
        return id(key) in self._keys

    def is_global(self, node: Node) -> bool:
        """True where *node* comes from the defaults of the settings."""
        return id(node) in self._made

    def applied(self, names: Sequence[str], entries: Pairs, node: Node) -> Pairs:
        """The properties of the mapping *node*, whose type has these names, with its defaults put in.

        A default counts for every type of which a name, a former one included, equals its own or begins with it. What
        the mapping says itself wins, and the first of several defaults; forced ones win over the mapping, and the
        last of several. Mappings are merged key by key, lists are not.
        """
        if not self:
            return entries
        matching = [(one.values, one.is_forced) for one in self.own if _is_meant(one.type.value, names)]
        matching += [(self._values(one, node), one.forced) for one in self._global if _is_meant(one.type, names)]
        for values, is_forced in matching:
            if not is_forced:
                entries = self._merged(entries, self._entries.of(values))
        for values, is_forced in matching:
            if is_forced:
                entries = self._merged(self._entries.of(values), entries)
        return entries

    def _values(self, default: PluginDefault, node: Node) -> MappingNode:
        """The values of a global default as nodes that stand where *node* does: there their faults are told."""
        made = cast("MappingNode", _node_of(default.values, node.start_mark))
        self._note_keys(made)
        pending: list[Node] = [made]
        while pending:
            one = pending.pop()
            self._made[id(one)] = one
            pending.extend(children(one))
        return made

    def _merged(self, winning: Pairs, losing: Pairs) -> dict[str, tuple[Node, Node]]:
        merged = dict(losing) | dict(winning)
        for name in winning.keys() & losing.keys():
            (key, ours), (_, theirs) = winning[name], losing[name]
            if isinstance(ours, MappingNode) and isinstance(theirs, MappingNode):
                pairs = self._merged(self._entries.of(ours), self._entries.of(theirs))
                node = MappingNode(ours.tag, list(pairs.values()), ours.start_mark, ours.end_mark, ours.flow_style)
                self._merges.append(node)
                merged[name] = (key, node)
        return {name: merged[name] for name in (*winning, *(name for name in losing if name not in winning))}


def _is_meant(type_: str, names: Sequence[str]) -> bool:
    return bool(type_) and any(name.startswith(type_) for name in names)


def _node_of(value: object, mark: Mark) -> Node:
    match value:
        case Mapping():
            pairs = cast("Mapping[str, object]", value).items()
            return MappingNode(
                PLAIN, [(_node_of(name, mark), _node_of(item, mark)) for name, item in pairs], mark, mark, False
            )
        case list():
            items = cast("list[object]", value)
            return SequenceNode(PLAIN, [_node_of(item, mark) for item in items], mark, mark)
        case str():
            return ScalarNode(TEXT, value, mark, mark)
        case bool():
            return ScalarNode(PLAIN, "true" if value else "false", mark, mark)
        case None:
            return ScalarNode(PLAIN, "", mark, mark)
        case _:
            return ScalarNode(PLAIN, str(value), mark, mark)
