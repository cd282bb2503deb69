"""The files around one run of a script: where it works, its script file, local copies of URIs, its outputDir."""

import os
import re
import shutil
from collections.abc import Mapping
from errno import ENOENT
from pathlib import Path

from tercel.plugin_api import RunContext, TaskFailedError, TaskRunner
from tercel.plugins.scripts.command_line import copy_name, file_uris, replace_file_uris
from tercel.plugins.scripts.languages import Language

_BY_FILE: Mapping[str, tuple[str, ...]] = {"-c": (), "-Command": ("-File",)}
"""What takes the place of an interpreter's option for a text, to take a file instead."""

_GLOB = re.compile(r"[*?\[\]{}]|^(?:glob|regex):")


class ScriptFiles:
    """Makes what a script needs to find, renders with the variables that say where, and removes it all at the end.

    The script file lies in the working directory, because languages look for modules beside the file that runs, but
    only while it runs: no capture and no later task sees it.
    Everything else is in the engine's own folder.

    Attributes:
        variables: what the task's texts may use besides the context's variables.
        output_directory: every file in it is captured.
        input_paths: local copies that the command line names.
        shared_paths: folders outside of the task's own that the script uses.
    """

    def __init__(self, context: RunContext, runner: TaskRunner, output_files: list[str] | str) -> None:
        self._context = context
        self._runner = runner
        self._paths: dict[str, str] = {}
        self._script: Path | None = None
        self.input_paths: list[Path] = []
        self.shared_paths: list[Path] = []
        directory = context.working_directory
        self.output_directory = context.output_directory
        self.visible_directory = runner.visible_directory(directory)
        self.visible_output_directory = runner.visible_directory(self.output_directory)
        names: list[str] = [] if isinstance(output_files, str) else output_files
        self.variables: Mapping[str, object] = {
            "workingDir": self.visible_directory,
            "outputDir": self.visible_output_directory,
            "outputFiles": {name: f"{self.visible_directory}/{name}" for name in names if not _GLOB.search(name)},
        }

    def text(self, template: str) -> str:
        """Render *template*, once, and put local paths for the URIs of internal storage in it.

        Raises:
            TaskFailedError: there is no such file.
        """
        text = self._context.render(template, self.variables)
        if "kestra://" not in text:
            return text
        for match in file_uris(text):
            self._fetch(match[0])
        return replace_file_uris(text, self._paths)

    def _fetch(self, uri: str) -> None:
        if uri in self._paths:
            return
        directory = self._context.engine_directory / "files"
        directory.mkdir(mode=0o700, exist_ok=True)
        target = directory / copy_name(len(self._paths) + 1, uri)
        try:
            self._context.fetch_file(uri, target)
        except TaskFailedError:
            raise
        except Exception as error:
            self._context.stop_if_killed()
            raise TaskFailedError(f"The file {uri} that the task names cannot be read: {error}") from error
        self.input_paths.append(target)
        self._paths[uri] = self._runner.visible_directory(target)

    def write_script(self, language: Language, text: str) -> str:
        """Write the script file; the path under which the command sees it."""
        dot = "." if language.is_hidden else ""
        number = int.from_bytes(os.urandom(8))
        self._script = self._context.working_directory / f"{dot}{number}{language.suffix}"
        with self._script.open("x", encoding="utf-8", newline="", errors="surrogateescape") as file:
            file.write(text)
        return f"{self.visible_directory}/{self._script.name}"

    def argv_by_file(self, argv: list[str]) -> list[str]:
        """*argv* with its text in a private file: everybody on the machine sees the arguments of a process.

        Where the interpreter takes its text by no option that is known to have one for files, *argv* itself.
        """
        *interpreter, option, text = argv
        if option not in _BY_FILE:
            return argv
        path = self._context.engine_directory / f"commands{'.ps1' if option == '-Command' else ''}"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        self.input_paths.append(path)
        return [*interpreter, *_BY_FILE[option], self._runner.visible_directory(path)]

    def remove_script(self) -> None:
        """Remove the script file, if there is one."""
        if self._script is not None:
            self._script.unlink(missing_ok=True)
            self._script = None

    def capture(self, patterns: list[str] | str) -> dict[str, str]:
        """Store what is in the outputDir and what *patterns* match; relative path to URI."""
        self.remove_script()
        captured: dict[str, str] = {}
        if self._has_output():
            captured = self._context.capture_directory(self.output_directory)
        if patterns:
            captured |= self._context.capture(patterns, self.variables)
        return dict(sorted(captured.items()))

    def _has_output(self) -> bool:
        """Whether there is something in the outputDir; removed at once where there is not, as that tells it too."""
        try:
            os.rmdir(self.output_directory)
        except OSError as error:
            return error.errno != ENOENT  # the script may have removed it
        return False

    def remove(self) -> None:
        """Leave nothing in the working directory and, where others work on in it, nothing large beside it.

        What else there is goes with the engine's folder, when the attempt has ended.
        """
        self.remove_script()
        if self._context.is_shared:
            for path in self.input_paths:
                path.unlink(missing_ok=True)
            if self._has_output():
                shutil.rmtree(self.output_directory, ignore_errors=True)
