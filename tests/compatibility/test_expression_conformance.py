"""Every case of the expression conformance file, each obtained by running the reference engine.

Prints how many cases there are; run with `-s` to see it.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tercel.errors import ExpressionError, NotFoundError
from tercel.expression import render, render_object

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "conformance" / "expressions.json").read_text(encoding="utf-8")
)
NUMBER_OF_CASES = 590


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


TAGS: dict[str, Callable[[str], object]] = {
    "$instant": _instant,
    "$zoned_datetime": datetime.fromisoformat,
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$decimal": Decimal,
    "$state": str,
}


def _untagged(value: Any) -> Any:
    if isinstance(value, list):
        return [_untagged(item) for item in value]
    if isinstance(value, dict):
        tag = next(iter(value), "")
        return TAGS[tag](value[tag]) if tag in TAGS else {key: _untagged(item) for key, item in value.items()}
    return value


class _Services:
    """The services of a case: secrets, key-value pairs, files and error logs, all in memory."""

    def __init__(self, context: dict[str, Any], env: dict[str, Any]) -> None:
        self.env = env
        self.flow = context.get("flow", {"namespace": "company.team", "id": "flow"})
        trigger = context.get("trigger", {})
        self.readable = [self._prefix(self.flow["namespace"], self.flow["id"], context.get("execution", {}).get("id"))]
        if "executionId" in trigger:
            self.readable.append(self._prefix(trigger["namespace"], trigger["flowId"], trigger["executionId"]))
        self.ids = count()

    def functions(self) -> Mapping[str, Callable[..., object]]:
        return {
            "secret": self.secret,
            "kv": self.kv,
            "read": self.read,
            "file_uri": lambda path, namespace=None: "kestra://" + self.path(path, namespace),
            "file_size": lambda path, namespace=None: len(self.read(path, namespace).encode()),
            "error_logs": lambda: self.env.get("error_logs", []),
            "now": lambda: datetime(2024, 3, 5, 10, 20, 30, tzinfo=UTC),
            "uuid": lambda: f"00000000-0000-4000-8000-{next(self.ids):012}",
            "id": lambda: f"{next(self.ids):022}",
            "random_int": lambda lower, upper: (lower + upper) // 2,
            "random_bytes": lambda size: bytes(range(size)),
        }

    def secret(self, key: str, namespace: str | None = None, subkey: str | None = None) -> str:
        try:
            return self.env["secrets"][key.upper()]
        except KeyError:
            raise NotFoundError(f"There is no secret {key}.") from None

    def kv(self, key: str, namespace: str | None = None, error_on_missing: bool = False) -> object:
        pairs = self.env.get("kv", {}).get(namespace or self.flow["namespace"], {})
        if error_on_missing and key not in pairs:
            raise NotFoundError(f"There is no key {key}.")
        return pairs.get(key)

    def read(self, path: str, namespace: str | None = None) -> str:
        stored = self.path(path, namespace)
        if path.startswith("kestra://") and not stored.startswith(tuple(self.readable)):
            raise NotFoundError("The file belongs to another execution.")
        try:
            return self.env["files"][stored]
        except KeyError:
            raise NotFoundError(f"There is no file {path}.") from None

    def path(self, path: str, namespace: str | None) -> str:
        if path.startswith("kestra://"):
            return path.removeprefix("kestra://")
        return f"/{(namespace or self.flow['namespace']).replace('.', '/')}/_files/{path.removeprefix('/')}"

    @staticmethod
    def _prefix(namespace: str, flow_id: str, execution_id: str | None) -> str:
        slug = flow_id.lower().replace("_", "-")
        return f"/{namespace.replace('.', '/')}/{slug}/executions/{execution_id}/"


def _rendered(case: dict[str, Any]) -> object:
    context = _untagged(case["context"])
    functions = _Services(context, case.get("env", {})).functions()
    match case.get("render", "once"):
        case "object":
            return render_object(case["template"], context, functions)
        case "typed":
            return render(case["template"], context, functions, mode="typed")
        case mode:
            return render(case["template"], context, functions, recursive=mode == "recursive")


def _typed(value: object) -> object:
    """Give a form of a value in which 1, 1.0 and true differ."""
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    return type(value), value


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in CASES])
def test_given_a_case_when_rendered_then_it_gives_what_the_reference_engine_gives(case: dict[str, Any]) -> None:
    if "error_contains" in case:
        with pytest.raises(ExpressionError) as failure:
            _rendered(case)
        assert case["error_contains"].lower() in str(failure.value).lower()
    else:
        assert _typed(_rendered(case)) == _typed(case["expect"])


def test_given_the_file_when_counted_then_every_case_is_there() -> None:
    print(f"\n{len(CASES)} expression conformance cases")

    assert len({case["name"] for case in CASES}) == len(CASES) == NUMBER_OF_CASES
