"""The language of `{{ … }}`: templates and variables to values.

Pure: secrets, files, the clock and all else outside come in as *functions*. This front is the whole interface.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from tercel.errors import ExpressionError
from tercel.expression.passes import check, render_text
from tercel.expression.rendering import Function
from tercel.expression.values import is_list, is_map

__all__ = ["Function", "check_syntax", "is_template", "is_truthy_text", "render", "render_object"]

_NO_FUNCTIONS: Mapping[str, Function] = {}
_FALSE = frozenset({"", "false", "0", "-0"})


def render(
    template: str,
    variables: Mapping[str, object],
    functions: Mapping[str, Function] = _NO_FUNCTIONS,
    *,
    mode: Literal["text", "typed"] = "text",
    recursive: bool = False,
    clock: Callable[[], float] | None = None,
    zone: str = "UTC",
) -> object:
    """Render a template.

    Args:
        template: text with `{{ … }}` and `{% … %}`; one without any `{` is returned as it is.
        variables: what names stand for; never modified.
        functions: the services that templates may call, by name; `functions.py` lists them.
        mode: `text` gives text, `typed` the one value that the template prints, its type kept.
        recursive: render the result again until it no longer changes.
        clock: monotonic seconds, for the deadline; None for none.
        zone: the time zone of dates where a template names none.

    Returns:
        Text, or in typed mode any value.

    Raises:
        ExpressionError: the syntax is wrong, something is missing or of the wrong kind, or a limit is passed.

    Example:
        >>> render("Hello {{ name | upper }}", {"name": "Ann"})
        'Hello ANN'
        >>> render("{{ n + 1 }}", {"n": 4}, mode="typed")
        5
    """
    if "{" not in template:
        return template
    return render_text(
        template, variables, functions, typed=mode == "typed", recursive=recursive, clock=clock, zone=zone
    )


def render_object(
    value: object,
    variables: Mapping[str, object],
    functions: Mapping[str, Function] = _NO_FUNCTIONS,
    *,
    recursive: bool = False,
    clock: Callable[[], float] | None = None,
    zone: str = "UTC",
) -> object:
    """Render every text inside a structure, keys of maps included; other values stay as they are.

    Each text is a render of its own, with its own limits. Of two keys that render alike the first stays.

    Raises:
        ExpressionError: as `render`.
    """

    def rendered(inner: object) -> object:
        if isinstance(inner, str):
            if "{" not in inner:
                return inner
            return render_text(inner, variables, functions, typed=False, recursive=recursive, clock=clock, zone=zone)
        if is_map(inner):
            result: dict[object, object] = {}
            for key, item in list(inner.items()):
                result.setdefault(rendered(key), rendered(item))
            return result
        if is_list(inner):
            return [rendered(item) for item in inner]
        return inner

    return rendered(value)


def is_template(text: str) -> bool:
    """Tell whether a text holds markup, so that rendering it may give something else."""
    return "{" in text and ("{{" in text or "{%" in text or "{#" in text)


def check_syntax(template: str) -> ExpressionError | None:
    """Give the syntax error of a template, or None; values do not matter to it."""
    return check(template) if is_template(template) else None


def is_truthy_text(text: str) -> bool:
    """Tell whether a rendered property such as `runIf` counts as true."""
    return text not in _FALSE
