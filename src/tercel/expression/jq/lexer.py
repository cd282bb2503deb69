"""Text of a jq program to tokens. A text literal is one token, its interpolated parts being lists of tokens."""

import re
from typing import NoReturn

from msgspec import Struct

from tercel.errors import ExpressionError

_TOKEN = re.compile(
    r"(?P<blank>(?:[ \t\r\n]+|\#[^\n]*)+)"
    r"|(?P<field>\.[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<word>(?:[A-Za-z_][A-Za-z0-9_]*::)*[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<variable>\$[ \t\r\n]*(?:[A-Za-z_][A-Za-z0-9_]*::)*[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<format>@[A-Za-z0-9_]+)"
    r"|(?P<mark>\?//(?!=)|//=|\|=|\+=|-=|\*=|/=|%=|==|!=|<=|>=|//|\.\.|[.?=;:,|+\-*/%<>()\[\]{}])"
    r'|(?P<quote>")',
    re.ASCII,
)
_ESCAPE = re.compile(r"u([0-9a-fA-F]{4})(?:\\u([dD][c-fC-F][0-9a-fA-F]{2}))?|([\"\\/bfnrt])", re.ASCII)
_SIMPLE = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "/": "/"}
_PLAIN = re.compile(r'[^"\\]+')
_MAX_DEPTH = 50


class Token(Struct, frozen=True):
    """A piece of a program.

    Attributes:
        kind: field, number, word, variable, format, mark, text or end.
        text: as written; of fields, variables and formats without the mark in front.
        parts: of texts, plain pieces and the tokens of interpolated ones.
        line: 1-based.
    """

    kind: str
    text: str
    line: int
    parts: "tuple[str | tuple[Token, ...], ...]" = ()


def tokens_of(program: str) -> tuple[Token, ...]:
    """Split a program into tokens, ending with one of the kind `end`.

    Raises:
        ExpressionError: a character that cannot begin a token, or a text that is not closed.
    """
    return _Lexer(program).tokens(depth=0)


class _Lexer:
    def __init__(self, program: str) -> None:
        self._program = program
        self._at = 0
        self._line = 1

    def _fail(self, reason: str) -> NoReturn:
        raise ExpressionError(f"jq: syntax error in line {self._line} of the program: {reason}.")

    def tokens(self, depth: int) -> tuple[Token, ...]:
        """Read tokens up to the end, or inside a text up to the parenthesis that closes the interpolation."""
        if depth > _MAX_DEPTH:
            self._fail("texts are nested too deep")
        found: list[Token] = []
        open_parentheses = 0
        while self._at < len(self._program):
            match = _TOKEN.match(self._program, self._at)
            if match is None:
                self._fail(f"unexpected character {self._program[self._at]!r}")
            kind = match.lastgroup or ""
            text = match[0]
            if depth and text == ")" and not open_parentheses:
                break
            open_parentheses += (text == "(") - (text == ")")
            self._at = match.end()
            if kind == "quote":
                line = self._line
                found.append(Token("text", "", line, self._text(depth)))
                continue
            if kind != "blank":
                mark = {"field": 1, "variable": 1, "format": 1}.get(kind, 0)
                found.append(Token(kind, text[mark:].lstrip(), self._line))
            self._line += text.count("\n")
        found.append(Token("end", "", self._line))
        return tuple(found)

    def _text(self, depth: int) -> tuple[str | tuple[Token, ...], ...]:
        parts: list[str | tuple[Token, ...]] = []
        plain: list[str] = []
        program = self._program
        while True:
            match = _PLAIN.match(program, self._at)
            if match is not None:
                plain.append(match[0])
                self._line += match[0].count("\n")
                self._at = match.end()
            char = program[self._at : self._at + 1]
            self._at += 1
            if char == '"':
                break
            if not char:
                self._fail("a text is not closed")
            if program.startswith("(", self._at):
                self._at += 1
                parts += ["".join(plain), self.tokens(depth + 1)]
                plain.clear()
                if not program.startswith(")", self._at):
                    self._fail("an interpolation is not closed")
                self._at += 1
                continue
            escape = _ESCAPE.match(program, self._at)
            if escape is None:
                self._fail("a backslash in a text is followed by no known escape")
            self._at = escape.end()
            plain.append(_SIMPLE[escape[3]] if escape[3] else _code_units(escape[1], escape[2]))
        return (*parts, "".join(plain))


def _code_units(first: str, second: str | None) -> str:
    high = int(first, 16)
    if second is None:
        return "\ufffd" if 0xD800 <= high < 0xE000 else chr(high)
    low = int(second, 16)
    if 0xD800 <= high < 0xDC00:
        return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
    return _code_units(first, None) + "\ufffd"
