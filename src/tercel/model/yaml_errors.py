"""What a YAML error means to the person who wrote the text: the line, what is wrong there, how to mend it."""

import re

from yaml.error import MarkedYAMLError, YAMLError
from yaml.reader import ReaderError

from tercel.model.issue import Issue
from tercel.model.task import Problem

_UNQUOTED_TEMPLATE = re.compile(r"(?:^\s*|[:\-]\s+)(\{\{|\{%)")
_BREAKS = "\r\n\x85\u2028\u2029"
_ENDS = re.compile(f"\r\n|[{_BREAKS}]")

UNQUOTED_TEMPLATE = Problem(
    "A value that starts with {{ is not in quotes, and YAML takes { for the start of a mapping.",
    'Put the whole value in quotes: "{{ … }}".',
    "yaml.template",
)
_UNQUOTED_TAG = Problem(
    "A value that starts with {% is not in quotes, and YAML takes { for the start of a mapping.",
    'Put the whole value in quotes: "{% … %}".',
    "yaml.template",
)


def tab_index(error: MarkedYAMLError, text: str) -> int | None:
    """Where in *text* the tab is that *error* is about; None where it is about something else."""
    at = error.problem_mark.index if error.problem_mark is not None else len(text)
    return at if text[at : at + 1] == "\t" else None


def tab_issue(error: MarkedYAMLError, text: str) -> Issue:
    """Tell of the tab that *error* is about."""
    at = tab_index(error, text) or 0
    line, column = _place(error)
    is_indent = not text[line_start(text, at) : at].strip(" \t")
    return Issue(
        line=line,
        column=column,
        code="yaml.tab",
        message="This line is indented with a tab." if is_indent else "A tab stands where YAML allows only spaces.",
        hint="YAML allows only spaces there: replace the tab with spaces." if is_indent else "Replace it with a space.",
    )


def line_start(text: str, at: int) -> int:
    """Index at which the line begins that index *at* is in."""
    return 1 + max(text.rfind(one, 0, at) for one in _BREAKS)


def syntax_issue(error: YAMLError, text: str) -> Issue:
    """Translate *error*, raised by the parser on *text*."""
    if isinstance(error, ReaderError):
        return _unreadable(error, text)
    if not isinstance(error, MarkedYAMLError):
        return Issue(line=1, column=1, code="yaml.syntax", message=f"This is not YAML: {error}.")
    line, column = _place(error)
    lines = _ENDS.split(text)
    spot = lines[min(line, len(lines)) - 1]
    template = _unquoted_template(error, lines)
    if template is not None:
        return template
    message, hint = _explain(error, spot, column)
    return Issue(line=min(line, len(lines)), column=column, code="yaml.syntax", message=message, hint=hint)


def _place(error: MarkedYAMLError) -> tuple[int, int]:
    mark = error.problem_mark or error.context_mark
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


def _unreadable(error: ReaderError, text: str) -> Issue:
    number = int(error.character) if isinstance(error.character, int) else ord(error.character[:1] or "\0")
    before = text.partition(chr(number))[0]
    return Issue(
        line=before.count("\n") + 1,
        column=len(before) - (before.rfind("\n") + 1) + 1,
        code="yaml.character",
        message=f"The character U+{number:04X} cannot stand in YAML.",
        hint="Remove it, or write it as an escape inside double quotes.",
    )


def _unquoted_template(error: MarkedYAMLError, lines: list[str]) -> Issue | None:
    """A value that starts with `{{` outside quotes, which YAML takes for a mapping."""
    for mark in (error.problem_mark, error.context_mark):
        if mark is None or mark.line >= len(lines):
            continue
        found = _UNQUOTED_TEMPLATE.search(lines[mark.line])
        if found is not None:
            told = UNQUOTED_TEMPLATE if found[1] == "{{" else _UNQUOTED_TAG
            return Issue(
                line=mark.line + 1,
                column=found.start(1) + 1,
                code=told.code,
                message=told.message,
                hint=told.hint,
            )
    return None


def _explain(error: MarkedYAMLError, spot: str, column: int) -> tuple[str, str]:
    problem = error.problem or ""
    began = error.context_mark.line + 1 if error.context_mark is not None else 1
    before = spot[: column - 1]
    match problem:
        case "mapping values are not allowed in this context" if ": " in before:
            return "A second ': ' stands in one line.", "Put the value in quotes if the colon belongs to it."
        case "mapping values are not allowed in this context":
            return (
                "A key stands where YAML expects none.",
                "Indent it like the other keys of its mapping, and see whether the line above lacks a ':'.",
            )
        case "did not find expected key" if before.rstrip().endswith(("'", '"')) or spot[column - 2 : column - 1] in {
            "'",
            '"',
        }:
            return (
                "Text follows a closing quote.",
                "Put the whole value in quotes; double a single quote that belongs to the text ('it''s').",
            )
        case "did not find expected key":
            return (
                f"This line does not fit into the mapping that begins on line {began}.",
                "Indent all keys of a mapping by the same number of spaces.",
            )
        case "did not find expected '-' indicator":
            return (
                f"This line does not fit into the list that begins on line {began}.",
                "Start every item of the list with '- ', all at the same indentation.",
            )
        case "did not find expected <document start>":
            return (
                "This line is indented less than the first one.",
                "Start all keys of the flow in the same column, best the first.",
            )
        case "could not find expected ':'":
            return f"Line {began} looks like a key, but no ':' follows.", "Write `key: value`, or indent the text."
        case "found unexpected end of stream":
            return f"The quoted text that begins on line {began} never ends.", "Close it with the quote it began with."
        case "found unexpected document indicator":
            return f"The quoted text that begins on line {began} never ends.", "Close it with the quote it began with."
        case "did not find expected ',' or ']'" | "did not find expected ',' or '}'":
            bracket = problem[-2]
            opening = "[" if bracket == "]" else "{"
            return (
                f"The {opening} of line {began} is not closed properly.",
                f"Separate its items by commas and end it with {bracket}; put a text that begins with "
                f"{opening} in quotes.",
            )
        case "block sequence entries are not allowed in this context":
            return "A list item '- ' stands in the line of its key.", "Begin the list on the next line."
        case "found undefined alias":
            name = spot[column - 1 :].split(maxsplit=1)[0].rstrip(",]}")
            return (
                f"{name} refers to an anchor that does not exist.",
                "Put a text that begins with * in quotes, or define the anchor with & before.",
            )
        case "did not find expected alphabetic or numeric character":
            sign = spot[column - 2 : column - 1] or "*"
            return f"A text begins with {sign}, which has a meaning in YAML.", "Put it in quotes."
        case "found character that cannot start any token":
            sign = spot[column - 1 : column]
            return f"A text begins with {sign}, which YAML reserves.", "Put it in quotes."
        case "found unknown escape character":
            return (
                f"\\{spot[column : column + 1]} is no escape that YAML knows inside double quotes.",
                "Use single quotes, or write the backslash twice.",
            )
        case "second occurrence":
            return (
                f"The anchor of line {began} is defined a second time.",
                "Give each anchor its own name.",
            )
        case _:
            return (
                f"This is not valid YAML: {problem}.",
                "See the indentation, the quotes and the colons of this line and the one above.",
            )
