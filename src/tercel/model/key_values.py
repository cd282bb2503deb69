"""Key-value pairs: which keys there may be, and what a text that is to be kept under one reads as. Pure."""

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Literal

import msgspec

from tercel.model.duration import parse_duration

ValueType = Literal["STRING", "NUMBER", "BOOLEAN", "DATETIME", "DATE", "DURATION", "JSON"]

_KEY = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*")
_DURATION = re.compile(r"-?P(?=.)(?:\d+D)?(?:T(?=.)(?:\d+H)?(?:\d+M)?(?:\d+(?:\.\d+)?S)?)?")
_BOOLEANS: Mapping[str, bool] = {"true": True, "false": False}


def is_key(text: str) -> bool:
    """True for letters, digits, `.`, `-` and `_`, with a letter or digit first."""
    return _KEY.fullmatch(text) is not None


def untyped_value(text: str) -> object:
    """The duration that a text reads like; any other text as it is.

    Example:
        >>> untyped_value("PT1M").total_seconds(), untyped_value("1 minute")
        (60.0, '1 minute')
    """
    try:
        return parse_duration(text) if _DURATION.fullmatch(text) else text
    except ValueError:
        return text  # longer than a duration can be


def typed_value(text: str, type: ValueType) -> object:
    """A text read as *type*; blanks around it mean something for STRING only.

    Raises:
        ValueError: it cannot be read so.

    Example:
        >>> typed_value(" 3 ", "NUMBER"), typed_value("[1, true]", "JSON")
        (3, [1, True])
    """
    if type == "STRING":
        return text
    text = text.strip()
    match type:
        case "NUMBER":
            return int(text) if re.fullmatch(r"[+-]?\d+", text) else msgspec.json.decode(text, type=float)
        case "BOOLEAN":
            return _BOOLEANS[text.lower()] if text.lower() in _BOOLEANS else _refuse(text)
        case "DATETIME":
            at = datetime.fromisoformat(text)
            return at if at.tzinfo is not None else _refuse(text)
        case "DATE":
            return date.fromisoformat(text)
        case "DURATION":
            return parse_duration(text)
        case "JSON":
            return msgspec.json.decode(text)


def _refuse(text: str) -> object:
    raise ValueError(text)
