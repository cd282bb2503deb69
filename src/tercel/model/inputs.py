"""The values that an execution starts with, or goes on with: defaulted, parsed and checked as they are declared.

Pure: expressions are rendered by a callable that is handed in, and uploads have been stored by whoever calls.
Every way to start a flow comes by here, and what a Pause asks for when it is resumed as well.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

import msgspec

from tercel.errors import InvalidInputError, UserError
from tercel.model.input_types import Input, dependency_problems
from tercel.model.input_values import STORED, as_text, parse_bound, parse_output, parse_value, quoted
from tercel.model.task import Problem

__all__ = [
    "STORED",
    "Input",
    "RenderTyped",
    "ResolvedInput",
    "examine_inputs",
    "input_problems",
    "parse_output",
    "parse_value",
    "repeated_ids",
    "resolve_inputs",
    "with_defaults",
]

RenderTyped = Callable[[str, Mapping[str, object]], object]
"""Renders a template with these variables on top of the execution's; what prints one value keeps its type."""

_AS_TEXT = "{% filter default('') %}"
"""Opens what a template prints as one text, whatever it is made of."""

_TEXTUAL = frozenset({"STRING", "EMAIL", "FILE"})
_TRUTHS = frozenset({"BOOLEAN", "BOOL"})
_YES = frozenset({"yes", "Yes", "YES", "on", "On", "ON"})
_NO = frozenset({"no", "No", "NO", "off", "Off", "OFF"})


