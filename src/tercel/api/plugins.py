"""`/plugins`: the types that flows may name: lists of them, their documentation, JSON Schemas and icons."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from html import escape
from typing import Any, cast

import msgspec
from starlette.responses import Response

from tercel import __version__
from tercel.api.answers import json_answer, page_answer
from tercel.api.call import Call
from tercel.api.paging import page_of, read_paging
from tercel.api.routing import Route
from tercel.api.shapes import Json
from tercel.errors import NotFoundError
from tercel.machine.flowable import ExecutableTask, FlowableTask
from tercel.model.condition import Condition
from tercel.model.flow import Flow, PluginDefault
from tercel.model.input_types import INPUT_TYPES, Input, own_properties
from tercel.model.schema import classes, example_flow, outputs, summary, type_schema
from tercel.model.task import Part, Task
from tercel.model.trigger import Trigger
from tercel.plugin_api import TaskRunner
from tercel.plugins import catalog

_DIALECT = "http://json-schema.org/draft-07/schema#"
_KESTRA = "io.kestra.plugin."
_KEPT = {"Cache-Control": "max-age=3600"}

_FAMILIES: Mapping[str, type[Part]] = {
    "tasks": Task,
    "triggers": Trigger,
    "conditions": Condition,
    "taskRunners": TaskRunner,
}
_NONE_OF_OURS = (
    "controllers",
    "storages",
    "secrets",
    "apps",
    "appBlocks",
    "charts",
    "dataFilters",
    "dataFiltersKPI",
    "logExporters",
    "additionalPlugins",
    "categories",
    "aliases",
    "guides",
)

_SCHEMAS: Mapping[str, type[Part]] = {
    "flow": Flow,
    "task": Task,
    "trigger": Trigger,
    "plugindefault": PluginDefault,
}

_INPUT_CLASSES: Mapping[str, str] = {"DATETIME": "DateTimeInput", "URI": "URIInput"}

_COLOURS = ("#3b6ea5", "#4c8c4a", "#a5533b", "#7a4ca5", "#a5873b", "#3ba59b", "#a53b75", "#5b6470")


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Types that belong together.

    Attributes:
        name: what their full names begin with.
        sub: the same for a part of them; empty for all.
        parts: the types, by name.
    """

    name: str
    sub: str = ""
    parts: tuple[type[Part], ...]

    @property
    def title(self) -> str:
        """For people."""
        return (self.sub or self.name).rpartition(".")[2].replace("-", " ").capitalize()


_SORTABLE: Mapping[str, Callable[[Group], Any]] = {
    "name": lambda one: one.name.rpartition(".")[2],
    "group": lambda one: one.name,
    "title": lambda one: one.title,
}


# Lists


def groups(call: Call) -> Response:
    """A page of the groups of types."""
    paging = read_paging(call.query, _SORTABLE)
    found = _groups(is_split=False)
    return page_answer([_group_json(one) for one in page_of(found, paging, _SORTABLE)], len(found))


def subgroups(_: Call) -> Response:
    """The groups of types, split further."""
    return json_answer([_group_json(one) for one in _groups(is_split=True)], headers=_KEPT)


@lru_cache(maxsize=1)
def _parts() -> Mapping[str, type[Part]]:
    """Every type by its full name."""
    return {part.plugin_type: part for part in classes(catalog())}


def _groups(*, is_split: bool) -> list[Group]:
    found: dict[tuple[str, str], list[type[Part]]] = {}
    for name, part in _parts().items():
        package = name.rpartition(".")[0]
        found.setdefault((_group_of(name), package if is_split else ""), []).append(part)
    return [Group(name=name, sub=sub, parts=tuple(parts)) for (name, sub), parts in sorted(found.items())]


def _group_of(type_name: str) -> str:
    """The name of the group that a type belongs to.

    Example:
        >>> _group_of("io.kestra.plugin.core.log.Log"), _group_of("io.kestra.plugin.scripts.python.Script")
        ('io.kestra.plugin.core', 'io.kestra.plugin.scripts.python')
    """
    package = type_name.rpartition(".")[0]
    return f"{_KESTRA}core" if package.startswith(f"{_KESTRA}core.") else package


