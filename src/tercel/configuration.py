"""Configurations: YAML, from the environment and from files, in Kestra's words and in Tercel's, made into settings.

What wins, the first named first: an option of the command line, a `TERCEL_…` variable, the last of the files named by
`--config`, Kestra's own variables (`KESTRA_STORAGE_TYPE` for `kestra.storage.type`), `TERCEL_CONFIGURATION`, the files
in `MICRONAUT_CONFIG_FILES`, `KESTRA_CONFIGURATION`, the default. What Kestra's keys mean is known by `kestra_keys`.

Pure, but for reading files. Texts of configurations are never written anywhere, and values are told only as
`Setting.shown` lets them be seen.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import msgspec

from tercel.errors import InvalidSettingError
from tercel.kestra_keys import KEYS, Content, Outcome, Value, find_key, give_settings, kebab, nearest_key, variable_of
from tercel.settings import CONFIGURATION_VARIABLE, SETTINGS, Given

if TYPE_CHECKING:
    from yaml.nodes import Node

    from tercel.model.yaml_nodes import Entries

_OWN = "tercel."
_SETTINGS = {one.key: one for one in SETTINGS}
_WHOLE = frozenset({key.path for key in KEYS if key.is_whole} | {one.key for one in SETTINGS if one.is_json})
"""Keys whose values are a user's own mappings, with names that stay as they are."""
_VARIABLES = {variable_of(key.path): key.path for key in KEYS if "*" not in key.path}
_MOST_BYTES = 1 << 20
_MOST_DEEP = 20


class Source(msgspec.Struct, frozen=True):
    """A configuration as text.

    Attributes:
        name: of the file or variable.
        text: YAML.
    """

    name: str
    text: str


class Note(msgspec.Struct, frozen=True):
    """A key that has no effect here, where it stands, and why."""

    key: str
    place: str
    reason: str


class Configuration(msgspec.Struct, frozen=True):
    """What configurations come to.

    Attributes:
        given: what they give settings, by field.
        warnings: sentences about what they say in vain.
        without_effect: keys that are known, and mean nothing here.
    """

    given: Mapping[str, Given]
    warnings: Sequence[str] = ()
    without_effect: Sequence[Note] = ()


def environment_sources(environment: Mapping[str, str]) -> list[Source]:
    """The configurations that the environment holds or names, the least important first.

    Raises:
        InvalidSettingError: a file cannot be read.
    """
    named = [Path(name.strip()) for name in environment.get("MICRONAUT_CONFIG_FILES", "").split(",") if name.strip()]
    first, last = (
        [Source(name, environment[name])] if environment.get(name, "").strip() else []
        for name in ("KESTRA_CONFIGURATION", CONFIGURATION_VARIABLE)
    )
    return [*first, *file_sources(named), *last]


def file_sources(paths: Iterable[Path]) -> list[Source]:
    """The configurations in files.

    Raises:
        InvalidSettingError: a file cannot be read.
    """
    return [Source(str(path), _read(path)) for path in paths]


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        text = content.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidSettingError(f"The configuration {path} cannot be read: {reason}.") from error
    if len(content) > _MOST_BYTES:
        raise InvalidSettingError(f"The configuration {path} is longer than a megabyte.", "Is it the right file?")
    return text


