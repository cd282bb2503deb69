"""`inputFiles`: what is written into a working directory, from which text or storage object, and how."""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

import msgspec

from tercel.errors import TaskFailedError, UserError
from tercel.worker.safe_files import SafeRoot, relative_name, write_all

_URI_START = ("kestra://", "nsfile://")
_URI = re.compile(r"(?:kestra|nsfile)://[^\s\x00-\x1f]+")
_LONG_FORM = frozenset({"uri", "content", "mode"})
_SHAPE = "inputFiles has to be a map of file names to contents, or a text that renders to such a map as JSON."
_JSON = msgspec.json.Encoder(decimal_format="number")


class InputFile(msgspec.Struct, frozen=True):
    """One file to be written.

    Attributes:
        name: relative, as `relative_name` gives it.
        text: its content; "" where *uri* says it.
        uri: the storage object that is its content; None for *text*.
        mode: permission bits; None for 0644 less the umask.
    """

    name: str
    text: str
    uri: str | None = None
    mode: int | None = None


def read_input_files(
    files: object, render: Callable[[str], str], render_value: Callable[[object], object]
) -> list[InputFile]:
    """What `inputFiles` asks for, in its order, each text rendered once and every name checked.

    Args:
        files: a map, a text, or None for nothing.
        render: gives a text rendered.
        render_value: gives a value with every text inside rendered.

    Raises:
        TaskFailedError: a shape, name or value that cannot be, or two names that cannot both be.
        ExpressionError: a template fails.
    """
    if files is None:
        return []
    if isinstance(files, Mapping):
        listed = cast("Mapping[object, object]", files).items()
        planned = [_planned(render(str(name)), _rendered(value, render, render_value)) for name, value in listed]
    elif isinstance(files, str):
        planned = [_planned(name, value) for name, value in _parsed(render(files)).items()]
    else:
        raise TaskFailedError(f"{_SHAPE} It is a {type(files).__name__}.")
    _check_together([file.name for file in planned])
    return planned


def _rendered(value: object, render: Callable[[str], str], render_value: Callable[[object], object]) -> object:
    return render(value) if isinstance(value, str) else render_value(value)


def _parsed(text: str) -> Mapping[str, object]:
    if text.strip() in {"", "null"}:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except msgspec.DecodeError as error:
        # Without the text itself: it may hold secrets.
        raise TaskFailedError(f"{_SHAPE} The rendered text is not a JSON object: {error}.") from error


def _planned(name: str, value: object) -> InputFile:
    path = relative_name(name)
    if isinstance(value, Mapping):
        long_form = cast("Mapping[str, object]", value)
        if long_form and long_form.keys() <= _LONG_FORM and len(long_form.keys() & {"uri", "content"}) == 1:
            return _long_form(path, long_form)
    text = _text(cast("object", value))
    return InputFile(path, text) if (uri := _uri(path, text)) is None else InputFile(path, "", uri)


def _long_form(path: str, value: Mapping[str, object]) -> InputFile:
    mode = _mode(path, value.get("mode"))
    if "content" in value:
        return InputFile(path, _text(value["content"]), mode=mode)
    text = _text(value["uri"])
    uri = _uri(path, text)
    if uri is None:
        raise TaskFailedError(
            f"The uri of input file {path!r} is not a kestra:// or nsfile:// address: {text[:200]!r}."
        )
    return InputFile(path, "", uri, mode)


def _mode(path: str, mode: object) -> int | None:
    if mode is None:
        return None
    text = str(mode)
    if not re.fullmatch(r"(?:0o?)?[0-7]{3}", text):
        raise TaskFailedError(
            f"The mode of input file {path!r} is {text!r}.", "Write three octal digits in quotes, such as '755'."
        )
    return int(text[-3:], 8)


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _JSON.encode(value).decode()


def _uri(path: str, text: str) -> str | None:
    trimmed = text.strip()
    if not trimmed.startswith(_URI_START):
        return None
    if not _URI.fullmatch(trimmed):
        raise TaskFailedError(
            f"The content of input file {path!r} starts like a storage address but is none.",
            "An address is one word on one line; a text may not start with kestra:// or nsfile://.",
        )
    return trimmed


def _check_together(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise TaskFailedError(f"Two input files are named {name!r}.")
        seen.add(name)
    for name in names:
        folder = name
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            if folder in seen:
                raise TaskFailedError(f"The input file {folder!r} stands where {name!r} needs a folder.")


def write_input_files(
    files: Iterable[InputFile], root: SafeRoot, copy_to: Callable[[str, int], object], check: Callable[[], None]
) -> None:
    """Write files into *root*, over what is there.

    Args:
        files: what to write, in this order.
        root: the working directory.
        copy_to: writes the content of a storage object, by its address, to a file descriptor.
        check: called before each file; raises to end the work.

    Raises:
        TaskFailedError: a file cannot be written, or its object cannot be read; names both.
    """
    for file in files:
        check()
        with root.create(file.name, 0o644 if file.mode is None else file.mode) as target:
            if file.mode is not None:
                # Asked for by the user, so the umask has no say.
                os.fchmod(target.fileno(), file.mode)
            if file.uri is None:
                write_all(target, file.text.encode())
                continue
            try:
                copy_to(file.uri, target.fileno())
            except UserError as error:
                raise TaskFailedError(
                    f"The input file {file.name!r} cannot be read from {file.uri}: {error.message}"
                ) from error