def _group_json(group: Group) -> Json:
    found: Json = {
        "name": group.name.rpartition(".")[2],
        "title": group.title,
        "group": group.name,
        "version": __version__,
        "license": "Apache-2.0",
        "manifest": {},
        **{name: [] for name in _NONE_OF_OURS},
    }
    for name, family in _FAMILIES.items():
        found[name] = [_listed(part) for part in group.parts if issubclass(part, family)]
    if group.sub:
        found["subGroup"] = group.sub
    return found


def _listed(part: type[Part]) -> Json:
    return {"cls": part.plugin_type, "deprecated": "type" in part.deprecated, "title": summary(part).partition("\n")[0]}


def triggers(_: Call) -> Response:
    """The full names of all types of triggers."""
    return json_answer([name for name, part in _parts().items() if issubclass(part, Trigger)], headers=_KEPT)


# Documentation


def documentation(call: Call) -> Response:
    """What a type is for and what it takes, as Markdown and as a schema; of its former names, too."""
    part = _find(call.path["cls"])
    schema = _draft_7(type_schema(part, catalog() if call.query.flag("all", False) else None))
    return json_answer(_documented(part.plugin_type, part, schema, outputs(part)), headers=_KEPT)


def versions(call: Call) -> Response:
    """The versions of a type: that of tercel."""
    part = _find(call.path["cls"])
    return json_answer({"type": part.plugin_type, "versions": [__version__]})


def of_version(call: Call) -> Response:
    """As `documentation`, in a version."""
    if call.path["version"] != __version__:
        raise NotFoundError(f"There is no version {call.path['version']} of {call.path['cls']}.")
    return documentation(call)


def _find(name: str) -> type[Part]:
    part = catalog().find(name)
    if part is None:
        near = catalog().nearest(name)
        raise NotFoundError(f"No plugin provides the type {name!r}.", f"Did you mean {near!r}?" if near else "")
    return part


def _documented(name: str, part: type[Part], schema: Json, results: Mapping[str, str]) -> Json:
    definitions = schema.pop("definitions", {})
    del schema["$schema"]
    return {
        "markdown": _markdown(name, part, schema, results),
        "schema": {
            "properties": schema,
            "outputs": {"properties": {key: {"description": text} for key, text in results.items()}},
            "definitions": definitions,
        },
    }


def _markdown(name: str, part: type[Part], schema: Json, results: Mapping[str, str]) -> str:
    required = cast("Sequence[str]", schema.get("required", ()))
    lines = [f"# {name.rpartition('.')[2]}", "", f"`{name}`", "", summary(part), "", "## Properties", ""]
    for key, value in cast("dict[str, Json]", schema["properties"]).items():
        must = " (required)" if key in required else ""
        about = " ".join(str(value.get("description", "")).split())
        lines.append(f"- `{key}`{must}: {about}" if about else f"- `{key}`{must}")
    if results:
        lines += ["", "## Outputs", "", *(f"- `{key}`: {text}" for key, text in results.items())]
    shown = example_flow(part)
    if shown:
        lines += ["", "## Example", "", "```yaml", *shown.splitlines(), "```"]
    return "\n".join(lines) + "\n"


# Schemas


def schema(call: Call) -> Response:
    """The schema of flows, of all tasks, all triggers, or plugin defaults; of a list of them with `arrayOf`."""
    return json_answer(_schema(call.path["type"].lower(), is_list=call.query.flag("arrayOf", False)), headers=_KEPT)


def properties(call: Call) -> Response:
    """The properties of what `schema` describes."""
    found = _schema(call.path["type"].lower(), is_list=False)
    return json_answer({"properties": found.get("properties", {}), "definitions": found["definitions"]}, headers=_KEPT)


@lru_cache(maxsize=8)
def _schema(name: str, *, is_list: bool) -> Json:
    part = _SCHEMAS.get(name)
    if part is None:
        raise NotFoundError(f"There is no schema {name!r}.", f"There are {', '.join(_SCHEMAS)}.")
    found = _draft_7(type_schema(part, catalog()))
    if not is_list:
        return found
    definitions = found.pop("definitions")
    return {"$schema": found.pop("$schema"), "type": "array", "items": found, "definitions": definitions}


def _draft_7(schema: Json) -> Json:
    """A schema in the words of draft 7, which editors know."""
    found = cast("Json", _renamed(schema))
    found["$schema"] = _DIALECT
    found["definitions"] = found.pop("$defs")
    return found


