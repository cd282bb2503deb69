"""What the family's properties render to; a text that is blank when rendered counts as not given."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import cast

from tercel.plugin_api import RunContext, TaskFailedError, parse_duration


def text(context: RunContext, value: str | None) -> str | None:
    """A text; None where there is none."""
    return None if value is None else context.render(value).strip() or None


def seconds(context: RunContext, value: str, name: str) -> int:
    """A duration in whole seconds."""
    try:
        return int(parse_duration(context.render(value)).total_seconds())
    except ValueError as error:
        raise TaskFailedError(f"{name}: {error}.", "Write a duration such as PT15M.") from error


def instant(context: RunContext, value: str | None, name: str) -> datetime | None:
    """A date with time; in UTC where it names no zone."""
    given = text(context, value)
    if given is None:
        return None
    try:
        date = datetime.fromisoformat(given)
    except ValueError:
        raise TaskFailedError(f"{name} is {given[:80]!r}, which is no date.", "Write 2030-12-31T12:00:00Z.") from None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


def text_map(context: RunContext, value: Mapping[str, str] | str | None, name: str) -> dict[str, str]:
    """A map of texts, or a text that renders to one as JSON."""
    rendered = context.render_value(value)
    if isinstance(rendered, str):
        try:
            rendered = json.loads(rendered or "{}")
        except ValueError as error:
            raise TaskFailedError(f"{name} is no JSON object: {error}.") from error
    if not isinstance(rendered, Mapping | None):
        raise TaskFailedError(f"{name} is a {type(rendered).__name__}, and a map is wanted.")
    items = cast("Mapping[object, object]", rendered or {}).items()
    return {str(key): item if isinstance(item, str) else json.dumps(item) for key, item in items}


def iso(date: datetime) -> str:
    """An instant as text, such as `2030-12-31T12:00:00.000Z`."""
    return date.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
