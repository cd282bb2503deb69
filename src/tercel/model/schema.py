"""JSON Schema (draft 2020-12) of a flow and of single types, so that editors complete, explain and underline.

It is somewhat stricter than reading a flow is: it wants `true` without quotes, and a required property also where
plugin defaults would bring it. Only the schema command imports this module.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from enum import Enum
from inspect import cleandoc

from tercel.errors import MissingToolError
from tercel.model.catalog import Catalog
from tercel.model.flow import Flow
from tercel.model.shapes import (
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
    is_family,
    shape_of,
)
from tercel.model.task import Part

Schema = dict[str, object]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SCALAR = ["string", "number", "boolean"]
_FORMATS: Mapping[type, str] = {datetime: "date-time", date: "date", time: "time"}


def flow_schema(catalog: Catalog) -> Schema:
    """The schema of a whole flow with every type of *catalog* that can be imported."""
    return _Schemas(classes(catalog)).document(Flow)


def type_schema(part: type[Part], catalog: Catalog | None = None) -> Schema:
    """The schema of one type's mapping, or of any type of a family.

    Tasks inside it may be any of *catalog*, or anything without one.
    """
    return _Schemas(classes(catalog) if catalog is not None else None).document(part)


def classes(catalog: Catalog) -> Sequence[type[Part]]:
    """Every type of *catalog* that can be imported, by name."""
    found: dict[str, type[Part]] = {}
    for name in catalog.names():
        try:
            part = catalog.find(name)
        except MissingToolError:
            continue
        if part is not None:
            found[part.plugin_type] = part
    return [found[name] for name in sorted(found)]


class _Schemas:
    """Schemas that refer to each other, made while they are asked for."""

    def __init__(self, classes: Sequence[type[Part]] | None) -> None:
        self._classes = classes
        self._defs: Schema = {}

    def document(self, part: type[Part]) -> Schema:
        schema = self._family(part) if is_family(part) else self._object(part)
        return {"$schema": DIALECT, **schema, "$defs": dict(sorted(self._defs.items()))}

    def _reference(self, part: type[Part]) -> Schema:
        name = part.family.replace(" ", "-") if is_family(part) else part.plugin_type or part.__name__
        if name not in self._defs:
            self._defs[name] = {}  # stands for itself while it is made: tasks hold tasks
            self._defs[name] = self._family(part) if is_family(part) else self._object(part)
        return {"$ref": f"#/$defs/{name}"}

    def _family(self, base: type[Part]) -> Schema:
        """Any type of a family: `type` says which schema holds."""
        required = [field.name for field in shape_of(base).required]
        if self._classes is None:
            return {"type": "object", "required": required, "properties": {"type": {"type": "string"}}}
        members = [part for part in self._classes if issubclass(part, base)]
        if not members:
            return {"description": f"There is no {base.family} type yet.", "not": {}}
        branches = [
            {
                "if": {
                    "properties": {"type": {"enum": [part.plugin_type, *part.plugin_aliases]}},
                    "required": ["type"],
                },
                "then": self._reference(part),
            }
            for part in members
        ]
        return {
            "type": "object",
            "required": required,
            "properties": {"type": {"anyOf": [one for part in members for one in _type_names(part)]}},
            "allOf": branches,
        }

    def _object(self, part: type[Part]) -> Schema:
        shape = shape_of(part)
        about = descriptions(part)
        properties: Schema = {}
        for field in shape.fields.values():
            properties[field.name] = self._property(part, field, about.get(field.attribute, ""))
        for old, new in shape.former.items():
            of_new = self._kind(shape.fields[new].kind)
            properties[old] = {**of_new, "description": f"Former name of `{new}`.", "deprecated": True}
        schema: Schema = {
            "title": part.plugin_type or part.__name__,
            "description": summary(part),
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
            **_required(shape),
        }
        if "type" in part.deprecated:
            schema["deprecated"] = True
            schema["description"] = f"{summary(part)}\n\nDeprecated. {part.deprecated['type']}"
        return schema

    def _property(self, part: type[Part], field: Field, about: str) -> Schema:
        if field.name == "type" and part.plugin_type:
            return {"description": "Full name of the type.", "anyOf": _type_names(part)}
        schema = self._kind(field.kind)
        notes = [about or field.kind.description]
        if field.name in part.deprecated:
            notes.append(f"Deprecated. {part.deprecated[field.name]}")
            schema["deprecated"] = True
        if any(notes):
            schema["description"] = "\n\n".join(note for note in notes if note)
        default = _plain_default(field)
        if default is not None:
            schema["default"] = default
        return schema

    def _kind(self, kind: Kind) -> Schema:
        match kind:
            case Text():
                bounds = {"minLength": kind.min_length, "maxLength": kind.max_length}
                pattern = kind.pattern.pattern if kind.pattern is not None else None
                return _without_none({"type": list(_SCALAR), "pattern": pattern, **bounds})
            case Flag():
                return {"type": "boolean"}
            case Number():
                bounds = {"minimum": kind.ge, "exclusiveMinimum": kind.gt}
                bounds |= {"maximum": kind.le, "exclusiveMaximum": kind.lt}
                return _without_none({"type": "integer" if kind.is_whole else "number", **bounds})
            case Choice():
                return {"enum": list(kind.values)}
            case Duration():
                return {"type": ["string", "number"]}
            case Moment():
                return {"type": "string", "format": _FORMATS[kind.type]}
            case ListOf():
                return _without_none({"type": "array", "items": self._kind(kind.item), "minItems": kind.min_length})
            case MapOf():
                return {"type": "object", "additionalProperties": self._kind(kind.value)}
            case LabelMap():
                return _labels()
            case Nested():
                return self._reference(kind.part)
            case Either():
                return {"anyOf": [self._kind(one) for one in kind.kinds]}
            case _:
                return {}


def _labels() -> Schema:
    value: Schema = {"type": list(_SCALAR)}
    pair: Schema = {
        "type": "object",
        "properties": {"key": value, "value": value},
        "required": ["key", "value"],
        "additionalProperties": False,
    }
    return {"anyOf": [{"type": "object", "additionalProperties": value}, {"type": "array", "items": pair}]}


def _type_names(part: type[Part]) -> list[Schema]:
    """The names of a type, each with what an editor shows while completing it."""
    is_deprecated: Schema = {"deprecated": True} if "type" in part.deprecated else {}
    first = summary(part).partition("\n")[0]
    return [
        {"const": part.plugin_type, "description": first, **is_deprecated},
        *(
            {"const": name, "description": f"Former name of {part.plugin_type}.", "deprecated": True}
            for name in part.plugin_aliases
        ),
    ]


def _required(shape: Shape) -> Schema:
    """Required properties; one that has a former name may be given under either."""
    names = [field.name for field in shape.required]
    former = {new: old for old, new in shape.former.items() if new in names}
    schema: Schema = {"required": [name for name in names if name not in former]}
    if former:
        schema["allOf"] = [{"anyOf": [{"required": [new]}, {"required": [old]}]} for new, old in former.items()]
    return schema


def _without_none(schema: Schema) -> Schema:
    return {name: value for name, value in schema.items() if value is not None}


def _plain_default(field: Field) -> object:
    """The default where it says something: not None, not an empty collection."""
    if field.is_required:
        return None
    value = field.default.value if isinstance(field.default, Enum) else field.default
    return value if isinstance(value, (str, int, float)) and value != "" else None


def summary(part: type[Part]) -> str:
    """What the docstring of *part* says before its first section."""
    lines: list[str] = []
    for line in cleandoc(part.__doc__ or "").splitlines():
        if line in _SECTIONS:
            break
        lines.append(line)
    return "\n".join(lines).strip()


_SECTIONS = frozenset({"Args:", "Attributes:", "Example:", "Outputs:", "Raises:", "Returns:"})


def descriptions(part: type[Part]) -> dict[str, str]:
    """What the `Attributes:` sections of *part* and its bases say, by Python name.

    Example:
        >>> from tercel.model.task import Retry
        >>> descriptions(Retry)["max_duration"]
        'no further try starts later than this after the first one started; without it there is no limit.'
    """
    return _told(part, "Attributes:")


def outputs(part: type[Part]) -> dict[str, str]:
    """What the `Outputs:` sections of *part* and its bases say, by name."""
    return _told(part, "Outputs:")


def example(part: type[Part]) -> str:
    """The body of a flow, without `id` and `namespace`, from the section `Example:` of *part* itself; "" for none."""
    docstring = cleandoc(part.__dict__.get("__doc__") or "")
    _, _, rest = f"\n{docstring}".partition("\nExample:\n")
    lines: list[str] = []
    for line in rest.splitlines():
        if line and not line.startswith(" "):
            break
        lines.append(line)
    text = cleandoc("\n" + "\n".join(lines)).strip("\n")
    return f"{text}\n" if text else ""


def example_flow(part: type[Part]) -> str:
    """The example of *part* as a whole flow; "" where there is none."""
    body = example(part)
    return f"id: example\nnamespace: company.team\n\n{body}" if body else ""


def _told(part: type[Part], section: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for base in reversed(part.__mro__):
        if issubclass(base, Part):
            found |= _entries(cleandoc(base.__dict__.get("__doc__") or ""), section)
    return found


def _entries(docstring: str, section: str) -> dict[str, str]:
    found: dict[str, str] = {}
    is_inside, names = False, tuple[str, ...]()
    for line in docstring.splitlines():
        if line and not line.startswith(" "):
            is_inside = line == section
        elif is_inside and line.startswith("    ") and not line.startswith("     "):
            head, _, text = line.strip().partition(": ")
            names = tuple(name.strip() for name in head.split(","))
            found |= dict.fromkeys(names, text)
        elif is_inside and line.strip():
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
    return found
