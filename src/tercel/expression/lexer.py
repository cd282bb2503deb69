"""The text of a template as tokens, one at a time.

Knows delimiters, trimming, comments, literals and brackets; knows nothing of grammar. Tokens are not
collected: a template of a megabyte costs no more than its tree.
"""

import re

from tercel.errors import ExpressionError

_SPACES = " \t\n\r\f\v\x1c\x1d\x1e\x1f\x85\u2028\u2029"
_SPACE = re.compile(f"[{_SPACES}]*")
_OPENING = re.compile(r"\{[{%#]")
_TRIM_AFTER = re.compile(r"-\s")
_COMMENT_END = re.compile(r"#\}")
_VERBATIM_END = re.compile(r"\{%(-?)\s*endverbatim\s*(-?)%\}")
_LINE_BREAK = re.compile(r"\r\n|\n|\r")
# Groups in the order of how often they occur; `string` covers literals without interpolation only.
_TOKEN = re.compile(
    r"""(?P<operator>(?:is\ not|is|and|or|not|contains|equals|isIn)(?!\w)|\?\?\??|\.\.|[=!<>]=|[-+*/%~|<>])
    |(?P<name>[^\W\d]\w*)
    |(?P<punctuation>[.,:?=()\[\]{}])
    |(?P<string>'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\#]*(?:\\.[^"\\#]*)*")
    |(?P<number>[0-9]+\.[0-9]+|[0-9]+L?)
    |(?P<quote>")""",
    re.VERBOSE | re.DOTALL,
)
_STRING_PART = re.compile(r'[^#"\\]*(?:(?:\\.|#(?!\{))[^#"\\]*)*', re.DOTALL)
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def line_of(text: str, offset: int) -> int:
    """Say on which line, counted from 1, an offset of *text* stands."""
    return 1 + sum(1 for _ in _LINE_BREAK.finditer(text, 0, offset))


class Lexer:
    r"""Reads a template from left to right.

    Attributes:
        kind: of the current token: `operator`, `name`, `punctuation`, `string`, `number`, `quote`, or `end`
            for the closing delimiter of the tag.
        value: its text; of a `string` the content.
        start: its offset.
        end: the offset behind it.
        tag_start: offset of the current tag's opening delimiter.
    """

    __slots__ = ("_close", "_open", "_trim", "end", "kind", "start", "tag_start", "text", "value")

    def __init__(self, text: str) -> None:
        self.text = text
        self.kind = "end"
        self.value = ""
        self.start = self.end = self.tag_start = 0
        self._close = ""
        self._open: list[tuple[str, int]] = []
        self._trim = False

    def next_text(self) -> tuple[str, str]:
        """Read up to the next tag.

        Returns:
            The text before it, trimmed as the delimiters on both sides ask, and the kind of tag: `{{`, `{%`,
            or empty at the end of the template. Comments are passed over, their text is returned as `{#`.
        """
        text, begin = self.text, self.end
        found = _OPENING.search(text, begin)
        stop = len(text) if found is None else found.start()
        content = text[begin:stop]
        if self._trim:
            content = content.lstrip()
            self._trim = False
        if found is None:
            self.end = stop
            return content, ""
        opening = found.group()
        self.tag_start = stop
        self.end = stop + 2
        if _TRIM_AFTER.match(text, self.end):
            content = content.rstrip()
            self.end += 1
        if opening == "{#":
            self._skip_comment()
        else:
            self._close = "}}" if opening == "{{" else "%}"
        return content, opening

    def advance(self) -> None:
        """Read the next token of the tag into *kind* and *value*."""
        text = self.text
        pos = _SPACE.match(text, self.end).end()  # type: ignore[union-attr]  # a star always matches
        self.start = pos
        if not self._open:
            dash = text.startswith("-", pos)
            if text.startswith(self._close, pos + dash):
                self.kind, self.value = "end", self._close
                self.end = pos + dash + 2
                self._trim = dash
                return
        found = _TOKEN.match(text, pos)
        if found is None:
            raise self._no_token(pos)
        kind = found.lastgroup or ""
        value = found.group()
        self.end = found.end()
        if kind == "string":
            quote = value[0]
            value = value[1:-1].replace("\\" + quote, quote)
        elif kind == "punctuation":
            if value in "([{":
                self._open.append((value, pos))
            elif value in ")]}":
                self._shut(value, pos)
        self.kind, self.value = kind, value

    def string_part(self) -> tuple[str, bool]:
        """Read a piece of a text with interpolation, from behind its quote or behind a `}`.

        Returns:
            The piece as it stands, and True where a `#{` follows, False where the text ends.
        """
        text = self.text
        begin = self.end
        stop = _STRING_PART.match(text, begin).end()  # type: ignore[union-attr]  # a star always matches
        piece = text[begin:stop]
        if text.startswith("#{", stop):
            self._open.append(("{", stop))
            self.end = stop + 2
            return piece, True
        if text.startswith('"', stop):
            self.end = stop + 1
            return piece, False
        raise self.error("Unclosed text literal", self.start)

    def verbatim(self) -> str:
        """Read the body of a verbatim tag and its end tag; white space at its beginning is dropped."""
        found = _VERBATIM_END.search(self.text, self.end)
        if found is None:
            raise self.error("Unclosed tag `verbatim`: `endverbatim` expected", self.tag_start)
        body = self.text[self.end : found.start()].lstrip()
        self.end = found.end()
        self._trim = bool(found.group(2))
        return body.rstrip() if found.group(1) else body

    def unexpected(self, expected: str = "") -> ExpressionError:
        """Make the error about the current token."""
        what = f"`{self.value}`" if self.kind != "string" else "text"
        hint = f", {expected} expected" if expected else ""
        return self.error(f"Unexpected {what}{hint}", self.start)

    def error(self, message: str, offset: int) -> ExpressionError:
        """Make a syntax error; whoever has the template adds its text."""
        return ExpressionError(message, line_of(self.text, offset))

    def _shut(self, bracket: str, pos: int) -> None:
        if not self._open:
            raise self.error(f"Unexpected `{bracket}`", pos)
        opened, at = self._open.pop()
        if _CLOSING[opened] != bracket:
            raise self.error(f"Unclosed `{opened}`: `{_CLOSING[opened]}` expected", at)

    def _skip_comment(self) -> None:
        found = _COMMENT_END.search(self.text, self.end)
        if found is None:
            raise self.error("Unclosed comment: `#}` expected", self.tag_start)
        self._trim = self.text[found.start() - 1] == "-" and self.text[found.start() - 2].isspace()
        self.end = found.end()

    def _no_token(self, pos: int) -> ExpressionError:
        if pos >= len(self.text):
            if self._open:
                opened, at = self._open[-1]
                return self.error(f"Unclosed `{opened}`: `{_CLOSING[opened]}` expected", at)
            opening = "{{" if self._close == "}}" else "{%"
            return self.error(f"Unclosed `{opening}`: `{self._close}` expected", self.tag_start)
        if self.text[pos] == "'":
            return self.error("Unclosed text literal", pos)
        return self.error(f"Unexpected character `{self.text[pos]}`", pos)
