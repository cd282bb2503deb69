"""What a type's documentation tells of it: its properties in words, the parts inside them, and its family.

For pages and for people at a terminal. Pure; only what documents types imports this module.
"""

from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from enum import Enum
from typing import NamedTuple

import msgspec

from tercel.model.duration import format_duration
from tercel.model.schema import descriptions
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
    Text,
    is_family,
    shape_of,
)
from tercel.model.task import Part


class Property(NamedTuple):
    """A property in words.

    Attributes:
        name: as it is written in YAML.
        kind: what it takes, such as "text or list of texts".
        default: what it is when absent, as YAML; "" where that is nothing, or the property is required.
        is_rendered: texts in it may hold `{{ … }}`.
        about: what it means; deprecations and former names included.
    """

    name: str
    kind: str
    default: str
    is_required: bool
    is_rendered: bool
    about: str


def properties(part: type[Part], without: type[Part] | None = None) -> list[Property]:
    """The properties of *part*, but for those that *without* has too and that mean the same there."""
    common = set(shape_of(without).fields) if without is not None else set[str]()
    about = descriptions(part)
    return [
        Property(
            name=field.name,
            kind=kind_text(field.kind),
            default=_default(field),
            is_required=field.is_required,
            is_rendered=_is_rendered(field.kind, values_too=bool(part.plugin_type) and part.family != "condition"),
            about=_about(part, field, about.get(field.attribute, "")),
        )
        for field in shape_of(part).fields.values()
        if field.name not in common and not (field.name == "type" and part.plugin_type)
    ]


def _about(part: type[Part], field: Field, told: str) -> str:
    notes = [told or field.kind.description]
    if field.name in part.deprecated:
        notes.append(f"Deprecated: {part.deprecated[field.name]}")
    former = [old for old, new in part.former_names.items() if new == field.name]
    if former:
        notes.append(f"Former name: {', '.join(f'`{name}`' for name in former)}.")
    return " ".join(" ".join(note.split()) for note in notes if note)


def parts_inside(part: type[Part], without: type[Part] | None = None) -> list[type[Part]]:
    """The parts that are no types of their own and that properties of *part* hold, and those inside of them."""
    common = set(shape_of(without).fields) if without is not None else set[str]()
    found: dict[type[Part], None] = {}
    waiting = [field.kind for name, field in shape_of(part).fields.items() if name not in common]
    while waiting:
        for inside in _parts_of(waiting.pop(0)):
            if inside not in found and inside is not part:
                found[inside] = None
                waiting += [field.kind for field in shape_of(inside).fields.values()]
    return list(found)


def _parts_of(kind: Kind) -> Iterator[type[Part]]:
    match kind:
        case Nested(part=part) if not is_family(part):
            yield part
        case ListOf(item=inner) | MapOf(value=inner):
            yield from _parts_of(inner)
        case Either(kinds=kinds):
            for one in kinds:
                yield from _parts_of(one)
        case _:
            pass


def part_name(part: type[Part]) -> str:
    """What a part is called where it is no type of its own.

    Example:
        >>> from tercel.model.task import WorkerGroup
        >>> part_name(WorkerGroup)
        'WorkerGroup'
    """
    return part.plugin_type.rpartition(".")[2] or part.__name__


def kind_text(kind: Kind, *, is_plural: bool = False) -> str:
    """What a property takes, for people.

    Example:
        >>> kind_text(Either(kinds=(Text(), ListOf(item=Text()))))
        'list of texts or text'
    """
    match kind:
        case Text(is_duration=True) | Duration():
            return _counted("duration", is_plural)
        case Text():
            return _counted("text", is_plural)
        case Flag():
            return "true or false"
        case Number():
            return _counted("whole number" if kind.is_whole else "number", is_plural) + _bounds(kind)
        case Choice():
            *others, last = [f"`{name}`" for name in kind.values if name not in kind.deprecated]
            return f"{', '.join(others)} or {last}" if others else last
        case Moment():
            return _counted(_MOMENTS[kind.type], is_plural)
        case ListOf():
            return f"{_counted('list', is_plural)} of {kind_text(kind.item, is_plural=True)}"
        case MapOf():
            return f"{_counted('map', is_plural)} of {kind_text(kind.value, is_plural=True)}"
        case LabelMap():
            return "labels: a map, or a list of `key` and `value`"
        case Nested(part=part):
            return _counted(part.family, is_plural) if is_family(part) else part_name(part)
        case Either():
            # In an order of our own: `bool | str` and `str | bool` are one object to Python, whichever came first.
            kinds = sorted(kind.kinds, key=lambda one: _ORDER.index(type(one)) if type(one) in _ORDER else len(_ORDER))
            return " or ".join(dict.fromkeys(kind_text(one, is_plural=is_plural) for one in kinds))
        case _:
            return _counted("any value", is_plural)


_ORDER: tuple[type[Kind], ...] = (Flag, Number, Choice, Duration, Moment, LabelMap, ListOf, MapOf, Nested, Text)

_MOMENTS: Mapping[type, str] = {datetime: "instant", date: "date", time: "time of day"}


def _counted(word: str, is_plural: bool) -> str:
    if not is_plural:
        return word
    return "times of day" if word == "time of day" else f"{word}s"


def _bounds(kind: Number) -> str:
    told = (("at least", kind.ge), ("more than", kind.gt), ("at most", kind.le), ("less than", kind.lt))
    bounds = [f"{words} {bound:g}" for words, bound in told if bound is not None]
    return f" ({', '.join(bounds)})" if bounds else ""


def _default(field: Field) -> str:
    if field.is_required:
        return ""
    match field.default:
        case bool(value):
            return "true" if value else "false"
        case Enum() as value:
            return str(value.value)
        case timedelta() as value:
            return format_duration(value)
        case int(value) | float(value):
            return f"{value:g}" if isinstance(value, float) else str(value)
        case str(value):
            return msgspec.json.encode(value).decode() if value != value.strip() or value == "" else value
        case _:
            return ""


def _is_rendered(kind: Kind, *, values_too: bool) -> bool:
    """Whether texts of *kind* may hold expressions; *values_too*: those inside of any value, too."""
    match kind:
        case Text():
            return kind.is_dynamic
        case Anything():
            return values_too and not kind.is_raw
        case LabelMap():
            return values_too
        case ListOf(item=inner) | MapOf(value=inner):
            return _is_rendered(inner, values_too=values_too)
        case Either(kinds=kinds):
            return any(_is_rendered(one, values_too=values_too) for one in kinds)
        case _:
            return False
