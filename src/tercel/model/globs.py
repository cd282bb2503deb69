r"""The one glob dialect, as pure matching: patterns over paths with `/` between their parts.

Knows what a pattern means and which folders it can reach; knows nothing of files. Walking a folder is in
`layers/globs.py`.

| written | matches |
|---|---|
| `*`, `?` | any run of characters, one character; never `/` |
| `**` | any characters, `/` too; `**/` at the start of a part also matches no folder at all |
| `[abc]`, `[a-z]`, `[!a]` | one character of a class, or outside it; never `/` |
| `{a,b}` | either; not nested |
| `\x` | the character x itself |
| `glob:…`, `regex:…` | the same dialect, or a regular expression, on the absolute path |
"""

import re
from collections.abc import Callable, Iterable, Sequence

from tercel.errors import UserError

ENGINE_FOLDER = ".kestra"
"""Folder in a working directory for files of the engine; no pattern sees it unless it names it."""


class GlobSyntaxError(UserError):
    """A pattern is not well formed; the message quotes it and says where."""


class Glob:
    """One pattern, ready to match. Made by `compile_glob`.

    Attributes:
        text: the pattern as written.
        literal: the only path it can match, without a leading `/`; None when it has wildcards.
        is_absolute: True when it is matched on absolute paths (`glob:` and `regex:`).
        names_engine_folder: True when it asks for files of the engine by name.
    """

    __slots__ = ("_cover", "_folders", "_is_deep", "is_absolute", "literal", "names_engine_folder", "regex", "text")

    def __init__(self, text: str, regex: re.Pattern[str], body: str, *, is_absolute: bool) -> None:
        self.text = text
        self.regex = regex
        self.is_absolute = is_absolute
        self.names_engine_folder = body.split("/", 1)[0] == ENGINE_FOLDER or (is_absolute and ENGINE_FOLDER in body)
        self.literal = None if is_absolute or _SPECIAL.search(_ESCAPED.sub("", body)) else _ESCAPED.sub(r"\1", body)
        self._folders, self._is_deep = ([], True) if is_absolute else _leading_folders(body)
        self._cover = None if is_absolute else _cover(body)

    def matches(self, path: str, root: str = "") -> bool:
        """Tell whether the whole of *path* fits.

        Args:
            path: relative to the folder the pattern is for; a leading `/` means that folder.
            root: absolute path of that folder; only `glob:` and `regex:` patterns look at it.
        """
        relative = path.lstrip("/")
        return self.regex.fullmatch(f"{root}/{relative}" if self.is_absolute else relative) is not None

    def may_reach_into(self, folder: str) -> bool:
        """Tell whether something below *folder*, a relative path, could fit. False is certain, True is not."""
        parts = folder.split("/")
        for part, expected in zip(parts, self._folders, strict=False):
            if not expected.fullmatch(part):
                return False
        return self._is_deep or len(parts) <= len(self._folders)

    def takes_all_below(self, folder: str) -> bool:
        """Tell whether everything below *folder*, at any depth, is certain to fit. "" is the root."""
        if self._cover is None or not folder:
            return self._cover is _EVERYTHING
        return self._cover.fullmatch(folder) is not None


def compile_glob(pattern: str) -> Glob:
    """Read one pattern.

    Raises:
        GlobSyntaxError: brackets or braces do not pair, a class is empty, or a regular expression is wrong.

    Example:
        >>> compile_glob("**/*.csv").matches("d/b.csv"), compile_glob("*.csv").matches("d/b.csv")
        (True, False)
    """
    kind, colon, body = pattern.partition(":")
    if colon and kind == "regex":
        try:
            return Glob(pattern, re.compile(body, re.DOTALL), body, is_absolute=True)
        except re.error as error:
            raise GlobSyntaxError(f"The pattern {pattern!r} is not a regular expression: {error}.") from error
    is_absolute = bool(colon) and kind == "glob"
    if not is_absolute:
        body = pattern.lstrip("/")
    return Glob(pattern, re.compile(_translate(body, pattern), re.DOTALL), body, is_absolute=is_absolute)


