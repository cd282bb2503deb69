"""Files of a folder that patterns take: what output files are captured from.

The dialect itself is in `model/globs.py`.
"""

import os
import stat
from collections.abc import Sequence

import msgspec

from tercel.layers.trees import located, scan
from tercel.model.globs import Globs


class Selection(msgspec.Struct, frozen=True):
    """What patterns found in a folder.

    Attributes:
        files: relative path to the absolute path to read, ordered; a link to a file inside reads that file.
        outside: links that lead out of the folder or to nothing, ordered; never to be read.
        missing: patterns without wildcards that found nothing, as written.
        unreadable: folders that could not be walked.
    """

    files: dict[str, str]
    outside: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


def select(root: str | os.PathLike[str], patterns: Sequence[str], exclude: Sequence[str] = ()) -> Selection:
    """Find the files of *root* that the patterns take, not following links to folders.

    Raises:
        GlobSyntaxError: a pattern is not well formed.
        LayerError: folders are nested too deep.
    """
    top = located(root)
    globs = Globs(patterns, exclude, root=top)
    tree = scan(top, globs)
    files: dict[str, str] = {}
    outside: list[str] = []
    for path in sorted(tree.entries):
        source = f"{top}/{path}"
        if stat.S_ISLNK(tree.entries[path][0]):
            source = os.path.realpath(source)
            if os.path.isdir(source):
                continue
            if not source.startswith(f"{top}/") or not os.path.isfile(source):
                outside.append(path)
                continue
        files[path] = source
    missing = [glob.text for glob in globs.patterns if glob.literal is not None and glob.literal not in tree.entries]
    return Selection(files, tuple(outside), tuple(missing), tuple(tree.unreadable))
