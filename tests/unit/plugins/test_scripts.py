"""Script tasks without running any: the table of languages, the command line, what a task refuses."""

import shlex

import pytest

from tercel.model.catalog import Catalog
from tercel.plugin_api import RunnableTask
from tercel.plugins import MODULES
from tercel.plugins.scripts import LANGUAGES, Commands, PythonScript, Script, ScriptTask
from tercel.plugins.scripts.command_line import (
    SOURCE_SHIM,
    assemble,
    copy_name,
    file_uris,
    quote_path,
    replace_file_uris,
)
from tercel.plugins.scripts.docker.runner import Docker

SH = ["/bin/sh", "-c"]


class TestLanguages:
    @pytest.mark.parametrize("kind", ["Script", "Commands"])
    @pytest.mark.parametrize("name", LANGUAGES)
    def test_given_a_row_then_its_types_are_found_and_documented(self, name: str, kind: str) -> None:
        found = Catalog(MODULES).find(f"io.kestra.plugin.scripts.{name}.{kind}")

        assert found is not None
        assert found.plugin_type == f"io.kestra.plugin.scripts.{name}.{kind}"
        assert issubclass(found, PythonScript.__mro__[1] if name == "python" else (Script, Commands))
        assert LANGUAGES[name].title in (found.__doc__ or "")
        assert found.__struct_config__.frozen
        assert found.__struct_config__.forbid_unknown_fields

    def test_given_the_catalog_then_it_names_every_language_and_no_other(self) -> None:
        prefix = "io.kestra.plugin.scripts."
        named = {name.removeprefix(prefix) for name in MODULES if name.startswith(prefix)}

        assert named >= {f"{name}.{kind}" for name in LANGUAGES for kind in ("Script", "Commands")}

    def test_given_a_file_language_then_its_row_says_how_to_run_the_file(self) -> None:
        commands = {name: row.command.format(file=f"x{row.suffix}") for name, row in LANGUAGES.items()}

        assert commands == {
            "python": "python x.py",
            "r": "Rscript x.R",
            "node": "node x.js",
            "shell": "",
            "powershell": "x.ps1",
            "ruby": "ruby x.rb",
            "perl": "perl x.pl",
            "php": "php x.php",
            "lua": "lua x.lua",
            "julia": "julia x.jl",
            "go": "go run x.go",
            "deno": "deno run x.ts",
            "bun": "bun run x.ts",
            "groovy": "groovy x.groovy",
        }


class TestProperties:
    def test_given_the_properties_then_their_names_are_those_of_kestra(self) -> None:
        common = {*ScriptTask.__struct_encode_fields__} - {*RunnableTask.__struct_encode_fields__}

        assert common == {
            *("beforeCommands", "interpreter", "failFast", "warningOnStdErr", "runner", "docker", "taskRunner"),
            *("containerImage", "env", "inputFiles", "outputFiles", "namespaceFiles", "outputDirectory", "targetOS"),
        }
        assert {*PythonScript.__struct_encode_fields__} - {*Script.__struct_encode_fields__} == {
            *("dependencies", "pythonVersion", "packageManager", "dependencyCacheEnabled"),
            *("uvAutoInstallEnabled", "uvInstallerVersion", "uvInstallerSha256"),
        }

    def test_given_the_docker_options_then_their_names_are_those_of_kestra_and_one_more(self) -> None:
        assert {*Docker.__struct_encode_fields__, *Docker.former_names} == {
            *("type", "reuseContainer"),
            *("host", "dockerHost", "config", "dockerConfig", "credentials", "image", "user", "entryPoint"),
            *("extraHosts", "networkMode", "portBindings", "volumes", "pullPolicy", "deviceRequests", "cpu", "memory"),
            *("shmSize", "privileged", "fileHandlingStrategy", "delete", "wait", "killGracePeriod", "resume"),
        }


