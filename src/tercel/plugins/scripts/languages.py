"""The script languages, one row each. A new language is a new row here and its name in `plugins/__init__.py`."""

from collections.abc import Mapping

import msgspec

SHELL = ("/bin/sh", "-c")
"""The interpreter that joined commands are given to, where a task names no other."""

_POWERSHELL = ("pwsh", "-NoProfile", "-NonInteractive", "-Command")


class Language(msgspec.Struct, frozen=True, kw_only=True):
    """What is particular about a language.

    Attributes:
        name: as in the type name `io.kestra.plugin.scripts.<name>.Script`.
        title: for people.
        image: container image where the task names none.
        suffix: of the file that an inline script is written to.
        command: runs that file, which stands for `{file}`; empty where the script is the command line itself.
        interpreter: argv that the joined commands are added to.
        env: environment variables, unless the task sets them itself.
        clears_entry_point: the image's own entry point is passed over even where `docker` leaves it as it is.
        is_hidden: the script file's name starts with a dot; False where the language's tool passes over such files.
        hello: a script that says hello, for the documentation.
        commands: what one would run where there is this language, for the documentation.
    """

    name: str
    title: str
    image: str
    suffix: str = ""
    command: str = ""
    interpreter: tuple[str, ...] = SHELL
    env: Mapping[str, str] = {}
    clears_entry_point: bool = False
    is_hidden: bool = True
    hello: str
    commands: tuple[str, str]


_PYTHON_ENV = {"PYTHONUNBUFFERED": "true", "PIP_ROOT_USER_ACTION": "ignore", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
_POWERSHELL_ENV = {"POWERSHELL_TELEMETRY_OPTOUT": "1", "POWERSHELL_UPDATECHECK": "Off"}

LANGUAGES: Mapping[str, Language] = {
    language.name: language
    for language in (
        Language(
            name="python",
            title="Python",
            image="python:3.13-slim",
            suffix=".py",
            command="python {file}",
            env=_PYTHON_ENV,
            hello="print('Hello from Python')",
            commands=("python --version", "python -c 'print(\"Hello\")'"),
        ),
        Language(
            name="r",
            title="R",
            image="r-base",
            suffix=".R",
            command="Rscript {file}",
            hello="cat('Hello from R')",
            commands=("Rscript --version", "Rscript -e 'cat(mean(c(1, 2, 6)))'"),
        ),
        Language(
            name="node",
            title="Node.js",
            image="node",
            suffix=".js",
            command="node {file}",
            hello="console.log('Hello from Node.js')",
            commands=("node --version", "node -e 'console.log(\"Hello\")'"),
        ),
        Language(
            name="shell",
            title="shell",
            image="ubuntu",
            hello="echo Hello from the shell",
            commands=("uname", "date > today.txt"),
        ),
        Language(
            name="powershell",
            title="PowerShell",
            image="ghcr.io/kestra-io/powershell:latest",
            suffix=".ps1",
            command="{file}",
            interpreter=_POWERSHELL,
            clears_entry_point=True,
            env=_POWERSHELL_ENV,
            hello="Write-Output 'Hello from PowerShell'",
            commands=("$PSVersionTable.PSVersion", "Write-Output 'Hello'"),
        ),
        Language(
            name="ruby",
            title="Ruby",
            image="ruby",
            suffix=".rb",
            command="ruby {file}",
            hello="puts 'Hello from Ruby'",
            commands=("ruby --version", "ruby -e 'puts \"Hello\"'"),
        ),
        Language(
            name="perl",
            title="Perl",
            image="perl",
            suffix=".pl",
            command="perl {file}",
            hello="print 'Hello from Perl';",
            commands=("perl -v", "perl -e 'print \"Hello\"'"),
        ),
        Language(
            name="php",
            title="PHP",
            image="php",
            suffix=".php",
            command="php {file}",
            hello="<?php echo 'Hello from PHP';",
            commands=("php --version", "php -r 'echo \"Hello\";'"),
        ),
        Language(
            name="lua",
            title="Lua",
            image="nickblah/lua",
            suffix=".lua",
            command="lua {file}",
            hello="print('Hello from Lua')",
            commands=("lua -v", "lua -e 'print(\"Hello\")'"),
        ),
        Language(
            name="julia",
            title="Julia",
            image="julia",
            suffix=".jl",
            command="julia {file}",
            hello='println("Hello from Julia")',
            commands=("julia --version", "julia -e 'println(\"Hello\")'"),
        ),
        Language(
            name="go",
            title="Go",
            image="golang",
            suffix=".go",
            command="go run {file}",
            is_hidden=False,
            hello='package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("Hello from Go") }',
            commands=("go version", "go env GOOS"),
        ),
        Language(
            name="deno",
            title="Deno",
            image="denoland/deno",
            suffix=".ts",
            command="deno run {file}",
            hello="console.log('Hello from Deno')",
            commands=("deno --version", "deno eval 'console.log(\"Hello\")'"),
        ),
        Language(
            name="bun",
            title="Bun",
            image="oven/bun",
            suffix=".ts",
            command="bun run {file}",
            hello="console.log('Hello from Bun')",
            commands=("bun --version", "bun -e 'console.log(\"Hello\")'"),
        ),
        Language(
            name="groovy",
            title="Groovy",
            image="groovy",
            suffix=".groovy",
            command="groovy {file}",
            is_hidden=False,
            hello="println 'Hello from Groovy'",
            commands=("groovy --version", "groovy -e 'println \"Hello\"'"),
        ),
    )
}