class ResolvedInput(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one declared input.

    Attributes:
        input: as it is declared.
        value: parsed; None where there is none.
        is_enabled: False where `dependsOn` switches it off.
        is_default: nobody gave a value, so that the declared default counts.
        errors: why it has no value, as clauses for people that name what was received.
        warnings: what was taken although it looks like a mistake; clauses, too.
    """

    input: Input
    value: object = None
    is_enabled: bool = True
    is_default: bool = False
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def resolve_inputs(
    declared: Sequence[Input],
    given: Mapping[str, object],
    render_typed: RenderTyped,
    *,
    can_seal: bool = True,
    warn: Callable[[str], object] | None = None,
) -> dict[str, object]:
    """Parse, default and check *given* by what is *declared*.

    Args:
        declared: the inputs of a flow (`flow.inputs`), or those that a Pause asks for.
        given: by input id, text or already typed; ids with dots may also come as nested maps. What no input is named
            by is ignored.
        render_typed: renders conditions, defaults that are expressions and lists of values. Where a default prints
            more than one value, it is asked for the text.
        can_seal: False where there is no key to keep secrets by, so that no SECRET can be taken.
        warn: told each sentence on what was taken although it looks like a mistake.

    Returns:
        The values by id, ids with dots as nested maps; inputs switched off by `dependsOn` are left out.

    Raises:
        InvalidInputError: naming every input that is missing or does not fit.
    """
    resolved = examine_inputs(declared, given, render_typed, can_seal=can_seal)
    errors = [f"Input '{one.input.id}': {_sentence(text)}" for one in resolved for text in one.errors]
    if errors:
        raise InvalidInputError("\n".join(errors), "Start the flow again with values that fit.")
    if warn is not None:
        for one in resolved:
            for text in one.warnings:
                warn(f"Input '{one.input.id}': {_sentence(text)}")
    values: dict[str, object] = {}
    for one in resolved:
        if one.is_enabled:
            _place(values, one.input.id.split("."), one.value)
    return values


def examine_inputs(
    declared: Sequence[Input], given: Mapping[str, object], render_typed: RenderTyped, *, can_seal: bool = True
) -> list[ResolvedInput]:
    """As `resolve_inputs`, but say for each input what became of it; in the order declared."""
    resolution = _Resolution(declared, given, render_typed, can_seal=can_seal)
    return [resolution.resolve(one) for one in declared]


def with_defaults(
    declared: Sequence[Input], values: Mapping[str, object], render_typed: RenderTyped | None = None
) -> dict[str, object]:
    """Add the defaults of inputs that *values* lacks, for expressions that are rendered without a start's inputs.

    Args:
        declared: the inputs of a flow.
        values: as `resolve_inputs` gives them.
        render_typed: renders defaults that are expressions; without it they are left out.
    """
    seen = dict(values)
    for one in declared:
        if one.defaults is None or _given(seen, one.id) is not None:
            continue
        try:
            raw = _default(one, render_typed, {"inputs": values})
            value = None if raw is None else parse_value(one, raw, one.choices)
        except (ValueError, UserError):
            continue  # told when an execution starts with it
        if value is not None:
            _place(seen, one.id.split("."), value)
    return seen


class _Resolution:
    """One call of `examine_inputs`: what is known of each input so far."""

    def __init__(
        self, declared: Sequence[Input], given: Mapping[str, object], render_typed: RenderTyped, *, can_seal: bool
    ) -> None:
        self._declared = {one.id: one for one in declared}
        self._known: dict[str, ResolvedInput] = {}
        self._unsure: set[str] = set()
        """Ids of inputs without a value because of an error, their own or of one that they depend on."""
        self._given = given
        self._render = render_typed
        self._can_seal = can_seal

    def resolve(self, one: Input) -> ResolvedInput:
        """What becomes of the input, worked out once, after what it depends on."""
        known = self._known.get(one.id)
        if known is None:
            self._known[one.id] = ResolvedInput(input=one, is_enabled=False)  # also ends a circle of dependencies
            try:
                known = self._resolved(one)
            except (ValueError, UserError) as error:
                text = error.message if isinstance(error, UserError) else str(error)
                known = ResolvedInput(input=one, errors=(text,))
                self._unsure.add(one.id)
            self._known[one.id] = known
        return known

    def _resolved(self, one: Input) -> ResolvedInput:
        needed: dict[str, object] = {}
        for id_ in one.depends_on.inputs if one.depends_on else ():
            before = self.resolve(self._declared[id_]) if id_ in self._declared else None
            if before is None or not before.is_enabled:
                return ResolvedInput(input=one, is_enabled=False)
            if id_ in self._unsure:
                self._unsure.add(one.id)
            _place(needed, id_.split("."), before.value)
        context = {"inputs": needed}
        condition = one.depends_on.condition if one.depends_on else None
        is_unsure = one.id in self._unsure
        if condition is not None and (is_unsure or self._render(condition, context) is not True):
            return ResolvedInput(input=one, is_enabled=False)
        raw = _given(self._given, one.id)
        if raw == "" and one.type not in _TEXTUAL:
            raw = None
        is_default = raw is None
        if is_default and is_unsure:
            return ResolvedInput(input=one)
        if is_default:
            raw = _default(one, self._render, context)
        if raw is None:
            if one.required:
                raise ValueError("a value is missing")
            return ResolvedInput(input=one)
        return ResolvedInput(
            input=one, value=self._parsed(one, raw, context), is_default=is_default, warnings=_warnings(one, raw)
        )

    def _parsed(self, one: Input, raw: object, context: Mapping[str, object]) -> object:
        if one.is_secret and not self._can_seal:
            raise ValueError("there is no key to keep a SECRET by")
        choices = one.choices
        if choices is None and one.expression is not None:
            choices = _listed(self._render(one.expression, context))
        try:
            return parse_value(one, raw, choices)
        except ValueError as error:
            text, shown = str(error), quoted(raw)
            is_shown = one.is_secret or "'" in text or shown.strip("'") in text
            raise ValueError(text if is_shown else f"{text} ({shown} was given)") from None


def _given(given: Mapping[str, object], id_: str) -> object:
    """The value that is given for an id, under the id itself or in nested maps; None where there is none."""
    if id_ in given:
        return given[id_]
    *maps, last = id_.split(".")
    for step in maps:
        inner = given.get(step)
        if not isinstance(inner, Mapping):
            return None
        given = cast("Mapping[str, object]", inner)
    return given.get(last)


def _default(one: Input, render_typed: RenderTyped | None, context: Mapping[str, object]) -> object:
    """The declared default, rendered where it is an expression; None where there is none, or nothing to render by."""
    if one.type in _TRUTHS and one.defaults in _YES | _NO:
        return one.defaults in _YES  # as YAML reads it; its source text is kept for the other types
    if _has_template(one.defaults):
        return None if render_typed is None else _rendered(one.defaults, render_typed, context)
    return one.defaults


def _rendered(value: object, render_typed: RenderTyped, context: Mapping[str, object]) -> object:
    match value:
        case str():
            return _rendered_text(value, render_typed, context) if _is_template(value) else value
        case list():
            return [_rendered(item, render_typed, context) for item in cast("list[object]", value)]
        case dict():
            pairs = cast("dict[str, object]", value).items()
            return {name: _rendered(item, render_typed, context) for name, item in pairs}
        case _:
            return value


def _rendered_text(template: str, render_typed: RenderTyped, context: Mapping[str, object]) -> object:
    """The one value that a template prints, its type kept; where it prints more, such as text before it, a text."""
    try:
        return render_typed(template, context)
    except UserError:
        try:
            return render_typed(f"{_AS_TEXT}{template}{{% endfilter %}}", context)
        except UserError:
            pass  # what is wrong with the template itself is the better error
        raise


def _has_template(value: object) -> bool:
    match value:
        case str():
            return _is_template(value)
        case list():
            return any(map(_has_template, cast("list[object]", value)))
        case dict():
            return any(map(_has_template, cast("dict[str, object]", value).values()))
        case _:
            return False


def _is_template(text: str) -> bool:
    return "{{" in text or "{%" in text or "{#" in text


def _warnings(one: Input, raw: object) -> tuple[str, ...]:
    if one.type in _TRUTHS and isinstance(raw, str) and raw.strip().lower() not in {"true", "false"}:
        return (f"{quoted(raw)} is neither true nor false; it counts as false",)
    return ()


def _listed(value: object) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("its expression gives no list of values")  # noqa: TRY004  # the flow's fault, told as text
    return [as_text(item) for item in cast("list[object]", value) if item is not None]


def _place(values: dict[str, object], path: Sequence[str], value: object) -> None:
    """Put *value* at *path* into nested maps; those of *values* that are not its own stay as they are."""
    for step in path[:-1]:
        inner = values.get(step)
        if inner is not None and not isinstance(inner, dict):
            return  # refused when the flow was read
        values[step] = dict(cast("dict[str, object]", inner or {}))
        values = cast("dict[str, object]", values[step])
    values[path[-1]] = value


def _sentence(clause: str) -> str:
    return clause if clause.endswith(".") else f"{clause}."


# ── what is declared ─────────────────────────────────────────────────────────────────────────────────────────────


def input_problems(declared: Sequence[Input], name: str = "inputs") -> Iterator[Problem]:
    """What is wrong with inputs that are declared together: ids, dependencies, bounds and defaults.

    Args:
        declared: of a flow or of a Pause.
        name: the property that declares them.
    """
    yield from repeated_ids("input", name, [one.id for one in declared])
    yield from dependency_problems(declared, name)
    for index, one in enumerate(declared):
        is_right = next(one.problems(), None) is None  # otherwise told by the input itself
        for problem in default_problems(one) if is_right else ():
            yield msgspec.structs.replace(problem, path=(name, index, *problem.path))


def repeated_ids(noun: str, name: str, ids: Sequence[str]) -> Iterator[Problem]:
    """Ids that an item before has already; *noun* is what an item is called, *name* the property that lists them."""
    first: dict[str, int] = {}
    for index, one in enumerate(ids):
        if first.setdefault(one, index) != index:
            message = f"The {noun} id '{one}' is used already, by {name}[{first[one]}]."
            yield Problem(message, f"Give every {noun} its own id.", f"{noun}.id.duplicate", (name, index, "id"))


def default_problems(one: Input) -> Iterator[Problem]:
    """What is wrong with the bounds and the default that *one* declares, as far as it shows before any start."""
    for name in one.own_bounds:
        if getattr(one, name) is None:
            continue
        try:
            parse_bound(one, name)
        except ValueError as error:
            hint = f"Write a value of type {one.type}."
            yield Problem(f"'{name}' does not fit: {error}.", hint, "property.type", (name,))
            return
    if one.defaults is None or _has_template(one.defaults):
        return
    if one.type == "FILE" and not str(one.defaults).startswith(STORED):
        message = f"The default {quoted(one.defaults)} is not a file in internal storage."
        yield Problem(message, "Use a URI like nsfile:///data.csv.", "input.file.defaults", ("defaults",))
        return
    is_known_later = one.choices is None and one.expression is not None
    if one.is_secret or is_known_later or (one.values is not None and one.options is not None):
        return
    try:
        parse_value(one, _default(one, None, {}), one.choices)
    except ValueError as error:
        yield Problem(f"The default does not fit: {error}.", "", "input.defaults", ("defaults",))
