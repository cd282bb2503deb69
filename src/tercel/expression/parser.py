"""The text of a template to its syntax tree.

Knows the grammar, precedence and the tags; knows nothing of values. Names of filters, tests and functions
are not looked up here: an unknown one is an error only when it is evaluated.
"""

from collections.abc import Sequence

from tercel.errors import ExpressionError
from tercel.expression.budget import MAX_NODES, MAX_PARSE_DEPTH, Budget
from tercel.expression.lexer import Lexer
from tercel.expression.tree import (
    NO_ARGUMENTS,
    Arguments,
    Attribute,
    Block,
    Body,
    Branch,
    Call,
    Chain,
    Expression,
    Filter,
    FilterBody,
    For,
    If,
    Interpolation,
    ListOf,
    Literal,
    Macro,
    MapOf,
    Name,
    Operation,
    Path,
    Print,
    Set,
    Statement,
    Subscript,
    Template,
    Ternary,
    Test,
    Text,
    Unary,
)

_PRECEDENCE = {
    "..": 120,
    "??": 120,
    "???": 120,
    "isIn": 120,
    "~": 110,
    "|": 100,
    "*": 60,
    "/": 60,
    "%": 60,
    "+": 40,
    "-": 40,
    "==": 30,
    "equals": 30,
    "!=": 30,
    "<": 30,
    "<=": 30,
    ">": 30,
    ">=": 30,
    "is": 20,
    "is not": 20,
    "contains": 20,
    "and": 15,
    "or": 10,
}
_CONSTANTS = {
    **dict.fromkeys(("true", "TRUE"), True),
    **dict.fromkeys(("false", "FALSE"), False),
    **dict.fromkeys(("null", "NULL", "none", "NONE")),
}
_MAX_INTEGER = 2**63 - 1


def parse(text: str, budget: Budget) -> Template:
    """Parse a template.

    Raises:
        ExpressionError: the syntax is wrong, or the template is too large or nested too deeply.
    """
    return _Parser(text, budget).template()


