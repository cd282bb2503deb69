"""Script tasks of each language on the Process runner: with the real tool where the machine has it."""

import os
import re
import shutil
import sys
from pathlib import Path

import msgspec
import pytest

from tercel.errors import TaskFailedError
from tercel.model.catalog import Catalog
from tercel.model.task import LogLevel
from tercel.plugins import MODULES
from tercel.plugins.scripts import PythonCommands, PythonScript, ScriptTask
from tests.run_contexts import DirectoryContext


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DirectoryContext:
    # `python` is the interpreter of the tests, whatever else is on the machine.
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (bin_ / "python").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}{os.pathsep}{os.environ['PATH']}")
    return DirectoryContext(tmp_path, variables={"name": "World", "flag": "true"})


def script(language: str, text: str, **properties: object) -> ScriptTask:
    found = Catalog(MODULES).find(f"io.kestra.plugin.scripts.{language}.Script")
    assert found is not None
    return found(id="task", type="t", runner="PROCESS", script=text, **properties)  # type: ignore[no-any-return]


def needs(program: str, package: str) -> None:
    """Skip where *program* is missing; where CI runs, that is a failure."""
    if shutil.which(program) is None:
        message = f"{program} is not on this machine (Debian: {package})"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


class TestPython:
    def test_given_a_script_then_it_finds_modules_and_data_beside_it(self, context: DirectoryContext) -> None:
        text = """
            from __future__ import annotations
            import pathlib, helper
            print(helper.greeting("{{ name }}"), (pathlib.Path(__file__).parent / "data.txt").read_text())
        """.replace("            ", "")
        inputs = {"helper.py": "def greeting(name): return f'Hello {name}'", "data.txt": "42"}

        outputs = script("python", text, input_files=inputs, output_files=["*.py"]).run(context)

        assert context.logger.at() == ["Hello World 42"]
        assert list(outputs["outputFiles"]) == ["helper.py"]  # type: ignore[call-overload]

    def test_given_an_error_then_its_line_number_is_that_of_the_script(self, context: DirectoryContext) -> None:
        with pytest.raises(TaskFailedError, match="exit code 1"):
            script("python", "x = 1\ny = 2\nraise ValueError(x)\n").run(context)

        assert any("line 3, in <module>" in line for line in context.logger.at(LogLevel.WARN))

    def test_given_no_flush_then_lines_come_at_once_because_of_the_environment(self, context: DirectoryContext) -> None:
        text = "import os; print(*[os.environ[name] for name in ('PYTHONUNBUFFERED', 'PIP_ROOT_USER_ACTION')])"

        script("python", text, env={"PIP_ROOT_USER_ACTION": "mine"}).run(context)

        assert context.logger.at() == ["true mine"]

    def test_given_text_beyond_ascii_then_it_arrives(self, context: DirectoryContext) -> None:
        script("python", "print('héllo ✓ 👋')").run(context)

        assert context.logger.at() == ["héllo ✓ 👋"]

    def test_given_a_venv_then_source_activates_it_under_any_sh(self, context: DirectoryContext) -> None:
        before = ["python -m venv --without-pip venv", "source venv/bin/activate"]

        script("python", "import sys; print(sys.prefix)", before_commands=before).run(context)

        assert context.logger.at() == [str(context.working_directory / "venv")]

    def test_given_a_version_that_is_not_there_then_the_message_says_so(self, context: DirectoryContext) -> None:
        with pytest.raises(TaskFailedError, match=r"Python 3\.99 is asked for .* there is no python3\.99"):
            script("python", "pass", python_version="3.99").run(context)

    def test_given_a_version_then_python_is_that_one(self, context: DirectoryContext) -> None:
        version = ".".join(map(str, sys.version_info[:2]))
        bin_ = context.root / "bin"
        (bin_ / "python").rename(bin_ / f"python{version}")
        (bin_ / "python").write_text("#!/bin/sh\nexit 9\n")
        (bin_ / "python").chmod(0o755)
        task = PythonCommands(id="a", type="t", runner="PROCESS", commands=["python -V"], python_version=version)

        task.run(context)

        assert context.logger.at() == [f"Python {sys.version.split()[0]}"]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A small package in a folder, so that no registry is needed."""
    folder = tmp_path / "greeting"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
        "[project]\nname = 'greeting'\nversion = '1.2'\n"
    )
    # A build backend of its own: a wheel is a zip, and fetching one would need a registry.
    (folder / "backend.py").write_text(
        """
import zipfile, pathlib
def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "greeting-1.2-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(directory, name), "w") as wheel:
        wheel.writestr("greeting.py", "TEXT = 'hello from a dependency'\\n")
        for name_, text in {
            "METADATA": "Metadata-Version: 2.1\\nName: greeting\\nVersion: 1.2\\n",
            "WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
            "RECORD": "greeting.py,,\\n" + "greeting-1.2.dist-info/METADATA,,\\n",
        }.items():
            wheel.writestr(f"greeting-1.2.dist-info/{name_}", text)
    return name
