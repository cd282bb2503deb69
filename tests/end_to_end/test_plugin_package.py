"""A person writes a plugin as docs/plugins.md says: its commands and code, in a virtual environment of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from typing import Any, cast

import pytest
from jsonschema import Draft202012Validator

from tercel.cli.plugin_template import package_files
from tercel.model import State
from tests.command_line import ROOT, environment, tercel
from tests.desks import Desk
from tests.homes import Home, until
from tests.tools import unavailable, venv_with

GUIDE = (ROOT / "docs" / "plugins.md").read_text()
_NEEDED = ("click", "cronsim", "msgspec", "pyyaml", "regex", "tzdata", "zstandard", "hatchling", "editables", "pytest")


def blocks(language: str) -> list[str]:
    """The code of the guide in one language, in its order."""
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


def block_with(text: str) -> str:
    [found] = [block for block in blocks("python") if text in block]
    return found


def pins() -> list[str]:
    """What Tercel and its build need, in the versions of the lock."""
    lock = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    return [f"{name}=={lock[name]}" for name in _NEEDED]


class Workplace:
    """A folder, and a virtual environment that has Tercel and what it needs, and nothing else."""

    def __init__(self, folder: Path) -> None:
        libraries = venv_with(*pins())
        self.folder = folder
        self.venv = folder / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(self.venv)], check=True)
        [packages] = self.venv.glob("lib/*/site-packages")
        [lent] = libraries.parents[1].glob("lib/*/site-packages")
        (packages / "lent.pth").write_text(f"{lent}\n")  # pip among them
        (self.venv / "bin" / "pip").write_text(f'#!/bin/sh\nexec {self.venv}/bin/python -m pip "$@"\n')
        (self.venv / "bin" / "pip").chmod(0o755)
        built = self.sh(f"pip install --quiet --no-deps {ROOT}")
        assert built.returncode == 0, built.stderr

    def sh(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line of the guide, without a network: all that is needed is here."""
        env = environment(self.folder / "home")
        env = {name: value for name, value in env.items() if not name.startswith(("PIP_", "PYTHON", "VIRTUAL_ENV"))}
        env |= {
            "PATH": f"{self.venv / 'bin'}{os.pathsep}{env['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # which switches the isolation off
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        return subprocess.run(
            ["sh", "-c", line], cwd=self.folder, env=env, capture_output=True, text=True, timeout=300, check=False
        )

    def flow(self, tasks: str, more: str = "") -> Path:
        """A flow in a file."""
        path = self.folder / "tried.yaml"
        path.write_text(f"id: tried\nnamespace: company.team\ntasks:\n{dedent(tasks)}{dedent(more)}")
        return path


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("plugin"))


def outputs_of(done: subprocess.CompletedProcess[str], task_id: str) -> dict[str, Any]:
    assert done.returncode == 0, done.stdout + done.stderr
    [found] = [run["outputs"] for run in json.loads(done.stdout)["taskRunList"] if run["taskId"] == task_id]
    return cast("dict[str, Any]", found)


def test_given_the_guide_then_the_template_writes_its_code() -> None:
    files = package_files("acme-text")

    assert files["acme_text.py"] == block_with("class Keep")
    assert [files["pyproject.toml"]] == blocks("toml")
    assert len([line for line in files["acme_text.py"].splitlines() if line]) <= 33


