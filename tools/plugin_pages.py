"""The pages of docs/plugins: one for each type, and one that lists them, made from the classes and their docstrings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tercel.model.documentation import Property, part_name, parts_inside, properties
from tercel.model.schema import example_flow, outputs, summary
from tercel.model.task import Part
from tools.compatibility import KINDS, PREFIX, provided_types

INDEX = "README.md"


def plugin_pages() -> Mapping[str, str]:
    """File name to text, of every page."""
    pages = {INDEX: "\n".join(_index())}
    for kind in KINDS:
        for part in provided_types(kind).values():
            pages[_file_of(part)] = "\n".join(_page(part, kind))
    return pages


def _file_of(part: type[Part]) -> str:
    return f"{part.plugin_type.removeprefix(PREFIX)}.md"


def _index() -> Iterator[str]:
    yield "# Plugins\n"
    yield "Every type that a flow can name. `tercel plugin doc TYPE` tells the same of a type, and of those of packages"
    yield "that you install; [how to write one](../plugins.md).\n"
    for kind, base in KINDS.items():
        yield f"## {kind.capitalize()}s\n"
        yield from ("| type | |", "|---|---|")
        for name, part in provided_types(kind).items():
            about = summary(part).partition("\n")[0] + (" Deprecated." if "type" in part.deprecated else "")
            yield f"| [{name}]({_file_of(part)}) | {_cell(about)} |"
        yield ""
        common = properties(base)
        if len(common) > 1:
            yield f"### Properties of every {kind}\n"
            yield from _table(common)
            for inside in parts_inside(base):
                yield from _inside(inside)
    yield "## What the tables say\n"
    yield "Names of types are given without `io.kestra.plugin.`. A property is *rendered* where `{{ … }}` in its texts"
    yield "is replaced when the task runs; elsewhere a text is taken as it is.\n"


def _page(part: type[Part], kind: str) -> Iterator[str]:
    base = KINDS[kind]
    yield f"# {part.plugin_type.removeprefix(PREFIX)}\n"
    yield f"{summary(part)}\n"
    if "type" in part.deprecated:
        yield f"**Deprecated.** {part.deprecated['type']}\n"
    yield "```yaml"
    yield example_flow(part).rstrip("\n")
    yield "```\n"
    yield "## Properties\n"
    own = properties(part, base)
    if own:
        yield from _table(own)
    else:
        yield "None of its own.\n"
    if len(properties(base)) > 1:
        yield f"[Properties of every {kind}]({INDEX}#properties-of-every-{kind.replace(' ', '-')}) can be given, too.\n"
    for inside in parts_inside(part, base):
        yield from _inside(inside)
    results = outputs(part)
    if results:
        yield "## Outputs\n"
        yield from ("| output | |", "|---|---|")
        yield from (f"| `{name}` | {_cell(about)} |" for name, about in results.items())
        yield ""
    if part.plugin_aliases:
        yield "## Former names\n"
        yield from (f"- `{name}`" for name in sorted(part.plugin_aliases))
        yield ""


def _inside(part: type[Part]) -> Iterator[str]:
    yield f"### {part_name(part)}\n"
    yield f"{summary(part)}\n"
    yield from _table(properties(part))


def _table(told: Sequence[Property]) -> Iterator[str]:
    yield from ("| property | takes | default | rendered | |", "|---|---|---|---|---|")
    for one in told:
        default = "required" if one.is_required else f"`{one.default}`" if one.default else ""
        rendered = "yes" if one.is_rendered else ""
        yield f"| `{one.name}` | {_cell(one.kind)} | {_cell(default)} | {rendered} | {_cell(one.about)} |"
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
