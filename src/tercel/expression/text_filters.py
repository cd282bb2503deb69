"""Filters on text: one function each, and the table of their names and arguments."""

import re
from collections.abc import Callable

from tercel.errors import ExpressionError
from tercel.expression.arguments import Builtin
from tercel.expression.methods import replace_text, trimmed
from tercel.expression.patterns import literal, replace_all, search, split
from tercel.expression.rendering import Rendering
from tercel.expression.values import debug_text, deeper_than, is_integer, is_list, is_map, is_number, kind_of

_LONG_TEXT = 4096
_WORD_START = re.compile(r"(?<!\S)\S")
_FIRST_VISIBLE = re.compile(r"\S")
_NOT_SLUG = re.compile(r"[^\w-]")
_SPACES = re.compile(r"\s")
_DASHES = re.compile(r"-{2,}")
_LINE_BREAKS = ("\r\n", "\n\r", "\n", "\r")
_BREAK = re.compile(r"\r\n|[\n\r]")
_NUMERIC = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPES = {"single": ("'", "\\'"), "double": ('"', '\\"'), "shell": ("'", "'\\''")}


def text_of(value: object, where: str) -> str:
    """Check that a value is text.

    Raises:
        ExpressionError: it is not; *where* names the filter or function and what the value is.
    """
    if not isinstance(value, str):
        raise ExpressionError(f"{where} needs text, not {kind_of(value)}")
    return value


def integer_of(value: object, where: str) -> int:
    """Check that a value is a whole number; see `text_of`."""
    if not is_integer(value):
        raise ExpressionError(f"{where} needs a whole number, not {kind_of(value)}")
    return value


def _any_text(rendering: Rendering, value: object) -> str:
    text = debug_text(value, rendering.budget)
    rendering.budget.text(len(text), narrow=text.isascii())
    return text


def _some_text(rendering: Rendering, value: object, name: str) -> str:
    text = text_of(value, f"The filter `{name}`")
    rendering.budget.text(len(text), narrow=text.isascii())
    return text


def _abbreviate(rendering: Rendering, value: object, length: object) -> object:
    text = _some_text(rendering, value, "abbreviate")
    size = integer_of(length, "The argument `length` of the filter `abbreviate`")
    if size < 0:
        raise ExpressionError("The argument `length` of the filter `abbreviate` is negative")
    if len(text) <= 3 or len(text) < size:
        return text
    return text[:size] if size <= 3 else text[: size - 3] + "..."


def _base64_encode(rendering: Rendering, value: object) -> object:
    from base64 import b64encode  # noqa: PLC0415  # rare

    data = value if isinstance(value, bytes) else _any_text(rendering, value).encode("utf-8", "surrogatepass")
    rendering.budget.text(len(data) * 4 // 3)
    return b64encode(data).decode("ascii")


def _base64_decode(rendering: Rendering, value: object) -> object:
    import binascii  # noqa: PLC0415  # rare
    from base64 import b64decode  # noqa: PLC0415  # rare

    text = _any_text(rendering, value)
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError) as error:
        raise ExpressionError("The filter `base64decode` needs valid Base64") from error


def _capitalize(rendering: Rendering, value: object) -> object:
    text = _some_text(rendering, value, "capitalize")
    return _FIRST_VISIBLE.sub(lambda found: found.group().upper(), text, count=1)


def _title(rendering: Rendering, value: object) -> object:
    text = _some_text(rendering, value, "title")
    rendering.budget.scan(len(text))
    return _WORD_START.sub(lambda found: found.group().upper(), text)


def _upper(rendering: Rendering, value: object) -> object:
    return _any_text(rendering, value).upper()


def _lower(rendering: Rendering, value: object) -> object:
    return _any_text(rendering, value).lower()


def _trim(rendering: Rendering, value: object) -> object:
    return trimmed(_some_text(rendering, value, "trim"))


def _inside(rendering: Rendering, value: object, change: Callable[[str], str], depth: int = 0) -> object:
    """Change a text, or every value inside a list or map, as text."""
    budget = rendering.budget
    budget.spend()
    if value is None:
        return None
    if is_list(value):
        deeper = deeper_than(depth)
        budget.members(len(value))
        return [_inside(rendering, member, change, deeper) for member in value]
    if is_map(value):
        deeper = deeper_than(depth)
        budget.members(len(value), 100)
        return {key: _inside(rendering, member, change, deeper) for key, member in list(value.items())}
    return change(debug_text(value, budget))


