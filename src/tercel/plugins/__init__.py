"""What tasks can do, one file per family; which module holds which type names. Imported on first use.

Packages from outside add types by entry points of the group `tercel.plugins`: the name is a type name, the value
the module whose import announces it by `@plugin`.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from tercel.model.catalog import Catalog, Offer

__all__ = ["MODULES", "catalog", "installed_types"]

_LANGUAGES = (
    "python",
    "r",
    "node",
    "shell",
    "powershell",
    "ruby",
    "perl",
    "php",
    "lua",
    "julia",
    "go",
    "deno",
    "bun",
    "groovy",
)

_CONDITIONS = (
    "DateTimeBetween",
    "DayWeek",
    "DayWeekInMonth",
    "ExecutionFlow",
    "ExecutionLabels",
    "ExecutionNamespace",
    "ExecutionOutputs",
    "ExecutionStatus",
    "HasRetryAttempt",
    "Not",
    "Or",
    "PublicHoliday",
    "TimeBetween",
    "Weekend",
)

_FAMILIES: Mapping[str, tuple[str, ...]] = {
    "flow.sequence": (
        "io.kestra.plugin.core.flow.Sequential",
        "io.kestra.core.tasks.flows.Sequential",
        "io.kestra.plugin.core.flow.Parallel",
        "io.kestra.core.tasks.flows.Parallel",
        "io.kestra.plugin.core.flow.AllowFailure",
        "io.kestra.core.tasks.flows.AllowFailure",
    ),
    "flow.branch": (
        "io.kestra.plugin.core.flow.If",
        "io.kestra.core.tasks.flows.If",
        "io.kestra.plugin.core.flow.Switch",
        "io.kestra.core.tasks.flows.Switch",
        "io.kestra.plugin.core.flows.Switch",  # a typo of Kestra's own documents, seen in flows
    ),
    "flow.each": (
        "io.kestra.plugin.core.flow.ForEach",
        "io.kestra.plugin.core.flow.EachSequential",
        "io.kestra.core.tasks.flows.EachSequential",
        "io.kestra.plugin.core.flow.EachParallel",
        "io.kestra.core.tasks.flows.EachParallel",
    ),
    "flow.dag": ("io.kestra.plugin.core.flow.Dag", "io.kestra.core.tasks.flows.Dag"),
    "flow.pause": ("io.kestra.plugin.core.flow.Pause", "io.kestra.core.tasks.flows.Pause"),
    "flow.loop": ("io.kestra.plugin.core.flow.LoopUntil", "io.kestra.plugin.core.flow.WaitFor"),
    "flow.subflow": (
        "io.kestra.plugin.core.flow.Subflow",
        "io.kestra.core.tasks.flows.Subflow",
        "io.kestra.core.tasks.flows.Flow",
    ),
    "flow.template": ("io.kestra.plugin.core.flow.Template", "io.kestra.core.tasks.flows.Template"),
    "flow.for_each_item": ("io.kestra.plugin.core.flow.ForEachItem", "io.kestra.core.tasks.flows.ForEachItem"),
    "flow.working_directory": (
        "io.kestra.plugin.core.flow.WorkingDirectory",
        "io.kestra.core.tasks.flows.WorkingDirectory",
        "io.kestra.core.tasks.flows.Worker",
    ),
    "debug": (
        "io.kestra.plugin.core.debug.Return",
        "io.kestra.core.tasks.debugs.Return",
        "io.kestra.plugin.core.debug.Echo",
        "io.kestra.core.tasks.debugs.Echo",
        "io.kestra.plugin.core.log.Log",
        "io.kestra.core.tasks.log.Log",
    ),
    "execution": (
        "io.kestra.plugin.core.execution.Fail",
        "io.kestra.core.tasks.executions.Fail",
        "io.kestra.plugin.core.execution.Assert",
        "io.kestra.plugin.core.execution.Exit",
        "io.kestra.plugin.core.execution.Labels",
        "io.kestra.core.tasks.executions.Labels",
        "io.kestra.plugin.core.execution.SetVariables",
        "io.kestra.plugin.core.execution.UnsetVariables",
        "io.kestra.plugin.core.execution.Count",
        "io.kestra.core.tasks.executions.Counts",
        "io.kestra.plugin.core.execution.Resume",
        "io.kestra.plugin.core.execution.Kill",
        "io.kestra.plugin.core.execution.PurgeExecutions",
        "io.kestra.core.tasks.storages.Purge",
        "io.kestra.plugin.core.storage.Purge",
    ),
    "metrics": ("io.kestra.plugin.core.metric.Publish",),
    "sleep": ("io.kestra.plugin.core.flow.Sleep",),
    "toggle": ("io.kestra.plugin.core.trigger.Toggle", "io.kestra.core.tasks.trigger.Toggle"),
    "files": (
        *(
            f"{package}.{name}"
            for package in ("io.kestra.plugin.core.storage", "io.kestra.core.tasks.storages")
            for name in (
                *("LocalFiles", "Concat", "Split", "Size", "Delete", "Reverse"),
                *("FilterItems", "DeduplicateItems", "PurgeExecution"),
            )
        ),
        "io.kestra.plugin.core.storage.PurgeCurrentExecutionFiles",
        "io.kestra.plugin.core.storage.Write",
    ),
    "kv": tuple(f"io.kestra.plugin.core.kv.{name}" for name in ("Set", "Get", "GetKeys", "Delete")),
    "state": tuple(
        f"{package}.{name}"
        for package in ("io.kestra.plugin.core.state", "io.kestra.core.tasks.states")
        for name in ("Set", "Get", "Delete")
    ),
    "namespaces": tuple(
        f"io.kestra.plugin.core.namespace.{name}" for name in ("UploadFiles", "DownloadFiles", "DeleteFiles")
    ),
    "logs": (
        "io.kestra.plugin.core.log.Fetch",
        "io.kestra.core.tasks.log.Fetch",
        "io.kestra.plugin.core.log.PurgeLogs",
    ),
    "templating": (
        "io.kestra.plugin.core.templating.TemplatedTask",
        "io.kestra.core.tasks.templating.TemplatedTask",
    ),
    "outputs": ("io.kestra.plugin.core.output.OutputValues",),
    "http": (
        "io.kestra.plugin.core.http.Request",
        "io.kestra.plugin.fs.http.Request",
        "io.kestra.plugin.core.http.Download",
        "io.kestra.plugin.fs.http.Download",
        "io.kestra.plugin.core.http.Trigger",
        "io.kestra.plugin.fs.http.Trigger",
    ),
    "triggers": (
        "io.kestra.plugin.core.trigger.Schedule",
        "io.kestra.core.models.triggers.types.Schedule",
        "io.kestra.plugin.core.trigger.ScheduleOnDates",
        "io.kestra.plugin.core.trigger.Flow",
        "io.kestra.core.models.triggers.types.Flow",
        "io.kestra.plugin.core.trigger.Webhook",
        "io.kestra.core.models.triggers.types.Webhook",
    ),
    "conditions": (
        *(
            f"{prefix}.{name}{ending}"
            for name in _CONDITIONS
            for prefix, ending in (
                ("io.kestra.plugin.core.condition", ""),
                ("io.kestra.plugin.core.condition", "Condition"),
                ("io.kestra.core.models.conditions.types", "Condition"),
            )
        ),
        "io.kestra.plugin.core.condition.Expression",
        "io.kestra.plugin.core.condition.ExpressionCondition",
        "io.kestra.core.models.conditions.types.VariableCondition",
        *(
            f"{prefix}.{name}"
            for name in ("FlowCondition", "FlowNamespaceCondition", "MultipleCondition")
            for prefix in ("io.kestra.plugin.core.condition", "io.kestra.core.models.conditions.types")
        ),
    ),
    "git.clone": ("io.kestra.plugin.git.Clone",),
    "git.push": ("io.kestra.plugin.git.Push",),
    "git.push_flows": ("io.kestra.plugin.git.PushFlows",),
    "git.push_files": ("io.kestra.plugin.git.PushNamespaceFiles", "io.kestra.plugin.git.PushExecutionFiles"),
    "git.sync_flows": ("io.kestra.plugin.git.SyncFlows", "io.kestra.plugin.git.SyncFlow"),
    "git.sync": ("io.kestra.plugin.git.Sync",),
    "git.sync_files": ("io.kestra.plugin.git.SyncNamespaceFiles",),
    "aws.transfer": tuple(f"io.kestra.plugin.aws.s3.{name}" for name in ("Upload", "Download", "Downloads")),
    "aws.objects": tuple(
        f"io.kestra.plugin.aws.s3.{name}" for name in ("List", "Copy", "Delete", "DeleteList", "CreateBucket")
    ),
    "aws.trigger": ("io.kestra.plugin.aws.s3.Trigger",),
    "mongodb.load": ("io.kestra.plugin.mongodb.Load", "io.kestra.plugin.mongodb.Bulk"),
    "mongodb.write": tuple(
        f"io.kestra.plugin.mongodb.{name}" for name in ("InsertOne", "InsertMany", "Update", "Delete")
    ),
    "mongodb.read": tuple(f"io.kestra.plugin.mongodb.{name}" for name in ("Find", "Aggregate", "Trigger")),
    "process": (
        "io.kestra.plugin.core.runner.Process",
        "io.kestra.core.models.tasks.runners.types.ProcessTaskRunner",
    ),
    "scripts.docker.runner": ("io.kestra.plugin.scripts.runner.docker.Docker",),
    "scripts": tuple(
        f"io.kestra.plugin.scripts.{language}.{kind}" for language in _LANGUAGES for kind in ("Script", "Commands")
    ),
}

MODULES: dict[str, str] = {
    type_name: f"tercel.plugins.{module}" for module, type_names in _FAMILIES.items() for type_name in type_names
}
"""Type name, present or former, to the module that announces it."""


def catalog() -> Catalog:
    """The catalog of all types: those of tercel, and once one of them is not enough those of installed packages."""
    return Catalog(MODULES, installed_types)


@lru_cache(maxsize=1)
def installed_types() -> Mapping[str, Sequence[Offer]]:
    """What installed packages offer, by type name; looked for once."""
    from importlib.metadata import entry_points  # noqa: PLC0415  # slow, and most flows need none of it

    found: dict[str, list[Offer]] = {}
    for point in entry_points(group="tercel.plugins"):
        package = point.module.partition(".")[0] if point.dist is None else point.dist.name
        found.setdefault(point.name, []).append(Offer(point.module, package))
    return found
