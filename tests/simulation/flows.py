"""Random flows, as plain nested dicts that are easy to shrink and to print."""

import json
from collections.abc import Iterator
from datetime import timedelta
from random import Random
from typing import Any

from tercel.model.flow import Flow
from tercel.model.task import Retry, Task
from tercel.plugins.flow.branch import If, Switch
from tercel.plugins.flow.each import EachParallel, EachSequential, ForEach
from tercel.plugins.flow.sequence import AllowFailure, Parallel, Sequential
from tercel.plugins.flow.working_directory import WorkingDirectory

Spec = dict[str, Any]

KINDS = ["sequential", "parallel", "allow", "each", "each_sequential", "each_parallel", "if", "switch", "directory"]
Lane = list[tuple[Spec, str | None, int | None]]
"""Tasks that run one after the other, each with its loop value and iteration."""

FALSE = ("false",)
INPUTS = {"yes": "1", "list": '["p", "q"]'}
LISTS = ("tasks", "then", "else", "a", "b", "defaults", "errors", "finally")


def draw(rng: Random) -> Spec:
    """A flow of at most some twenty tasks."""
    pen = _Pen(rng)
    spec: Spec = {"kind": "flow", "tasks": pen.tasks(0, 1, 4)}
    if rng.random() < 0.1:
        spec["tasks"].insert(0, pen.wide())
    if rng.random() < 0.1:
        spec["tasks"] = [pen.absorbing()]
    if rng.random() < 0.35:
        spec["errors"] = pen.tasks(1, 1, 2)
    if rng.random() < 0.35:
        spec["finally"] = pen.tasks(1, 1, 2)
    if rng.random() < 0.1:
        spec["retry"] = pen.retry()
    return spec


class _Pen:
    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.count = 0

    def tasks(self, depth: int, low: int, high: int) -> list[Spec]:
        return [self.task(depth) for _ in range(self.rng.randint(low, high))]

    def task(self, depth: int) -> Spec:
        rng = self.rng
        self.count += 1
        kind = "job"
        if self.count < 18 and rng.random() < (0.65, 0.45, 0.25, 0.0)[min(depth, 3)]:
            kind = rng.choice(KINDS)
        spec: Spec = {"kind": kind, "id": f"{kind[0]}{self.count}"}
        self.common(spec)
        match kind:
            case "sequential" | "allow":
                spec["tasks"] = self.tasks(depth + 1, 0, 3)
            case "parallel":
                spec["tasks"] = self.tasks(depth + 1, 1, 4)
                spec["limit"] = rng.choice([0, 0, 1, 2])
            case "each" | "each_sequential" | "each_parallel":
                spec["tasks"] = self.tasks(depth + 1, 1, 2)
                spec["values"] = rng.choice(
                    [["x", "y"], ["x", "y", "z"], '["x", "y", "x"]', [], "{{ inputs.list }}", "no"]
                )
                spec["limit"] = rng.choice([0, 1, 1, 2])
            case "if":
                spec["condition"] = rng.choice(["true", "false", "{{ inputs.yes }}", "{{ nope }}"])
                spec["then"] = self.tasks(depth + 1, 1, 2)
                spec["else"] = self.tasks(depth + 1, 0, 1)
            case "switch":
                spec["value"] = rng.choice(["a", "b", "c"])
                spec["a"] = self.tasks(depth + 1, 1, 2)
                spec["b"] = self.tasks(depth + 1, 0, 1)
                spec["defaults"] = self.tasks(depth + 1, 0, 1)
            case "directory":
                spec["tasks"] = [self.child() for _ in range(rng.randint(1, 3))]
            case _:
                return spec
        is_wide = kind in ("parallel", "each", "each_parallel")
        if is_wide and rng.random() < 0.25:
            spec["timeout"] = "PT1M"
        if rng.random() < (0.5 if is_wide else 0.3):
            spec["errors"] = self.tasks(depth + 1, 1, 2)
        if rng.random() < 0.3:
            spec["finally"] = self.tasks(depth + 1, 1, 2)
        return spec

    def wide(self) -> Spec:
        """What is rare by chance: error tasks beside open siblings, under a timeout."""
        self.count += 1
        return {
            "kind": "parallel",
            "id": f"w{self.count}",
            "limit": 0,
            "timeout": "PT1M",
            "tasks": self.tasks(3, 2, 4),
            "errors": self.tasks(3, 2, 3),
        }

    def absorbing(self) -> Spec:
        """Rare by chance, too: several absorbed failures in one lane."""
        self.count += 1
        absorbers = [
            {"kind": "allow", "id": f"a{self.count}{letter}", "tasks": self.tasks(3, 1, 2)}
            for letter in "xyz"[: self.rng.randint(2, 3)]
        ]
        return {
            "kind": "each",
            "id": f"w{self.count}",
            "limit": self.rng.choice([0, 1, 2]),
            "values": ["x", "y", "z"],
            "tasks": absorbers,
        }

    def child(self) -> Spec:
        self.count += 1
        return {"kind": "job", "id": f"c{self.count}", **({"disabled": True} if self.rng.random() < 0.1 else {})}

    def common(self, spec: Spec) -> None:
        rng = self.rng
        if rng.random() < 0.05:
            spec["disabled"] = True
        if rng.random() < 0.12:
            spec["run_if"] = rng.choice(["false", "true", "{{ inputs.yes }}", "{{ nope }}"])
        if rng.random() < 0.15:
            spec["allow_failure"] = True
        if rng.random() < 0.1:
            spec["allow_warning"] = True
        if rng.random() < 0.25:
            spec["retry"] = self.retry()
        if rng.random() < 0.2:
            spec["timeout"] = rng.choice(["PT1M", "PT5M"])

    def retry(self) -> Spec:
        rng = self.rng
        spec: Spec = {"type": rng.choice(["constant", "exponential", "random"]), "max": rng.randint(1, 4)}
        if rng.random() < 0.3:
            spec["warning"] = True
        if rng.random() < 0.15:
            spec["duration"] = 90
        return spec


