"""Tasks on files of internal storage: LocalFiles, and joining, splitting, measuring, removing and sifting files.

Files are read and written in a stream: what is in memory is a block or a row, not a file.
"""

import codecs
from array import array
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Literal, cast

import msgspec

from tercel.errors import UserError
from tercel.expression import is_truthy_text
from tercel.item_files import Row, concat_items, read_rows, split_items, stream_of
from tercel.model.size import parse_size
from tercel.plugin_api import Dynamic, Outputs, Problem, RunContext, RunnableTask, TaskFailedError, plugin

_BLOCK_BYTES = 1 << 20


@plugin("io.kestra.plugin.core.storage.LocalFiles", aliases=["io.kestra.core.tasks.storages.LocalFiles"])
class LocalFiles(RunnableTask, frozen=True, kw_only=True):
    """Write files into the working directory, then capture files from it; nothing is taken out of it.

    Attributes:
        inputs: as `inputFiles` of a WorkingDirectory.
        outputs: globs, as `outputFiles`.

    Outputs:
        uris: relative path to address of each captured file.
        outputFiles: the same.

    Example:
        tasks:
          - id: work
            type: io.kestra.plugin.core.flow.WorkingDirectory
            tasks:
              - id: put
                type: io.kestra.plugin.core.storage.LocalFiles
                inputs:
                  settings.json: |
                    {"region": "eu"}
              - id: use
                type: io.kestra.plugin.scripts.shell.Commands
                runner: PROCESS
                commands:
                  - cp settings.json copy.json
              - id: keep
                type: io.kestra.plugin.core.storage.LocalFiles
                outputs:
                  - "*.json"
    """

    inputs: dict[str, object] | Dynamic | None = None
    outputs: list[Dynamic] | Dynamic = []

    def run(self, context: RunContext) -> Outputs:
        """Write, then capture."""
        context.write_input_files(self.inputs)
        uris = context.capture(self.outputs)
        if self.outputs:
            context.logger.debug(f"{len(uris)} file{'s' * (len(uris) != 1)} captured")
        return Outputs(uris=uris, outputFiles=uris)


@plugin("io.kestra.plugin.core.storage.Concat", aliases=["io.kestra.core.tasks.storages.Concat"])
class Concat(RunnableTask, frozen=True, kw_only=True):
    """Join files into one.

    Attributes:
        files: addresses, or a text that renders to a list of them as JSON.
        separator: a text put after each file.
        extension: what the name of the new file ends with.

    Outputs:
        uri: the new file.

    Example:
        tasks:
          - id: names
            type: io.kestra.plugin.core.storage.Write
            extension: .txt
            content: |
              Ada
              Grace
              Edith
          - id: joined
            type: io.kestra.plugin.core.storage.Concat
            files:
              - "{{ outputs.names.uri }}"
              - "{{ outputs.names.uri }}"
            separator: ";"
            extension: .txt
    """

    files: list[Dynamic] | Dynamic
    separator: Dynamic = ""
    extension: Dynamic = ".tmp"

    def run(self, context: RunContext) -> Outputs:
        """Join the files."""
        uris, separator = context.render_list(self.files), context.render(self.separator)
        return Outputs(uri=concat_items(context, uris, separator, f"concat{context.render(self.extension)}"))


