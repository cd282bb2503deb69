"""jq programs to syntax trees: the grammar of jq 1.6, slightly wider.

Wider are: postfix behind every term, `if` without `else`, `elif`, operators in the values of maps.
"""

from typing import NoReturn

from tercel.errors import ExpressionError
from tercel.expression.jq import tree
from tercel.expression.jq.lexer import Token, tokens_of
from tercel.expression.jq.tree import Node, Pattern
from tercel.expression.jq.values import settled

_MAX_DEPTH = 100
# Operator -> (strength, associativity).
_BINARY = {
    "//": (2, "right"),
    **dict.fromkeys(("=", "|=", "+=", "-=", "*=", "/=", "%=", "//="), (3, "none")),
    "or": (4, "left"),
    "and": (5, "left"),
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">="), (6, "none")),
    **dict.fromkeys("+-", (7, "left")),
    **dict.fromkeys("*/%", (8, "left")),
}
_COMMA = 1
_SIGN = 8
_KEYWORDS = frozenset(
    "def if then elif else end as reduce foreach try catch label import include and or __loc__".split()  # noqa: SIM905
)
_EMPTY = tree.Call("empty", ())


def parse_program(program: str) -> Node:
    """Read a whole program.

    Raises:
        ExpressionError: it is not jq; the message begins with `jq:` and names the line.
    """
    parser = _Parser(tokens_of(program))
    if parser.at_end():
        return tree.Identity()
    body = parser.pipe(only_definitions=True)
    parser.expect_end()
    return body


def parse_functions(program: str) -> list[tree.Function]:
    """Read a text of nothing but definitions."""
    parser = _Parser(tokens_of(program))
    functions: list[tree.Function] = []
    while not parser.at_end():
        functions.append(parser.function())
    return functions


