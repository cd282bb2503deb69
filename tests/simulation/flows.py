"""Random flows, as plain nested dicts that are easy to shrink and to print."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from random import Random
from typing import Any

from tercel.machine.flowable import ExecutableTask, RendersRequests, Requests
from tercel.model.flow import Concurrency, Flow, Listener, Sla
from tercel.model.state import State
from tercel.model.task import Retry, Task
from tercel.plugins.flow.branch import If, Switch
from tercel.plugins.flow.each import EachParallel, EachSequential, ForEach
from tercel.plugins.flow.sequence import AllowFailure, Parallel, Sequential
from tercel.plugins.flow.working_directory import WorkingDirectory

Spec = dict[str, Any]

FEATURES: list[str] = [
    "pause",
    "loop",
    "dag",
    "subflow",
    "items",
    "exit",
    "update",
    "labels",
    "queue",
    "after",
    "hand",
    "sla",
    "status",
    "task_state",
    "new_execution",
    "replay",
]
"""What the machine knows beyond the kinds that were there from the start; everything here is drawn and happens."""

KINDS = ["sequential", "parallel", "allow", "each", "each_sequential", "each_parallel", "if", "switch", "directory"]
LATER_KINDS = ["pause", "loop", "dag", "subflow", "items", "exit", "update"]
LEAVES = ("job", "subflow", "items", "exit", "update")
"""Kinds that get a job of their own, besides `directory`."""

EXECUTABLE = ("subflow", "items")
"""Those of them whose work other executions do."""

MINUTES = {"PT30S": 0.5, "PT1M": 1, "PT5M": 5}
Lane = list[tuple[Spec, str | None, int | None]]
"""Tasks that run one after the other, each with its loop value and iteration."""


class Starts(ExecutableTask, frozen=True, kw_only=True):
    """Stands for every task whose work other executions do."""

    def requests(self, context: RendersRequests) -> Requests:
        raise NotImplementedError

    def started(self, ids: Sequence[str], total: int, base_uri: str) -> Mapping[str, object]:
        raise NotImplementedError

    def counted(
        self,
        outputs: Mapping[str, object],
        states: Mapping[str, int],
        ended: State,
        child_outputs: Mapping[str, object],
    ) -> Mapping[str, object]:
        return {**outputs, "iterations": dict(states)}


FALSE = ("false",)
AFTER_BRANCHES = ("after", "listener0", "listener1")
INPUTS = {"yes": "1", "list": '["p", "q"]'}
OPTIONAL = (
    *("disabled", "run_if", "allow_failure", "allow_warning", "retry", "timeout", "errors", "finally", "after"),
    *("listener0", "listener1", "concurrency", "schedule", "sla", "behavior", "delay"),
)
LISTS = ("tasks", "then", "else", "a", "b", "defaults", "errors", "finally", "after", "listener0", "listener1")


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
    if "queue" in FEATURES and rng.random() < 0.15:
        spec["concurrency"] = rng.choice(["QUEUE", "QUEUE", "CANCEL", "FAIL"])
    if "queue" in FEATURES and rng.random() < 0.1:
        spec["schedule"] = "PT1M"
    if "after" in FEATURES and rng.random() < 0.25:
        spec["after"] = pen.tasks(2, 1, 2)
        if rng.random() < 0.4:
            spec["listener0"] = pen.tasks(2, 1, 2)
            spec["listener1"] = pen.tasks(2, 1, 1)
    if "sla" in FEATURES and rng.random() < 0.2:
        spec["sla"] = [pen.sla(number) for number in range(rng.randint(1, 2))]
    rare_ones = (("pause", pen.pausing), ("loop", pen.looping), ("items", pen.starting), ("update", pen.updating))
    for kind, rare in rare_ones:
        if kind in FEATURES and rng.random() < 0.05:
            spec["tasks"] = [rare()]
    if "dag" in FEATURES and pen.dice.random() < 0.03:
        spec["tasks"] = [pen.depending()]
    return spec


def apart(rng: Random) -> Random:
    """Dice of their own, which follow from *rng* and take nothing from it: what it gives stays as it was."""
    twin = Random()
    twin.setstate(rng.getstate())
    return Random(twin.random())


class _Pen:
    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.dice = apart(rng)
        self.count = 0
        self.values = 0
        self.kinds = [*KINDS, *(kind for kind in LATER_KINDS if kind in FEATURES)]

    def tasks(self, depth: int, low: int, high: int) -> list[Spec]:
        return [self.task(depth) for _ in range(self.rng.randint(low, high))]

    def task(self, depth: int) -> Spec:
        rng = self.rng
        self.count += 1
        kind = "job"
        if self.count < 18 and rng.random() < (0.65, 0.45, 0.25, 0.0)[min(depth, 3)]:
            kind = rng.choice(self.kinds)
        spec: Spec = {"kind": kind, "id": f"{kind[0]}{self.count}"}
        self.common(spec)
        match kind:
            case "sequential" | "allow":
                spec["tasks"] = self.tasks(depth + 1, 0, 3)
            case "parallel":
                spec["tasks"] = self.tasks(depth + 1, 1, 4)
                spec["limit"] = rng.choice([0, 0, 1, 2])
            case "each" | "each_sequential" | "each_parallel":
                self.values += 1
                spec["tasks"] = self.tasks(depth + 1, 1, 2)
                self.values -= 1
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
            case "pause":
                self.pause(spec, depth)
            case "loop":
                self.loop(spec, depth)
            case "dag":
                spec["tasks"] = self.tasks(depth + 1, 1, 4)
                ids = [task["id"] for task in spec["tasks"]]
                spec["after_of"] = {
                    id_: sorted(rng.sample(ids[:at], rng.randint(0, min(at, 2)))) for at, id_ in enumerate(ids)
                }
                spec["limit"] = rng.choice([0, 0, 1, 2])
            case "subflow" | "items":
                spec["wait"] = rng.random() < 0.8
                spec["transmit"] = rng.random() < 0.75
                spec["total"] = 1 if kind == "subflow" else rng.choice([0, 1, 2, 3, 3])
                return spec
            case "exit":
                spec["state"] = rng.choice(["SUCCESS", "WARNING", "FAILED", "KILLED", "CANCELLED"])
                return spec
            case _:
                return spec
        is_wide = kind in ("parallel", "each", "each_parallel", "dag")
        if is_wide and rng.random() < 0.25:
            spec["timeout"] = "PT1M"
        if rng.random() < (0.5 if is_wide else 0.3):
            spec["errors"] = self.tasks(depth + 1, 1, 2)
        if rng.random() < 0.3:
            spec["finally"] = self.tasks(depth + 1, 1, 2)
        return spec

    def sla(self, number: int) -> Spec:
        rng = self.rng
        rule: Spec = {"id": f"sla{number}", "behavior": rng.choice(["FAIL", "CANCEL", "NONE"])}
        if rng.random() < 0.6:
            rule["duration"] = rng.choice(["PT1M", "PT5M"])
        if rng.random() < 0.5:
            rule["labels"] = {f"sla{number}": "broken"}
        return rule

    def pause(self, spec: Spec, depth: int) -> None:
        """Some with tasks inside, some that go on by themselves, in each way there is."""
        rng = self.rng
        spec["tasks"] = self.tasks(depth + 1, 0, 2) if rng.random() < 0.5 else []
        spec.pop("timeout", None)
        name = rng.choice(["", "", "delay", "timeout", "timeout"])
        if name:
            spec[name] = rng.choice(["PT1M", "PT5M"])
            if rng.random() < 0.6:
                spec["behavior"] = rng.choice(["RESUME", "WARN", "FAIL", "CANCEL"])

    def loop(self, spec: Spec, depth: int) -> None:
        """One to three rounds, mostly."""
        rng = self.rng
        spec["tasks"] = self.tasks(depth + 1, 1, 2)
        rounds = (
            [] if self.values else [f"{{{{ outputs.{spec['id']}.iterationCount >= {count} }}}}" for count in (1, 2, 3)]
        )
        spec["condition"] = rng.choice(["true", "false", "{{ nope }}", *rounds, *rounds])
        spec["fail_on_max"] = rng.random() < 0.4
        spec["interval"] = rng.choice(["PT30S", "PT1M"])
        spec["max_rounds"] = rng.choice([1, 2, 3, 4])
        if rng.random() < 0.3:
            spec["max_time"] = rng.choice(["PT1M", "PT5M"])

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

    def pausing(self) -> Spec:
        """Rare by chance: several that wait for a person at the same time, beside a task."""
        self.count += 1
        pauses: list[Spec] = [{"kind": "pause", "id": f"p{self.count}{letter}", "tasks": []} for letter in "xyz"]
        for one in pauses:
            self.pause(one, 3)
        return {"kind": "parallel", "id": f"w{self.count}", "limit": 0, "tasks": [*pauses, *self.tasks(3, 1, 1)]}

    def looping(self) -> Spec:
        """Rare by chance: a loop of several rounds under a timeout."""
        rng = self.rng
        self.count += 1
        id_ = f"l{self.count}"
        spec: Spec = {"kind": "loop", "id": id_, "tasks": self.tasks(3, 1, 1), "fail_on_max": rng.random() < 0.4}
        if rng.random() < 0.6:
            spec["timeout"] = rng.choice(["PT1M", "PT5M"])
        if rng.random() < 0.4:
            spec["finally"] = self.tasks(3, 1, 1)
            if rng.random() < 0.5:  # holds until then
                return spec | {
                    "condition": f"{{{{ (outputs.{spec['finally'][0]['id']}.value ?? 0) == 0 }}}}",
                    "interval": "PT1M",
                    "max_rounds": 4,
                }
        if rng.random() < 0.3:
            spec["max_time"] = "PT5M"
        rounds = f"{{{{ outputs.{id_}.iterationCount >= {rng.randint(2, 3)} }}}}"
        return spec | {"condition": rounds, "interval": rng.choice(["PT30S", "PT1M"]), "max_rounds": rng.randint(2, 4)}

    def updating(self) -> Spec:
        """Rare by chance: several changes of the same variables."""
        self.count += 1
        tasks: list[Spec] = [{"kind": "update", "id": f"u{self.count}{letter}"} for letter in "xyz"]
        return {"kind": "sequential", "id": f"s{self.count}", "tasks": tasks}

    def starting(self) -> Spec:
        """Rare by chance: several executions that end in several states."""
        self.count += 1
        spec: Spec = {"kind": "items", "id": f"i{self.count}", "total": 3}
        self.common(spec)
        return spec | {"wait": self.rng.random() < 0.8, "transmit": self.rng.random() < 0.8}

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

    def depending(self) -> Spec:
        """Rare by chance: in a Dag, tasks that depend on what absorbed a failure, beside one that fails."""
        self.count += 1
        names = [f"w{self.count}{letter}" for letter in "abcde"]
        jobs: list[Spec] = [{"kind": "job", "id": f"{name}j"} for name in names]
        tasks: list[Spec] = [{"kind": "allow", "id": names[0], "tasks": jobs[:1]}, *jobs[1:]]
        after = {jobs[2]["id"]: [names[0]], jobs[3]["id"]: [jobs[1]["id"], names[0]], jobs[4]["id"]: [jobs[2]["id"]]}
        limit = self.dice.choice([0, 1, 2])
        dag: Spec = {"kind": "dag", "id": f"d{self.count}", "tasks": tasks, "after_of": after, "limit": limit}
        return {"kind": "allow", "id": f"a{self.count}", "tasks": [dag]}

    def child(self) -> Spec:
        self.count += 1
        spec: Spec = {"kind": "job", "id": f"c{self.count}"}
        if self.rng.random() < 0.1:
            spec["disabled"] = True
        if "new_execution" in FEATURES and self.dice.random() < 0.2:
            spec["retry"] = {"type": "constant", "max": self.dice.randint(1, 4), "new": True}
        return spec

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
        if "new_execution" in FEATURES and rng.random() < 0.15:
            spec["new"] = True
        return spec


def build(spec: Spec) -> Flow:
    """The flow that a spec stands for."""
    return Flow(
        id="flow",
        namespace="simulation",
        tasks=_all(spec["tasks"]),
        errors=_all(spec.get("errors", [])),
        finally_=_all(spec.get("finally", [])),
        after_execution=_all(spec.get("after", [])),
        listeners=[Listener(tasks=_all(spec[name])) for name in AFTER_BRANCHES[1:] if spec.get(name)],
        sla=[_sla(rule) for rule in spec.get("sla", [])],
        retry=_retry(spec.get("retry")),
        concurrency=Concurrency(limit=1, behavior=spec["concurrency"]) if "concurrency" in spec else None,
    )


def _sla(rule: Spec) -> Sla:
    return Sla(
        id=rule["id"],
        type="MAX_DURATION" if "duration" in rule else "EXECUTION_ASSERTION",
        duration=timedelta(minutes=MINUTES[rule["duration"]]) if "duration" in rule else None,
        assertion=None if "duration" in rule else "{{ (labels.a ?? 'x') != 'y' }}",
        behavior=rule["behavior"],
        labels=rule.get("labels", {}),
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
        behavior="CREATE_NEW_EXECUTION" if spec.get("new") else "RETRY_FAILED_TASK",
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
    if spec["kind"] in ("job", "exit", "update"):
        return Task(**common)
    if spec["kind"] in EXECUTABLE:
        return Starts(**common, wait=spec["wait"], transmit_failed=spec["transmit"])
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
        case "directory":
            return WorkingDirectory(**common, tasks=_all(spec["tasks"]))
        case "pause":
            from tercel.plugins.flow.pause import Pause

            return Pause(**common, tasks=_all(spec["tasks"]), delay=spec.get("delay"), behavior=spec.get("behavior"))
        case "loop":
            from tercel.plugins.flow.loop import CheckFrequency, LoopUntil

            frequency = CheckFrequency(
                interval=spec["interval"], max_iterations=spec["max_rounds"], max_duration=spec.get("max_time")
            )
            return LoopUntil(
                **common,
                tasks=_all(spec["tasks"]),
                condition=spec["condition"],
                fail_on_max_reached=spec["fail_on_max"],
                check_frequency=frequency,
            )
        case _:
            from tercel.plugins.flow.dag import Dag, DagTask

            tasks = [DagTask(task=_task(task), depends_on=sorted(dependencies(spec, task))) for task in spec["tasks"]]
            return Dag(**common, tasks=tasks, concurrent=spec["limit"])


def dependencies(spec: Spec, task: Spec) -> set[str]:
    """Ids of the tasks of a Dag that one of its tasks waits for."""
    ids = {one["id"] for one in spec["tasks"]}
    return ids & set(spec["after_of"].get(task["id"], ()))


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
    for name in OPTIONAL:
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


def lanes_of(spec: Spec, round_: int = 0) -> list[Lane] | None:
    """The rows of tasks that a flowable runs; None where it cannot be told, so that it has to fail.

    Args:
        spec: of the flowable.
        round_: the present one of a loop, from zero.
    """
    match spec["kind"]:
        case "sequential" | "allow" | "pause":
            return [[(task, None, None) for task in enabled(spec["tasks"])]]
        case "loop":
            return [[(task, None, round_) for task in enabled(spec["tasks"])]]
        case "parallel" | "dag":
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
