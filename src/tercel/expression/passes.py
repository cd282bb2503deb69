"""From a text to its rendered form: raw blocks, the cache of compiled templates, repeated passes, errors.

A raw block is taken out of the text before it is parsed and put back at the very end, so that it may stand
anywhere and survives every pass.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

from tercel.errors import ExpressionError, MissingError, TercelError
from tercel.expression.budget import MAX_PASSES, MAX_TEMPLATE, Budget
from tercel.expression.evaluator import Program
from tercel.expression.lexer import line_of
from tercel.expression.parser import parse
from tercel.expression.rendering import Function, Rendering
from tercel.expression.tree import Where
from tercel.expression.values import is_list, is_map
from tercel.texts import whole

_Tell: TypeAlias = Callable[[ExpressionError, str, Where, Sequence[str]], ExpressionError]

_CACHED = 1000
_LONGEST_CACHED = 10_000
_SNIPPET = 200
_LONGEST_REASON = 500
_LINE_BREAK = re.compile(r"\r\n|\n|\r")
_RAW_TAG = re.compile(r"\{%-?\s*(end)?raw\s*-?%\}")
# Noncharacters: no text that people or programs exchange holds them.
_MARK = re.compile("\ufdd0([0-9]+)\ufdd1")


def render_text(
    template: str,
    variables: Mapping[str, object],
    functions: Mapping[str, Function],
    *,
    typed: bool,
    recursive: bool,
    clock: Callable[[], float] | None,
    zone: str,
) -> object:
    """Render a text that holds a `{`; see `tercel.expression.render`."""
    budget = Budget(clock)

    def fresh() -> Rendering:
        return Rendering(variables, functions, budget, _nested, zone=zone, nests=not recursive)

    return _whole(_passes(template, fresh, _told, stable=recursive, typed=typed))


def _whole(result: object) -> object:
    """*result* without halves of characters: nothing could store it."""
    if isinstance(result, str):
        return whole(result)
    waiting = [result]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            if whole(one) is not one:
                return _mended(result)
        elif is_map(one):
            waiting += one.keys()
            waiting += one.values()
        elif is_list(one):
            waiting += one
    return result


def _mended(value: object) -> object:
    if isinstance(value, str):
        return whole(value)
    if is_list(value):
        return [_mended(item) for item in value]
    if is_map(value):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return value


def check(template: str) -> ExpressionError | None:
    """Parse a template and give the syntax error, if any."""
    raws: list[str] = []
    source = _without_raws(template, raws)
    try:
        parse(source, Budget())
    except ExpressionError as error:
        return _told(error, source, (0, 0), raws)
    except RecursionError:
        return _told(_too_deep(), source, (0, 0), raws)
    return None


def _nested(rendering: Rendering, text: str, stable: bool) -> str:
    """Render a text within another render. What is missing in it is no longer missing outside: an ordinary error."""
    if "{" not in text:
        return text
    return str(_passes(text, rendering.nested, _told_nested, stable=stable, typed=False))


def _passes(template: str, fresh: Callable[[], Rendering], tell: _Tell, *, stable: bool, typed: bool) -> object:
    """Render once, or until the result no longer changes."""
    raws: list[str] = []
    text = template
    for _ in range(MAX_PASSES if stable else 1):
        source = _without_raws(text, raws)
        rendering = fresh()
        result = _pass(source, rendering, tell, raws, typed=typed)
        if not isinstance(result, str):
            return result
        text = result
        if text == source or "{" not in text:
            break
    else:
        if stable:
            raise tell(ExpressionError(f"Too many rendering attempts: more than {MAX_PASSES}"), template, (0, 0), [])
    return _finished(text, raws)


def _pass(source: str, rendering: Rendering, tell: _Tell, raws: list[str], *, typed: bool) -> object:
    """Render once and tell every failure as an ExpressionError with its place."""
    try:
        program = _program(source, rendering.budget)
        result = program.value(rendering) if typed else program.text(rendering)
        if raws and isinstance(result, str):
            rendering.budget.emit(sum(len(_raw_of(found, raws)) for found in _MARK.finditer(result)))
    except ExpressionError as error:
        failure, cause = error, error.__cause__
    except TercelError:
        raise  # a kill or a mistake of ours, from a service
    except RecursionError:
        failure, cause = _too_deep(), None
    except Exception as error:  # a template comes from anybody: no Python error may escape it
        failure, cause = ExpressionError(f"The expression fails with {type(error).__name__}"), error
    else:
        return result
    raise tell(failure, source, rendering.where, raws) from cause


def _program(source: str, budget: Budget) -> Program:
    if len(source) > MAX_TEMPLATE:
        raise ExpressionError(f"A template of {len(source):,} characters is over the limit of {MAX_TEMPLATE:,}")
    if len(source) > _LONGEST_CACHED:
        return Program(parse(source, budget))
    budget.spend(len(source) // 32)
    return _compiled(source)


@lru_cache(maxsize=_CACHED)
def _compiled(source: str) -> Program:
    return Program(parse(source, Budget()))


# Raw blocks


def _without_raws(text: str, raws: list[str]) -> str:
    """Replace raw blocks by marks and add their bodies to *raws*."""
    if "endraw" not in text:
        return text
    parts: list[str] = []
    at = 0
    opened = None
    for found in _RAW_TAG.finditer(text):
        if opened is None:
            if found.group(1) is None:
                opened = found
        elif found.group(1) is not None:
            parts += (text[at : opened.start()], f"\ufdd0{len(raws)}\ufdd1")
            raws.append(text[opened.end() : found.start()])
            at = found.end()
            opened = None
    parts.append(text[at:])
    return "".join(parts)


def _restored(text: str, raws: Sequence[str]) -> str:
    """Put the raw bodies back."""
    if not raws:
        return text
    return _MARK.sub(lambda found: _raw_of(found, raws), text)


def _raw_of(found: re.Match[str], raws: Sequence[str]) -> str:
    number = found.group(1)
    return raws[int(number)] if len(number) < 9 and int(number) < len(raws) else found.group()


def _finished(text: str, raws: Sequence[str]) -> str:
    text = _restored(text, raws)
    # Marks that came out of a value go too: flows written for double rendering count on it.
    return _RAW_TAG.sub("", text) if "raw" in text and "{%" in text else text


# Errors


def _too_deep() -> ExpressionError:
    return ExpressionError("The template is nested too deeply")


def _told(error: ExpressionError, source: str, where: Where, raws: Sequence[str]) -> ExpressionError:
    """Make the error that leaves the renderer: with the line, the failing tag and the template."""
    template = _restored(source, raws)
    reason = _cut(whole(error.message.rstrip(".")), _LONGEST_REASON)
    start, end = where
    if error.line:  # a syntax error knows its line, and there is no tag yet to show
        ends = [0, *(found.end() for found in _LINE_BREAK.finditer(source)), len(source)]
        start, end = ends[error.line - 1], ends[error.line]
    before = _restored(source[:start], raws)
    line = line_of(before, len(before))
    snippet = source[start:end] or source
    snippet = _cut(_restored(snippet, raws).strip(), _SNIPPET)
    if isinstance(error, MissingError):
        return MissingError(
            f"{reason} used in the expression `{snippet}` at line {line}", error.name[:_SNIPPET], line, template
        )
    return ExpressionError(f"{reason}, in the expression `{snippet}` at line {line}.", line, template)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _told_nested(error: ExpressionError, source: str, where: Where, raws: Sequence[str]) -> ExpressionError:
    """Make the error of a text given to `render()`.

    The text may be a secret, so none of it is shown. What is missing in it is an ordinary error outside: no `??`
    around the call takes it.
    """
    line = _told(error, source, where, raws).line
    return ExpressionError(f"{error.message.rstrip('.')} (line {line} of the text given to `render`)")