def _renamed(value: object) -> object:
    match value:
        case dict():
            entries = cast("Json", value)
            target = entries.get("$ref")
            if isinstance(target, str):
                entries = {**entries, "$ref": target.replace("#/$defs/", "#/definitions/", 1)}
            return {key: _renamed(one) for key, one in entries.items()}
        case list():
            return [_renamed(one) for one in cast("list[object]", value)]
        case _:
            return value


# Inputs


def inputs(_: Call) -> Response:
    """The types of inputs."""
    return json_answer([{"type": name, "cls": _input_class(name)} for name in INPUT_TYPES], headers=_KEPT)


def input_documentation(call: Call) -> Response:
    """What inputs of a type take."""
    name = call.path["type"].upper()
    if name not in INPUT_TYPES:
        raise NotFoundError(
            f"There is no type {call.path['type']!r} of inputs.", f"There are {', '.join(INPUT_TYPES)}."
        )
    found = _draft_7(type_schema(Input))
    own = own_properties(name)
    known = cast("Json", found["properties"])
    found["properties"] = {key: value for key, value in known.items() if key in own}
    return json_answer(_documented(_input_class(name), Input, found, {}), headers=_KEPT)


def _input_class(name: str) -> str:
    return f"io.kestra.core.models.flows.input.{_INPUT_CLASSES.get(name, f'{name.capitalize()}Input')}"


# Icons


def icons(_: Call) -> Response:
    """The icon of every type."""
    return json_answer({name: _icon_json(name) for name in _parts()}, headers=_KEPT)


def group_icons(_: Call) -> Response:
    """The icon of every group and of its parts."""
    names = {name for one in _groups(is_split=True) for name in (one.name, one.sub)}
    return json_answer({name: _icon_json(name) for name in sorted(names)}, headers=_KEPT)


def icon(call: Call) -> Response:
    """The icon of a type."""
    return json_answer(_icon_json(_find(call.path["cls"]).plugin_type), headers=_KEPT)


def icon_file(call: Call) -> Response:
    """The icon of a type, as it is drawn."""
    drawn = _svg(_find(call.path["cls"]).plugin_type)
    # It comes from a name that somebody installed: whoever opens it alone gets no more than a picture.
    headers = {**_KEPT, "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return Response(drawn, headers=headers, media_type="image/svg+xml")


def _icon_json(name: str) -> Json:
    part = _parts().get(name)
    return {
        "name": name.rpartition(".")[2],
        "icon": b64encode(_svg(name).encode()).decode(),
        "flowable": part is not None and issubclass(part, (FlowableTask, ExecutableTask)),
    }


def _svg(name: str) -> str:
    """A drawing for a type or a group: its letters in the colour of its group."""
    short = name.rpartition(".")[2]
    capitals = "".join(letter for letter in short[1:] if letter.isupper())
    letters = escape((short[:1].upper() + (capitals or short[1:2]))[:2])
    digest = blake2b(_group_of(f"{name}.").encode(), digest_size=1).digest()
    colour = _COLOURS[digest[0] % len(_COLOURS)]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24">'
        f'<rect x="1" y="1" width="22" height="22" rx="5" fill="{colour}"/>'
        '<text x="12" y="16" font-family="sans-serif" font-size="11" text-anchor="middle" fill="#fff">'
        f"{letters}</text></svg>"
    )


ROUTES = (
    Route(method="GET", path="/plugins", answer=groups),
    Route(method="GET", path="/plugins/groups/subgroups", answer=subgroups),
    Route(method="GET", path="/plugins/triggers", answer=triggers),
    Route(method="GET", path="/plugins/schemas/{type}", answer=schema),
    Route(method="GET", path="/plugins/properties/{type}", answer=properties),
    Route(method="GET", path="/plugins/inputs", answer=inputs),
    Route(method="GET", path="/plugins/inputs/{type}", answer=input_documentation),
    Route(method="GET", path="/plugins/icons", answer=icons),
    Route(method="GET", path="/plugins/icons/groups", answer=group_icons),
    Route(method="GET", path="/plugins/icons/{cls}", answer=icon),
    Route(method="GET", path="/plugins/{cls}", answer=documentation),
    Route(method="GET", path="/plugins/{cls}/icon.svg", answer=icon_file),
    Route(method="GET", path="/plugins/{cls}/versions", answer=versions),
    Route(method="GET", path="/plugins/{cls}/versions/{version}", answer=of_version),
)
