"""What Tercel makes of Kestra's language, type by type and property by property, found in the code.

`kestra_types.yaml` says what there is in the language, the shapes of the types say what Tercel takes, and two tables
here say why something differs or is not there yet. `faults` names what has no reason, and reasons that fit nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tercel.model.condition import Condition
from tercel.model.flow import Flow
from tercel.model.shapes import Either, Kind, ListOf, MapOf, Nested, is_family, shape_of
from tercel.model.task import Part, Task
from tercel.model.trigger import Trigger
from tercel.plugin_api import TaskRunner
from tercel.plugins import MODULES, catalog

ROOT = Path(__file__).parents[1]
PREFIX = "io.kestra.plugin."
KINDS = {"task": Task, "trigger": Trigger, "condition": Condition, "task runner": TaskRunner}

DIFFERS: Mapping[str, str] = {
    "flow.retry.delayFactor": "waits grow by this factor each time, from `interval` on; in Kestra they grow by steps",
    "flow.tenantId": "there is one tenant; the value is checked and not used",
    "task.timeout": "counts on flowable tasks, too",
    "task.workerGroup": "`tercel run` serves every group itself",
    "trigger.workerGroup": "`tercel server` serves every group itself",
    "trigger.{logLevel,minLogLevel}": "counts for polling triggers; the others log nothing",
    "core.debug.Return.format": "metrics have the template as a tag, not the text that came of it",
    "core.execution.Exit.state": "every state ends what still runs, KILLED included; nothing else of the flow runs",
    "core.flow.LoopUntil.checkFrequency": "the execution is RUNNING between two rounds, not PAUSED",
    "core.flow.Pause.{delay,pauseDuration,timeout}": "the shortest of them counts; other branches go on meanwhile",
    "core.flow.Switch.defaults": "without them, and without a case that matches, the task succeeds",
    "core.flow.Template.templateId": "a file in the folder that `TERCEL_TEMPLATES` names; off without it",
    "core.flow.WorkingDirectory.cache": "saved after a successful run only, unless `save` says otherwise",
    "core.state.*.{name,taskrunValue}": "ids that look alike, such as `my_task` and `my-task`, do not share a state",
    "core.http.*.options.maxContentLength": "enforced where given; without it a response may have any length",
    "git.Clone.{connectTimeout,readTimeout}": "accepted; git has timeouts of its own",
    "scripts.*.*.outputDirectory": "accepted; there always is an `outputDir`",
    "scripts.*.*.taskRunner": "Process and Docker work; see the task runners for the others",
    "scripts.python.*.dependencies": "in a container, installed by the image's own pip and kept for that image",
    "scripts.python.*.pythonVersion": "on this machine; in a container its image says which",
    "scripts.python.Script.docker.volumes": "refused, with a hint, unless TERCEL_DOCKER_VOLUMES allows it",
    "scripts.python.Script.docker.cpu.cpus": "1 is one processor",
    "scripts.runner.docker.Docker.volumes": "refused, with a hint, unless TERCEL_DOCKER_VOLUMES allows it",
    "scripts.runner.docker.Docker.fileHandlingStrategy": (
        "without it files are mounted where the engine sees them, else copied; VOLUME keeps modes, links and deletions"
    ),
    "scripts.python.*.uvAutoInstallEnabled": "accepted; uv comes with the extra `python`",
    "scripts.python.*.{uvInstallerVersion,uvInstallerSha256}": "accepted; nothing is downloaded",
}
"""Properties that work in another way than in Kestra, to how; `*` and `{a,b}` stand for several."""

NOT_YET: Mapping[str, str] = {
    "task.workerGroup.fallback": "comes with workers of their own; there always is one now",
    "core.http.*.options.{connectionPoolIdleTimeout,logLevel}": "accepted, without effect",
    "core.kv.PurgeKV": "expired keys are never seen",
    "git.Clone.{cloneAllBranches,noProxy}": "accepted, without effect",
    "git.{SyncDashboards,PushDashboards}": "there are no dashboards",
    "git.{NamespaceSync,TenantSync}": "SyncFlows, SyncNamespaceFiles and their Push tasks work in one direction each",
    "scripts.{dotnet,jbang}.*": "the languages that are there come first",
    "scripts.{groovy,jython,nashorn}.{Eval,FileTransform}": "runs inside a Java process; there is none",
    "scripts.*.{CommandsTrigger,ScriptTrigger}": "other polling triggers come first",
    "scripts.{python.Script.docker,runner.docker.Docker}.resume": (
        "accepted; a container whose worker died is removed, and the task runs again"
    ),
    "scripts.python.Script.docker.memory.kernelMemory": "accepted; engines have given it up",
    "{kubernetes,aws,azure,gcp}.runner.*": "task runners elsewhere come later",
    "docker.cli.*": "plugins for services come later",
}
"""Types and properties that are not there, or have no effect, to why; a type is meant where no property is named."""

ON_PURPOSE: Mapping[str, Sequence[str]] = {
    "Executions": (
        "A kill is over when the last task has ended: KILLING lasts until the workers have reported. What is paused or"
        " waits for a retry is killed at once. A killed child does not revive, and nothing is left behind.",
        "Executions in KILLED and CANCELLED can be restarted, and those in WARNING that have a failed task run; they go"
        " on at what did not end well.",
        "A restart with another revision goes on in the same execution: ids, logs and files stay together. It is"
        " refused where what has run has no place in that revision.",
        "Changing the state of a task run leaves all other task runs as they are: another one that failed still counts"
        " as failed. The execution has to have ended.",
        "Forcing an execution to run is refused where it waits for nothing.",
        "Exit ends what still runs, whatever the state; neither `errors` nor `finally` run after it.",
        "While a Pause waits, other branches go on. The execution is PAUSED until no task run is.",
        "Between two rounds of a LoopUntil its task run and the execution are RUNNING.",
        "A Parallel, Dag or ForEach with a failed child ends when its other children have ended.",
        "A flowable whose tasks are all disabled succeeds at once.",
        "A Switch without a matching case and without defaults succeeds.",
        "A failure in `finally` makes the execution FAILED.",
        "`timeout` counts on every task, flowables included.",
        "Waits of an exponential retry grow by the factor each time: `interval`, twice that, four times that.",
        "The time of an SLA counts from the last restart, and it can act again after one.",
        "A slot of `concurrency` is freed by a kill, too; an execution that waits for a retry keeps its slot. Counting"
        " and taking is one step, so that the limit holds.",
        "An execution and those it starts are written in one transaction: a crash neither loses nor doubles a subflow.",
    ),
    "Triggers": (
        "A polling trigger is evaluated by one process at a time, and what it keeps is written with the execution that"
        " it starts: a crash neither loses nor doubles one. An evaluation that lasts an hour is ended.",
        "What a polling trigger logs is in the log of the execution that it starts; where it starts none, warnings are"
        " in the log of the server, and `tercel trigger list` says why the last evaluation failed.",
    ),
    "Values": (
        "All inputs that do not fit are told at once, each with its reason.",
        "A condition of `dependsOn` that cannot be rendered is an error, not a false.",
        "INT has 64 bits; JSON and YAML take values that are typed already; URI takes any absolute address.",
        "Inputs that a trigger gives are typed and checked, those of Flow triggers included.",
        "A label has one value. Of several the first counts, those of the flow before those given at the start;"
        " `labels.system` is a map of all labels that begin so. Labels can be set at any time.",
        "Where a task has a list and so have the plugin defaults, the list of the task counts alone.",
        "A key whose time is over counts as missing: `kv()` gives null, unless `errorOnMissing`.",
        "States and caches of `my_task`, `my-task` and `My_Task` are apart.",
        "A namespace file that is written again keeps its earlier versions.",
        "Outputs above `TERCEL_MAX_OUTPUT_SIZE` fail their task and say so.",
    ),
    "Working directories and scripts": (
        "A cache is saved only after a successful run (`save: ALWAYS` is the old way); a damaged one is a miss.",
        "Captured files stay in the directory; `outputFiles` is an empty map where nothing matches.",
        "A working directory has the same path at every run of its task; runs side by side do not see each other.",
        "A child's `retry` puts the files back to what they were before the child and runs it again there; a"
        " WorkingDirectory's own `retry` runs the whole again.",
        "`tercel execution restart` of a WorkingDirectory goes on at the child that failed, with the directory as"
        " it was before it; input and namespace files that were changed since are written anew. `--from-scratch`"
        " runs all children again, as Kestra does; so does a restart whose files are not kept any more. A worker"
        " that died: the same.",
        "Scripts see neither Tercel's home nor the directories of other task runs (`TERCEL_CONTAIN=false` shows them).",
        "Without root, in a user namespace, a folder that an earlier child or the cache made cannot be renamed by"
        " rename(2); `mv` copies it. `TERCEL_LAYERS=copy` has no such limit.",
        "`git.Clone` works beside input files, namespace files and a restored cache; a file that was injected wins"
        " over one of the same name in the repository, with a warning.",
        "The environment of a script is an allow-list; the server's secrets are not in it.",
        "Lines on standard error are WARN entries and make the task WARNING, unless `warningOnStdErr: false`.",
    ),
}
"""What Tercel does in another way because it is better so."""

LATER = (
    "The REST API and the pages, and what only they ask for: webhook requests, backfills, logs followed from elsewhere,"
    " metrics added up over time.",
    "Worker groups with workers of their own, and realtime triggers.",
    "The states BREAKPOINT and SUBMITTED.",
)
"""What is not there yet and is neither a type nor a property."""


class Property(NamedTuple):
    """One property of a type.

    Attributes:
        state: "works", "differs", "not yet", or "ours" for one that Kestra does not have.
        why: a clause; empty where it works.
        is_deprecated: it still works, and another one is better.
    """

    name: str
    state: str
    why: str = ""
    is_deprecated: bool = False


class Holder(NamedTuple):
    """What has properties: the flow, all of a kind, a type, or a part of one of them.

    Attributes:
        name: as the tables of reasons call it.
        known: the properties that Kestra's language gives it.
        part: what Tercel has for it; None where it has nothing.
    """

    name: str
    known: Sequence[str]
    part: type[Part] | None


# What there is


@cache
def _language() -> Mapping[str, Any]:
    return yaml.safe_load((ROOT / "tools" / "kestra_types.yaml").read_text())


@cache
def known_types(kind: str) -> Mapping[str, Sequence[str]]:
    """The types of Kestra's language, to the properties that are their own."""
    found: dict[str, list[str]] = {}
    for written, names in _language()["types"][kind].items():
        for name in _expanded(written):
            found.setdefault(name, []).extend(names.split())
    return dict(sorted(found.items()))