def configure(
    sources: Sequence[Source],
    environment: Mapping[str, str],
    files: Sequence[Source] = (),
    *,
    with_variables: bool = True,
) -> Configuration:
    """Make settings of configurations.

    Args:
        sources: those of the environment, the least important first.
        environment: Kestra's variables in it are more important than *sources*; placeholders are filled from it.
        files: those that the command line names; more important than all of that, the last one most.
        with_variables: False to fill placeholders only.

    Raises:
        InvalidSettingError: a text is no YAML, a key below `tercel` is none, a placeholder cannot be filled, or what is
            asked for is not there; all faults at once.
    """
    values: dict[str, Value] = {}
    faults: list[str] = []
    for rank, source in enumerate(sources):
        for value in _values_of(source, rank, faults):
            _put(values, value)
    for name, path in _VARIABLES.items():
        if with_variables and environment.get(name):
            _put(values, Value(path, environment[name], name, "", len(sources)))
    for rank, source in enumerate(files, len(sources) + 1):
        for value in _values_of(source, rank, faults):
            _put(values, value)
    _refuse(faults)
    filled = {path: _filled(value, values, environment, faults) for path, value in values.items()}
    _refuse(faults)
    outcome = Outcome()
    give_settings(filled, outcome, environment if with_variables else {})
    for path, value in filled.items():
        if path in _SETTINGS:
            outcome.give(_SETTINGS[path].field, value)
    _refuse(outcome.faults)
    unknown = [
        _unknown(value) for value in filled.values() if value.key not in _SETTINGS and find_key(value.key) is None
    ]
    return Configuration(outcome.given, [*unknown, *outcome.warnings], list(_without_effect(filled.values())))


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise InvalidSettingError("\n".join(faults))


def _put(values: dict[str, Value], value: Value) -> None:
    """Have *value* win over what is there; mappings are merged."""
    old = values.get(value.key)
    if isinstance(value.content, dict) and old is not None and isinstance(old.content, dict):
        value = msgspec.structs.replace(value, content=old.content | value.content)
    values[value.key] = value


# Reading YAML


def _values_of(source: Source, rank: int, faults: list[str]) -> Iterator[Value]:
    """What stands at each key of a text, in the order written; faults are added to *faults*."""
    from yaml.nodes import MappingNode  # noqa: PLC0415  # few processes have a configuration

    from tercel.model.yaml_nodes import Entries, compose  # noqa: PLC0415  # same

    lines = (line.strip() for line in source.text.removeprefix("\ufeff").splitlines())
    if all(not line or line.startswith("#") or line == "---" for line in lines):
        return
    root, issues = compose(source.text)
    entries = None if root is None else Entries(root)
    if root is None or entries is None or entries.issues:
        issues = issues if entries is None else entries.issues
        for issue in issues:
            text = f"{issue.message} {issue.hint}".rstrip()
            if issue.code == "yaml.documents":
                text = "A second document begins here. A configuration is one: join them, or keep each in its own file."
            faults.append(f"{source.name}:{issue.line}: {text}")
        return
    if not isinstance(root, MappingNode):
        faults.append(f"{source.name}:{root.start_mark.line + 1}: A configuration is a mapping of keys to values.")
        return
    for value in _Walk(source.name, rank, entries).below(root, ""):
        if value.key.startswith(_OWN) and value.key not in _SETTINGS:
            faults.append(f"{value.place}: {value.key} is no setting.{_did_you_mean(_nearest_setting(value.key))}")
        else:
            yield value


class _Walk:
    """Goes through the nodes of one text."""

    def __init__(self, name: str, rank: int, entries: "Entries") -> None:
        self._name = name
        self._rank = rank
        self._entries = entries

    def below(self, node: "Node", path: str) -> Iterator[Value]:
        """What stands below a mapping, whose keys are names or several of them with dots between."""
        for written, (key, value) in self._entries.of(node).items():
            names = written.split(".")
            inner = path
            for index, name in enumerate(names):
                inner = f"{inner}.{kebab(name)}" if inner else kebab(name)
                if inner in _WHOLE:
                    rest = ".".join(names[index + 1 :])
                    content = self._entries.value(value)
                    if content is not None:
                        yield self._value(inner, {rest: content} if rest else content, key)
                    break
            else:
                yield from self._at(value, inner, key)

    def _at(self, node: "Node", path: str, key: "Node") -> Iterator[Value]:
        from yaml.nodes import MappingNode, SequenceNode  # noqa: PLC0415  # see above

        from tercel.model.yaml_nodes import is_null  # noqa: PLC0415  # same

        if isinstance(node, MappingNode):
            yield from self.below(node, path)
        elif isinstance(node, SequenceNode):
            yield self._value(path, self._entries.value(node), key)
        elif not is_null(node):
            yield self._value(path, str(node.value), key)

    def _value(self, path: str, content: object, key: "Node") -> Value:
        held = cast("Content", content) if isinstance(content, str | list | dict) else str(content)
        return Value(path, held, path, f"{self._name}:{key.start_mark.line + 1}", self._rank)


