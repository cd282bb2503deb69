"""`namespaceFiles`: putting the files of namespaces into a working directory."""

import os
from collections.abc import Callable, Sequence
from typing import Literal

from tercel.errors import TaskFailedError, UserError
from tercel.storage.namespace_files import NamespaceFile, NamespaceFiles
from tercel.worker.safe_files import SafeRoot, same_content

IfExists = Literal["OVERWRITE", "FAIL", "WARN", "IGNORE"]


def stage_namespace_files(
    sources: Sequence[NamespaceFiles],
    include: Sequence[str],
    exclude: Sequence[str],
    root: SafeRoot,
    if_exists: IfExists,
    *,
    by_namespace: bool,
    warn: Callable[[str], None],
    check: Callable[[], None],
) -> list[str]:
    """Write the files that the patterns take.

    Args:
        sources: one for each namespace; of the same path in several the last one counts.
        include: rendered globs; none takes all.
        exclude: rendered globs; win over *include*.
        root: the working directory.
        if_exists: what happens to a path that is already there with other content.
        by_namespace: put each namespace into a folder of its name.
        warn: told of files kept in spite of a namespace file.
        check: called before each file; raises to end the work.

    Returns:
        The relative paths written or found identical, in order of path.

    Raises:
        TaskFailedError: a file cannot be read or written, or exists and *if_exists* is FAIL.
    """
    chosen: dict[str, tuple[NamespaceFiles, NamespaceFile]] = {}
    for source in sources:
        for file in source.select(include, exclude):
            chosen[f"{source.namespace}/{file.path}" if by_namespace else file.path] = (source, file)
    staged: list[str] = []
    for name, (source, file) in sorted(chosen.items()):
        check()
        try:
            if _is_wanted(name, (source, file), root, if_exists, warn):
                with root.create(name, 0o755 if file.executable else 0o644) as target:
                    source.copy_to(file.path, target.fileno())
                staged.append(name)
        except UserError as error:
            raise TaskFailedError(f"The namespace file {name!r} cannot be read: {error.message}") from error
    return staged


def _is_wanted(
    name: str,
    found: tuple[NamespaceFiles, NamespaceFile],
    root: SafeRoot,
    if_exists: IfExists,
    warn: Callable[[str], None],
) -> bool:
    """Whether the file is to be written; identical content never matters."""
    if if_exists == "OVERWRITE" or not root.exists(name) or _is_identical(name, *found, root):
        return True
    if if_exists == "FAIL":
        raise TaskFailedError(
            f"The namespace file {name!r} is already in the working directory, with other content.",
            "Set namespaceFiles.ifExists to OVERWRITE, WARN or IGNORE, or exclude the file.",
        )
    if if_exists == "WARN":
        warn(f"The namespace file {name!r} is already in the working directory, with other content, which is kept.")
    return False


def _is_identical(name: str, source: NamespaceFiles, file: NamespaceFile, root: SafeRoot) -> bool:
    existing = root.open_existing(name)
    if existing is None:
        return False
    with existing:
        if os.fstat(existing.fileno()).st_size != file.size:
            return False
        with source.get(file.path) as content:
            return same_content(existing, content)
