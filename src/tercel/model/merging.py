"""Maps laid over maps."""

from collections.abc import Mapping
from typing import cast


def merged(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    """*above* laid over *below*, maps inside them deeply."""
    result = dict(below)
    for name, value in above.items():
        there = result.get(name)
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            result[name] = merged(cast("Mapping[str, object]", there), cast("Mapping[str, object]", value))
        else:
            result[name] = value
    return result
