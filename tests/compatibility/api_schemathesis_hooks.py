"""What schemathesis is told about the server: names of what is there, so that it gets past "there is no such thing".

Loaded by the program `schemathesis` itself; the values come by the environment.
"""

from __future__ import annotations

import json
import os
from typing import Any
from zlib import crc32

import schemathesis

KNOWN: dict[str, list[str]] = json.loads(os.environ["TERCEL_TEST_KNOWN"])
TEXTS: dict[str, list[str]] = json.loads(os.environ["TERCEL_TEST_TEXTS"])
_KEEPS = {"delete": "false"}


def _pick(given: Any, choices: list[str]) -> Any:
    """One of the choices, or what was given: the same for the same."""
    number = crc32(repr(given).encode(errors="replace"))
    return given if number % 4 == 0 else choices[number // 4 % len(choices)]


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any]) -> dict[str, Any]:
    """Name what is there; but nothing that others need is deleted."""
    operation = context.operation
    if not path_parameters or (operation.method.upper() == "DELETE" and "/actions/" not in operation.path):
        return path_parameters
    return {name: _pick(value, KNOWN[name]) if name in KNOWN else value for name, value in path_parameters.items()}


@schemathesis.hook
def map_query(context: Any, query: dict[str, Any] | None) -> dict[str, Any]:
    """Look for files that are there, and leave what others need."""
    found = dict(query or {})
    operation = context.operation
    if "path" in found:
        found["path"] = _pick(found["path"], KNOWN["file"])
    if operation.path.endswith("/by-query") and operation.method.upper() == "DELETE":
        found = {**found, "namespace": "elsewhere"}
    if operation.method.upper() == "POST" and operation.path.endswith(("/flows/{namespace}", "/flows/bulk")):
        found |= _KEEPS
    return found


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Send flows, values and ids that are right, now and then."""
    operation = context.operation
    for name, texts in TEXTS.items():
        if name in operation.path and isinstance(body, str):
            return _pick(body, texts)
    if isinstance(body, list) and operation.path.endswith("/by-ids"):
        return [_pick(one, KNOWN["executionId"]) if isinstance(one, str) else one for one in body]
    return body