@plugin("io.kestra.plugin.core.storage.Split", aliases=["io.kestra.core.tasks.storages.Split"])
class Split(RunnableTask, frozen=True, kw_only=True):
    """Cut a file into files of whole lines, by the first that is given of `bytes`, `partitions` and `rows`.

    Attributes:
        from_: address of the file.
        bytes: the most that each file holds, such as 10MB, unless a single line is longer.
        partitions: how many files at most; they get the lines in turn.
        rows: how many lines each file gets.
        separator: what ends each line.

    Outputs:
        uris: the files, in order.

    Example:
        tasks:
          - id: names
            type: io.kestra.plugin.core.storage.Write
            extension: .txt
            content: |
              Ada
              Grace
              Edith
          - id: parts
            type: io.kestra.plugin.core.storage.Split
            from: "{{ outputs.names.uri }}"
            rows: 2
          - id: say
            type: io.kestra.plugin.core.log.Log
            message: "{{ outputs.parts.uris | length }} files"
    """

    from_: Dynamic = msgspec.field(name="from")
    bytes: int | Dynamic | None = None
    partitions: int | Dynamic | None = None
    rows: int | Dynamic | None = None
    separator: Dynamic = "\n"

    def problems(self) -> Iterator[Problem]:
        """Nothing that says where to cut."""
        if self.bytes is None and self.partitions is None and self.rows is None:
            yield Problem("Nothing says where to cut the file.", "Set one of 'bytes', 'partitions' and 'rows'.")

    def run(self, context: RunContext) -> Outputs:
        """Cut the file."""
        uris = split_items(
            context,
            context.render(self.from_),
            size_bytes=_number(self.bytes, "bytes", context),
            partitions=_number(self.partitions, "partitions", context),
            rows=_number(self.rows, "rows", context),
            separator=context.render(self.separator),
            name="split",
        )
        context.logger.debug(f"Split into {len(uris)} file{'s' * (len(uris) != 1)}")
        return Outputs(uris=uris)


def _number(value: int | str | None, name: str, context: RunContext) -> int | None:
    """A count, or a size for *name* "bytes"."""
    if value is None or isinstance(value, int):
        return value
    text = context.render(value)
    try:
        return parse_size(text) if name == "bytes" else int(text)
    except ValueError as error:
        what = "a size such as 10MB" if name == "bytes" else "a whole number"
        raise TaskFailedError(f"{name!r} is {text!r}, which is not {what}.") from error


@plugin("io.kestra.plugin.core.storage.Size", aliases=["io.kestra.core.tasks.storages.Size"])
class Size(RunnableTask, frozen=True, kw_only=True):
    """Say how large a file is.

    Attributes:
        uri: address of the file.

    Outputs:
        size: its bytes.

    Example:
        tasks:
          - id: names
            type: io.kestra.plugin.core.storage.Write
            extension: .txt
            content: |
              Ada
              Grace
              Edith
          - id: measure
            type: io.kestra.plugin.core.storage.Size
            uri: "{{ outputs.names.uri }}"
          - id: say
            type: io.kestra.plugin.core.log.Log
            message: "{{ outputs.measure.size }} bytes"
    """

    uri: Dynamic

    def run(self, context: RunContext) -> Outputs:
        """Look at the file."""
        return Outputs(size=context.file_size(context.render(self.uri)))


@plugin("io.kestra.plugin.core.storage.Delete", aliases=["io.kestra.core.tasks.storages.Delete"])
class Delete(RunnableTask, frozen=True, kw_only=True):
    """Remove a file of this execution, or one of its namespace's files.

    Attributes:
        uri: address of the file.
        error_on_missing: fail where there is no such file.

    Outputs:
        uri: the address.
        deleted: whether there was a file.

    Example:
        tasks:
          - id: names
            type: io.kestra.plugin.core.storage.Write
            extension: .txt
            content: |
              Ada
              Grace
              Edith
          - id: remove
            type: io.kestra.plugin.core.storage.Delete
            uri: "{{ outputs.names.uri }}"
            errorOnMissing: true
    """

    uri: Dynamic
    error_on_missing: bool = False

    def run(self, context: RunContext) -> Outputs:
        """Remove the file."""
        uri = context.render(self.uri)
        is_deleted = context.delete_file(uri)
        if not is_deleted and self.error_on_missing:
            raise TaskFailedError(f"There is no file {uri} to delete.")
        return Outputs(uri=uri, deleted=is_deleted)


