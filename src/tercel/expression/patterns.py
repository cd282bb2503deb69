"""Regular expressions as flows write them, in Java's dialect, with a limit on time and memory.

A pattern without special characters never becomes a regular expression: that is the common case of
`split(',')`, and it saves loading the library.
"""

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tercel.errors import ExpressionError
from tercel.expression.budget import MAX_PATTERN, MAX_PATTERN_SIZE, MAX_SEARCHED, MAX_TEXT, REGEX_TIMEOUT_S, Budget

if TYPE_CHECKING:
    import regex

_LITERAL = re.compile(r"(?:[^\\.\[\]{}()*+?^$|]|\\[^\w\s])+")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_REFERENCE = re.compile(r"\\(.)|\$(?:(\d+)|\{([A-Za-z][A-Za-z0-9]*)\})|([\\$])", re.DOTALL)
_SETS = {
    "d": "[0-9]",
    "D": "[^0-9]",
    "w": "[a-zA-Z_0-9]",
    "W": "[^a-zA-Z_0-9]",
    "s": r"[ \t\n\x0b\f\r]",
    "S": r"[^ \t\n\x0b\f\r]",
    "z": r"\Z",
    "Z": r"(?=\n?\Z)",
    "e": r"\x1b",
}
_REPEAT = re.compile(r"\{([0-9]{1,9})(,?)([0-9]{0,9})\}")
_JAVA_PROPERTY = re.compile(r"\{java(Lower|Upper|Alpha|Digit|Whitespace|)(?:Case|betic|)\}")
_PROPERTIES = {"Lower": "{Ll}", "Upper": "{Lu}", "Alpha": "{L}", "Digit": "{Nd}", "Whitespace": "{White_Space}"}


def search(pattern: str, text: str, budget: Budget) -> "regex.Match[str] | None":
    """Find the first match anywhere in *text*."""
    return next(_matches(pattern, text, budget), None)


def fully_matches(pattern: str, text: str, budget: Budget) -> bool:
    """Tell whether *pattern* matches all of *text*."""
    return next(_matches(pattern, text, budget, whole=True), None) is not None


def replace_all(pattern: str, replacement: str, text: str, budget: Budget) -> str:
    """Replace every match; `$1` and `${name}` in *replacement* stand for groups, a backslash for the next character."""
    parts: list[str] = []
    at = length = 0
    expand = _template(replacement)
    for found in _matches(pattern, text, budget):
        budget.spend()
        piece = expand(found)
        parts += (text[at : found.start()], piece)
        at = found.end()
        length += len(parts[-2]) + len(piece)
        if length > MAX_TEXT:
            budget.text(length)
    if not parts:
        return text
    parts.append(text[at:])
    budget.text(length + len(parts[-1]), narrow=text.isascii() and replacement.isascii())
    return "".join(parts)


def split(pattern: str, text: str, limit: int, budget: Budget) -> list[object]:
    """Cut *text* at every match.

    Args:
        pattern: what stands between the parts.
        text: what to cut.
        limit: positive: at most that many parts; 0: any number, empty ones at the end dropped; negative: all.
        budget: of the render.
    """
    parts: list[object] = []
    at = 0
    for start, end in _spans(pattern, text, budget):
        if limit > 0 and len(parts) == limit - 1:
            break
        if start == end == 0:
            continue  # an empty match at the very beginning cuts nothing off
        parts.append(text[at:start])
        at = end
        if not len(parts) % 4096:
            budget.members(len(parts), 0)
    if not parts:
        return [text]
    parts.append(text[at:])
    if limit == 0:
        while parts and not parts[-1]:
            parts.pop()
    budget.members(len(parts), 60)
    budget.text(len(text), narrow=text.isascii())
    return parts


def literal(pattern: str) -> str | None:
    """Give the text that a pattern stands for when it holds nothing special; None otherwise."""
    if not _LITERAL.fullmatch(pattern):
        return None
    return _ESCAPED.sub(r"\1", pattern)


def _spans(pattern: str, text: str, budget: Budget) -> Iterator[tuple[int, int]]:
    plain = literal(pattern)
    if plain is None:
        for found in _matches(pattern, text, budget):
            yield found.span()
        return
    at = text.find(plain)
    while at >= 0:
        yield at, at + len(plain)
        at = text.find(plain, at + len(plain))


def _matches(pattern: str, text: str, budget: Budget, *, whole: bool = False) -> "Iterator[regex.Match[str]]":
    """Find the matches one after the other, within the time that the render has left."""
    if len(text) > MAX_SEARCHED:
        raise ExpressionError(f"A text of {len(text):,} characters is over the limit of {MAX_SEARCHED:,} for patterns")
    compiled = compile_pattern(pattern)
    budget.scan(len(text))
    timeout = budget.remaining_s(REGEX_TIMEOUT_S)
    try:
        if whole:
            found = compiled.fullmatch(text, timeout=timeout)
            if found is not None:
                yield found
            return
        yield from compiled.finditer(text, timeout=timeout)
    except TimeoutError as error:
        raise ExpressionError(f"The regular expression {_shown(pattern)} takes longer than {timeout:.1g} s") from error


