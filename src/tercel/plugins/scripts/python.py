"""What only Python's script tasks have: an interpreter of a given version, and dependencies installed for it."""

import hashlib
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, cast

import msgspec

from tercel.plugin_api import Command, Dynamic, Problem, RunContext, TaskFailedError, TaskRunner
from tercel.plugins.scripts.files import ScriptFiles
from tercel.plugins.scripts.languages import LANGUAGES, Language
from tercel.plugins.scripts.task import (
    ScriptTask,
    commands_problems,
    script_commands,
    script_problems,
    texts_of,
)


class PythonTask(ScriptTask, frozen=True, kw_only=True):
    """Commands, or a script, that Python runs.

    Attributes:
        dependencies: what pip would install, such as `pandas>=2`; kept for the next run with the same ones.
        python_version: version of the interpreter, such as 3.12; what `python` is where absent.
        package_manager: what installs the dependencies; UV where there is uv, else PIP.
        dependency_cache_enabled: keep what was installed for the next run.
        uv_auto_install_enabled: accepted; uv comes with `pip install 'tercel[python]'`.
        uv_installer_version: accepted, and of no effect.
        uv_installer_sha256: accepted, and of no effect.
    """

    language: ClassVar[Language] = LANGUAGES["python"]

    dependencies: list[Dynamic] | Dynamic | None = None
    python_version: Dynamic | None = None
    package_manager: Literal["UV", "PIP"] | Dynamic | None = None
    dependency_cache_enabled: bool | Dynamic = True
    uv_auto_install_enabled: bool | Dynamic = True
    uv_installer_version: Dynamic | None = None
    uv_installer_sha256: Dynamic | None = None

    def prepare(self, context: RunContext, runner: TaskRunner, files: ScriptFiles, env: dict[str, str]) -> None:
        """Put the right interpreter on `PATH` and the dependencies on `PYTHONPATH`."""
        interpreter = "python"
        version = "" if self.python_version is None else files.text(self.python_version).strip()
        if not runner.is_container:
            path = env.get("PATH", os.environ.get("PATH", os.defpath))
            interpreter = _find_interpreter(version, path) if version else ""
            if version:
                env["PATH"] = f"{_launchers(context, interpreter)}{os.pathsep}{path}"
        elif version:
            context.logger.warn(f"'pythonVersion' {version!r} is passed over: in a container, its image says which.")
        wanted = sorted({text.strip() for text in texts_of("dependencies", self.dependencies, files)} - {""})
        if wanted:
            if not interpreter:
                interpreter = _default_interpreter(env.get("PATH", os.environ.get("PATH", os.defpath)))
            installer = _Installer(context, runner, interpreter, self.image_name(context))
            manager = "" if self.package_manager is None else context.render(self.package_manager).strip().upper()
            keeps = str(context.render_value(self.dependency_cache_enabled)).strip().lower() != "false"
            target = installer.install(wanted, manager, keeps=keeps)
            files.shared_paths.append(target)
            env["PYTHONPATH"] = os.pathsep.join([str(target), *filter(None, [env.get("PYTHONPATH")])])
        if self.may_read_context():
            env.setdefault("KESTRA_EXECUTION_CONTEXT_FILE", _write_context(context, runner, files))

    def may_read_context(self) -> bool:
        """False where `from kestra import context` surely is not used, so that nothing has to be written for it."""
        return True


class PythonScript(PythonTask, frozen=True, kw_only=True):
    """A Python script written in the flow.

    Attributes:
        script: the code; `kestra://` URIs in it become paths of local copies.
    """

    script: Dynamic

    def problems(self) -> Iterator[Problem]:
        """A script without a word."""
        yield from super().problems()
        yield from script_problems(self.script)

    def main(self, files: ScriptFiles) -> list[str]:
        """The command that runs the script."""
        return script_commands(self, self.script, files)

    def may_read_context(self) -> bool:
        """Whether the script, or a module of the task, names it."""
        return "kestra" in self.script or self.input_files is not None or self.namespace_files is not None


class PythonCommands(PythonTask, frozen=True, kw_only=True):
    """Commands, most of them of Python.

    Attributes:
        commands: a list, or a text that renders to one; `kestra://` URIs become paths of local copies.
    """

    commands: list[Dynamic] | Dynamic

    def problems(self) -> Iterator[Problem]:
        """A list without a command."""
        yield from super().problems()
        yield from commands_problems(self.commands)

    def main(self, files: ScriptFiles) -> list[str]:
        """The commands."""
        return texts_of("commands", self.commands, files)


_CONTEXT_VARIABLES = (
    *("flow", "execution", "task", "taskrun", "parent", "parents", "labels", "inputs", "outputs", "tasks"),
    *("vars", "trigger"),
)


def _write_context(context: RunContext, runner: TaskRunner, files: ScriptFiles) -> str:
    """Write what the client library's `context` shows into a file; the path under which the script sees it."""
    shown = {name: context.variables[name] for name in _CONTEXT_VARIABLES if name in context.variables}
    path = context.engine_directory / "execution-context.json"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(shown, enc_hook=_plain))
    files.input_paths.append(path)
    return runner.visible_directory(path)


def _plain(value: object) -> object:
    return dict(cast("Mapping[object, object]", value)) if isinstance(value, Mapping) else str(value)


