"""What is known of a layer of files that was packed into one object."""

from typing import Annotated

import msgspec

LayerId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class PackedTree(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A layer packed into one object: enough to find it, check it and put it elsewhere.

    Attributes:
        id: of the layer, which it has wherever it is unpacked.
        sha256: of the object's bytes, in hex.
        files: regular files, links and further names of a file; folders and notes of what was deleted are not counted.
        bytes: content of all files, in bytes.
        packed_bytes: size of the object.
        root: absolute path of the working directory that the layer was made in.
        relocatable: paths of files and links that hold *root* and mean the folder by it; U+FFFD stands for what
            is not UTF-8 in them.
    """

    id: LayerId
    sha256: Sha256
    files: Annotated[int, msgspec.Meta(ge=0)]
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    packed_bytes: Annotated[int, msgspec.Meta(ge=0)]
    root: str
    relocatable: tuple[str, ...] = ()
