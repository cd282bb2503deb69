"""How flows are kept in a folder of a repository: one file each, child namespaces in folders of it."""

import re
from collections.abc import Sequence
from pathlib import Path

from tercel.model.globs import Globs
from tercel.plugin_api import FlowSource, with_property
from tercel.plugins.git.repository import Entry, Repository

ENDINGS = (".yml", ".yaml")


def is_flow_file(path: str, *, with_children: bool) -> bool:
    """Whether a path in the folder is that of a flow; *with_children* in folders of it, too."""
    return path.endswith(ENDINGS) and (with_children or "/" not in path)


def stem_of(path: str) -> str:
    """The path without its ending."""
    return path.rpartition(".")[0]


def namespace_of(path: str, root: str) -> str:
    """The namespace of a flow by where its file is: folders are namespaces below *root*.

    Example:
        >>> namespace_of("marketing/crm/report.yml", "prod")
        'prod.marketing.crm'
    """
    return ".".join([root, *path.split("/")[:-1]])


def stem_for(flow: FlowSource, root: str) -> str:
    """Where a flow of *root*, or of a namespace below it, is kept; without an ending."""
    folders = flow.namespace[len(root) + 1 :].split(".") if flow.namespace != root else []
    return "/".join([*folders, flow.id])


def in_namespace(source: str, namespace: str) -> str:
    """A flow's text with *namespace*; as it is where it has that already. Raises InvalidFlowError for no YAML."""
    same = re.compile(rf"""^namespace:[ \t]*(["']?){re.escape(namespace)}\1[ \t]*(?:\#.*)?\r?$""", re.MULTILINE)
    return source if same.search(source) else with_property(source, "namespace", namespace)


class FlowChoice:
    """Which flows a task is about.

    Args:
        patterns: fit a flow's id, or the path of its file in the folder, with its ending or without; all without any.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._globs = Globs(patterns or ["**"])

    def takes(self, stem: str) -> bool:
        """Whether the flow of this path without ending is meant."""
        names = (stem, stem.rpartition("/")[2])
        return any(self._globs.matches(name + ending) for name in names for ending in ("", *ENDINGS))


def add_flows(repository: Repository, sources: Sequence[str]) -> list[Entry]:
    """Take the texts of flows into the repository."""
    files: list[Path] = []
    for number, source in enumerate(sources):
        files.append(repository.folder / f"flow-{number}")
        files[-1].write_bytes(source.encode())
    return [Entry("100644", oid) for oid in repository.add(files)]


def placed(flows: dict[str, Entry], there: Sequence[str]) -> dict[str, Entry]:
    """The path of each flow by its path without ending: that of its file where there is one, else with `.yml`."""
    known = {stem_of(path): path for path in sorted(there, reverse=True) if path.endswith(ENDINGS)}
    return {known.get(stem, f"{stem}.yml"): entry for stem, entry in flows.items()}