# Placeholders


def _filled(value: Value, values: Mapping[str, Value], environment: Mapping[str, str], faults: list[str]) -> Value:
    """*value* with its placeholders filled."""
    lookup = _Lookup(values, environment)
    try:
        return msgspec.structs.replace(value, content=cast("Content", _fill_all(value.content, lookup)))
    except _UnfilledError as error:
        faults.append(f"{value.where} {error}")
        return value


class _UnfilledError(Exception):
    """A placeholder that cannot be filled; the rest of a sentence that begins with its place."""


class _Lookup:
    """Finds what placeholders stand for."""

    def __init__(self, values: Mapping[str, Value], environment: Mapping[str, str], depth: int = 0) -> None:
        self._values = values
        self._environment = environment
        self._depth = depth

    def find(self, name: str) -> str | None:
        """The text for a name: of an environment variable, or of another key, by whatever spelling."""
        if name == "random.port":
            return "0"
        path = ".".join(kebab(part) for part in name.split("."))
        for variable in (name, variable_of(path)):
            if variable in self._environment:
                return self._environment[variable]
        value = self._values.get(path)
        if value is None or not isinstance(value.content, str):
            return None
        if self._depth >= _MOST_DEEP:
            raise _UnfilledError("asks for itself by a placeholder.")
        return _fill(value.content, _Lookup(self._values, self._environment, self._depth + 1))


def _fill_all(content: object, lookup: _Lookup) -> object:
    match content:
        case str():
            return _fill(content, lookup) if "${" in content else content
        case list():
            return [_fill_all(one, lookup) for one in cast("list[object]", content)]
        case dict():
            return {name: _fill_all(one, lookup) for name, one in cast("dict[str, object]", content).items()}
        case _:
            return content


def _fill(text: str, lookup: _Lookup) -> str:
    """*text* with each `${NAME}` and `${NAME:default}` filled; defaults may hold more of them."""
    filled: list[str] = []
    while "${" in text:
        before, _, rest = text.partition("${")
        end = _end_of(rest)
        if end is None:
            raise _UnfilledError("has a ${ without its }.")
        name, separator, default = rest[:end].partition(":")
        found = lookup.find(name.strip())
        if found is None and not separator:
            raise _UnfilledError(
                f"asks for ${{{name}}}, which is neither an environment variable nor a key. "
                f"Set it, or give a default: ${{{name}:…}}."
            )
        filled += [before, _fill(default, lookup) if found is None else found]
        text = rest[end + 1 :]
    return "".join([*filled, text])


def _end_of(text: str) -> int | None:
    """Where the placeholder that *text* is inside of ends."""
    depth = 0
    for match in re.finditer(r"\$\{|\}", text):
        depth += 1 if match[0] == "${" else -1
        if depth < 0:
            return match.start()
    return None


# What is said in vain


def _unknown(value: Value) -> str:
    return f"{value.where} is no key that is known.{_did_you_mean(nearest_key(value.key))}"


def _did_you_mean(near: str) -> str:
    return f" Did you mean {near}?" if near else ""


def _nearest_setting(path: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415  # seldom needed

    near = get_close_matches(path.removeprefix(_OWN), [key.removeprefix(_OWN) for key in _SETTINGS], n=1)
    return _OWN + near[0] if near else ""


def _without_effect(values: Iterable[Value]) -> Iterator[Note]:
    for value in values:
        key = find_key(value.key)
        if key is not None and not key.settings:
            yield Note(value.name, value.place, key.note)
