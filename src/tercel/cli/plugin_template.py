"""The package that `tercel plugin new` writes: a task in one module, its entry point, a flow and tests."""

import re
import sys
from collections.abc import Mapping
from keyword import iskeyword

from tercel.plugins import MODULES

_PACKAGE = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
_TYPE = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*(\.[a-zA-Z][a-zA-Z0-9_]*)*\.[A-Z][a-zA-Z0-9]*")


def is_package_name(text: str) -> bool:
    """True for small letters and digits, with `-` or `_` between them."""
    return _PACKAGE.fullmatch(text) is not None


def is_type_name(text: str) -> bool:
    """True for names with dots between them, the last of which can be that of the class in the module."""
    last = text.rpartition(".")[2]
    return _TYPE.fullmatch(text) is not None and not iskeyword(last) and last not in _IMPORTED


def is_taken(text: str) -> bool:
    """True for the name of a package whose module Python or Tercel has already, and for a type of Tercel."""
    module = text.replace("-", "_")
    return module in sys.stdlib_module_names or module == "tercel" or text in MODULES


def package_files(name: str, type_name: str | None = None) -> Mapping[str, str]:
    """The files of a package, by relative path.

    Args:
        name: of the package; its module is called the same, with `_` for `-`.
        type_name: of its task; made from *name* where None.
    """
    module = name.replace("-", "_")
    type_name = type_name or f"io.{module.replace('_', '.')}.Keep"
    words = {
        "acme-text": name,
        "acme_text": module,
        "io.acme.text.Keep": type_name,
        "class Keep(": f"class {type_name.rpartition('.')[2]}(",
    }
    pattern = re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))))
    return {
        path: pattern.sub(lambda match: words[match[0]], text)
        for path, text in {
            "pyproject.toml": _PYPROJECT,
            f"{module}.py": _MODULE,
            "flow.yaml": _FLOW,
            f"tests/test_{module}.py": _TESTS,
        }.items()
    }


_IMPORTED = frozenset({"Dynamic", "Outputs", "RunContext", "RunnableTask", "TaskFailedError"})
"""What the module has names for already."""

_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "acme-text"
version = "0.1.0"
description = "Tasks for Tercel."
requires-python = ">=3.11"
dependencies = ["tercel"]

[project.entry-points."tercel.plugins"]
"io.acme.text.Keep" = "acme_text"

[tool.hatch.build.targets.wheel]
only-include = ["acme_text.py"]
"""

_MODULE = '''\
"""Tasks on texts."""

from tercel.plugin_api import Dynamic, Outputs, RunContext, RunnableTask, TaskFailedError, plugin


@plugin("io.acme.text.Keep")
class Keep(RunnableTask, frozen=True, kw_only=True):
    """Keep the lines of a file that hold a word.

    Attributes:
        uri: address of the file, in internal storage.
        word: what a line has to hold.

    Outputs:
        uri: the new file.
        count: how many lines it has.

    Example:
        tasks:
          - {id: names, type: io.kestra.plugin.core.storage.Write, content: "Ada, Grace"}
          - {id: keep, type: io.acme.text.Keep, uri: "{{ outputs.names.uri }}", word: Ada}
    """

    uri: Dynamic
    word: Dynamic

    def run(self, context: RunContext) -> Outputs:
        """Copy the lines."""
        word, count = context.render(self.word).encode(), 0
        path = context.output_directory / "kept"
        with context.open_file(context.render(self.uri)) as source, path.open("wb") as kept:
            for line in source:
                context.stop_if_killed()
                if word in line:
                    count += bool(kept.write(line))
        if not count:
            raise TaskFailedError(f"No line holds {word.decode()!r}.", "Give a word that one of them holds.")
        context.metric("kept", count)
        return Outputs(uri=context.save_file(path, "kept.txt"), count=count)
'''

_FLOW = """\
id: keep
namespace: company.team

tasks:
  - id: names
    type: io.kestra.plugin.core.storage.Write
    content: |
      Ada Lovelace
      Grace Hopper

  - id: keep
    type: io.acme.text.Keep
    uri: "{{ outputs.names.uri }}"
    word: Grace

  - id: say
    type: io.kestra.plugin.core.log.Log
    message: "{{ read(outputs.keep.uri) }}"
"""

_TESTS = '''\
"""The flow of the package runs, by the command that people use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FLOW = (Path(__file__).parents[1] / "flow.yaml").read_text()


def tercel_run(flow: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "flow.yaml"
    path.write_text(flow)
    command = [sys.executable, "-m", "tercel", "run", str(path), "--home", str(folder / "home"), "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_given_a_word_then_its_lines_are_kept(tmp_path: Path) -> None:
    done = tercel_run(FLOW, tmp_path)

    assert done.returncode == 0, done.stderr
    outputs = {run["taskId"]: run["outputs"] for run in json.loads(done.stdout)["taskRunList"]}
    assert outputs["keep"]["count"] == 1


def test_given_a_word_that_no_line_holds_then_the_task_fails_and_says_so(tmp_path: Path) -> None:
    done = tercel_run(FLOW.replace("word: Grace", "word: Alan"), tmp_path)

    assert done.returncode == 1
    assert "No line holds 'Alan'." in done.stdout
'''