def _replace(rendering: Rendering, value: object, pairs: object, regexp: object) -> object:
    budget = rendering.budget
    if not is_map(pairs):
        raise ExpressionError(f"The filter `replace` needs a map in `replace_pairs`, not {kind_of(pairs)}")
    if regexp is not None and not isinstance(regexp, bool):
        raise ExpressionError(f"The argument `regexp` of the filter `replace` must be a boolean, not {kind_of(regexp)}")
    changes = [(debug_text(old, budget), debug_text(new, budget)) for old, new in list(pairs.items())]

    def change(text: str) -> str:
        for old, new in changes:
            budget.spend()
            text = replace_all(old, new, text, budget) if regexp else replace_text(text, old, new, budget)
        return text

    return _inside(rendering, value, change)


def _split(rendering: Rendering, value: object, delimiter: object, limit: object) -> object:
    text = text_of(value, "The filter `split`")
    pattern = text_of(delimiter, "The argument `delimiter` of the filter `split`")
    most = 0 if limit is None else integer_of(limit, "The argument `limit` of the filter `split`")
    return split(pattern, text, most, rendering.budget)


def _starts_with(rendering: Rendering, value: object, part: object) -> object:
    return _part_of(rendering, value, part, "startsWith", str.startswith)


def _ends_with(rendering: Rendering, value: object, part: object) -> object:
    return _part_of(rendering, value, part, "endsWith", str.endswith)


