"""What tasks can do, one file per family; which module holds which type names. Imported on first use.

Packages from outside add types by entry points of the group `tercel.plugins`: the name is a type name, the value
the module whose import announces it by `@plugin`.
"""

from collections.abc import Mapping

from tercel.model.catalog import Catalog

__all__ = ["MODULES", "catalog"]

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
    "execution": ("io.kestra.plugin.core.execution.Fail", "io.kestra.core.tasks.executions.Fail"),
    "files": ("io.kestra.plugin.core.storage.LocalFiles", "io.kestra.core.tasks.storages.LocalFiles"),
    "outputs": ("io.kestra.plugin.core.output.OutputValues",),
    "http": (
        "io.kestra.plugin.core.http.Request",
        "io.kestra.plugin.fs.http.Request",
        "io.kestra.plugin.core.http.Download",
        "io.kestra.plugin.fs.http.Download",
    ),
    "git": ("io.kestra.plugin.git.Clone",),
    "process": (
        "io.kestra.plugin.core.runner.Process",
        "io.kestra.core.models.tasks.runners.types.ProcessTaskRunner",
    ),
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
    return Catalog(MODULES, _installed)


def _installed() -> dict[str, str]:
    from importlib.metadata import entry_points  # noqa: PLC0415  # slow, and most flows need none of it

    return {point.name: point.module for point in entry_points(group="tercel.plugins")}