@plugin("io.kestra.plugin.core.storage.Write")
class Write(RunnableTask, frozen=True, kw_only=True):
    """Store a text as a file.

    Attributes:
        content: the text.
        extension: what the name of the file ends with, such as `.txt`.

    Outputs:
        uri: the file.

    Example:
        tasks:
          - id: names
            type: io.kestra.plugin.core.storage.Write
            extension: .txt
            content: |
              Ada
              Grace
              Edith
          - id: say
            type: io.kestra.plugin.core.log.Log
            message: "{{ read(outputs.names.uri) }}"
    """

    content: Dynamic
    extension: Dynamic | None = None

    def run(self, context: RunContext) -> Outputs:
        """Store the text."""
        content, extension = context.render(self.content), context.render(self.extension or "")
        return Outputs(uri=context.save_stream(stream_of([content.encode()]), f"content{extension}"))


@plugin(
    "io.kestra.plugin.core.storage.PurgeCurrentExecutionFiles",
    aliases=["io.kestra.core.tasks.storages.PurgeExecution", "io.kestra.plugin.core.storage.PurgeExecution"],
)
class PurgeCurrentExecutionFiles(RunnableTask, frozen=True, kw_only=True):
    """Remove all files that this execution has in internal storage: inputs, outputs, whatever its tasks stored.

    Outputs:
        uris: addresses of what was removed.

    Example:
        tasks:
          - id: names
            type: io.kestra.plugin.core.storage.Write
            extension: .txt
            content: |
              Ada
              Grace
              Edith
          - id: clean_up
            type: io.kestra.plugin.core.storage.PurgeCurrentExecutionFiles
    """

    def run(self, context: RunContext) -> Outputs:
        """Remove the files."""
        uris: list[str] = []
        for uri in context.list_execution_files():
            context.stop_if_killed()
            if context.delete_file(uri):
                uris.append(uri)
        context.logger.debug(f"{len(uris)} file{'s' * (len(uris) != 1)} removed")
        return Outputs(uris=uris)


# ── turned round ─────────────────────────────────────────────────────────────────────────────────────────────────


@plugin("io.kestra.plugin.core.storage.Reverse", aliases=["io.kestra.core.tasks.storages.Reverse"])
class Reverse(RunnableTask, frozen=True, kw_only=True):
    """Write the lines of a file in reverse order, the last one first.

    Attributes:
        from_: address of the file.
        separator: what ends each line.
        charset: how characters are written as bytes.

    Outputs:
        uri: the new file.

    Example:
        tasks:
          - id: names
            type: io.kestra.plugin.core.storage.Write
            extension: .txt
            content: |
              Ada
              Grace
              Edith
          - id: last_first
            type: io.kestra.plugin.core.storage.Reverse
            from: "{{ outputs.names.uri }}"
    """

    from_: Dynamic = msgspec.field(name="from")
    separator: Dynamic = "\n"
    charset: Dynamic = "UTF-8"

    def run(self, context: RunContext) -> Outputs:
        """Read the file from its end."""
        uri, separator, charset = (context.render(text) for text in (self.from_, self.separator, self.charset))
        if not separator:
            raise TaskFailedError("A file cannot be cut into lines at an empty separator.")
        try:
            "".encode(charset)  # there are codecs, too, that are not of texts
            charset = codecs.lookup(charset).name
        except LookupError as error:
            raise TaskFailedError(f"There is no charset {charset!r}.", "Name one such as UTF-8.") from error
        spool = context.engine_directory / "reverse"
        is_plain = charset in _PLAIN_CHARSETS
        try:
            if is_plain:
                context.fetch_file(uri, spool)
            else:
                self._transcode(context, uri, charset, spool)
            with spool.open("rb") as file:
                lines = _from_the_end(file, separator.encode(charset if is_plain else "utf-8"), context)
                stored = stream_of(lines if is_plain else _encoded(lines, charset))
                return Outputs(uri=context.save_stream(stored, f"reversed{Path(uri.rpartition('/')[2]).suffix}"))
        except UnicodeError as error:
            raise TaskFailedError(f"The file, or the separator, is not text in {charset}: {error}.") from error
        finally:
            # An attempt may do this more than once.
            spool.unlink(missing_ok=True)

    def _transcode(self, context: RunContext, uri: str, charset: str, spool: Path) -> None:
        """Copy a file as UTF-8: in other charsets the bytes of a separator may be found in the middle of characters."""
        decode = codecs.getincrementaldecoder(charset)()
        with context.open_file(uri) as source, spool.open("xb") as target:
            while block := source.read(_BLOCK_BYTES):
                context.stop_if_killed()
                target.write(decode.decode(block).encode())
            target.write(decode.decode(b"", final=True).encode())