def compile_pattern(pattern: str) -> "regex.Pattern[str]":
    """Compile a Java pattern; give searches with it a timeout.

    Raises:
        ExpressionError: it is none, or it is too large.
    """
    import regex  # noqa: PLC0415  # takes 70 ms to load

    refuse_large(pattern)
    try:
        return regex.compile(_translated(pattern), regex.VERSION1)
    except RecursionError as error:
        raise ExpressionError(f"The regular expression {_shown(pattern)} is nested too deeply") from error
    except (regex.error, OverflowError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ExpressionError(f"{_shown(pattern)} is no regular expression: {reason}") from error


def refuse_large(pattern: str) -> None:
    """Refuse a pattern whose compiled form would take too much memory, in any dialect."""
    if len(pattern) > MAX_PATTERN or _size(pattern) > MAX_PATTERN_SIZE:
        raise ExpressionError(f"The regular expression {_shown(pattern)} is too large")


def _shown(pattern: str) -> str:
    return f"`{pattern}`" if len(pattern) <= 60 else f"`{pattern[:57]}...`"


def _size(pattern: str) -> int:
    """Count the parts of a pattern with all `{n}` written out, as the library does: `((a{900}){900}){900}` is huge."""
    groups = [0]
    last = pos = 0
    while pos < len(pattern):
        char = pattern[pos]
        repeat = _REPEAT.match(pattern, pos) if char == "{" else None
        if repeat is not None:
            pos = repeat.end()
            times = max(int(repeat.group(1)), int(repeat.group(3) or 0), 1)
            groups[-1] += last * (times - 1)
            last *= times
            continue
        pos += 2 if char == "\\" else 1
        if char == "(":
            groups.append(0)
        elif char == ")" and len(groups) > 1:
            last = groups.pop() + 1
            groups[-1] += last
        else:
            last = 1
            groups[-1] += 1
    return sum(groups)


def _translated(pattern: str) -> str:
    r"""Give a Java pattern in the dialect of the library: `\Q…\E`, `\z`, ASCII classes, Java's properties."""
    if "\\" not in pattern and "[" not in pattern:
        return pattern
    out: list[str] = []
    depth = pos = 0
    while pos < len(pattern):
        char = pattern[pos]
        pos += 1
        if char == "\\" and pos < len(pattern):
            following = pattern[pos]
            pos += 1
            if following == "Q":
                end = pattern.find("\\E", pos)
                end = len(pattern) if end < 0 else end
                out.append(re.escape(pattern[pos:end]))
                pos = end + 2
            elif following in "pP" and (java := _JAVA_PROPERTY.match(pattern, pos)):
                out.append(f"\\{following}{_PROPERTIES.get(java.group(1), '{L}')}")
                pos = java.end()
            elif following == "k" and (end := pattern.find(">", pos)) > 0:
                out.append(f"(?P={pattern[pos + 1 : end]})")
                pos = end + 1
            elif following == "x" and pattern.startswith("{", pos) and (end := pattern.find("}", pos)) > 0:
                out.append(f"\\U{pattern[pos + 1 : end].rjust(8, '0')}")
                pos = end + 1
            else:
                out.append(_SETS.get(following, "\\" + following))
        else:
            depth += (char == "[") - (char == "]" and depth > 0)
            out.append("\\" + char if depth and char in "|~" else char)
    return "".join(out)


def _template(replacement: str) -> "Callable[[regex.Match[str]], str]":
    """Read a replacement once, for all matches."""
    pieces: list[str] = []
    groups: list[str] = []
    at = 0
    for found in _REFERENCE.finditer(replacement):
        escaped, number, name, stray = found.groups()
        if stray:
            raise ExpressionError(f"`{stray}` in a replacement must stand before a group or be escaped")
        pieces.append(replacement[at : found.start()] + (escaped or ""))
        groups.append(number or name or "")
        at = found.end()
    tail = replacement[at:]

    def expand(found: "regex.Match[str]") -> str:
        text = "".join(piece + _group(found, group) for piece, group in zip(pieces, groups, strict=True))
        return text + tail

    return expand


def _group(found: "regex.Match[str]", reference: str) -> str:
    """Give what a group of a replacement stands for; of digits as many belong to it as name an existing group."""
    if not reference:
        return ""
    rest = ""
    key: int | str = reference
    if reference.isdigit():
        count = found.re.groups
        while len(reference) > 1 and int(reference) > count:
            reference, rest = reference[:-1], reference[-1] + rest
        key = int(reference)
    try:
        return (found.group(key) or "") + rest
    except IndexError as error:
        raise ExpressionError(f"The regular expression has no group `{reference}`") from error
