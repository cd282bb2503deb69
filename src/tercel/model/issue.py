"""Issue: one thing wrong with a flow's text, told so that a person finds and mends it."""

from collections.abc import Sequence

import msgspec


class Issue(msgspec.Struct, frozen=True, kw_only=True):
    """A violation, or a warning, at a spot of the text.

    Attributes:
        line: 1-based.
        column: 1-based.
        path: where in the flow, such as `tasks[0].cache.patterns`; empty for the flow itself.
        code: our name for it, such as `flow.tasks.empty`; empty where the rules name none.
        message: what is wrong, with the value.
        hint: what to do; may be empty.
        accepted: what may stand there: property names, values or kinds of value.
    """

    line: int
    column: int
    path: str = ""
    code: str = ""
    message: str
    hint: str = ""
    accepted: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The issue in one line, for people.

        Example:
            >>> Issue(line=3, column=5, path="tasks[0].id", message="'a b' is not an id.", hint="Use a_b.").text
            "Line 3, column 5 (tasks[0].id): 'a b' is not an id. Use a_b."
        """
        place = f"Line {self.line}, column {self.column}" + (f" ({self.path})" if self.path else "")
        accepted = f" Accepted: {', '.join(self.accepted)}." if self.accepted else ""
        return f"{place}: {self.message}{' ' + self.hint if self.hint else ''}{accepted}"


def nearest(word: str, known: Sequence[str], cutoff: float = 0.7) -> str | None:
    """The known word that *word* most likely was meant to be; None where none is as near as *cutoff*, 1 being equal.

    Example:
        >>> nearest("messge", ["message", "level"]), nearest("x", ["message"])
        ('message', None)
    """
    from difflib import get_close_matches  # noqa: PLC0415  # only a faulty flow pays for this import

    for candidate in known:
        if candidate.lower() == word.lower():
            return candidate
    near = get_close_matches(word, known, n=1, cutoff=cutoff)
    return near[0] if near else None


def path_text(path: Sequence[str | int]) -> str:
    """Write keys and indexes as a path.

    Example:
        >>> path_text(("tasks", 0, "cache", "patterns"))
        'tasks[0].cache.patterns'
    """
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
