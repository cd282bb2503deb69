"""scripts.*: a Script and a Commands task for each language, made from the rows in `languages`."""

from typing import cast

import msgspec

from tercel.plugin_api import plugin
from tercel.plugins.scripts.languages import LANGUAGES, Language
from tercel.plugins.scripts.python import PythonCommands, PythonScript
from tercel.plugins.scripts.task import Commands, Script, ScriptTask

__all__ = ["LANGUAGES", "Commands", "PythonCommands", "PythonScript", "Script", "ScriptTask"]

_TYPES = "io.kestra.plugin.scripts"


def _announce(language: Language, script: type[ScriptTask], commands: type[ScriptTask]) -> None:
    """Make the two task types of *language* out of the classes that know how to run them."""
    how = f"`{language.command.format(file='<file>')}`" if language.command else "the shell itself"
    for kind, base, summary in (
        ("Script", script, f"Run a {language.title} script that is written in the flow, by {how}."),
        ("Commands", commands, f"Run commands where there is {language.title}, one after the other in one shell."),
    ):
        type_name = f"{_TYPES}.{language.name}.{kind}"
        doc = summary + (base.__doc__ or "")[len((base.__doc__ or "").partition("\n")[0]) :]
        doc = f"{doc.rstrip()}\n\n    Example:\n{_example(language, type_name)}"
        made = msgspec.defstruct(
            f"{language.name.capitalize()}{kind}",
            [],
            bases=(base,),
            module=__name__,
            namespace={"language": language, "__doc__": doc},
            frozen=True,
            kw_only=True,
        )
        plugin(type_name)(cast("type[ScriptTask]", made))


def _example(language: Language, type_name: str) -> str:
    """The lines of the section `Example`."""
    lines = ["tasks:", "  - id: hello", f"    type: {type_name}", f"    containerImage: {language.image}"]
    if type_name.endswith(".Script"):
        lines += ["    script: |", *(f"      {line}" for line in language.hello.splitlines())]
    else:
        lines += ["    commands:", *(f"      - {command}" for command in language.commands)]
    return "".join(f"{' ' * 8}{line}".rstrip() + "\n" for line in lines)


for _language in LANGUAGES.values():
    if _language.name == "python":
        _announce(_language, PythonScript, PythonCommands)
    else:
        _announce(_language, Script, Commands)