class TestPackage:
    def test_given_the_guide_then_what_it_says_can_be_done(self, workplace: Workplace) -> None:
        first, *lines = [line.partition("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]

        assert first == "tercel plugin new acme-text"
        said = {line: workplace.sh(line) for line in (first, *lines)}
        assert {line: done.stdout + done.stderr for line, done in said.items() if done.returncode} == {}

        assert "io.acme.text.Keep  (acme-text)\n" in said["tercel plugin list"].stdout
        assert said["tercel plugin list"].stderr == ""
        assert said["tercel plugin doc Keep"].stdout.startswith(
            "io.acme.text.Keep\nFrom the package acme-text.\n\nKeep the lines of a file that hold a word.\n"
        )
        assert (
            "\n  word (text; required; rendered): what a line has to hold.\n" in said["tercel plugin doc Keep"].stdout
        )
        assert "Grace Hopper" in said["tercel run acme-text/flow.yaml"].stdout
        assert "2 passed" in said["python -m pytest acme-text"].stdout

        # completed in the schema, and refused where it should be
        schema = cast("dict[str, Any]", json.loads(said["tercel flow schema"].stdout))
        known = schema["$defs"]["io.acme.text.Keep"]
        assert known["properties"].keys() >= {"uri", "word", "retry"}
        assert known["properties"]["word"]["description"] == "what a line has to hold."
        task: dict[str, object] = {"id": "a", "type": "io.acme.text.Keep", "uri": "u", "word": "w"}
        flow = {"id": "a", "namespace": "b", "tasks": [task]}
        assert Draft202012Validator(schema).is_valid(flow)
        assert not Draft202012Validator(schema).is_valid({**flow, "tasks": [{**task, "words": "w"}]})

        text = (workplace.folder / "acme-text" / "flow.yaml").read_text()
        (workplace.folder / "wrong.yaml").write_text(text.replace("    word: Grace", "    words: Grace"))
        wrong = workplace.sh("tercel flow validate wrong.yaml")
        assert wrong.returncode == 1
        assert "Line 14, column 5 (tasks[1].words): Unknown property 'words'. Did you mean 'word'?" in wrong.stderr

    def test_given_the_other_code_of_the_guide_then_it_works_as_it_says(self, workplace: Workplace) -> None:
        install_more(workplace)
        cut = """\
          - {id: cut, type: io.acme.text.Cut, from: "one\\ntwo\\nthree", lines: {first: 2, last: LAST}, case: UPPER}
        """

        wrong = workplace.sh(f"tercel flow validate {workplace.flow(cut.replace('LAST', '1'))}")
        path = workplace.flow(cut.replace("lines", "range").replace("LAST", "3").replace("text.Cut", "old.Cut"))
        former = workplace.sh(f"tercel flow validate {path}")
        done = workplace.sh(f"tercel run --json {workplace.flow(cut.replace('LAST', '3'))}")

        assert wrong.returncode == 1
        assert "'last' comes before 'first'. Make 'last' larger." in wrong.stdout + wrong.stderr
        assert former.returncode == 0
        assert "io.acme.old.Cut is now called io.acme.text.Cut." in former.stdout + former.stderr
        assert outputs_of(done, "cut") == {"text": "TWO\nTHREE"}

        nice = """\
          - id: report
            type: io.kestra.plugin.scripts.shell.Commands
            taskRunner: {type: io.acme.text.Nice, niceness: 5}
            commands: ['echo "::{\\"outputs\\": {\\"nice\\": $(nice)}}::"']
        """
        done = workplace.sh(f"tercel run --json {workplace.flow(nice)}")
        assert outputs_of(done, "report")["vars"]["nice"] == min(19, os.nice(0) + 5)

        inbox = workplace.folder / "inbox"
        inbox.mkdir()
        (inbox / "order.txt").write_text("one")
        say = '- {id: say, type: io.kestra.plugin.core.log.Log, message: "{{ trigger.files }}"}\n'
        path = workplace.flow(say, f"triggers:\n- {{id: inbox, type: io.acme.text.NewFiles, folder: {inbox}}}\n")
        tried = workplace.sh(f"tercel flow save {path} && tercel trigger test company.team.tried inbox")
        assert tried.returncode == 0, tried.stderr
        assert '"order.txt": "kestra:///' in tried.stdout
        assert (inbox / "order.txt").exists()

    def test_given_the_code_of_the_guide_then_pyright_has_no_complaint(self, tmp_path: Path) -> None:
        pyright = Path(sys.executable).with_name("pyright")
        if not pyright.exists():
            unavailable("pyright")
        for number, code in enumerate(blocks("python")):
            (tmp_path / f"acme_{number}.py").write_text(code)
        for path, text in package_files("acme-text").items():
            if path.startswith("tests/"):
                (tmp_path / Path(path).name).write_text(text)
        settings = {"typeCheckingMode": "strict", "pythonVersion": "3.11"}
        (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))

        done = subprocess.run(
            [pyright, "--pythonpath", sys.executable, "--project", tmp_path],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

        assert done.stdout.strip().endswith("0 errors, 0 warnings, 0 informations"), done.stdout + done.stderr


def install_more(workplace: Workplace) -> None:
    """Install a package with the code of the guide that `tercel plugin new` does not write."""
    folder = workplace.folder / "acme-more"
    folder.mkdir()
    points, modules = list[str](), list[str]()
    for number, code in enumerate(block for block in blocks("python") if "class Keep" not in block):
        module = f"acme_more_{number}"
        modules.append(f"{module}.py")
        (folder / f"{module}.py").write_text(code)
        [announced] = re.findall(r"^@plugin\((.*)\)$", code, re.MULTILINE)
        points += [f'"{name}" = "{module}"' for name in re.findall(r'"([\w.]+)"', announced)]
    [project] = blocks("toml")
    project = project.replace("acme-text", "acme-more").replace('"io.acme.text.Keep" = "acme_text"', "\n".join(points))
    (folder / "pyproject.toml").write_text(project.replace('["acme_text.py"]', json.dumps(modules)))
    done = workplace.sh("pip install ./acme-more")
    assert done.returncode == 0, done.stderr


def test_given_the_guides_trigger_then_each_file_starts_one_execution_and_is_removed(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_new_files.py").write_text(block_with("class NewFiles"))
    monkeypatch.syspath_prepend(tmp_path)
    import_module("acme_new_files")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    desk = Desk(home)
    text = f"""\
        id: take
        namespace: company.team
        tasks:
          - {{id: say, type: io.kestra.plugin.core.log.Log, message: "{{{{ read(trigger.files['order.txt']) }}}}"}}
        triggers:
          - {{id: inbox, type: io.acme.text.NewFiles, folder: {inbox}, interval: PT0.05S}}
        """
    desk.save(dedent(text))
    home.engine.schedule()

    (tmp_path / "order.txt").write_text("one")
    (tmp_path / "order.txt").rename(inbox / "order.txt")
    until(lambda: bool(desk.executions("take")) and not list(inbox.iterdir()))

    ran = desk.only("take")
    assert ran.state is State.SUCCESS
    assert ran.log_of("say") == "one"


# What goes wrong


def installed(folder: Path, package: str, code: str, *types: str) -> None:
    """Have *package* in *folder* as if it had been installed there, with one module that announces types."""
    module = package.replace("-", "_")
    about = folder / f"{module}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    points = "".join(f"{name} = {module}\n" for name in types)
    (about / "entry_points.txt").write_text(f"[tercel.plugins]\n{points}")
    (folder / f"{module}.py").write_text(code)


FLOW = "id: a\nnamespace: b\ntasks:\n  - {id: say, type: TYPE}\n"
FINE = "id: a\nnamespace: b\ntasks:\n  - {id: say, type: io.kestra.plugin.core.log.Log, message: fine}\n"
BROKEN = (
    "The type io.acme.Broken cannot be used: its package acme-broken cannot be imported: ModuleNotFoundError:"
    " No module named 'a_library_that_is_not_there'. Install what the package needs, update it, or uninstall it."
)
TWICE = "The type io.acme.Twice is provided by several packages: acme-one, acme-two. Uninstall all of them but one."


@pytest.fixture
def packages(tmp_path: Path) -> Mapping[str, str]:
    """The environment with a package that cannot be imported, and two that provide the same type."""
    folder = tmp_path / "packages"
    installed(folder, "acme-broken", "import a_library_that_is_not_there\n", "io.acme.Broken")
    twice = block_with("class Keep").replace("io.acme.text.Keep", "io.acme.Twice")
    installed(folder, "acme-one", twice, "io.acme.Twice")
    installed(folder, "acme-two", twice, "io.acme.Twice")
    return {"PYTHONPATH": str(folder)}


class TestFaults:
    @pytest.mark.parametrize(("type_name", "told"), [("io.acme.Broken", BROKEN), ("io.acme.Twice", TWICE)])
    def test_given_a_type_that_cannot_be_used_then_its_flow_says_why(
        self, tmp_path: Path, packages: Mapping[str, str], type_name: str, told: str
    ) -> None:
        (tmp_path / "flow.yaml").write_text(FLOW.replace("TYPE", type_name))

        done = tercel("run", tmp_path / "flow.yaml", home=tmp_path / "home", env=packages)
        doc = tercel("plugin", "doc", type_name, env=packages)

        assert done.returncode == 2
        assert told in " ".join(done.stderr.split())
        assert doc.returncode == 1
        assert told in " ".join(doc.stderr.split())
        assert "Traceback" not in done.stderr + doc.stderr

    def test_given_such_packages_then_other_flows_lists_and_schemas_work(
        self, tmp_path: Path, packages: Mapping[str, str]
    ) -> None:
        (tmp_path / "flow.yaml").write_text(FINE)

        done = tercel("run", tmp_path / "flow.yaml", home=tmp_path / "home", env=packages)
        listed = tercel("plugin", "list", env=packages)
        schema = tercel("flow", "schema", env=packages)

        assert done.returncode == 0, done.stderr
        assert listed.returncode == 0
        assert "io.kestra.plugin.core.log.Log\n" in listed.stdout
        assert "io.acme" not in listed.stdout
        assert listed.stderr.splitlines() == [BROKEN, TWICE]
        assert schema.returncode == 0
        assert "io.acme" not in schema.stdout
