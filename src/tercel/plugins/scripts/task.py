"""What all script tasks share: their properties, and one run from rendering to outputs."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, cast

import msgspec

from tercel.plugin_api import (
    Command,
    Dynamic,
    LogLevel,
    NamespaceFiles,
    Outputs,
    Problem,
    RunContext,
    RunnableTask,
    TaskFailedError,
    TaskKilledError,
    TaskRunner,
)
from tercel.plugins.scripts.command_line import assemble, quote_path
from tercel.plugins.scripts.docker.runner import DOCKER, Docker
from tercel.plugins.scripts.files import ScriptFiles
from tercel.plugins.scripts.languages import LANGUAGES, Language
from tercel.plugins.scripts.output import TaskSink
from tercel.script_protocol import ScriptOutput

PROCESS = "io.kestra.plugin.core.runner.Process"

_MAX_OUTPUT_BYTES = 10 << 20


class ScriptTask(RunnableTask, frozen=True, kw_only=True):
    """Commands, or a script, given to an interpreter.

    Attributes:
        before_commands: run first, in the same shell.
        interpreter: program and arguments that get the joined commands; `/bin/sh -c` where none is given.
        fail_fast: end at the first command that fails.
        warning_on_std_err: end in WARNING when anything was written to stderr; the worker's setting where absent.
        runner: DOCKER or PROCESS, as it was written before there was `taskRunner`.
        docker: options of the container, as they were written before there was `taskRunner`.
        task_runner: where the commands run.
        container_image: image of the container.
        env: environment variables.
        input_files: files to write into the working directory first, by relative path.
        output_files: globs; what they match afterwards is stored, and its URIs are the output `outputFiles`.
        namespace_files: which files of the namespace to put into the working directory.
        output_directory: accepted from older flows; there always is an `{{ outputDir }}`.
        target_os: of the machine that runs the commands: how lines end there.

    Outputs:
        exitCode: of the last command; 128 + signal where a signal ended it.
        vars: what was printed as `::{"outputs": {…}}::`.
        outputFiles: relative path to URI, of files in `{{ outputDir }}` and those that `outputFiles` match.
        taskRunner: in a container, a map with its `containerId`.
    """

    language: ClassVar[Language] = LANGUAGES["shell"]

    before_commands: list[Dynamic] | Dynamic | None = None
    interpreter: list[Dynamic] | None = None
    fail_fast: bool = True
    warning_on_std_err: bool | None = None
    runner: Literal["DOCKER", "PROCESS"] | None = None
    docker: Docker | None = None
    task_runner: TaskRunner | None = None
    container_image: Dynamic | None = None
    env: dict[str, object] | Dynamic | None = None
    input_files: dict[str, object] | Dynamic | None = None
    output_files: list[Dynamic] | Dynamic | None = None
    namespace_files: NamespaceFiles | None = None
    output_directory: bool | None = None
    target_os: Literal["AUTO", "LINUX", "WINDOWS"] = msgspec.field(default="AUTO", name="targetOS")

    def main(self, files: ScriptFiles) -> list[str]:
        """The commands that the task is about, rendered."""
        raise NotImplementedError

    def prepare(self, context: RunContext, runner: TaskRunner, files: ScriptFiles, env: dict[str, str]) -> None:
        """Make ready what the language needs, and say so in *env*."""

    def problems(self) -> Iterator[Problem]:
        """An interpreter that is none."""
        if self.interpreter is not None and not self.interpreter:
            yield Problem("'interpreter' is empty.", "Leave it out, or name a program.", path=("interpreter",))

    def run(self, context: RunContext) -> Outputs:
        """Run the commands.

        Raises:
            TaskFailedError: a file is missing, or the commands ended with another code than 0; outputs are kept.
        """
        runner = self._choose_runner(context)
        files = ScriptFiles(context, runner, self.output_files or [])
        try:
            if self.namespace_files is not None:
                context.write_namespace_files(self.namespace_files)
            if self.input_files is not None:
                context.write_input_files(self.input_files, files.variables)
            return self._execute(self._command(context, runner, files), context, runner, files)
        finally:
            files.remove()

    def _choose_runner(self, context: RunContext) -> TaskRunner:
        if self.task_runner is not None and self.runner is not None:
            context.logger.warn("Both 'taskRunner' and 'runner' are given; 'taskRunner' it is.")
        if self.task_runner is not None and not self.task_runner.is_container:
            return self.task_runner
        if not self.works_outside({"script.task-runner": context.setting("script.task-runner")}):
            return context.task_runner(PROCESS)
        if self.docker is not None and isinstance(self.task_runner, Docker):
            context.logger.warn("Both 'taskRunner' and 'docker' are given; where they differ, 'docker' it is.")
            return merged_docker(self.task_runner, self.docker)
        return self.task_runner or self.docker or context.task_runner(DOCKER)

    def works_outside(self, settings: Mapping[str, object]) -> bool:
        """Whether the commands run in a container."""
        if settings.get("script.task-runner") == "process":
            return False
        return self.runner != "PROCESS" if self.task_runner is None else self.task_runner.is_container

    def _command(self, context: RunContext, runner: TaskRunner, files: ScriptFiles) -> Command:
        env = {**self.language.env, **_environment(context.render_value(self.env, files.variables))}
        env["WORKING_DIR"] = files.visible_directory
        env["OUTPUT_DIR"] = files.visible_output_directory
        env["TERCEL_ATTEMPT_ID"] = _attempt_id(context)
        self.prepare(context, runner, files, env)
        argv = assemble(
            self._interpreter(files),
            texts_of("beforeCommands", self.before_commands, files),
            self.main(files),
            fail_fast=self.fail_fast,
            is_windows=self.target_os == "WINDOWS",
        )
        if context.mask(argv[-1]) != argv[-1]:
            argv = files.argv_by_file(argv)
        return Command(
            argv=argv,
            env=env,
            directory=context.working_directory,
            input_paths=files.input_paths,
            shared_paths=files.shared_paths,
            image=self.image_name(context),
            keeps_entry_point=self.docker is not None and not self.language.clears_entry_point,
            returns_files=context.is_shared or bool(self.output_files),
        )

    def image_name(self, context: RunContext) -> str:
        """The image to run in, where the task runner names none."""
        return self.language.image if self.container_image is None else context.render(self.container_image)

    def _interpreter(self, files: ScriptFiles) -> list[str]:
        if self.interpreter is None:
            return list(self.language.interpreter)
        return [files.text(part) for part in self.interpreter]

    def _execute(self, command: Command, context: RunContext, runner: TaskRunner, files: ScriptFiles) -> Outputs:
        sink = TaskSink(context, cast("int", context.setting("outputs.max-bytes", _MAX_OUTPUT_BYTES)))
        stdout = ScriptOutput("stdout", sink)
        stderr_level = LogLevel(str(context.setting("script.stderr-level") or LogLevel.WARN))
        stderr = ScriptOutput("stderr", sink, stderr_level=stderr_level)

        def on_output(stream: Literal["stdout", "stderr"], block: bytes) -> None:
            (stdout if stream == "stdout" else stderr).feed(block)

        try:
            code = runner.run(command, context, on_output)
        except (TaskKilledError, TaskFailedError) as stopped:
            for output in (stdout, stderr):
                output.close()
            outputs = {**stopped.outputs, "vars": sink.vars, **_runner_output(command)}
            stopped.outputs = outputs | {"outputFiles": self._capture_in_spite(files, context)}
            raise
        for output in (stdout, stderr):
            output.close()
        outputs = Outputs(exitCode=code, vars=sink.vars, outputFiles={}, **_runner_output(command))
        if code != 0:
            outputs["outputFiles"] = self._capture_in_spite(files, context)
            raise TaskFailedError(f"Command failed with exit code {code}", outputs=outputs)
        try:
            outputs["outputFiles"] = files.capture(self.output_files or [])
        except TaskFailedError as error:
            error.outputs = {**outputs, **error.outputs}
            raise
        too_large = sink.too_large or _lost_frame(stdout, stderr)
        if too_large:
            raise TaskFailedError(
                too_large, "Write large values into {{ outputDir }} and pass the file on.", outputs=outputs
            )
        outputs.warned = stderr.line_count > 0 and self._warns(context)
        return outputs

    def _capture_in_spite(self, files: ScriptFiles, context: RunContext) -> dict[str, str]:
        """What there is to capture after a failure, which is not to be hidden by one of capturing."""
        try:
            return files.capture(self.output_files or [])
        except Exception as error:
            context.logger.warn(f"The output files could not be captured: {error}")
            return {}

    def _warns(self, context: RunContext) -> bool:
        if self.warning_on_std_err is not None:
            return self.warning_on_std_err
        return bool(context.setting("script.warning-on-std-err", default=True))


class Script(ScriptTask, frozen=True, kw_only=True):
    """A script written in the flow.

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