"""
    )
    return folder


class TestDependencies:
    @pytest.mark.parametrize("manager", ["UV", "PIP", None])
    def test_given_dependencies_then_the_script_imports_them_and_the_next_run_does_not_install(
        self, context: DirectoryContext, package: Path, manager: str | None
    ) -> None:
        context.settings["script.dependency-directory"] = str(context.root / "dependencies")
        task = PythonScript(
            id="a",
            type="t",
            runner="PROCESS",
            script="import greeting; print(greeting.TEXT, greeting.__file__)",
            dependencies=[f"greeting @ {package.as_uri()}"],
            package_manager=manager,
        )

        outputs = task.run(context)
        shutil.rmtree(package)
        again = task.run(context)

        (kept,) = (context.root / "dependencies").iterdir()
        assert context.logger.at(LogLevel.INFO) == [f"hello from a dependency {kept}/greeting.py"] * 2
        assert (kept / "requirements.lock").read_text() == "greeting==1.2\n"
        assert outputs == again == {"exitCode": 0, "vars": {}, "outputFiles": {}}
        assert not outputs.warned

    def test_given_a_dependency_that_is_not_there_then_the_message_has_the_reason_and_nothing_stays(
        self, context: DirectoryContext
    ) -> None:
        context.settings["script.dependency-directory"] = str(context.root / "dependencies")
        task = PythonScript(
            id="a", type="t", runner="PROCESS", script="pass", dependencies=["greeting @ file:///no/such/folder"]
        )

        with pytest.raises(
            TaskFailedError, match=r"(?s)Dependencies are not installed, exit code \d: .*no/such/folder"
        ):
            task.run(context)

        assert list((context.root / "dependencies").iterdir()) == []


class TestOthers:
    def test_given_node_then_it_finds_modules_beside_the_script(self, context: DirectoryContext) -> None:
        needs("node", "nodejs")
        inputs = {"lib.js": "exports.x = 'lib'", "node_modules/colors/index.js": "exports.y = 'module'"}

        script("node", "console.log(require('./lib').x, require('colors').y)", input_files=inputs).run(context)

        assert context.logger.at() == ["lib module"]

    def test_given_r_then_it_runs(self, context: DirectoryContext) -> None:
        needs("Rscript", "r-base-core")

        outputs = script("r", """cat('::{"outputs":{"mean":', mean(c(1, 2, 6)), '}}::\\n', sep='')""").run(context)

        assert outputs["vars"] == {"mean": 3}

    def test_given_perl_then_it_runs(self, context: DirectoryContext) -> None:
        needs("perl", "perl")

        script("perl", 'print "Hello {{ name }}\\n";').run(context)

        assert context.logger.at() == ["Hello World"]

    @pytest.mark.parametrize(
        ("language", "program", "arguments"),
        [
            ("ruby", "ruby", []),
            ("php", "php", []),
            ("lua", "lua", []),
            ("julia", "julia", []),
            ("go", "go", ["run"]),
            ("deno", "deno", ["run"]),
            ("bun", "bun", ["run"]),
            ("groovy", "groovy", []),
            ("r", "Rscript", []),
        ],
    )
    def test_given_a_stand_in_for_the_tool_then_it_gets_the_script_file(
        self, context: DirectoryContext, language: str, program: str, arguments: list[str]
    ) -> None:
        tool = context.root / "bin" / program
        tool.write_text('#!/bin/sh\nfor last; do :; done\necho "$@" | sed "s,$last,FILE,"; cat "$last"\n')
        tool.chmod(0o755)

        script(language, "print 1").run(context)

        assert context.logger.at() == [" ".join([*arguments, "FILE"]), "print 1"]

    def test_given_a_stand_in_for_powershell_then_it_gets_the_documented_command_line(
        self, context: DirectoryContext
    ) -> None:
        # There is no PowerShell to test with: this shows what it is given, not that it likes it.
        tool = context.root / "bin" / "pwsh"
        tool.write_text('#!/bin/sh\nfor part; do echo "<$part>"; done; cat "$(echo "$4" | tail -n 1)"\n')
        tool.chmod(0o755)

        script("powershell", "Write-Output 1", before_commands=["$x = 1"]).run(context)

        *argv, path, content = context.logger.at()
        assert argv == ["<-NoProfile>", "<-NonInteractive>", "<-Command>", "<$ErrorActionPreference = 'Stop'", "$x = 1"]
        assert re.fullmatch(rf"{context.working_directory}/\.\d+\.ps1>", path)
        assert content == "Write-Output 1"

    def test_given_a_language_that_is_not_installed_then_the_shell_says_so(self, context: DirectoryContext) -> None:
        empty = msgspec.structs.replace(script("julia", "print(1)"), env={"PATH": "/nonexistent"})

        with pytest.raises(TaskFailedError, match="exit code 127"):
            empty.run(context)

        assert any("julia" in line and "not found" in line for line in context.logger.at(LogLevel.WARN))