@cache
def provided_types(kind: str) -> Mapping[str, type[Part]]:
    """The types that Tercel has, by the same names."""
    parts = {part.plugin_type: part for part in map(catalog().find, MODULES) if part is not None}
    return {name.removeprefix(PREFIX): part for name, part in sorted(parts.items()) if issubclass(part, KINDS[kind])}


def _expanded(written: str) -> Iterator[str]:
    """*written* with each choice of what stands in braces."""
    match = re.search(r"\{([^}]*)\}", written)
    if match is None:
        yield written
        return
    for one in match.group(1).split(","):
        yield from _expanded(written[: match.start()] + one + written[match.end() :])


def flow_holder() -> Holder:
    """The flow."""
    return Holder("flow", _language()["flow"].split(), Flow)


def common_holder(kind: str) -> Holder:
    """What all types of a kind share."""
    return Holder(kind, _language()["common"][kind].split(), KINDS[kind])


def type_holders(kind: str) -> list[Holder]:
    """Each type of a kind that Tercel has."""
    return [Holder(name, known_types(kind).get(name, ()), part) for name, part in provided_types(kind).items()]


@cache
def part_holders() -> Sequence[Holder]:
    """The mappings that stand in flows and types."""
    return [Holder(path, names.split(), _part_at(path)) for path, names in _language()["parts"].items()]