class Commands(ScriptTask, frozen=True, kw_only=True):
    """Commands, one after the other in one shell.

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


def merged_docker(runner: Docker, options: Docker) -> Docker:
    """*runner* with what *options* says otherwise than nothing."""
    nothing = Docker()
    said = {
        name: value for name in options.__struct_fields__ if (value := getattr(options, name)) != getattr(nothing, name)
    }
    return msgspec.structs.replace(runner, **said)


def script_problems(script: str) -> Iterator[Problem]:
    """What is wrong with a `script`."""
    if not script.strip():
        yield Problem("'script' is empty.", "Write the code to run.", path=("script",))


def commands_problems(commands: list[str] | str) -> Iterator[Problem]:
    """What is wrong with `commands`."""
    if not commands:
        yield Problem("'commands' is empty.", "Write at least one command.", path=("commands",))


def script_commands(task: ScriptTask, script: str, files: ScriptFiles) -> list[str]:
    """The command that runs *script*: itself in a shell, else one that runs the file it is written to."""
    text = files.text(script)
    language = task.language
    if not language.command:
        return [text]
    path = files.write_script(language, text)
    return [language.command.format(file=quote_path(path, task.interpreter or language.interpreter))]


def texts_of(name: str, value: list[str] | str | None, files: ScriptFiles) -> list[str]:
    """The rendered texts of the property *name*: of a list, or of a text that renders to one as JSON.

    Raises:
        TaskFailedError: the text renders to something else.
    """
    if value is None:
        return []
    if isinstance(value, list):
        return [files.text(one) for one in value]
    items = _json(files.text(value))
    if not isinstance(items, list):
        raise TaskFailedError(f"'{name}' is {value!r}, which does not render to a list.", "Write a list of texts.")
    return [one if isinstance(one, str) else json.dumps(one) for one in cast("list[object]", items)]


def _lost_frame(*outputs: ScriptOutput) -> str:
    """What is wrong where a script printed a frame that is too long to be read; empty where it did not."""
    size = max(output.cut_frame_bytes for output in outputs)
    return f"The outputs are too large: a line of them has {size:,} bytes." if size else ""


def _runner_output(command: Command) -> dict[str, object]:
    """The output `taskRunner`, where the task runner has something to tell."""
    return {"taskRunner": command.facts} if command.facts else {}


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _environment(value: object) -> dict[str, str]:
    if value is None:
        return {}
    found = _json(value) if isinstance(value, str) else value
    if not isinstance(found, Mapping):
        raise TaskFailedError(f"'env' is {value!r}, which does not render to a map.", "Write names and values.")
    return {name: _environment_text(one) for name, one in cast("Mapping[str, object]", found).items()}


def _environment_text(value: object) -> str:
    match value:
        case str():
            return value
        case None:
            return ""
        case _:
            return json.dumps(value, ensure_ascii=False, default=str)


def _attempt_id(context: RunContext) -> str:
    """The same for as long as this attempt is this attempt, so that a script can tell a repetition."""
    run = context.variables.get("taskrun")
    if not isinstance(run, Mapping):
        return os.urandom(8).hex()
    fields = cast("Mapping[str, object]", run)
    return f"{fields.get('id')}-{fields.get('attemptsCount', 0)}"