class Globs:
    """A union of patterns, less a union of others.

    Args:
        patterns: blank ones are passed over; without any, nothing matches.
        exclude: what is taken out again; wins over *patterns*.
        root: absolute path of the folder they are for; only `glob:` and `regex:` patterns look at it.

    Raises:
        GlobSyntaxError: as `compile_glob`.

    Example:
        >>> Globs(["*.csv", "d/**"], exclude=["d/tmp/**"]).matches("d/e/c.csv")
        True
    """

    def __init__(self, patterns: Iterable[str], exclude: Iterable[str] = (), root: str = "") -> None:
        self.patterns = tuple(compile_glob(pattern) for pattern in patterns if pattern.strip())
        self.exclude = tuple(compile_glob(pattern) for pattern in exclude if pattern.strip())
        self.root = root.rstrip("/")
        self._relative = _union(self.patterns)
        self._absolute = [glob for glob in self.patterns if glob.is_absolute]
        self._unwanted = _union(self.exclude)
        self._unwanted_absolute = [glob for glob in self.exclude if glob.is_absolute]
        self._for_engine_files = [glob for glob in self.patterns if glob.names_engine_folder]

    def matches(self, path: str) -> bool:
        """Tell whether the file at *path*, relative to the root, is taken."""
        path = path.lstrip("/")
        return self.is_wanted(path) and not self.is_excluded(path)

    def is_wanted(self, path: str) -> bool:
        """Tell whether a pattern fits *path*, not looking at excludes."""
        if is_engine_path(path):
            return any(glob.matches(path, self.root) for glob in self._for_engine_files)
        if self._relative is not None and self._relative(path):
            return True
        return any(glob.matches(path, self.root) for glob in self._absolute)

    def is_excluded(self, path: str) -> bool:
        """Tell whether an exclude fits *path*."""
        if self._unwanted is not None and self._unwanted(path):
            return True
        return any(glob.matches(path, self.root) for glob in self._unwanted_absolute)

    def may_reach_into(self, folder: str) -> bool:
        """Tell whether something below *folder* could be taken; a walk may pass over it when not."""
        if any(glob.takes_all_below(folder) for glob in self.exclude):
            return False
        return any(glob.may_reach_into(folder) for glob in self._asked(folder))

    def takes_all_below(self, folder: str) -> bool:
        """Tell whether a pattern takes everything below *folder*, not looking at excludes. "" is the root."""
        return any(glob.takes_all_below(folder) for glob in self._asked(folder))

    def _asked(self, path: str) -> Sequence[Glob]:
        return self._for_engine_files if is_engine_path(path) else self.patterns


def is_engine_path(path: str) -> bool:
    """Tell whether a relative path lies in the folder for files of the engine."""
    return path.split("/", 1)[0] == ENGINE_FOLDER


def namespace_globs(include: Sequence[str] = (), exclude: Sequence[str] = ()) -> Globs:
    """The patterns of a `namespaceFiles` property: at any depth unless they start with `/`; no include means all.

    Raises:
        GlobSyntaxError: as `compile_glob`.

    Example:
        >>> files = namespace_globs(include=["*.py"], exclude=["/ignore/**"])
        >>> files.matches("lib/u.py"), files.matches("ignore/x.py")
        (True, False)
    """
    wanted = [pattern for pattern in include if pattern.strip()] or ["**"]
    return Globs(map(_at_any_depth, wanted), map(_at_any_depth, exclude))


def _at_any_depth(pattern: str) -> str:
    is_anchored = pattern.startswith(("/", "glob:", "regex:")) or not pattern.strip()
    return pattern if is_anchored else f"**/{pattern}"


_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_SPECIAL = re.compile(r"[*?\[{\\]")
_EVERYTHING = re.compile(".*", re.DOTALL)


