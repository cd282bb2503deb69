"""Shapes: what a Part accepts, read off its annotations once and kept.

Whoever turns YAML into a Part (`convert`) and whoever describes it to an editor (`schema`) read the same shape.
"""

import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from enum import Enum
from types import UnionType
from typing import Annotated, Literal, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from tercel.errors import InvariantError
from tercel.model.task import Part


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What a value may be.

    Attributes:
        code: name of the violation when the value is missing or breaks a bound; "" for none.
        hint: what to write instead, for people; "" for none.
        description: what it means, where the annotation says so; "" otherwise.
    """

    code: str = ""
    hint: str = ""
    description: str = ""


class Text(Kind, frozen=True, kw_only=True):
    """A text, kept as written. *is_dynamic*: may hold `{{ … }}`; *is_duration*: must be a duration if it does not."""

    pattern: re.Pattern[str] | None = None
    min_length: int | None = None
    max_length: int | None = None
    is_dynamic: bool = False
    is_duration: bool = False


class Flag(Kind, frozen=True, kw_only=True):
    """True or false."""


class Number(Kind, frozen=True, kw_only=True):
    """A number, whole where *is_whole*, within bounds: at least, more than, at most, less than."""

    is_whole: bool = False
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None


class Choice(Kind, frozen=True, kw_only=True):
    """One of some texts; the text leads to the value. *deprecated*: texts that still work, to what to write instead."""

    values: Mapping[str, object]
    deprecated: Mapping[str, str] = {}


class Duration(Kind, frozen=True, kw_only=True):
    """An ISO 8601 duration or seconds."""


class Moment(Kind, frozen=True, kw_only=True):
    """A date, a time of day, or an instant with its zone; *type* says which."""

    type: type[date | time]


class Anything(Kind, frozen=True, kw_only=True):
    """Any value; *is_raw*: a scalar keeps its source text."""

    is_raw: bool = False


class ListOf(Kind, frozen=True, kw_only=True):
    """A list."""

    item: Kind
    min_length: int | None = None


class MapOf(Kind, frozen=True, kw_only=True):
    """A mapping with free keys."""

    value: Kind


class LabelMap(Kind, frozen=True, kw_only=True):
    """Labels: a mapping, or a list of `key` and `value`."""


class Nested(Kind, frozen=True, kw_only=True):
    """A Part; by its `type` through the catalog where the Part belongs to a family."""

    part: type[Part]


class Either(Kind, frozen=True, kw_only=True):
    """One of several kinds."""

    kinds: tuple[Kind, ...]


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One property: its name in YAML and in Python, what it accepts, and what it is when absent."""

    name: str
    attribute: str
    kind: Kind
    is_required: bool
    default: object = None


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """All properties of a Part by their YAML names, those that must be given, and the names they had before."""

    part: type[Part]
    fields: Mapping[str, Field]
    required: tuple[Field, ...]
    former: Mapping[str, str]


_SHAPES: dict[type[Part], Shape] = {}


def shape_of(part: type[Part]) -> Shape:
    """The shape of *part*."""
    found = _SHAPES.get(part)
    if found is None:
        found = _SHAPES[part] = _read_shape(part)
    return found


def is_family(part: type[Part]) -> bool:
    """True where *part* only names a family, so that a `type` says which class it is."""
    return bool(part.family) and not part.plugin_type


def _read_shape(part: type[Part]) -> Shape:
    hints = get_type_hints(part, include_extras=True)
    attributes, names, defaults = part.__struct_fields__, part.__struct_encode_fields__, part.__struct_defaults__
    missing = len(attributes) - len(defaults)
    fields: dict[str, Field] = {}
    for index, (attribute, name) in enumerate(zip(attributes, names, strict=True)):
        default: object = defaults[index - missing] if index >= missing else msgspec.NODEFAULT
        if _is_internal(hints[attribute]):
            continue
        fields[name] = Field(
            name=name,
            attribute=attribute,
            kind=kind_of(hints[attribute], f"{part.__qualname__}.{attribute}"),
            is_required=default is msgspec.NODEFAULT,
            default=default,
        )
    required = tuple(field for field in fields.values() if field.is_required)
    return Shape(part=part, fields=fields, required=required, former=part.former_names)