def _part_at(path: str) -> type[Part] | None:
    roots: dict[str, type[Part]] = {"flow": Flow, **KINDS}
    for kind in KINDS:
        roots |= provided_types(kind)
    root = max((name for name in roots if path.startswith(f"{name}.")), key=len, default=None)
    if root is None:
        return None
    part = roots[root]
    for name in path.removeprefix(f"{root}.").split("."):
        field = shape_of(part).fields.get(name)
        inside = None if field is None else next(_parts_in(field.kind), None)
        if inside is None:
            return None
        part = inside
    return part


def _parts_in(kind: Kind) -> Iterator[type[Part]]:
    match kind:
        case Nested(part=part) if not is_family(part):
            yield part
        case ListOf(item=inner) | MapOf(value=inner):
            yield from _parts_in(inner)
        case Either(kinds=kinds):
            for one in kinds:
                yield from _parts_in(one)
        case _:
            pass


# What becomes of it


def properties(holder: Holder) -> list[Property]:
    """Each property that Kestra's language or Tercel gives to something, but for what all of its kind have."""
    shape = None if holder.part is None else shape_of(holder.part)
    names = dict.fromkeys(holder.known)
    if shape is not None:
        names |= dict.fromkeys(name for name in shape.fields if name not in _shared(holder))
    return [_property(holder, name) for name in names]


