"""Regular expressions in jq: matches as maps, and what is built on them. Time is limited, offsets count characters."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from tercel.errors import ExpressionError
from tercel.expression.budget import MAX_SEARCHED, REGEX_TIMEOUT_S, Budget
from tercel.expression.jq.runtime import Closure, Item, JqError, Path, Run, lost
from tercel.expression.jq.values import failure, is_list
from tercel.expression.patterns import refuse_large

if TYPE_CHECKING:
    import regex

_FLAGS = frozenset("gimnpslx")


def test(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    """`test(pattern)`, `test(pattern; flags)`: whether there is a match."""
    for pattern, flags in _patterns(run, arguments, value):
        yield lost(path), next(_found(value, pattern, flags.replace("g", ""), run.budget), None) is not None


def match(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    """`match(pattern)`, `match(pattern; flags)`: each match as a map."""
    for pattern, flags in _patterns(run, arguments, value):
        for found in _found(value, pattern, flags, run.budget):
            yield lost(path), _match_map(found, run.budget)


def capture(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    """`capture(pattern)`, `capture(pattern; flags)`: the named groups of each match."""
    for pattern, flags in _patterns(run, arguments, value):
        for found in _found(value, pattern, flags, run.budget):
            yield lost(path), dict(found.groupdict())


def scan(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    """`scan(pattern)`, `scan(pattern; flags)`: the text of each match, or a list of its groups if it has any."""
    for pattern, flags in _patterns(run, arguments, value):
        for found in _found(value, pattern, flags + "g", run.budget):
            yield lost(path), list(found.groups()) if found.re.groups else found[0]


def splits(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    """`splits(pattern)`, `splits(pattern; flags)`: the texts between the matches."""
    for pattern, flags in _patterns(run, arguments, value):
        for piece in _pieces(value, pattern, flags, run.budget):
            yield lost(path), piece


def split(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    """`split(pattern; flags)`: the same as a list."""
    for pattern, flags in _patterns(run, arguments, value):
        yield lost(path), run.gathered(iter(_pieces(value, pattern, flags, run.budget)))


def _pieces(value: object, pattern: str, flags: str, budget: Budget) -> Iterator[object]:
    at = 0
    text = value if isinstance(value, str) else ""
    for found in _found(value, pattern, flags + "g", budget):
        yield text[at : found.start()]
        at = found.end()
    yield text[at:]


def sub(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    """`sub(pattern; replacement)`, `sub(pattern; replacement; flags)`: the first match replaced."""
    yield from _replaced(run, arguments, path, value, everywhere="")


def gsub(run: Run, arguments: Sequence[Closure], path: Path, value: object) -> Iterator[Item]:
    """`gsub(…)`, as `sub`: every match replaced."""
    yield from _replaced(run, arguments, path, value, everywhere="g")


def _replaced(run: Run, arguments: Sequence[Closure], path: Path, value: object, *, everywhere: str) -> Iterator[Item]:
    pattern_argument, replacement, *flags_argument = arguments
    for pattern, flags in _patterns(run, [pattern_argument, *flags_argument], value):
        found = list(_found(value, pattern, flags + everywhere, run.budget))
        run.budget.members(len(found), 100)
        text = value if isinstance(value, str) else ""
        for result in _with_replacements(run, text, found, replacement):
            yield lost(path), result


def _with_replacements(run: Run, text: str, found: Sequence["regex.Match[str]"], replacement: Closure) -> Iterator[str]:
    """Give the text with the matches replaced; a replacement with several results gives several texts."""
    results: list[list[str]] = [[]]
    at = 0
    for one in found:
        before = text[at : one.start()]
        at = one.end()
        new: list[str] = []
        for piece in run.values(replacement, dict(one.groupdict())):
            if not isinstance(piece, str):
                raise failure("{} and {} cannot be added", before, piece)
            new.append(piece)
        run.budget.members(len(new) * len(results))
        # The first match varies slowest only in the number of texts, not in their order: as jq 1.7 has it.
        results = [[*parts, before, piece] for piece in new for parts in results]
        run.budget.spend(1 + sum(len(parts) for parts in results) // 8 if len(new) > 1 else 1)
    for parts in results:
        parts.append(text[at:])
        run.budget.text(sum(map(len, parts)))
        yield "".join(parts)


def _patterns(run: Run, arguments: Sequence[Closure], value: object) -> Iterator[tuple[str, str]]:
    """Give pattern and flags of a call, whose first argument may also be the list of both."""
    for given in run.values(arguments[0], value):
        many = run.values(arguments[1], value) if len(arguments) > 1 else iter([None])
        for flags in many:
            if is_list(given) and len(arguments) == 1:
                pattern, flags = given[0] if given else None, given[1] if len(given) > 1 else None  # noqa: PLW2901
            else:
                pattern = given
            if not isinstance(value, str):
                raise failure("{} cannot be matched, as it is not a string", value)
            if not isinstance(pattern, str):
                raise failure("{} cannot be matched, as it is not a string", pattern)
            if flags is not None and not isinstance(flags, str):
                raise failure("{} is not a string", flags)
            if flags and set(flags) - _FLAGS:
                raise JqError(f"{flags[:20]} is not a valid modifier string")
            yield pattern, flags or ""


@lru_cache(maxsize=128)
def _compiled(pattern: str, flags: str) -> "regex.Pattern[str]":
    import regex  # noqa: PLC0415 - slow to import, and most programs search nothing

    # `^` and `$` are those of the text, with and without the flag `s`; only `p` lets the dot match line breaks.
    options = regex.VERSION0
    if "i" in flags:
        options |= regex.IGNORECASE
    if "x" in flags:
        options |= regex.VERBOSE
    if "p" in flags:
        options |= regex.DOTALL
    try:
        return regex.compile(pattern, options)
    except (regex.error, ValueError, OverflowError) as error:
        raise JqError(f"Regex failure: {error}") from error


def _found(value: object, pattern: str, flags: str, budget: Budget) -> Iterator["regex.Match[str]"]:
    text = value if isinstance(value, str) else ""
    refuse_large(pattern)
    if len(text) > MAX_SEARCHED:
        raise ExpressionError("jq: the text is too long for a regular expression.")
    compiled = _compiled(pattern, "".join(sorted(set(flags))))
    budget.scan(len(text))
    at = 0
    try:
        while at <= len(text):
            found = compiled.search(text, at, timeout=budget.remaining_s(REGEX_TIMEOUT_S))
            if found is None:
                return
            budget.spend()
            if found.end() > found.start() or "n" not in flags:
                yield found
            if "g" not in flags:
                return
            at = found.end() + (found.end() == found.start())
    except TimeoutError:
        raise ExpressionError(f"jq: a regular expression takes longer than {REGEX_TIMEOUT_S:g} s.") from None


def _match_map(found: "regex.Match[str]", budget: Budget) -> dict[str, object]:
    names = {number: name for name, number in found.re.groupindex.items()}
    budget.spend(found.re.groups)
    captures: list[object] = [
        {
            "offset": found.start(number),
            "length": len(found[number] or ""),
            "string": found[number],
            "name": names.get(number),
        }
        for number in range(1, found.re.groups + 1)
    ]
    return {"offset": found.start(), "length": len(found[0]), "string": found[0], "captures": captures}