_PLAIN_CHARSETS = frozenset({"utf-8", "ascii", "iso8859-1", "iso8859-15", "cp1252"})
"""In these a separator's bytes are found nowhere else."""


def _from_the_end(file: BinaryIO, separator: bytes, context: RunContext) -> Iterator[bytes]:
    """The lines of a file, the last one first, each with *separator* at its end."""
    at = file.seek(0, 2)
    rest = b""
    parts: list[bytes] = []
    """The end of a line whose beginning is not read yet, its last part first."""
    is_last = True
    while at > 0:
        context.stop_if_killed()
        start = max(0, at - _BLOCK_BYTES)
        file.seek(start)
        # A separator may lie across blocks: what could be its end stays with the block before.
        block = file.read(at - start) + rest
        at = start
        first, *lines = block.split(separator)
        if lines:
            last = lines.pop() + b"".join(reversed(parts))
            if last or not is_last:
                yield last + separator
            for line in reversed(lines):
                yield line + separator
            is_last = False
            parts.clear()
        overlap = len(separator) - 1 if at else 0
        rest = first[:overlap]
        parts.append(first[overlap:])
    line = rest + b"".join(reversed(parts))
    if line or not is_last:
        yield line + separator


def _encoded(lines: Iterator[bytes], charset: str) -> Iterator[bytes]:
    encoder = codecs.getincrementalencoder(charset)()
    for line in lines:
        yield encoder.encode(line.decode())


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@plugin("io.kestra.plugin.core.storage.FilterItems", aliases=["io.kestra.core.tasks.storages.FilterItems"])
class FilterItems(RunnableTask, frozen=True, kw_only=True):
    """Keep, or drop, the rows of a file for which a condition holds.

    Attributes:
        from_: address of the file, rows in Ion or JSON.
        filter_condition: rendered for each row, whose members are its variables; it holds unless it gives an empty
            text, `false` or `0`.
        filter_type: INCLUDE keeps the rows for which it holds, EXCLUDE drops them.
        error_or_null_behavior: what becomes of a row for which it fails or gives null.

    Outputs:
        uri: the new file.
        processedItemsTotal: how many rows were read.
        droppedItemsTotal: how many of them the new file lacks.

    Example:
        tasks:
          - id: orders
            type: io.kestra.plugin.core.storage.Write
            extension: .jsonl
            content: |
              {"order": 1, "customer": "Ada", "amount": 120}
              {"order": 2, "customer": "Grace", "amount": 40}
              {"order": 3, "customer": "Ada", "amount": 75}
          - id: large
            type: io.kestra.plugin.core.storage.FilterItems
            from: "{{ outputs.orders.uri }}"
            filterCondition: "{{ amount > 50 }}"
    """

    from_: Dynamic = msgspec.field(name="from")
    filter_condition: Dynamic
    filter_type: Literal["INCLUDE", "EXCLUDE"] = "INCLUDE"
    error_or_null_behavior: Literal["FAIL", "INCLUDE", "EXCLUDE"] = "FAIL"

    def run(self, context: RunContext) -> Outputs:
        """Look at each row."""
        uri = context.render(self.from_)
        read = kept = 0

        def rows() -> Iterator[bytes]:
            nonlocal read, kept
            with context.open_file(uri) as source:
                for read, row in enumerate(read_rows(source, context.stop_if_killed), 1):
                    if self._keeps(row, read, context):
                        kept += 1
                        yield _line(row)

        stored = context.save_stream(stream_of(rows()), _rows_name("filtered", uri))
        return Outputs(uri=stored, processedItemsTotal=read, droppedItemsTotal=read - kept)

    def _keeps(self, row: Row, number: int, context: RunContext) -> bool:
        try:
            value = context.render_typed(self.filter_condition.strip(), _members(row))
        except UserError as error:
            why, cause = error.message, error
        else:
            if value is not None:
                holds = value if isinstance(value, bool) else is_truthy_text(str(value).strip())
                return holds is (self.filter_type == "INCLUDE")
            why, cause = "It gives null.", None
        if self.error_or_null_behavior == "FAIL":
            raise TaskFailedError(f"The condition cannot be evaluated for row {number}: {why}") from cause
        return self.error_or_null_behavior == "INCLUDE"