def build(spec: Spec) -> Flow:
    """The flow that a spec stands for."""
    return Flow(
        id="flow",
        namespace="simulation",
        tasks=_all(spec["tasks"]),
        errors=_all(spec.get("errors", [])),
        finally_=_all(spec.get("finally", [])),
        retry=_retry(spec.get("retry")),
    )


def _all(specs: list[Spec]) -> list[Task]:
    return [_task(spec) for spec in specs]


def _retry(spec: Spec | None) -> Retry | None:
    if spec is None:
        return None
    return Retry(
        type=spec["type"],
        interval=timedelta(seconds=20),
        min_interval=timedelta(seconds=10),
        max_interval=timedelta(seconds=60),
        max_attempts=spec["max"],
        warning_on_retry=spec.get("warning", False),
        max_duration=timedelta(seconds=spec["duration"]) if "duration" in spec else None,
    )


def _task(spec: Spec) -> Task:
    common: dict[str, Any] = {
        "id": spec["id"],
        "type": spec["kind"],
        "disabled": spec.get("disabled", False),
        "run_if": spec.get("run_if"),
        "allow_failure": spec.get("allow_failure", False),
        "allow_warning": spec.get("allow_warning", False),
        "retry": _retry(spec.get("retry")),
        "timeout": spec.get("timeout"),
    }
    if spec["kind"] == "job":
        return Task(**common)
    common["errors"] = _all(spec.get("errors", []))
    common["finally_"] = _all(spec.get("finally", []))
    match spec["kind"]:
        case "sequential":
            return Sequential(**common, tasks=_all(spec["tasks"]))
        case "allow":
            return AllowFailure(**common, tasks=_all(spec["tasks"]))
        case "parallel":
            return Parallel(**common, tasks=_all(spec["tasks"]), concurrent=spec["limit"])
        case "each":
            return ForEach(**common, tasks=_all(spec["tasks"]), values=spec["values"], concurrency_limit=spec["limit"])
        case "each_sequential":
            return EachSequential(**common, tasks=_all(spec["tasks"]), value=spec["values"])
        case "each_parallel":
            return EachParallel(**common, tasks=_all(spec["tasks"]), value=spec["values"], concurrent=spec["limit"])
        case "if":
            return If(**common, condition=spec["condition"], then=_all(spec["then"]), else_=_all(spec["else"]))
        case "switch":
            cases = {"a": _all(spec["a"]), "b": _all(spec["b"])}
            return Switch(**common, value=spec["value"], cases=cases, defaults=_all(spec["defaults"]))
        case _:
            return WorkingDirectory(**common, tasks=_all(spec["tasks"]))


def smaller(spec: Spec) -> Iterator[Spec]:
    """Specs with one task or one property less, largest cuts first."""
    for name in LISTS:
        tasks = spec.get(name)
        if not isinstance(tasks, list) or (tasks and not isinstance(tasks[0], dict)):
            continue
        for position, task in enumerate(tasks):
            yield {**spec, name: tasks[:position] + tasks[position + 1 :]}
            for inner in LISTS:
                if isinstance(task.get(inner), list) and spec["kind"] != "directory":
                    yield {**spec, name: tasks[:position] + task[inner] + tasks[position + 1 :]}
            for cut in smaller(task):
                yield {**spec, name: [*tasks[:position], cut, *tasks[position + 1 :]]}
    for name in ("disabled", "run_if", "allow_failure", "allow_warning", "retry", "timeout", "errors", "finally"):
        if name in spec:
            yield {key: value for key, value in spec.items() if key != name}


def show(spec: Spec, indent: str = "") -> str:
    """A spec as an indented outline."""
    plain = {k: v for k, v in spec.items() if k not in ("kind", "id") and not (k in LISTS and isinstance(v, list))}
    lines = [f"{indent}{spec.get('id', '')} {spec['kind']} {plain or ''}".rstrip()]
    for name in LISTS:
        if isinstance(spec.get(name), list) and spec[name]:
            lines.append(f"{indent}  {name}:")
            lines.extend(show(task, indent + "    ") for task in spec[name])
    return "\n".join(lines)


def enabled(tasks: list[Spec]) -> list[Spec]:
    """Those that are not disabled."""
    return [task for task in tasks if not task.get("disabled")]


def lanes_of(spec: Spec) -> list[Lane] | None:
    """The rows of tasks that a flowable runs; None where it cannot be told, so that it has to fail."""
    match spec["kind"]:
        case "sequential" | "allow":
            return [[(task, None, None) for task in enabled(spec["tasks"])]]
        case "parallel":
            return [[(task, None, None)] for task in enabled(spec["tasks"])]
        case "if":
            if "nope" in spec["condition"]:
                return None
            branch = "else" if spec["condition"] in FALSE else "then"
            return [[(task, None, None) for task in enabled(spec[branch])]]
        case "switch":
            branch = spec["value"] if spec["value"] in ("a", "b") else "defaults"
            return [[(task, None, None) for task in enabled(spec[branch])]]
        case _:
            values = spec["values"]
            if values == "no":
                return None
            if isinstance(values, str):
                values = json.loads(INPUTS["list"] if "{" in values else values)
            values = sorted(set(values), key=values.index)
            tasks = enabled(spec["tasks"])
            if spec["kind"] == "each_parallel":
                return [[(task, value, place)] for place, value in enumerate(values) for task in tasks]
            return [[(task, value, place) for task in tasks] for place, value in enumerate(values)]