class _Parser:
    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    # ── tokens ──

    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at += token.kind != "end"
        return token

    def _sees(self, text: str) -> bool:
        return self._token.text == text and self._token.kind in {"mark", "word"}

    def _takes(self, text: str) -> bool:
        if not self._sees(text):
            return False
        self._at += 1
        return True

    def _expect(self, text: str) -> None:
        if not self._takes(text):
            self._fail(f"expected {text!r}")

    def _fail(self, expected: str) -> NoReturn:
        token = self._token
        found = "the end" if token.kind == "end" else "a text" if token.kind == "text" else repr(token.text)
        raise ExpressionError(f"jq: syntax error in line {token.line} of the program: {expected}, found {found}.")

    def at_end(self) -> bool:
        """Tell whether all tokens are read."""
        return self._token.kind == "end"

    def expect_end(self) -> None:
        """Refuse anything that is left."""
        if not self.at_end():
            self._fail("expected the end of the program")

    # ── expressions ──

    def pipe(self, *, only_definitions: bool = False) -> Node:
        """Read an expression of any strength."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ExpressionError(f"jq: the program is nested deeper than {_MAX_DEPTH}.")
        if self._sees("import") or self._sees("include") or self._sees("module"):
            raise ExpressionError("jq: modules are not available.")
        functions: list[tree.Function] = []
        while self._sees("def"):
            functions.append(self.function())
        if functions and only_definitions and self.at_end():
            body: Node = tree.Identity()
        else:
            body = self._binary(_COMMA)
            stages = [body]
            while self._takes("|"):
                if self._sees("def"):
                    stages.append(self.pipe())
                    break
                stages.append(self._binary(_COMMA))
            body = stages.pop()
            while stages:
                body = tree.Pipe(stages.pop(), body)
        for function in reversed(functions):
            body = tree.Define(function, body)
        self._depth -= 1
        return body

    def _binary(self, weakest: int) -> Node:
        left = self._signed()
        taken = 99
        while True:
            operator = self._token.text
            if self._token.kind not in {"mark", "word"}:
                return left
            if operator == ",":
                if weakest > _COMMA:
                    return left
                self._at += 1
                left = tree.Comma(left, self._binary(_COMMA + 1))
                taken = _COMMA
                continue
            if operator == "?//":
                # Outside of patterns these are two operators written together.
                operator, left = "//", tree.Try(left, None)
            strength, side = _BINARY.get(operator, (0, ""))
            if strength < weakest or not strength:
                return left
            if side == "none" and strength == taken:
                self._fail("operators that do not chain")
            self._at += 1
            right = self._binary(strength if side == "right" else strength + 1)
            if operator in {"=", "|="} or (operator.endswith("=") and strength == 3):
                left = tree.Assign(operator, left, right)
            else:
                left = tree.Binary(operator, left, right)
            taken = strength

    def _signed(self) -> Node:
        if self._takes("-"):
            return tree.Negate(self._binary(_SIGN))
        if self._sees("def"):
            return self.pipe()
        if self._takes("label"):
            name = self._variable()
            self._expect("|")
            return tree.Label(name, self.pipe())
        term = self._postfix()
        if self._takes("as"):
            patterns = self._patterns()
            self._expect("|")
            return tree.Bind(term, patterns, self.pipe())
        return term

    def function(self) -> tree.Function:
        """Read `def name(parameters): body;`."""
        self._expect("def")
        name = self._name("the name of a function")
        parameters: list[str] = []
        if self._takes("("):
            while True:
                if self._token.kind == "variable":
                    parameters.append("$" + self._next().text)
                else:
                    parameters.append(self._name("a parameter"))
                if not self._takes(";"):
                    break
            self._expect(")")
        self._expect(":")
        body = self.pipe()
        self._expect(";")
        return tree.Function(name, tuple(parameters), body)

    def _name(self, what: str) -> str:
        if self._token.kind != "word":
            self._fail(f"expected {what}")
        return self._next().text

    def _variable(self) -> str:
        if self._token.kind != "variable":
            self._fail("expected a variable such as $x")
        return self._next().text

    def _postfix(self) -> Node:
        term = self._term()
        while True:
            token = self._token
            if token.kind == "field":
                self._at += 1
                term = tree.Index(term, tree.Literal(token.text))
            elif self._sees(".") and self._tokens[self._at + 1].kind == "text":
                self._at += 1
                term = tree.Index(term, self._text("text"))
            elif self._sees(".") and self._tokens[self._at + 1].text == "[":
                self._at += 1
            elif self._sees("["):
                term = self._subscript(term)
            elif self._takes("?"):
                term = tree.Try(term, None)
            else:
                return term

    def _subscript(self, of: Node) -> Node:
        self._expect("[")
        if self._takes("]"):
            return tree.Iterate(of)
        if self._takes(":"):
            end = self.pipe()
            self._expect("]")
            return tree.Slice(of, None, end)
        key = self.pipe()
        if self._takes(":"):
            end = None if self._sees("]") else self.pipe()
            self._expect("]")
            return tree.Slice(of, key, end)
        self._expect("]")
        return tree.Index(of, key)

    def _term(self) -> Node:
        token = self._next()
        match token.kind:
            case "number":
                return tree.Literal(_number(token.text))
            case "text":
                self._at -= 1
                return self._text("text")
            case "format":
                return self._text(token.text) if self._token.kind == "text" else tree.Format(token.text)
            case "field":
                return tree.Index(tree.Identity(), tree.Literal(token.text))
            case "variable":
                if token.text == "__loc__":
                    return tree.Literal({"file": "<top-level>", "line": token.line})
                return tree.Variable(token.text)
            case "word":
                return self._word(token)
            case "mark":
                return self._mark(token)
            case _:
                return self._fail("expected an expression")

    def _mark(self, token: Token) -> Node:
        match token.text:
            case "." if self._token.kind == "text":
                return tree.Index(tree.Identity(), self._text("text"))
            case ".":
                return tree.Identity()
            case "..":
                return tree.RecurseAll()
            case "(":
                body = self.pipe()
                self._expect(")")
                return body
            case "[":
                if self._takes("]"):
                    return tree.ListOf(None)
                body = self.pipe()
                self._expect("]")
                return tree.ListOf(body)
            case "{":
                return self._map()
            case _:
                self._at -= 1
                return self._fail("expected an expression")

    def _word(self, token: Token) -> Node:
        match token.text:
            case "if":
                return self._if()
            case "try":
                body = self._tried()
                return tree.Try(body, self._tried() if self._takes("catch") else _EMPTY)
            case "reduce":
                source, patterns = self._source()
                start, update = self._arguments(2, 2)
                return tree.Reduce(source, patterns, start, update)
            case "foreach":
                source, patterns = self._source()
                start, update, *extract = self._arguments(2, 3)
                return tree.ForEach(source, patterns, start, update, extract[0] if extract else tree.Identity())
            case "break":
                return tree.Break(self._variable())
            case text if text in _KEYWORDS:
                self._at -= 1
                return self._fail("expected an expression")
            case "true" | "false" | "null" if not self._sees("("):
                return tree.Literal({"true": True, "false": False}.get(token.text))
            case _:
                return tree.Call(token.text, tuple(self._arguments(1, 99)) if self._sees("(") else ())

    def _tried(self) -> Node:
        if self._takes("-"):
            return tree.Negate(self._postfix())
        return self._postfix()

    def _if(self) -> Node:
        condition = self.pipe()
        self._expect("then")
        yes = self.pipe()
        if self._takes("elif"):
            return tree.If(condition, yes, self._if())
        no = self.pipe() if self._takes("else") else tree.Identity()
        self._expect("end")
        return tree.If(condition, yes, no)

    def _source(self) -> tuple[Node, tuple[Pattern, ...]]:
        source = self._postfix()
        self._expect("as")
        return source, self._patterns()

    def _arguments(self, least: int, most: int) -> list[Node]:
        self._expect("(")
        arguments = [self.pipe()]
        while self._takes(";"):
            arguments.append(self.pipe())
        self._expect(")")
        if not least <= len(arguments) <= most:
            self._fail(f"expected {least} parts between the parentheses before")
        return arguments

    def _text(self, format_name: str) -> Node:
        token = self._next()
        parts: list[str | Node] = []
        for part in token.parts:
            if isinstance(part, str):
                if part:
                    parts.append(part)
                continue
            inner = _Parser(part)
            inner._depth = self._depth
            parts.append(inner.pipe())
            inner.expect_end()
        if all(isinstance(part, str) for part in parts):
            return tree.Literal("".join(part for part in parts if isinstance(part, str)))
        return tree.Text(tuple(parts), format_name)

    def _map(self) -> Node:
        members: list[tuple[Node, Node]] = []
        while not self._takes("}"):
            members.append(self._member())
            if not self._takes(","):
                self._expect("}")
                break
        return tree.MapOf(tuple(members))

    def _member(self) -> tuple[Node, Node]:
        token = self._token
        match token.kind:
            case "variable":
                self._at += 1
                if token.text == "__loc__":
                    return tree.Literal("__loc__"), tree.Literal({"file": "<top-level>", "line": token.line})
                key, short = tree.Literal(token.text), tree.Variable(token.text)
            case "word":
                self._at += 1
                key = tree.Literal(token.text)
                short = tree.Index(tree.Identity(), key)
            case "text" | "format":
                format_name = self._next().text if token.kind == "format" else "text"
                key = self._text(format_name)
                short = tree.Index(tree.Identity(), key)
            case "number":
                self._fail("expected a text as key")
            case _:
                self._expect("(")
                key = self.pipe()
                self._expect(")")
                self._expect(":")
                return key, self._member_value()
        return (key, self._member_value()) if self._takes(":") else (key, short)

    def _member_value(self) -> Node:
        value = self._binary(_COMMA + 1)
        while self._takes("|"):
            value = tree.Pipe(value, self._binary(_COMMA + 1))
        return value

    def _patterns(self) -> tuple[Pattern, ...]:
        patterns = [self._pattern()]
        while self._takes("?//"):
            patterns.append(self._pattern())
        return tuple(patterns)

    def _pattern(self) -> Pattern:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ExpressionError(f"jq: the program is nested deeper than {_MAX_DEPTH}.")
        if self._takes("["):
            members = [self._pattern()]
            while self._takes(","):
                members.append(self._pattern())
            self._expect("]")
            pattern: Pattern = tree.ListPattern(tuple(members))
        elif self._takes("{"):
            pairs = [self._pattern_member()]
            while self._takes(","):
                pairs.append(self._pattern_member())
            self._expect("}")
            pattern = tree.MapPattern(tuple(pairs))
        else:
            pattern = tree.VariablePattern(self._variable())
        self._depth -= 1
        return pattern

    def _pattern_member(self) -> tuple[Node, str | None, Pattern | None]:
        token = self._token
        if token.kind == "variable":
            self._at += 1
            return tree.Literal(token.text), token.text, self._pattern() if self._takes(":") else None
        if token.kind == "word":
            self._at += 1
            key: Node = tree.Literal(token.text)
        elif token.kind == "text":
            key = self._text("text")
        else:
            self._expect("(")
            key = self.pipe()
            self._expect(")")
        self._expect(":")
        return key, None, self._pattern()


def _number(text: str) -> int | float:
    return settled(int(text) if text.isdigit() and len(text) < 20 else float(text))