def _translate(body: str, pattern: str) -> str:
    parts: list[str] = []
    at, in_braces, starts_part, braces_start_part = 0, False, True, False
    while at < len(body):
        char, at, was_start = body[at], at + 1, starts_part
        starts_part = char == "/"
        if char == "*":
            stars = at
            while body[at : at + 1] == "*":
                at += 1
            if at == stars:
                parts.append("[^/]*")
            elif was_start and body[at : at + 1] == "/":
                parts.append("(?:.*/)?")
                at, starts_part = at + 1, True
            else:
                parts.append(".*")
        elif char == "?":
            parts.append("[^/]")
        elif char == "[":
            source, at = _translate_class(body, at, pattern)
            parts.append(source)
        elif char == "{":
            if in_braces:
                raise GlobSyntaxError(f"The pattern {pattern!r} has `{{` inside `{{…}}`.", "Braces cannot be nested.")
            in_braces, starts_part, braces_start_part = True, was_start, was_start
            parts.append("(?:(?:")
        elif char == "}" and in_braces:
            in_braces = False
            parts.append("))")
        elif char == "," and in_braces:
            starts_part = braces_start_part
            parts.append(")|(?:")
        elif char == "\\":
            if at == len(body):
                raise GlobSyntaxError(f"The pattern {pattern!r} ends with `\\`.", "Write `\\\\` for the character.")
            parts.append(re.escape(body[at]))
            at += 1
        else:
            parts.append(re.escape(char))
    if in_braces:
        raise GlobSyntaxError(f"The pattern {pattern!r} has `{{` without `}}`.", "Write `\\{` for the character.")
    return "".join(parts)


def _translate_class(body: str, at: int, pattern: str) -> tuple[str, int]:
    """The regular expression of the class that starts before *at*, and where the pattern goes on."""
    is_negated = body[at : at + 1] == "!"
    at += is_negated
    members: list[str] = []
    ranges_at: set[int] = set()
    while at < len(body) and body[at] != "]":
        if body[at] == "/":
            raise GlobSyntaxError(f"The pattern {pattern!r} has `/` inside `[…]`.")
        if body[at] == "\\" and at + 1 < len(body):
            at += 1
        elif body[at] == "-":
            ranges_at.add(len(members))
        members.append(body[at])
        at += 1
    if at == len(body):
        raise GlobSyntaxError(f"The pattern {pattern!r} has `[` without `]`.", "Write `\\[` for the character.")
    if not members:
        raise GlobSyntaxError(f"The pattern {pattern!r} has an empty `[]`.")
    source = "".join(
        "-" if index in ranges_at and 0 < index < len(members) - 1 else re.escape(member)
        for index, member in enumerate(members)
    )
    negation = "^" if is_negated else ""
    try:
        re.compile(f"[{source}]")
    except re.error as error:
        raise GlobSyntaxError(f"The pattern {pattern!r} has a wrong `[…]`: {error}.") from error
    return f"(?!/)[{negation}{source}]", at + 1


def _leading_folders(body: str) -> tuple[list[re.Pattern[str]], bool]:
    """The parts that must be the first folders of a path, and whether more folders may follow them."""
    folders: list[re.Pattern[str]] = []
    parts = body.split("/")
    for part in parts:
        # A brace may hold a `/` and `\` may stand before one; then the parts of the text are not those of the path.
        if "**" in part or part.count("{") != part.count("}") or part.endswith("\\"):
            return folders, True
        folders.append(re.compile(_translate(part, body), re.DOTALL))
    return folders[:-1], False


def _cover(body: str) -> re.Pattern[str] | None:
    """What the folders look like below which everything fits; None when there are none."""
    head = re.sub(r"(?:^|/)\*\*(?:/\*)?$", "", body)
    if head == body or head.endswith("\\") or head.count("{") != head.count("}"):
        return None
    return re.compile(f"{_translate(head, body)}(?:/.*)?", re.DOTALL) if head else _EVERYTHING


def _union(globs: Sequence[Glob]) -> Callable[[str], object] | None:
    sources = [glob.regex.pattern for glob in globs if not glob.is_absolute]
    return re.compile("|".join(f"(?:{source})" for source in sources), re.DOTALL).fullmatch if sources else None
