"""Snapshots in internal storage: with them a worker on another machine goes on where the last one ended.

Beside the files of a task run lie its layers, one packed object each, and `snapshot.json`, which says what they are.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO

import msgspec

from tercel.errors import NotFoundError
from tercel.layers import DamagedEntryError, Facts, LayerStore
from tercel.layers.stacks import Stack, read_layer
from tercel.model import WorkerJob
from tercel.model.packs import PackedTree
from tercel.storage import InternalStorage, format_uri, task_run_path
from tercel.storage.caches import Caches
from tercel.worker.snapshots import Snapshot

_MANIFEST = "snapshot.json"


class _Manifest(msgspec.Struct, frozen=True, rename="camel"):
    snapshot: Snapshot
    packs: tuple[PackedTree, ...] = ()


class StoredSnapshots:
    """The snapshots of all machines.

    Args:
        storage: where they are.
        layers: of this machine.
    """

    def __init__(self, storage: InternalStorage, layers: LayerStore) -> None:
        self._storage = storage
        self._caches = Caches(storage)
        self._layers = layers

    def store(self, snapshot: Snapshot, check: Callable[[], None] = lambda: None) -> None:
        """Store a snapshot in place of an earlier one of its task run: what is new of its layers, then what they are.

        Args:
            snapshot: as it is on this machine.
            check: called now and then; raises to end the work.

        Raises:
            LayerError: a layer cannot be packed.
            StorageError: a pack cannot be stored.
        """
        folder = _folder(
            snapshot.namespace, snapshot.flow_id, snapshot.execution_id, snapshot.task_id, snapshot.task_run_id
        )
        before = self._read(folder)
        packs = {pack.id: pack for pack in (() if before is None else before.packs)}
        cached = {pack.id for pack in (() if snapshot.entry is None else snapshot.entry.layers)}
        pool = self._layers.pool
        with pool.work() as work:
            with pool.held():
                work.uses(snapshot.layers)
                if not all(pool.has(layer) for layer in snapshot.layers):
                    return  # removed already, as the run is over and nobody keeps it
            for place, layer in enumerate(snapshot.layers):
                check()
                if layer not in packs and layer not in cached:
                    below = Stack([pool.tree(one) for one in snapshot.layers[:place]])
                    packs[layer] = self._pack(work.folder, folder, layer, below, snapshot.path)
        kept = tuple(packs[layer] for layer in snapshot.layers if layer in packs)
        manifest = msgspec.json.encode(_Manifest(snapshot, kept))
        self._storage.put(f"{folder}/{_MANIFEST}", BytesIO(manifest))
        self._storage.delete([_object(folder, layer) for layer in packs if layer not in snapshot.layers])

    def _pack(self, work_folder: str, folder: str, layer: str, below: Stack, root: str) -> PackedTree:
        from tercel.layers.copies import copy_entries  # noqa: PLC0415  # only where snapshots are stored
        from tercel.layers.packs import pack_layer  # noqa: PLC0415  # same
        from tercel.layers.splits import settle_layer  # noqa: PLC0415  # same

        tree, path = self._layers.pool.tree(layer), f"{work_folder}/pack"
        if any(entry.redirect for entry in read_layer(tree)):
            # A run may be using the layer: it stays as it is, and a copy is made to stand alone.
            copy = f"{work_folder}/copy-{layer}"
            os.mkdir(copy, 0o700)
            copy_entries(read_layer(tree), copy, whiteouts="keep")
            settle_layer(copy, below)
            tree = copy
        try:
            with open(path, "xb") as file:
                pack, _ = pack_layer(tree, file, layer_id=layer, root=root)
            self._storage.put_file(f"{folder}/{layer}.tar.zst", path, move=True)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)
        return pack

    def fetch(self, job: WorkerJob) -> Snapshot | None:
        """Bring the snapshot of a job's earlier dispatch to this machine; None where there is none, or not all of it.

        The layers stay for as long as work that uses them is under way, or a note names them.

        Raises:
            DamagedEntryError: what is stored of it is damaged.
            LayerError: this machine cannot take it.
        """
        folder = _folder(job.namespace, job.flow_id, job.execution_id, job.task.id, job.task_run_id)
        manifest = self._read(folder)
        if manifest is None:
            return None
        snapshot, pool = manifest.snapshot, self._layers.pool
        packs = {pack.id: (pack, _object(folder, pack.id)) for pack in manifest.packs}
        entry = snapshot.entry
        if entry is not None:
            for pack in entry.layers:
                packs.setdefault(pack.id, (pack, self._caches.object_uri(entry.key, pack.id)))
        for layer in snapshot.layers:
            if pool.has(layer):
                continue
            if layer not in packs:
                return None
            try:
                self._fetch(*packs[layer])
            except NotFoundError:
                return None  # of a cache that was saved anew
        return snapshot

    def _fetch(self, pack: PackedTree, uri: str) -> None:
        from tercel.layers.packs import unpack_layer  # noqa: PLC0415  # only where snapshots are stored

        def fill(tree: str) -> Facts:
            with self._storage.get(uri) as source:
                unpack_layer(source, tree, pack)
            return Facts(pack.files, pack.bytes)

        self._layers.fetch(pack.id, fill)

    def _read(self, folder: str) -> _Manifest | None:
        try:
            with self._storage.get(format_uri(f"{folder}/{_MANIFEST}")) as stream:
                text = stream.read()
        except NotFoundError:
            return None
        try:
            return msgspec.json.decode(text, type=_Manifest)
        except msgspec.DecodeError as error:
            raise DamagedEntryError(f"The stored snapshot {folder}/{_MANIFEST} cannot be read: {error}.") from error


def _folder(namespace: str, flow_id: str, execution_id: str, task_id: str, task_run_id: str) -> str:
    return f"{task_run_path(namespace, flow_id, execution_id, task_id, task_run_id)}/layers"


def _object(folder: str, layer: str) -> str:
    return format_uri(f"{folder}/{layer}.tar.zst")
