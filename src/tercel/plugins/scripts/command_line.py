"""How commands become one argv: joined into one text for one interpreter, so that `cd` and variables persist.

Pure: texts in, texts out, all of them rendered.
"""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from tercel.plugins.scripts.languages import SHELL

SOURCE_SHIM = 'command -v source > /dev/null 2>&1 || source() { . "$@"; }'
"""Gives dash, which many systems call `sh`, the `source` of bash."""

_USES_SOURCE = re.compile(r"(?:^|[;&|({`]|\b(?:then|do|else)\b)[ \t]*source[ \t]", re.MULTILINE)
_FILE_URI = re.compile(r"kestra://[-\w%.+~#=/]+")
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]")


def assemble(
    interpreter: Sequence[str],
    before: Sequence[str],
    main: Sequence[str],
    *,
    fail_fast: bool,
    is_windows: bool = False,
) -> list[str]:
    r"""The argv that runs *before* and then *main* in one go.

    Args:
        interpreter: program and arguments; the joined text is the last argument.
        before: the task's `beforeCommands`.
        main: its commands, or the one that runs its script.
        fail_fast: end at the first command that fails.
        is_windows: for a Windows target: lines end in CR LF, and failing fast is left to the commands.

    Example:
        >>> assemble(["/bin/sh", "-c"], ["pip install x"], ["python main.py"], fail_fast=True)
        ['/bin/sh', '-c', 'set -e\\npip install x\\npython main.py']
    """
    lines = [*before, *main]
    if tuple(interpreter) == SHELL and any(_USES_SOURCE.search(line) for line in lines):
        lines.insert(0, SOURCE_SHIM)
    if fail_fast:
        lines.insert(0, "" if is_windows else _errexit(interpreter[0]))
    return [*interpreter, ("\r\n" if is_windows else "\n").join(lines)]


def _errexit(program: str) -> str:
    """The line that makes *program* end at the first command that fails."""
    name = os.path.basename(program).lower().removesuffix(".exe")
    if name in {"pwsh", "powershell"}:
        return "$ErrorActionPreference = 'Stop'"
    return "" if name == "cmd" else "set -e"


def quote_path(path: str, interpreter: Sequence[str]) -> str:
    """*path* as one word of a command line; unchanged where it holds nothing special."""
    if interpreter and "pwsh" in interpreter[0] and shlex.quote(path) != path:
        return "& '" + path.replace("'", "''") + "'"
    return shlex.quote(path)


def file_uris(text: str) -> Iterator[re.Match[str]]:
    """The URIs of internal storage in *text*, in order."""
    return _FILE_URI.finditer(text)


def replace_file_uris(text: str, paths: dict[str, str]) -> str:
    """*text* with each URI of internal storage replaced by its entry in *paths*."""
    return _FILE_URI.sub(lambda match: paths[match[0]], text)


def copy_name(number: int, uri: str) -> str:
    """Name of the local copy of *uri*: keeps the base name, so that endings tell the type, and needs no quoting.

    Example:
        >>> copy_name(3, "kestra:///a/b/my%20file.csv")
        '3-my_file.csv'
    """
    base = unquote(uri.rstrip("/").rpartition("/")[2])
    return f"{number}-{_UNSAFE.sub('_', base)[-100:]}"
