"""`pluginDefaults`: values that a flow gives to every task, trigger or task runner of a type.

They are put in between reading the YAML and building the parts, so that each value keeps the line it stands on.
"""

from collections.abc import Iterator

import msgspec
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tercel.model.task import Part
from tercel.model.yaml_nodes import Entries, Pairs, Path, as_bool, children

_PROPERTIES = ("pluginDefaults", "taskDefaults")
_KEYS = ("type", "values", "forced")


class Default(msgspec.Struct, frozen=True):
    """One default: the node of its type, that of its values, where the values stand, and whether it is forced."""

    type: ScalarNode
    values: MappingNode
    path: Path
    is_forced: bool


class Defaults:
    """The plugin defaults of one flow.

    Args:
        root: the flow's node; faulty defaults are left out here and told by whoever builds the flow.
        entries: reads mappings.

    Attributes:
        all: the defaults, in the order written.
    """

    def __init__(self, root: MappingNode, entries: Entries) -> None:
        self._entries = entries
        self.all = tuple(self._read(root))
        self._keys: set[int] = set()
        for default in self.all:
            self._note_keys(default.values)

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

    def applied(self, part: type[Part], entries: Pairs) -> Pairs:
        """The properties of a mapping of class *part* with its defaults put in.

        A default counts for every type name that equals its own or begins with it, former names included. What
        the mapping says itself wins, and the first of several defaults; forced ones win over the mapping, and the
        last of several. Mappings are merged key by key, lists are not.
        """
        if not self.all:
            return entries
        names = (part.plugin_type, *part.plugin_aliases)
        matching = [default for default in self.all if any(name.startswith(default.type.value) for name in names)]
        for default in matching:
            if not default.is_forced:
                entries = self._merged(entries, self._entries.of(default.values))
        for default in matching:
            if default.is_forced:
                entries = self._merged(self._entries.of(default.values), entries)
        return entries

    def _merged(self, winning: Pairs, losing: Pairs) -> dict[str, tuple[Node, Node]]:
        merged = dict(losing) | dict(winning)
        for name in winning.keys() & losing.keys():
            (key, ours), (_, theirs) = winning[name], losing[name]
            if isinstance(ours, MappingNode) and isinstance(theirs, MappingNode):
                pairs = self._merged(self._entries.of(ours), self._entries.of(theirs))
                node = MappingNode(ours.tag, list(pairs.values()), ours.start_mark, ours.end_mark, ours.flow_style)
                merged[name] = (key, node)
        return {name: merged[name] for name in (*winning, *(name for name in losing if name not in winning))}