def _default_interpreter(path: str) -> str:
    found = shutil.which("python", path=path) or shutil.which("python3", path=path)
    if found is None:
        raise TaskFailedError("There is no Python on this machine's PATH to install dependencies for.")
    return found


def _find_interpreter(version: str, path: str) -> str:
    """The interpreter of *version* (`3`, `3.12` or `3.12.4`) on *path*."""
    if not re.fullmatch(r"\d+(?:\.\d+){0,2}", version):
        raise TaskFailedError(f"'pythonVersion' is {version!r}, not a version such as 3.12.")
    name = "python" + ".".join(version.split(".")[:2])
    found = shutil.which(name, path=path)
    if found is None:
        raise TaskFailedError(
            f"Python {version} is asked for by 'pythonVersion', and there is no {name} on this machine's PATH.",
            "Install it, or leave 'pythonVersion' out to use the machine's own.",
        )
    return found


def _launchers(context: RunContext, interpreter: str) -> Path:
    """A folder in which `python` and `python3` run *interpreter*."""
    directory = context.engine_directory / "interpreter"
    directory.mkdir(mode=0o700)
    for name in ("python", "python3"):
        launcher = directory / name
        launcher.write_text(f'#!/bin/sh\nexec {shlex.quote(interpreter)} "$@"\n', "utf-8")
        launcher.chmod(0o700)
    return directory


_IDENTITY = (
    "import sys, sysconfig; print(sys.version.split()[0], sys.implementation.cache_tag, sysconfig.get_platform())"
)


class _Installer:
    """Installs dependencies for one interpreter, there where the script will run."""

    def __init__(self, context: RunContext, runner: TaskRunner, interpreter: str, image: str) -> None:
        self._context = context
        self._runner = runner
        self._interpreter = interpreter
        self._image = image

    def install(self, dependencies: Sequence[str], manager: str, *, keeps: bool) -> Path:
        """The folder with *dependencies*, from an earlier run where there was one; never one half made."""
        identity = self._runner.environment_id(self._image, self._context)
        if not identity:
            identity = self._run([self._interpreter, "-c", _IDENTITY], "Python does not run")
        content = "\n".join([identity.strip(), *dependencies])
        configured = self._context.setting("script.dependency-directory") if keeps else None
        base = self._context.engine_directory if configured is None else Path(str(configured))
        target = base / hashlib.sha256(content.encode()).hexdigest()[:32]
        if target.is_dir():
            os.utime(target)
            self._context.logger.debug(f"Dependencies from an earlier run: {', '.join(dependencies)}")
            return target
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        making = base / f".{target.name}.{os.urandom(6).hex()}"
        try:
            if self._runner.is_container:
                own = self._context.engine_directory / making.name  # a container sees the task's own folders only
                self._fill(own, dependencies, manager)
                shutil.move(own, making)
            else:
                self._fill(making, dependencies, manager)
            try:
                making.rename(target)
            except OSError:
                # Another task was faster, and made the same.
                if not target.is_dir():
                    raise
        finally:
            shutil.rmtree(making, ignore_errors=True)
        return target

    def _fill(self, target: Path, dependencies: Sequence[str], manager: str) -> None:
        requirements = self._context.engine_directory / f"requirements-{os.urandom(6).hex()}.txt"
        # In a file, because an index address among them may hold a password.
        requirements.write_text("".join(f"{one}\n" for one in dependencies), "utf-8")
        uv = None if manager == "PIP" or self._runner.is_container else _find_uv()
        if uv is None and manager == "UV" and not self._runner.is_container:
            self._context.logger.warn(
                "There is no uv here, pip installs the dependencies: pip install 'tercel[python]'"
            )
        if uv is not None:
            argv = [uv, "pip", "install", "--no-progress", "--python", self._interpreter]
        else:
            argv = [self._interpreter, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        self._run(
            [*argv, "--target", str(target), "--requirement", str(requirements)], "Dependencies are not installed"
        )
        target.mkdir(exist_ok=True)
        locked = sorted(
            path.name.removesuffix(".dist-info").replace("-", "==", 1) for path in target.glob("*.dist-info")
        )
        (target / "requirements.lock").write_text("".join(f"{one}\n" for one in locked), "utf-8")

    def _run(self, argv: list[str], failure: str) -> str:
        """Run *argv* where the script will run; what it prints on stdout."""
        printed: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        # The package managers' own settings name indexes and mirrors, passwords included: theirs, not the script's.
        env = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_"))}
        if self._runner.is_container:
            env = {name: value for name, value in env.items() if not value.startswith("/")}  # files of this machine
        command = Command(argv=argv, env=env, directory=self._context.working_directory, image=self._image)
        code = self._runner.run(command, self._context, lambda stream, block: printed[stream].append(block))
        stdout, stderr = (b"".join(printed[name]).decode("utf-8", "replace") for name in ("stdout", "stderr"))
        for line in stderr.splitlines():
            self._context.logger.debug(line)
        if code != 0:
            reason = "\n".join((stderr or stdout).strip().splitlines()[-5:])
            raise TaskFailedError(f"{failure}, exit code {code}: {reason}")
        return stdout


def _find_uv() -> str | None:
    found = shutil.which("uv")
    if found is not None:
        return found
    try:
        import uv  # noqa: PLC0415  # an extra

        return os.fspath(uv.find_uv_bin())
    except (ImportError, FileNotFoundError):
        return None