def _shared(holder: Holder) -> frozenset[str]:
    """What all of the kind of a type have, and what is no business of YAML."""
    if holder.part is None or not holder.part.plugin_type:
        return frozenset()
    kind = next(kind for kind, base in KINDS.items() if issubclass(holder.part, base))
    return frozenset(_language()["common"][kind].split())


def _property(holder: Holder, name: str) -> Property:
    part, path = holder.part, f"{holder.name}.{name}"
    if part is None or name not in {**shape_of(part).fields, **shape_of(part).former} or name in part.not_yet:
        return Property(name, "not yet", reason(NOT_YET, path))
    is_deprecated = name in part.deprecated or name in shape_of(part).former
    if name in part.without_effect:
        return Property(name, "not yet", f"has no effect. {part.without_effect[name]}".rstrip("."))
    if reason(NOT_YET, path):
        return Property(name, "not yet", reason(NOT_YET, path))
    if reason(DIFFERS, path):
        return Property(name, "differs", reason(DIFFERS, path), is_deprecated)
    return Property(name, "works" if name in holder.known else "ours", "", is_deprecated)


def reason(table: Mapping[str, str], path: str) -> str:
    """What a table says of a type or property; empty where it says nothing."""
    return next((why for pattern, why in table.items() if _fits(pattern, path)), "")


def _fits(pattern: str, path: str) -> bool:
    """True where a pattern means exactly this; `*` stays between two dots."""
    steps = path.split(".")
    return any(
        len(wanted) == len(steps) and all(map(fnmatchcase, steps, wanted))
        for wanted in (one.split(".") for one in _expanded(pattern))
    )


# What nobody has said


def faults() -> list[str]:
    """What is missing in the tables, and what they say of nothing; each a sentence."""
    return [*_unknown_types(), *_unknown_parts(), *_unreasoned(), *_idle_reasons()]


def _unknown_types() -> Iterator[str]:
    for kind in KINDS:
        known, provided = known_types(kind), provided_types(kind)
        for name in provided.keys() - known.keys():
            yield f"The {kind} {name} is there, and kestra_types.yaml does not know it."
        for name in known.keys() - provided.keys():
            if not reason(NOT_YET, name):
                yield f"The {kind} {name} is not there, and NOT_YET does not say why."
        for name in provided:
            if reason(NOT_YET, name):
                yield f"NOT_YET says why the {kind} {name} is not there, but it is."


def _unknown_parts() -> Iterator[str]:
    listed = {holder.part for holder in part_holders()}
    seen: set[type[Part]] = set()
    pending = [(holder.name, holder.part) for holder in _roots()]
    while pending:
        path, part = pending.pop()
        if part is None or part in seen:
            continue
        seen.add(part)
        for name, field in shape_of(part).fields.items():
            for inside in _parts_in(field.kind):
                pending.append((f"{path}.{name}", inside))
                if inside not in listed and inside not in seen:
                    yield f"kestra_types.yaml does not say what stands in {path}.{name}."
    for holder in part_holders():
        if holder.part is None:
            yield f"kestra_types.yaml knows {holder.name}, which is not there."


def _roots() -> list[Holder]:
    types = [holder for kind in KINDS for holder in type_holders(kind)]
    return [flow_holder(), *(common_holder(kind) for kind in KINDS), *types]


def _unreasoned() -> Iterator[str]:
    for holder in (*_roots(), *part_holders()):
        for one in properties(holder):
            if one.state == "not yet" and not one.why:
                yield f"{holder.name}.{one.name} is not there, and NOT_YET does not say why."


def _idle_reasons() -> Iterator[str]:
    names = {holder.name for holder in (*_roots(), *part_holders())}
    names |= {name for kind in KINDS for name in known_types(kind)}
    paths = {f"{holder.name}.{one.name}" for holder in (*_roots(), *part_holders()) for one in properties(holder)}
    for title, table, meant in (("DIFFERS", DIFFERS, paths), ("NOT_YET", NOT_YET, paths | names)):
        for written in table:
            for pattern in _expanded(written):
                if not any(_fits(pattern, path) for path in meant):
                    yield f"{title} says something of {pattern}, which nobody knows."
    for holder in (*_roots(), *part_holders()):
        for one in properties(holder):
            if one.state == "not yet" and reason(DIFFERS, f"{holder.name}.{one.name}"):
                yield f"{holder.name}.{one.name} cannot differ: it is not there."


# The page


def tables() -> list[str]:
    """The part of the page that goes through the language, as lines of Markdown."""
    lines = [
        "## Flows\n",
        *_table("", [_row("flow", properties(flow_holder()))]),
        *_parts("flow."),
    ]
    for kind in KINDS:
        lines += [f"## {kind.capitalize()}s\n", *_table("type", _type_rows(kind)), *_parts("", kind), *_missing(kind)]
    return lines