def _is_internal(annotation: object) -> bool:
    """True for `Internal[…]`: a value that no YAML sets."""
    if get_origin(annotation) is not Annotated:
        return False
    metas = [meta for meta in get_args(annotation) if isinstance(meta, msgspec.Meta)]
    return any((meta.extra or {}).get("internal") for meta in metas)


def kind_of(annotation: object, where: str = "") -> Kind:
    """What *annotation* accepts; None beside other types means that the property may be left out.

    Raises:
        InvariantError: the annotation is none that YAML can be turned into; *where* names the field.
    """
    origin = get_origin(annotation)
    if origin is Annotated:
        base, *metas = get_args(annotation)
        return _bounded(kind_of(base, where), metas)
    if origin in {Union, UnionType}:
        kinds = tuple(kind_of(one, where) for one in get_args(annotation) if one is not type(None))
        return kinds[0] if len(kinds) == 1 else Either(kinds=kinds)
    if origin is Literal:
        return Choice(values={str(value): value for value in get_args(annotation)})
    arguments = get_args(annotation)
    if annotation is list or origin in {list, tuple}:
        return ListOf(item=kind_of(arguments[0], where) if arguments else Anything())
    if annotation is dict or origin in {dict, Mapping}:
        return MapOf(value=kind_of(arguments[1], where) if arguments else Anything())
    simple = _SIMPLE.get(cast("type", annotation))
    if simple is not None:
        return simple
    if isinstance(annotation, type):
        if issubclass(annotation, Part):
            return Nested(part=annotation)
        if issubclass(annotation, Enum):
            return Choice(values={str(member.value): member for member in annotation})
    raise InvariantError(f"{where} is annotated with {annotation!r}, which no YAML can be turned into.")


_SIMPLE: dict[object, Kind] = {
    str: Text(),
    bool: Flag(),
    int: Number(is_whole=True),
    float: Number(),
    timedelta: Duration(),
    datetime: Moment(type=datetime),
    date: Moment(type=date),
    time: Moment(type=time),
    object: Anything(),
}


def _bounded(kind: Kind, metas: list[object]) -> Kind:
    """*kind* with the bounds that `msgspec.Meta` objects put on it."""
    for meta in metas:
        if not isinstance(meta, msgspec.Meta):
            continue
        extra = cast("dict[str, object]", meta.extra or {})
        changes: dict[str, object] = {name: extra[name] for name in ("code", "hint") if name in extra}
        if meta.description:
            changes["description"] = meta.description
        match kind:
            case Text():
                if "pattern" not in changes and meta.pattern is not None:
                    changes["pattern"] = re.compile(meta.pattern)
                changes |= _given(meta, "min_length", "max_length")
                changes |= {"is_dynamic": True} if extra.get("dynamic") else {}
                changes |= {"is_duration": True} if extra.get("format") == "duration" else {}
            case Number():
                changes |= _given(meta, "ge", "gt", "le", "lt")
            case ListOf():
                changes |= _given(meta, "min_length")
            case Anything():
                changes |= {"is_raw": True} if extra.get("raw") else {}
            case Choice():
                changes |= {name: extra[name] for name in ("deprecated",) if name in extra}
            case MapOf() if extra.get("labels"):
                kind = LabelMap()
            case _:
                pass
        if changes:
            kind = msgspec.structs.replace(kind, **changes)
    return kind


def _given(meta: msgspec.Meta, *names: str) -> dict[str, object]:
    return {name: getattr(meta, name) for name in names if getattr(meta, name) is not None}


def accepted(kind: Kind) -> tuple[str, ...]:
    """What may stand there, for people: the kinds of value, or the values."""
    match kind:
        case Text(is_duration=True):
            return ("a duration such as PT15M",)
        case Text():
            return ("a text",)
        case Flag():
            return ("true", "false")
        case Number(is_whole=True):
            return ("a whole number",)
        case Number():
            return ("a number",)
        case Choice(values=values):
            return tuple(values)
        case Duration():
            return ("a duration such as PT15M",)
        case Moment(type=type_):
            return (_MOMENTS[type_],)
        case ListOf():
            return ("a list",)
        case Either(kinds=kinds):
            return tuple(dict.fromkeys(text for one in kinds for text in accepted(one)))
        case Anything():
            return ("any value",)
        case _:
            return ("a mapping",)


_MOMENTS: dict[type, str] = {
    datetime: "an instant such as 2030-01-31T12:00:00Z",
    date: "a date such as 2030-01-31",
    time: "a time of day such as 12:30:00",
}
