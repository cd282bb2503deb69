"""Tasks on logs that were written: Fetch, PurgeLogs."""

from collections.abc import Iterator
from datetime import UTC, datetime

from tercel.expression.ion import ion_row
from tercel.item_files import stream_of
from tercel.plugin_api import (
    Dynamic,
    LogEntry,
    LogLevel,
    Outputs,
    Problem,
    RunContext,
    RunnableTask,
    TaskFailedError,
    plugin,
)

_CHECK_EVERY = 1000


@plugin("io.kestra.plugin.core.log.Fetch", aliases=["io.kestra.core.tasks.log.Fetch"])
class Fetch(RunnableTask, frozen=True, kw_only=True):
    """Write the log of an execution to a file, a row for each line.

    Attributes:
        execution_id: the execution; the present one where absent.
        namespace: of its flow; to be given with `flowId` or not at all.
        flow_id: its flow.
        tasks_id: ids of tasks, for lines of these only.
        level: the least level of the lines.

    Outputs:
        uri: the file, rows in Ion.
        size: how many rows it has.

    Example:
        tasks:
          - id: work
            type: io.kestra.plugin.core.log.Log
            message: Something happened.
          - id: log
            type: io.kestra.plugin.core.log.Fetch
            tasksId:
              - work
            level: INFO
          - id: say
            type: io.kestra.plugin.core.log.Log
            message: "{{ read(outputs.log.uri) }}"
    """

    execution_id: Dynamic | None = None
    namespace: Dynamic | None = None
    flow_id: Dynamic | None = None
    tasks_id: list[Dynamic] = []
    level: LogLevel = LogLevel.INFO

    def problems(self) -> Iterator[Problem]:
        """Half of a flow's name."""
        if (self.namespace is None) is not (self.flow_id is None):
            missing = "namespace" if self.namespace is None else "flowId"
            yield Problem("'namespace' and 'flowId' name a flow together.", f"Add '{missing}', or remove the other.")

    def run(self, context: RunContext) -> Outputs:
        """Write the rows."""
        execution_id = context.render("{{ execution.id }}" if self.execution_id is None else self.execution_id)
        flow = self._flow(context, execution_id)
        entries = context.engine.logs(
            execution_id, task_ids=[context.render(id) for id in self.tasks_id], min_level=self.level
        )
        size = 0

        def rows() -> Iterator[bytes]:
            nonlocal size
            for number, entry in enumerate(entries):
                if number % _CHECK_EVERY == 0:
                    context.stop_if_killed()
                size = number + 1
                yield f"{ion_row(_row(entry, *flow))}\n".encode()

        uri = context.save_stream(stream_of(rows()), "logs.ion")
        context.logger.debug(f"Log lines fetched: {size}")
        return Outputs(uri=uri, size=size)

    def _flow(self, context: RunContext, execution_id: str) -> tuple[str, str]:
        """Namespace and id of the execution's flow."""
        if execution_id == context.render("{{ execution.id }}"):
            found = context.render("{{ flow.namespace }}"), context.render("{{ flow.id }}")
        else:
            found = context.engine.execution_flow(execution_id)
        if self.namespace is not None and self.flow_id is not None:
            given = context.render(self.namespace), context.render(self.flow_id)
            if given != found:
                raise TaskFailedError(
                    f"The execution {execution_id} is one of {found[0]}.{found[1]}, not of {given[0]}.{given[1]}."
                )
        return found


def _row(entry: LogEntry, namespace: str, flow_id: str) -> dict[str, object]:
    return {
        "namespace": namespace,
        "flowId": flow_id,
        "executionId": entry.execution_id,
        "taskId": entry.task_id,
        "taskRunId": entry.task_run_id,
        "attemptNumber": entry.attempt,
        "timestamp": entry.date.astimezone(UTC),
        "level": entry.level.value,
        "message": entry.message,
    }


@plugin("io.kestra.plugin.core.log.PurgeLogs")
class PurgeLogs(RunnableTask, frozen=True, kw_only=True):
    """Remove log lines for good.

    Attributes:
        namespace: those of flows in it and, without a `flowId`, below it; of all where absent.
        flow_id: those of one flow, in `namespace`.
        log_levels: those of these levels; of all where absent.
        start_date: those since this instant.
        end_date: those up to this instant.

    Outputs:
        count: how many were removed.

    Example:
        tasks:
          - id: purge
            type: io.kestra.plugin.core.log.PurgeLogs
            namespace: company.team
            logLevels:
              - TRACE
              - DEBUG
            endDate: "{{ now() | dateAdd(-7, 'DAYS') }}"
    """

    namespace: Dynamic | None = None
    flow_id: Dynamic | None = None
    log_levels: list[LogLevel] = []
    start_date: Dynamic | None = None
    end_date: Dynamic

    def problems(self) -> Iterator[Problem]:
        """A flow without its namespace."""
        if self.flow_id is not None and self.namespace is None:
            yield Problem("'flowId' stands without 'namespace'.", "Add the namespace of the flow.")

    def run(self, context: RunContext) -> Outputs:
        """Remove the lines."""
        end = _instant(context.render(self.end_date), "endDate")
        count = context.engine.purge_logs(
            namespace=None if self.namespace is None else context.render(self.namespace),
            flow_id=None if self.flow_id is None else context.render(self.flow_id),
            levels=self.log_levels,
            start=None if self.start_date is None else _instant(context.render(self.start_date), "startDate"),
            end=end,
        )
        context.logger.debug(f"Log lines removed: {count}")
        return Outputs(count=count)


def _instant(text: str, name: str) -> datetime:
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise TaskFailedError(
            f"'{name}' is {text!r}, which is no instant.", "Write it like 2030-01-31T12:00:00Z."
        ) from error
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