def _type_rows(kind: str) -> list[str]:
    """One row for each type, or for several script tasks that have the same properties."""
    grouped: dict[object, list[str]] = {}
    for holder in type_holders(kind):
        found = tuple(properties(holder))
        key = (found, holder.name.rpartition(".")[2]) if holder.name.startswith("scripts.") else holder.name
        grouped.setdefault(key, []).append(holder.name)
    rows = [_row(f"every {kind}", properties(common_holder(kind)))]
    for names in grouped.values():
        part = provided_types(kind)[names[0]]
        label = f"`{names[0]}`" if len(names) == 1 else _joined(names)
        holder = Holder(names[0], known_types(kind).get(names[0], ()), part)
        rows.append(_row(label + (" (deprecated)" if "type" in part.deprecated else ""), properties(holder)))
    return rows


def _joined(names: Sequence[str]) -> str:
    """`scripts.{a,b}.Script` for types that differ in one step, with room to break the line."""
    steps = [name.split(".") for name in names]
    return f"`{steps[0][0]}.`… `.{steps[0][-1]}` of " + ", ".join(step[1] for step in steps)


def _parts(prefix: str, kind: str | None = None) -> list[str]:
    """The rows of the parts of the flow, or of all types of a kind."""
    own = {"flow"} if kind is None else {kind, *provided_types(kind)}
    found = [
        holder
        for holder in part_holders()
        if any(holder.name.startswith(f"{name}.") for name in own) and holder.part is not None
    ]
    if not found:
        return []
    rows = [_row(f"`{holder.name.removeprefix(prefix)}`", properties(holder)) for holder in found]
    return ["Mappings inside them:\n", *_table("mapping", rows)]


def _missing(kind: str) -> list[str]:
    """The types that are not there, those with the same reason together."""
    by_reason: dict[str, list[str]] = {}
    for name in known_types(kind).keys() - provided_types(kind).keys():
        by_reason.setdefault(reason(NOT_YET, name), []).append(name)
    if not by_reason:
        return []
    rows = sorted((sorted(names), why) for why, names in by_reason.items())
    listed = [f"| {', '.join(f'`{name}`' for name in names)} | {why} |" for names, why in rows]
    return ["Not yet:\n", f"| {kind} | why |", "|---|---|", *listed, ""]


def _table(what: str, rows: Iterable[str]) -> list[str]:
    return [f"| {what} | works | differs | not yet | only in Tercel |", "|---|---|---|---|---|", *rows, ""]


def _row(label: str, found: Sequence[Property]) -> str:
    def plain(state: str) -> str:
        return ", ".join(
            f"`{one.name}`" + (" (deprecated)" if one.is_deprecated else "") for one in found if one.state == state
        )

    def reasoned(state: str) -> str:
        by_reason: dict[str, list[str]] = {}
        for one in found:
            if one.state == state:
                by_reason.setdefault(one.why, []).append(f"`{one.name}`")
        return "<br>".join(f"{', '.join(names)}: {why}" for why, names in by_reason.items())

    return f"| {label} | {plain('works')} | {reasoned('differs')} | {reasoned('not yet')} | {plain('ours')} |"


# The sections and their tests


class Tests(NamedTuple):
    """The tests of one section of the language."""

    number: int
    title: str
    count: int
    files: Sequence[str]


def sections() -> list[Tests]:
    """Each section of the language with its tests."""
    found: dict[int, dict[str, int]] = {}
    for path in sorted((ROOT / "tests" / "compatibility").glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and (match := re.match(r"TestSection(\d+)", node.name)):
                number = int(match.group(1))
                number = number if number in _language()["sections"] else number // 10  # 51 is 5.1
                tests = sum(isinstance(one, ast.FunctionDef) and one.name.startswith("test_") for one in node.body)
                counts = found.setdefault(number, {})
                counts[path.name] = counts.get(path.name, 0) + tests
    return [
        Tests(number, title, sum(found.get(number, {}).values()), list(found.get(number, {})))
        for number, title in _language()["sections"].items()
    ]


def section_table() -> list[str]:
    """The table of sections, as lines of Markdown."""
    rows = [
        f"| {one.number} | {one.title} | {one.count} | {', '.join(f'`{name}`' for name in one.files)} |"
        for one in sections()
    ]
    return ["| | section | tests | in |", "|---|---|---|---|", *rows, ""]
