"""What is known of a tree of files that was packed into one object."""

from typing import Annotated

import msgspec

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class PackedTree(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A tree packed into one object: enough to find it, check it and put it elsewhere.

    Attributes:
        sha256: of the object's bytes, in hex; its name too.
        files: regular files, links and further names of a file; folders are not counted.
        bytes: content of all files, in bytes.
        packed_bytes: size of the object.
        root: absolute path of the folder the tree was taken from.
        relocatable: paths of files and links that hold *root* and mean the folder by it.
    """

    sha256: Sha256
    files: Annotated[int, msgspec.Meta(ge=0)]
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    packed_bytes: Annotated[int, msgspec.Meta(ge=0)]
    root: str
    relocatable: tuple[str, ...] = ()
