"""Every error tercel raises on purpose, as one tree.

TercelError
├── UserError                   the reader can fix it; the hint says how
│   ├── InvalidFlowError        a flow's YAML has issues; carries them all
│   │   └── DisabledFlowError       a flow cannot be started, as it says itself
│   ├── InvalidInputError       the inputs given at start do not fit the flow
│   ├── InvalidSettingError     a setting has a value that cannot be used
│   ├── ExpressionError         a {{ … }} cannot be rendered
│   │   └── MissingError        because something it asks for is not there
│   ├── NotFoundError           no such flow, execution, file or key
│   ├── ConflictError           what is there is in no state for that
│   ├── StorageError            internal storage refuses a path or cannot serve it
│   │   └── UnreachableError        the database does not answer or take anything now
│   ├── HomeInUseError          another process works on the same home
│   └── MissingToolError        a program or library that a task needs is not installed
├── TaskFailedError             the task ran and failed: ends an attempt, may be retried
│   └── TaskTimeoutError        because its timeout passed
├── TaskKilledError             the execution is being killed: ends an attempt, never retried
└── InvariantError              our own mistake: never caught on the way up
"""

from collections.abc import Mapping, Sequence


class TercelError(Exception):
    """Base of every error raised on purpose: *message* says what happened, *hint* what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".rstrip())
        self.message = message
        self.hint = hint


class UserError(TercelError):
    """Something the reader can fix."""


class InvalidFlowError(UserError):
    """A flow's YAML has issues.

    Attributes:
        issues: every violation found, as `model.source.Issue`; empty when the error is about the text as a whole.
    """

    def __init__(self, message: str, hint: str = "", issues: Sequence[object] = ()) -> None:
        super().__init__(message, hint)
        self.issues = tuple(issues)


class DisabledFlowError(InvalidFlowError):
    """A flow is disabled, and so cannot be started."""


class InvalidInputError(UserError):
    """The inputs given at start do not fit the flow; *message* names every one that does not."""


class InvalidSettingError(UserError):
    """A setting has a value that cannot be used."""


class ExpressionError(UserError):
    """A template cannot be rendered.

    Attributes:
        line: 1-based line in the template, 0 where none applies.
        template: the template's text, cut at 200 characters; empty until the renderer adds it.
    """

    def __init__(self, message: str, line: int = 0, template: str = "") -> None:
        super().__init__(message)
        self.line = line
        self.template = template[:200]


class MissingError(ExpressionError):
    """A template asks for a variable, key, index or attribute that is not there.

    Attributes:
        name: the first part that was missing.
    """

    def __init__(self, message: str, name: str, line: int = 0, template: str = "") -> None:
        super().__init__(message, line, template)
        self.name = name


class NotFoundError(UserError):
    """No such flow, execution, file or key."""


class ConflictError(UserError):
    """What is there is in no state for what is asked; nothing was changed."""


class StorageError(UserError):
    """Internal storage refuses a path (`..`, a link out of it) or cannot serve it."""


class UnreachableError(StorageError):
    """The database does not answer, or takes nothing now, such as on a full disk; a later try may go well."""


class HomeInUseError(UserError):
    """Another process works on the same home."""


class MissingToolError(UserError):
    """A program or library that a task needs is not installed; the hint names how to get it."""


class TaskFailedError(TercelError):
    """The task ran and failed.

    Attributes:
        outputs: what it had produced until then, kept on the task run.
    """

    def __init__(self, message: str, hint: str = "", outputs: Mapping[str, object] | None = None) -> None:
        super().__init__(message, hint)
        self.outputs = dict(outputs or {})


class TaskTimeoutError(TaskFailedError):
    """The task's timeout passed before it ended."""


class TaskKilledError(TercelError):
    """The execution is being killed.

    Attributes:
        outputs: what the task had produced until then, kept on the task run.
    """

    def __init__(
        self, message: str = "The execution is being killed.", outputs: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.outputs = dict(outputs or {})


class InvariantError(TercelError):
    """Our own mistake: something that cannot be. Never caught on the way up."""