@plugin("io.kestra.plugin.core.storage.DeduplicateItems", aliases=["io.kestra.core.tasks.storages.DeduplicateItems"])
class DeduplicateItems(RunnableTask, frozen=True, kw_only=True):
    """Keep of all rows of a file that have the same key only the last one.

    Attributes:
        from_: address of the file, rows in Ion or JSON.
        expr: rendered for each row, whose members are its variables; gives the row's key.

    Outputs:
        uri: the new file, the rows in their order.
        numKeys: how many different keys there are.
        processedItemsTotal: how many rows were read.
        droppedItemsTotal: how many of them the new file lacks.

    Example:
        tasks:
          - id: orders
            type: io.kestra.plugin.core.storage.Write
            extension: .jsonl
            content: |
              {"order": 1, "customer": "Ada", "amount": 120}
              {"order": 2, "customer": "Grace", "amount": 40}
              {"order": 3, "customer": "Ada", "amount": 75}
          - id: latest
            type: io.kestra.plugin.core.storage.DeduplicateItems
            from: "{{ outputs.orders.uri }}"
            expr: "{{ customer }}"
    """

    from_: Dynamic = msgspec.field(name="from")
    expr: Dynamic

    def run(self, context: RunContext) -> Outputs:
        """Find the last row of each key, then copy those."""
        uri = context.render(self.from_)
        # Of a key there is only a digest, of a row only its number: neither need be small.
        last: dict[bytes, int] = {}
        count = 0
        with context.open_file(uri) as source:
            for count, row in enumerate(read_rows(source, context.stop_if_killed), 1):
                last[self._key(row, count, context)] = count
        wanted = array("Q", sorted(last.values()))
        keys = len(wanted)
        last.clear()

        def rows() -> Iterator[bytes]:
            numbers = iter(wanted)
            following = next(numbers, 0)
            with context.open_file(uri) as source:
                for number, row in enumerate(read_rows(source, context.stop_if_killed), 1):
                    if number == following:
                        yield _line(row)
                        following = next(numbers, 0)

        stored = context.save_stream(stream_of(rows()), _rows_name("deduplicated", uri))
        return Outputs(uri=stored, numKeys=keys, processedItemsTotal=count, droppedItemsTotal=count - keys)

    def _key(self, row: Row, number: int, context: RunContext) -> bytes:
        try:
            key = context.render(self.expr, _members(row))
        except UserError as error:
            raise TaskFailedError(f"The key of row {number} cannot be rendered: {error.message}") from error
        return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _members(row: Row) -> dict[str, object]:
    members = row.value
    if not isinstance(members, dict):
        raise UserError(f"It has no members: it is a {type(members).__name__}, not a map.")
    return cast("dict[str, object]", members)


def _line(row: Row) -> bytes:
    return f"{row.text}\n".encode()


def _rows_name(stem: str, uri: str) -> str:
    return stem + (Path(uri.rpartition("/")[2]).suffix or ".ion")