class _Parser:
    """Recursive descent with one token of look-ahead; *nodes* counts what has been read so far."""

    def __init__(self, text: str, budget: Budget) -> None:
        self.lexer = Lexer(text)
        self.budget = budget
        self.nodes = 0
        self.depth = 0
        self.macros: dict[str, Macro] = {}
        self.blocks: dict[str, Block] = {}

    def template(self) -> Template:
        body, _ = self.body("", ())
        return Template(body, self.macros, self.blocks)

    # Tags

    def body(self, opened: str, ends: Sequence[str]) -> tuple[Body, str]:
        """Read statements up to a tag of *ends*, whose name is the current token; or to the end of the text."""
        lexer = self.lexer
        opened_at = lexer.tag_start
        self.enter()
        statements: list[Statement] = []
        while True:
            content, tag = lexer.next_text()
            if content:
                statements.append(Text(content))
            if tag == "":
                if opened:
                    raise lexer.error(f"Unclosed tag `{opened}`: `{ends[0]}` expected", opened_at)
                break
            if tag == "{{":
                statements.append(self.printed())
            elif tag == "{%":
                lexer.advance()
                self.count()
                if lexer.kind != "name":
                    raise lexer.unexpected("the name of a tag")
                name = lexer.value
                if name in ends:
                    self.depth -= 1
                    return tuple(statements), name
                statement = self.tag(name)
                if statement is not None:
                    statements.append(statement)
        self.depth -= 1
        return tuple(statements), ""

    def printed(self) -> Print:
        start, before = self.lexer.tag_start, self.nodes
        self.lexer.advance()
        value = self.expression()
        end = self.close()
        return Print(value, self.nodes - before, (start, end))

    def tag(self, name: str) -> Statement | None:
        match name:
            case "if":
                return self.if_tag()
            case "for":
                return self.for_tag()
            case "set":
                return self.set_tag()
            case "macro":
                self.macro_tag()
                return None
            case "block":
                return self.block_tag()
            case "filter":
                return self.filter_tag()
            case "verbatim":
                self.lexer.advance()
                self.close()
                return Text(self.lexer.verbatim())
            case _ if name.startswith("end") or name in ("else", "elseif"):
                raise self.lexer.error(f"Unexpected tag `{name}`", self.lexer.tag_start)
            case _:
                raise self.lexer.error(f"Unknown tag `{name}`", self.lexer.tag_start)

    def if_tag(self) -> If:
        branches: list[Branch] = []
        name = "if"
        while name not in ("else", "endif"):
            start, before = self.lexer.tag_start, self.nodes
            self.lexer.advance()
            condition = self.expression()
            cost = self.nodes - before
            where = (start, self.close())
            body, name = self.body("if", ("endif", "else", "elseif"))
            branches.append(Branch(condition, cost, body, where))
        otherwise: Body = ()
        if name == "else":
            self.lexer.advance()
            self.close()
            otherwise, _ = self.body("if", ("endif",))
        self.lexer.advance()
        self.close()
        return If(branches, otherwise)

    def for_tag(self) -> For:
        start, before = self.lexer.tag_start, self.nodes
        self.lexer.advance()
        name = self.assignable()
        if self.lexer.kind != "name" or self.lexer.value != "in":
            raise self.lexer.unexpected("`in`")
        self.lexer.advance()
        values = self.expression()
        cost = self.nodes - before
        where = (start, self.close())
        body, end = self.body("for", ("endfor", "else"))
        otherwise: Body = ()
        if end == "else":
            self.lexer.advance()
            self.close()
            otherwise, _ = self.body("for", ("endfor",))
        self.lexer.advance()
        self.close()
        return For(name, values, cost, where, body=body, otherwise=otherwise)

    def set_tag(self) -> Set:
        start, before = self.lexer.tag_start, self.nodes
        self.lexer.advance()
        name = self.assignable()
        self.expect("=")
        value = self.expression()
        return Set(name, value, self.nodes - before, (start, self.close()))

    def macro_tag(self) -> None:
        start = self.lexer.tag_start
        self.lexer.advance()
        name = self.assignable()
        self.expect("(")
        parameters: list[tuple[str, Expression | None]] = []
        while not self.at(")"):
            if parameters:
                self.expect(",")
            parameter = self.assignable()
            default = None
            if self.at("="):
                self.lexer.advance()
                default = self.expression()
            parameters.append((parameter, default))
        self.lexer.advance()
        self.close()
        body, _ = self.body("macro", ("endmacro",))
        self.lexer.advance()
        self.close()
        if name in self.macros:
            raise self.lexer.error(f"The macro `{name}` is defined twice", start)
        self.macros[name] = Macro(name, parameters, body)

    def block_tag(self) -> Block:
        self.lexer.advance()
        if self.lexer.kind not in ("name", "string"):
            raise self.lexer.unexpected("the name of a block")
        name = self.lexer.value
        self.lexer.advance()
        self.close()
        body, _ = self.body("block", ("endblock",))
        self.lexer.advance()
        if self.lexer.kind == "name" and self.lexer.value == name:
            self.lexer.advance()
        self.close()
        block = self.blocks[name] = Block(name, body)
        return block

    def filter_tag(self) -> FilterBody:
        start, before = self.lexer.tag_start, self.nodes
        steps: list[Filter] = []
        self.lexer.advance()
        while True:
            steps.append(self.filter())
            if not (self.lexer.kind == "operator" and self.lexer.value == "|"):
                break
            self.lexer.advance()
        cost = self.nodes - before
        where = (start, self.close())
        body, _ = self.body("filter", ("endfilter",))
        self.lexer.advance()
        self.close()
        return FilterBody(steps, cost, body, where)

    def assignable(self) -> str:
        """Take a name that can be set."""
        at = self.lexer.start
        name = self.name()
        if name in _CONSTANTS:
            raise self.lexer.error(f"`{name}` is a constant and cannot be set", at)
        return name

    # Expressions

    def expression(self, least: int = 0) -> Expression:
        """Read an expression of operators that bind at least as tight as *least*; at 0 also `? :`."""
        self.enter()
        lexer = self.lexer
        node = self.unary() if lexer.kind == "operator" else self.primary()
        steps: list[Operation | Filter | Test] = []
        while lexer.kind == "operator":
            operator = lexer.value
            binding = _PRECEDENCE.get(operator, -1)
            if binding < least:
                break
            lexer.advance()
            if operator == "|":
                steps.append(self.filter())
            elif binding == 20 and operator != "contains":
                test = self.filter()
                steps.append(Test(test.name, test.arguments, operator == "is not"))
            else:
                steps.append(Operation(operator, self.expression(binding + 1)))
            self.count()
        if steps:
            node = Chain(node, steps)
        if least == 0 and self.at("?"):
            lexer.advance()
            then = self.expression()
            self.expect(":")
            node = Ternary(node, then, self.expression())
        self.depth -= 1
        return node

    def unary(self) -> Expression:
        """Read `not`, `+` and `-`, which bind tighter than anything but a postfix."""
        operator = self.lexer.value
        if operator not in ("not", "-", "+"):
            raise self.lexer.unexpected("a value")
        self.enter()
        self.count()
        self.lexer.advance()
        operand = self.unary() if self.lexer.kind == "operator" else self.primary()
        self.depth -= 1
        return Unary(operator, operand)

    def primary(self) -> Expression:
        """Read a value and the attributes and subscripts behind it."""
        lexer = self.lexer
        kind, value = lexer.kind, lexer.value
        self.count()
        if kind == "name":
            lexer.advance()
            if self.at("("):
                return self.postfix(Call(value, self.arguments()))
            return self.postfix(Literal(_CONSTANTS[value]) if value in _CONSTANTS else Name(value))
        if kind == "string":
            lexer.advance()
            return self.postfix(Literal(value))
        if kind == "number":
            node = Literal(float(value) if "." in value else self.integer(value))
            lexer.advance()
            return self.postfix(node)
        if kind == "quote":
            return self.postfix(self.interpolation())
        if kind == "punctuation":
            if value == "(":
                lexer.advance()
                inner = self.expression()
                self.expect(")")
                return self.postfix(inner)
            if value == "[":
                lexer.advance()
                return ListOf(self.items("]"))
            if value == "{":
                return self.map_of()
        raise lexer.unexpected("a value")

    def postfix(self, base: Expression) -> Expression:
        """Read the attributes and subscripts behind a value."""
        lexer = self.lexer
        links: list[Attribute | Subscript] = []
        while lexer.kind == "punctuation":
            if lexer.value == ".":
                lexer.advance()
                name = self.name()
                arguments = None
                if self.at("("):
                    lexer.advance()
                    arguments = self.items(")")
                links.append(Attribute(name, arguments))
            elif lexer.value == "[":
                lexer.advance()
                links.append(Subscript(self.expression()))
                self.expect("]")
            else:
                break
            self.count()
        return Path(base, links) if links else base

    def map_of(self) -> MapOf:
        self.lexer.advance()
        pairs: list[tuple[Expression, Expression]] = []
        while not self.at("}"):
            if pairs:
                self.expect(",")
            key = self.expression()
            self.expect(":")
            pairs.append((key, self.expression()))
        self.lexer.advance()
        return MapOf(pairs)

    def items(self, end: str) -> list[Expression]:
        """Read `a, b` and the closing *end*."""
        values: list[Expression] = []
        while not self.at(end):
            if values:
                self.expect(",")
            values.append(self.expression())
        self.lexer.advance()
        return values

    def interpolation(self) -> Interpolation:
        parts: list[Expression] = []
        more = True
        while more:
            piece, more = self.lexer.string_part()
            if piece:
                parts.append(Literal(piece))
            if more:
                self.count()
                self.lexer.advance()
                parts.append(self.expression())
                if not self.at("}"):
                    raise self.lexer.unexpected("`}`")
        self.lexer.advance()
        return Interpolation(parts)

    def filter(self) -> Filter:
        """Read a name and its arguments, if any."""
        name = self.name()
        return Filter(name, self.arguments() if self.at("(") else NO_ARGUMENTS)

    def arguments(self) -> Arguments:
        lexer = self.lexer
        lexer.advance()
        positional: list[Expression] = []
        named: list[tuple[str, Expression]] = []
        while not self.at(")"):
            if positional or named:
                self.expect(",")
            value = self.expression()
            if isinstance(value, Name) and self.at("="):
                lexer.advance()
                named.append((value.name, self.expression()))
            elif named:
                raise lexer.error("A positional argument cannot follow a named one", lexer.start)
            else:
                positional.append(value)
        lexer.advance()
        return Arguments(positional, named)

    def integer(self, digits: str) -> int:
        digits = digits.removesuffix("L").lstrip("0") or "0"
        value = int(digits) if len(digits) < 20 else _MAX_INTEGER + 1
        if value > _MAX_INTEGER:
            raise self.lexer.error("A whole number must fit in 64 bits", self.lexer.start)
        return value

    # Tokens and limits

    def name(self) -> str:
        """Take a name."""
        name = self.lexer.value
        if self.lexer.kind != "name":
            raise self.lexer.unexpected("a name")
        self.lexer.advance()
        return name

    def at(self, mark: str) -> bool:
        return self.lexer.kind == "punctuation" and self.lexer.value == mark

    def expect(self, mark: str) -> None:
        if not self.at(mark):
            raise self.lexer.unexpected(f"`{mark}`")
        self.lexer.advance()

    def close(self) -> int:
        """Check that the tag ends here and say where; the next thing read is text."""
        if self.lexer.kind != "end":
            raise self.lexer.unexpected("the end of the tag")
        return self.lexer.end

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_PARSE_DEPTH:
            raise self._limit(f"The template is nested deeper than {MAX_PARSE_DEPTH} levels")

    def count(self) -> None:
        self.nodes += 1
        self.budget.spend()
        if self.nodes > MAX_NODES:
            raise self._limit(f"The template holds more than {MAX_NODES:,} values and operators")

    def _limit(self, message: str) -> ExpressionError:
        return self.lexer.error(message, self.lexer.tag_start)