class TestAssemble:
    def test_given_before_commands_then_all_is_one_text_after_the_errexit_line(self) -> None:
        argv = assemble(SH, ["pip install requests > /dev/null"], ["python /tmp/1.py"], fail_fast=True)

        assert argv == ["/bin/sh", "-c", "set -e\npip install requests > /dev/null\npython /tmp/1.py"]

    def test_given_no_fail_fast_then_there_is_no_errexit_line(self) -> None:
        assert assemble(SH, [], ["a", "b"], fail_fast=False) == [*SH, "a\nb"]

    @pytest.mark.parametrize(
        ("interpreter", "line"),
        [
            (["/bin/bash", "-c"], "set -e"),
            (["python", "-c"], "set -e"),
            (["pwsh", "-Command"], "$ErrorActionPreference = 'Stop'"),
            (["C:/powershell.exe", "-Command"], "$ErrorActionPreference = 'Stop'"),
            (["cmd.exe", "/c"], ""),
        ],
    )
    def test_given_an_interpreter_then_the_errexit_line_is_its_own(self, interpreter: list[str], line: str) -> None:
        assert assemble(interpreter, [], ["a"], fail_fast=True)[-1] == f"{line}\na"

    def test_given_a_windows_target_then_lines_end_in_crlf_after_an_empty_one(self) -> None:
        assert assemble(SH, ["a"], ["b"], fail_fast=True, is_windows=True)[-1] == "\r\na\r\nb"

    @pytest.mark.parametrize(
        "command", ["source venv/bin/activate", "true && source x", "if true; then source x; fi", "( source x )"]
    )
    def test_given_source_in_the_default_interpreter_then_one_line_makes_it_known(self, command: str) -> None:
        assert assemble(SH, [command], ["b"], fail_fast=True)[-1] == f"set -e\n{SOURCE_SHIM}\n{command}\nb"

    @pytest.mark.parametrize("command", ["echo source of truth", "cat source.txt", "resource x", "echo a-source b"])
    def test_given_the_word_source_elsewhere_then_there_is_no_such_line(self, command: str) -> None:
        assert assemble(SH, [], [command], fail_fast=True)[-1] == f"set -e\n{command}"

    def test_given_source_in_another_interpreter_then_there_is_no_such_line(self) -> None:
        assert assemble(["/bin/bash", "-c"], [], ["source x"], fail_fast=False)[-1] == "source x"


class TestPaths:
    @pytest.mark.parametrize(
        ("path", "interpreter", "word"),
        [
            ("/tmp/a/.1.py", SH, "/tmp/a/.1.py"),
            ("/tmp/a b/1.py", SH, "'/tmp/a b/1.py'"),
            ("/tmp/a/1.ps1", ["pwsh", "-Command"], "/tmp/a/1.ps1"),
            ("/tmp/a's/1.ps1", ["pwsh", "-Command"], "& '/tmp/a''s/1.ps1'"),
        ],
    )
    def test_given_a_path_then_it_is_one_word(self, path: str, interpreter: list[str], word: str) -> None:
        assert quote_path(path, interpreter) == word

    @pytest.mark.parametrize(
        ("text", "uris"),
        [
            ("cat kestra:///a/b-c_d.csv | wc", ["kestra:///a/b-c_d.csv"]),
            ("x=kestra:///a%20b/ü+~#=.txt; y", ["kestra:///a%20b/ü+~#=.txt"]),
            ("open('kestra:///a') and \"kestra:///b\"", ["kestra:///a", "kestra:///b"]),
            ("see kestra:// for more", []),
        ],
    )
    def test_given_a_text_then_its_uris_are_found(self, text: str, uris: list[str]) -> None:
        assert [match[0] for match in file_uris(text)] == uris

    def test_given_uris_then_each_becomes_its_path(self) -> None:
        paths = {"kestra:///a": "/x/1-a", "kestra:///b": "/x/2-b"}

        assert replace_file_uris("cat kestra:///a kestra:///b kestra:///a", paths) == "cat /x/1-a /x/2-b /x/1-a"

    @pytest.mark.parametrize(
        ("uri", "name"),
        [
            ("kestra:///a/b/data.csv", "1-data.csv"),
            ("kestra:///a/my%20file%27%3B%20rm.tar.gz", "1-my_file___rm.tar.gz"),
            ("kestra:///a/%2E%2E%2Fetc", "1-.._etc"),
            ("kestra:///a/" + "x" * 300, "1-" + "x" * 100),
        ],
    )
    def test_given_a_uri_then_its_copy_keeps_the_name_and_needs_no_quoting(self, uri: str, name: str) -> None:
        assert copy_name(1, uri) == name
        assert shlex.quote(name) == name


class TestProblems:
    def test_given_an_empty_script_then_it_is_refused(self) -> None:
        (problem,) = Script(id="a", type="t", script=" \n").problems()

        assert (problem.message, problem.hint, problem.path) == (
            "'script' is empty.",
            "Write the code to run.",
            ("script",),
        )

    def test_given_no_commands_then_they_are_refused(self) -> None:
        (problem,) = Commands(id="a", type="t", commands=[]).problems()

        assert problem.message == "'commands' is empty."

    def test_given_an_empty_interpreter_then_it_is_refused(self) -> None:
        (problem,) = Commands(id="a", type="t", commands=["x"], interpreter=[]).problems()

        assert problem.message == "'interpreter' is empty."
