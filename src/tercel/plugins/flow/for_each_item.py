"""ForEachItem: runs a flow for each batch of a file's items."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Annotated, cast

import msgspec

from tercel.errors import UserError
from tercel.expression.ion import ion_row
from tercel.item_files import split_items
from tercel.machine.flowable import FlowableTask, RendersRequests, Request, Requests
from tercel.model.catalog import plugin
from tercel.model.execution import task_run_id
from tercel.model.size import parse_count, parse_size
from tercel.model.state import State
from tercel.model.task import Dynamic, Labels, Part, Task
from tercel.plugin_api import Outputs, RunContext, RunnableTask
from tercel.plugins.flow.subflow import StartsFlow

_TYPE = "io.kestra.plugin.core.flow.ForEachItem"


class Batch(Part, frozen=True, kw_only=True):
    """How items are put together; of several ways `bytes` counts before `partitions`, and that before `rows`.

    Attributes:
        rows: items in a batch.
        partitions: number of batches.
        bytes: size of a batch, such as 10MB.
        separator: what stands between two items.
    """

    rows: Annotated[int, msgspec.Meta(ge=1)] | Dynamic | None = None
    partitions: Annotated[int, msgspec.Meta(ge=1)] | Dynamic | None = None
    bytes: Dynamic | None = None
    separator: Dynamic = "\n"


@plugin(_TYPE, aliases=["io.kestra.core.tasks.flows.ForEachItem"])
class ForEachItem(FlowableTask, frozen=True, kw_only=True):
    """Split a file of items into batches, and run a flow for each of them.

    In `inputs` and the like `{{ taskrun.items }}` is the address of the batch, `{{ taskrun.iteration }}` its number
    from 1. It does its work by three task runs inside: `<id>_split`, `<id>_items` and `<id>_merge`.

    Attributes:
        items: address of the file, in internal storage.
        batch: how items are put together; each alone without it.
        namespace: of the flow.
        flow_id: of the flow.
        revision: of the flow; the latest without one.
        inputs: for the flow.
        labels: for its executions, on top of the flow's.
        inherit_labels: they get the labels of this execution, too.
        wait: end with them; otherwise as soon as they are started.
        transmit_failed: end in the worst of their states; otherwise in SUCCESS.
        schedule_date: they start then.

    Example:
        tasks:
          - id: names
            type: io.kestra.plugin.core.storage.Write
            extension: .txt
            content: |
              Ada
              Grace
              Edith
          - id: greet
            type: io.kestra.plugin.core.flow.ForEachItem
            items: "{{ outputs.names.uri }}"
            batch:
              rows: 2
            namespace: company.team
            flowId: greet
            inputs:
              name: "{{ read(taskrun.items) | trim }}"
    """

    items: Dynamic
    batch: Batch = Batch()
    namespace: Dynamic
    flow_id: Dynamic
    revision: int | Dynamic | None = None
    inputs: dict[str, object] = {}
    labels: Labels = {}
    inherit_labels: bool = False
    wait: bool = True
    transmit_failed: bool = True
    schedule_date: Dynamic | None = None

    def branches(self) -> Mapping[str, Sequence[Task]]:
        """Split, start, merge."""
        items = ItemFlows(
            id=f"{self.id}_items",
            type=f"{_TYPE}$ForEachItemExecutable",
            splits=f"{self.id}_split",
            namespace=self.namespace,
            flow_id=self.flow_id,
            revision=self.revision,
            inputs=self.inputs,
            labels=self.labels,
            inherit_labels=self.inherit_labels,
            wait=self.wait,
            transmit_failed=self.transmit_failed,
            schedule_date=self.schedule_date,
        )
        split = SplitItems(id=items.splits, type=f"{_TYPE}$ForEachItemSplit", items=self.items, batch=self.batch)
        merge = MergeOutputs(id=f"{self.id}_merge", type=f"{_TYPE}$ForEachItemMergeOutputs", started_by=items.id)
        return {"tasks": [split, items, merge] if self.wait else [split, items]}


class SplitItems(RunnableTask, frozen=True, kw_only=True):
    """Splits the file.

    Outputs:
        splits: address of a file with the address of each batch, one in a line.
    """

    items: Dynamic
    batch: Batch

    def run(self, context: RunContext) -> Outputs:
        """Split."""
        uri = context.render(self.items).strip()
        if not uri.startswith("kestra://"):
            raise UserError(
                f"The `items` of a ForEachItem have to be the address of a file, not {uri[:100]!r}.",
                "Give the output of a task that stores a file, such as `{{ outputs.query.uri }}`.",
            )
        batch = self.batch
        size = None if batch.bytes is None else parse_size(context.render(batch.bytes))
        partitions = None if size else self._number("partitions", batch.partitions, context)
        rows = None if size or partitions else self._number("rows", batch.rows, context) or 1
        uris = split_items(
            context,
            uri,
            rows=rows,
            partitions=partitions,
            size_bytes=size,
            separator=context.render(batch.separator),
            name="bulk",
        )
        listed = "".join(f"{one}\n" for one in uris)
        return Outputs(splits=context.save_stream(BytesIO(listed.encode()), "splits.txt"))

    def _number(self, name: str, written: object, context: RunContext) -> int | None:
        text = context.render(written) if isinstance(written, str) else written
        if text is None or text == "":
            return None
        try:
            return parse_count(str(text))
        except ValueError:
            raise UserError(f"`batch.{name}` is {text!r}, not a whole number above zero.") from None


class ItemFlows(StartsFlow, frozen=True, kw_only=True):
    """Starts the executions.

    Attributes:
        splits: id of the task that split the file.

    Outputs:
        numberOfBatches: how many.
        iterations: how many executions there are in each state.
        subflowOutputsBaseUri: where their outputs are.
    """

    splits: str

    def requests(self, context: RendersRequests) -> Requests:
        """One for each batch."""
        split = _output_of(context.variables, self.splits)
        with context.open_file(str(split["splits"])) as listed:
            uris = listed.read().decode().split("\n")[:-1]
        taskrun = cast("Mapping[str, object]", context.variables["taskrun"])

        def one(index: int) -> Request:
            extra = {"taskrun": {**taskrun, "items": uris[index], "iteration": index + 1}}
            return self.request(context, extra)

        return Requests(len(uris), one)

    def started(self, ids: Sequence[str], total: int, base_uri: str) -> Mapping[str, object]:
        """How many batches."""
        del ids
        return {"numberOfBatches": total, "iterations": {}, "subflowOutputsBaseUri": base_uri}

    def counted(
        self,
        outputs: Mapping[str, object],
        states: Mapping[str, int],
        ended: State,
        child_outputs: Mapping[str, object],
    ) -> Mapping[str, object]:
        """How many have ended, by state."""
        del ended, child_outputs
        return {**outputs, "iterations": dict(states)}


class MergeOutputs(RunnableTask, frozen=True, kw_only=True):
    """Puts the outputs of the executions into one file.

    Attributes:
        started_by: id of the task that started them.

    Outputs:
        subflowOutputs: address of a file with the outputs of each, as Ion, one in a line.
    """

    started_by: str

    def run(self, context: RunContext) -> Outputs:
        """Put together."""
        taskrun = cast("Mapping[str, str]", context.variables["taskrun"])
        execution = cast("Mapping[str, str]", context.variables["execution"])
        run_id = task_run_id(execution["id"], taskrun["parentId"], self.started_by, None, None)
        path = context.engine_directory / "outputs.ion"
        with path.open("w", encoding="utf-8") as merged:
            for outputs in context.engine.subflow_outputs(execution["id"], run_id):
                merged.write(f"{ion_row(outputs)}\n")
        return Outputs(subflowOutputs=context.save_file(path, "outputs.ion"))


def _output_of(variables: Mapping[str, object], task_id: str) -> Mapping[str, object]:
    """The outputs of a sibling, inside however many loops."""
    at = cast("Mapping[str, object]", variables["outputs"])[task_id]
    for parent in reversed(cast("Sequence[Mapping[str, Mapping[str, object]]]", variables.get("parents", ()))):
        value = parent["taskrun"].get("value")
        if value is not None:
            at = cast("Mapping[str, object]", at)[str(value)]
    return cast("Mapping[str, object]", at)
