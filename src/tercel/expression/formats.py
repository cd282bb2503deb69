"""Texts that carry values: JSON, YAML, Ion and numbers. The front of the modules that know each of them."""

import json
import re

from tercel.errors import ExpressionError
from tercel.expression.ion import ion_text, parse_ion
from tercel.expression.number_format import java_double, number_format, to_number
from tercel.expression.yaml_reader import parse_yaml
from tercel.expression.yaml_writer import yaml_text

__all__ = [
    "ion_text",
    "java_double",
    "number_format",
    "parse_ion",
    "parse_json",
    "parse_yaml",
    "to_number",
    "yaml_text",
]

_BLANK = re.compile(r"[ \t\r\n]*")


def parse_json(text: str) -> object:
    """Read the first JSON value of a text; what follows it is ignored.

    Returns:
        None, bool, int of any size, float, str, list or dict; of equal keys the last one counts.

    Raises:
        ExpressionError: the text does not begin with a JSON value, or is nested too deep.
    """
    blank = _BLANK.match(text)
    try:
        return _DECODER.raw_decode(text, blank.end() if blank else 0)[0]
    except json.JSONDecodeError as error:
        reason = f"{error.msg[:1].lower()}{error.msg[1:]}, line {error.lineno}, column {error.colno}"
        raise ExpressionError(f"The text is not JSON: {reason}.") from error
    except ValueError as error:
        raise ExpressionError(f"The text is not JSON: {error}.") from error
    except RecursionError:
        raise ExpressionError("The JSON text is nested too deep.") from None


def _refuse(constant: str) -> object:
    raise ValueError(f"it has the word {constant}")


_DECODER = json.JSONDecoder(parse_constant=_refuse)
