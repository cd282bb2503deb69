"""Trigger: what every trigger shares. No trigger exists yet; its `type` is refused as unknown."""

from typing import Annotated, ClassVar

import msgspec

from tercel.model.task import LogLevel, Part, WorkerGroup


class Trigger(Part, frozen=True, kw_only=True):
    """What starts executions of a flow by itself."""

    family: ClassVar[str] = "trigger"

    id: Annotated[
        str,
        msgspec.Meta(
            pattern="^[a-zA-Z0-9][a-zA-Z0-9_-]*$",
            extra={
                "code": "trigger.id",
                "hint": "Use letters, digits, '-' and '_', with a letter or digit first.",
            },
        ),
    ]
    type: str
    description: str | None = None
    disabled: bool = False
    worker_group: WorkerGroup | None = None
    log_level: LogLevel | None = None
