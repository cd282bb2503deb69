"""What the family's properties render to, and how an address is shown."""

import json
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit, urlunsplit

from tercel.plugin_api import RunContext, TaskFailedError, parse_duration


def shown(uri: str) -> str:
    """The address without login and query, which may hold secrets."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def without_login(uri: str) -> str:
    """The address, its user and password left out."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def plain(value: object) -> str:
    """A text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def rendered_map(context: RunContext, value: object) -> dict[str, object]:
    """A map, or a text that renders to one as JSON."""
    rendered = context.render_value(value)
    if isinstance(rendered, str):
        try:
            rendered = json.loads(rendered or "{}")
        except ValueError as error:
            raise TaskFailedError(f"{rendered[:80]!r} is not a JSON object: {error}.") from error
    if not isinstance(rendered, Mapping):
        raise TaskFailedError(f"A map is wanted, but there is a {type(rendered).__name__}.")
    return {str(name): item for name, item in cast("Mapping[object, object]", rendered).items()}


def seconds(context: RunContext, value: str | None, name: str, default: float) -> float:
    """A duration in seconds, longer than nothing."""
    if value is None:
        return default
    try:
        given = parse_duration(context.render(value).strip()).total_seconds()
    except ValueError as error:
        raise TaskFailedError(f"{name}: {error}.") from error
    if given <= 0:
        raise TaskFailedError(f"{name} is not longer than nothing.", "Write a duration such as PT10S.")
    return given
