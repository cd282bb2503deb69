"""Short ways to write flows in tests: plain dicts with the YAML's own keys."""

from __future__ import annotations

from typing import Any

import yaml

Node = dict[str, Any]

CORE = "io.kestra.plugin.core"
SCRIPTS = "io.kestra.plugin.scripts"


def flow(*tasks: Node, id: str = "scenario", namespace: str = "tests", **properties: Any) -> str:
    """The YAML text of a flow with these tasks."""
    return as_yaml({"id": id, "namespace": namespace, **properties, "tasks": list(tasks)})


def as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)


def wd(*children: Node, id: str = "wd", **properties: Any) -> Node:
    return {"id": id, "type": f"{CORE}.flow.WorkingDirectory", "tasks": list(children), **properties}


def sh(id: str, *commands: str, **properties: Any) -> Node:
    return {
        "id": id,
        "type": f"{SCRIPTS}.shell.Commands",
        "runner": "PROCESS",
        "commands": list(commands),
        **properties,
    }


def py(id: str, script: str, **properties: Any) -> Node:
    return {"id": id, "type": f"{SCRIPTS}.python.Script", "runner": "PROCESS", "script": script, **properties}


def echo(id: str, format: str, **properties: Any) -> Node:
    return {"id": id, "type": f"{CORE}.debug.Return", "format": format, **properties}


def fail(id: str, **properties: Any) -> Node:
    return {"id": id, "type": f"{CORE}.execution.Fail", **properties}


def local_files(id: str, **properties: Any) -> Node:
    return {"id": id, "type": f"{CORE}.storage.LocalFiles", **properties}


def sequential(id: str, *tasks: Node, **properties: Any) -> Node:
    return {"id": id, "type": f"{CORE}.flow.Sequential", "tasks": list(tasks), **properties}


def for_each(id: str, values: Any, *tasks: Node, **properties: Any) -> Node:
    return {"id": id, "type": f"{CORE}.flow.ForEach", "values": values, "tasks": list(tasks), **properties}


def allow_failure(id: str, *tasks: Node, **properties: Any) -> Node:
    return {"id": id, "type": f"{CORE}.flow.AllowFailure", "tasks": list(tasks), **properties}