def _part_of(rendering: Rendering, value: object, part: object, name: str, test: Callable[[str, str], bool]) -> bool:
    if value is None:
        raise ExpressionError(f"The filter `{name}` needs a value, not null")
    text = debug_text(value, rendering.budget)
    rendering.budget.spend(len(text) // _LONG_TEXT)
    return test(text, debug_text(part, rendering.budget))


def _substring_before(rendering: Rendering, value: object, separator: object) -> object:
    return _any_text(rendering, value).partition(_separator(rendering, separator))[0]


def _substring_before_last(rendering: Rendering, value: object, separator: object) -> object:
    before, found, after = _any_text(rendering, value).rpartition(_separator(rendering, separator))
    return before if found else after


def _substring_after(rendering: Rendering, value: object, separator: object) -> object:
    return _any_text(rendering, value).partition(_separator(rendering, separator))[2]


def _substring_after_last(rendering: Rendering, value: object, separator: object) -> object:
    _, found, after = _any_text(rendering, value).rpartition(_separator(rendering, separator))
    return after if found else ""


def _separator(rendering: Rendering, separator: object) -> str:
    text = debug_text(separator, rendering.budget)
    if not text:
        raise ExpressionError("The argument `separator` is empty")
    return text


def _slugify(rendering: Rendering, value: object) -> object:
    import unicodedata  # noqa: PLC0415  # rare

    text = _some_text(rendering, value, "slugify")
    rendering.budget.scan(len(text) * 4)
    dashed = unicodedata.normalize("NFD", _SPACES.sub("-", text))
    ascii_only = _NOT_SLUG.sub("", dashed.encode("ascii", "ignore").decode("ascii")).replace("_", "-")
    joined = _DASHES.sub("-", ascii_only)
    return joined.removeprefix("-").removesuffix("-").lower()


def _indent(rendering: Rendering, value: object, amount: object, prefix: object) -> object:
    return _indented(rendering, value, amount, prefix, "indent")


def _nindent(rendering: Rendering, value: object, amount: object, prefix: object) -> object:
    return _indented(rendering, value, amount, prefix, "nindent")


def _indented(rendering: Rendering, value: object, amount: object, prefix: object, name: str) -> str:
    text = debug_text(value, rendering.budget)
    count = integer_of(amount, f"The argument `amount` of the filter `{name}`")
    if count < 0:
        raise ExpressionError(f"The argument `amount` of the filter `{name}` is negative")
    if not text:
        return ""
    unit = " " if prefix is None else debug_text(prefix, rendering.budget)
    line_break = next((kind for kind in _LINE_BREAKS if kind in text), "\n")
    lines = text.count(line_break) + 1
    # The length is checked before the margin is made: `indent(1000000000)` must not be.
    rendering.budget.text(len(text) + lines * (len(unit) * count + 2), narrow=text.isascii() and unit.isascii())
    margin = line_break + unit * count
    return (margin if name == "nindent" else "") + text.replace(line_break, margin)


def _escape_char(rendering: Rendering, value: object, kind: object) -> object:
    escape = _ESCAPES.get(kind) if isinstance(kind, str) else None
    if escape is None:
        raise ExpressionError("The argument `type` of the filter `escapeChar` must be 'single', 'double' or 'shell'")
    return _inside(rendering, value, lambda text: replace_text(text, *escape, rendering.budget))


def _shell(rendering: Rendering, value: object) -> object:
    return _escape_char(rendering, value, "shell")


def _url_encode(rendering: Rendering, value: object) -> object:
    from urllib.parse import quote_plus  # noqa: PLC0415  # rare

    text = _some_text(rendering, value, "urlencode")
    rendering.budget.scan(len(text))
    encoded = quote_plus(text, safe="*", errors="replace").replace("~", "%7E")
    rendering.budget.text(len(encoded))
    return encoded


def _url_decode(rendering: Rendering, value: object) -> object:
    from urllib.parse import unquote_plus  # noqa: PLC0415  # rare

    text = _some_text(rendering, value, "urldecode")
    rendering.budget.scan(len(text))
    if _BAD_PERCENT.search(text):
        raise ExpressionError("The filter `urldecode` found a `%` without two hexadecimal digits")
    return unquote_plus(text)


def _hash(name: str) -> Callable[[Rendering, object], object]:
    def run(rendering: Rendering, value: object) -> object:
        import hashlib  # noqa: PLC0415  # rare

        text = _some_text(rendering, value, name)
        return hashlib.new(name, text.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()

    return run


def _regex_match(rendering: Rendering, value: object, regex: object) -> object:
    return value is not None and _found(rendering, value, regex, "regexMatch") is not None


def _regex_extract(rendering: Rendering, value: object, regex: object, group: object) -> object:
    number = 0 if group is None else integer_of(group, "The argument `group` of the filter `regexExtract`")
    pattern = text_of(regex, "The argument `regex` of the filter `regexExtract`")
    found = search(pattern, debug_text(value, rendering.budget), rendering.budget)
    if found is None:
        return None
    if not 0 <= number <= found.re.groups:
        raise ExpressionError(f"The regular expression of the filter `regexExtract` has no group {number}")
    return found.group(number)


def _found(rendering: Rendering, value: object, regex: object, name: str) -> object:
    pattern = text_of(regex, f"The argument `regex` of the filter `{name}`")
    text = debug_text(value, rendering.budget)
    plain = literal(pattern)
    if plain is not None:
        rendering.budget.spend(len(text) // _LONG_TEXT)
        return True if plain in text else None
    return search(pattern, text, rendering.budget)


def _regex_replace(rendering: Rendering, value: object, regex: object, replacement: object) -> object:
    pattern = text_of(regex, "The argument `regex` of the filter `regexReplace`")
    new = text_of(replacement, "The argument `replacement` of the filter `regexReplace`")
    return replace_all(pattern, new, debug_text(value, rendering.budget), rendering.budget)


def _string(rendering: Rendering, value: object) -> object:
    if is_number(value):
        return debug_text(value, rendering.budget)
    if isinstance(value, str) and _NUMERIC.fullmatch(value):
        return value
    raise ExpressionError(f"The filter `string` needs a number or a text that is one, not {kind_of(value)}")


def _condense(rendering: Rendering, value: object) -> object:
    return _BREAK.sub("", _any_text(rendering, value))


TEXT_FILTERS = {
    "abbreviate": Builtin(_abbreviate, "length*"),
    "base64encode": Builtin(_base64_encode),
    "base64decode": Builtin(_base64_decode),
    "capitalize": Builtin(_capitalize),
    "title": Builtin(_title),
    "upper": Builtin(_upper),
    "lower": Builtin(_lower),
    "trim": Builtin(_trim),
    "replace": Builtin(_replace, "replace_pairs*", "regexp"),
    "split": Builtin(_split, "delimiter*", "limit"),
    "startsWith": Builtin(_starts_with, "value*", keeps_null=False),
    "endsWith": Builtin(_ends_with, "value*", keeps_null=False),
    "substringBefore": Builtin(_substring_before, "separator*"),
    "substringBeforeLast": Builtin(_substring_before_last, "separator*"),
    "substringAfter": Builtin(_substring_after, "separator*"),
    "substringAfterLast": Builtin(_substring_after_last, "separator*"),
    "slugify": Builtin(_slugify),
    "indent": Builtin(_indent, "amount*", "prefix"),
    "nindent": Builtin(_nindent, "amount*", "prefix"),
    "escapeChar": Builtin(_escape_char, "type*"),
    "sh": Builtin(_shell),
    "urlencode": Builtin(_url_encode),
    "urldecode": Builtin(_url_decode),
    "md5": Builtin(_hash("md5")),
    "sha1": Builtin(_hash("sha1")),
    "sha256": Builtin(_hash("sha256")),
    "sha512": Builtin(_hash("sha512")),
    "regexMatch": Builtin(_regex_match, "regex*", keeps_null=False),
    "regexExtract": Builtin(_regex_extract, "regex*", "group"),
    "regexReplace": Builtin(_regex_replace, "regex*", "replacement*"),
    "string": Builtin(_string),
    "condense": Builtin(_condense),
}
