"""What people do with executions: kill, pause, resume, restart, replay, and change them."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import cast

from msgspec.structs import replace

from tercel.errors import ConflictError, InvalidInputError, NotFoundError, UserError
from tercel.executor import retry_id
from tercel.machine import can_restart, copies_for_replay, misfits
from tercel.machine.messages import (
    Event,
    ForceRunRequested,
    KillRequested,
    LabelsSet,
    PauseRequested,
    ReplayRequested,
    RestartRequested,
    ResumeRequested,
    StatusChanged,
    TaskStateChanged,
)
from tercel.model.execution import Execution, TaskRun
from tercel.model.input_types import Input
from tercel.model.inputs import ResolvedInput
from tercel.model.key_values import is_key
from tercel.model.labels import label_problems
from tercel.model.state import State, StateChange
from tercel.operations.starts import Upload, input_value, new_execution_id
from tercel.operations.webhooks import Webhooks
from tercel.storage import execution_path
from tercel.store import StaleExecutionError


class Operations(Webhooks):
    """What can be done, for the command line and the API alike; each verb is a coroutine.

    Attributes:
        take_over: goes on here with those executions that dead processes left open; a server sets it. None in a process
            that goes on with nothing but what it was started for.
    """

    take_over: Callable[[Collection[str]], object] | None = None

    async def kill(self, execution_id: str, *, cascade: bool = True) -> None:
        """Ask an execution to end; one that has ended stays as it is. Raises NotFoundError.

        With *cascade* the executions that it started end, too. Raises ConflictError where it is another process's.
        """
        try:
            await self._apply(execution_id, KillRequested(now=self._clock(), cascade=cascade))
        except StaleExecutionError as error:
            raise _elsewhere(execution_id) from error

    async def kill_all(self, execution_ids: Sequence[str], *, cascade: bool = True) -> list[str]:
        """As `kill`, for many at once; gives those that were asked, without such as are gone or another process's."""
        now = self._clock()
        self._take_over(execution_ids)
        promises = [(one, self._executor.apply(one, KillRequested(now=now, cascade=cascade))) for one in execution_ids]
        asked: list[str] = []
        for execution_id, promise in promises:
            with suppress(NotFoundError, StaleExecutionError):
                await promise
                asked.append(execution_id)
        return asked

    async def pause(self, execution_id: str) -> Execution:
        """Have an execution start nothing more until it is resumed; what runs goes on to its end.

        Raises NotFoundError, and UserError where it does not run.
        """
        return await self._ask(
            execution_id, PauseRequested(now=self._clock()), "paused", (State.RUNNING, State.RETRYING)
        )

    async def resume(
        self,
        execution_id: str,
        inputs: Mapping[str, object] | None = None,
        *,
        task_run_id: str | None = None,
        uploads: Mapping[str, Upload] | None = None,
    ) -> Execution:
        """Have a paused execution go on.

        Args:
            execution_id: of an execution in PAUSED.
            inputs: what the Pause asks for by `onResume`.
            task_run_id: the paused task run; the one that paused first where None.
            uploads: files that were sent, for inputs of type FILE.

        Returns:
            The execution as it goes on.

        Raises:
            NotFoundError: no such execution.
            InvalidInputError: naming every input that does not fit.
            UserError: it is not paused.
        """
        event = await self._resumption(execution_id, inputs, task_run_id, uploads)
        return await self._ask(execution_id, event, "resumed", (State.PAUSED,))

    async def check_resume(
        self, execution_id: str, inputs: Mapping[str, object] | None = None, *, task_run_id: str | None = None
    ) -> None:
        """Raise what `resume` would of these inputs, and change nothing."""
        await self._resumption(execution_id, inputs, task_run_id)

    async def examine_resume(
        self, execution_id: str, inputs: Mapping[str, object], uploads: Mapping[str, str] | None = None
    ) -> list[ResolvedInput]:
        """What would become of each input that a paused execution asks for; *uploads* as for `examine_start`.

        Raises NotFoundError, and ConflictError where it is not paused.
        """
        execution = await self._store.executions.get(execution_id, reveal=True)
        if execution.state is not State.PAUSED:
            raise ConflictError(f"The execution {execution_id} cannot be resumed: it is {execution.state}.")
        _, asked = await self._asked(execution, None)
        return self._examine(asked, execution, inputs, uploads or {})

    async def resume_inputs(self, execution_id: str) -> Sequence[Input]:
        """What a paused execution asks for when it is resumed; nothing where it is not. Raises NotFoundError."""
        return (await self._asked(await self._store.executions.get(execution_id), None))[1]

    async def _asked(self, execution: Execution, task_run_id: str | None) -> tuple[TaskRun | None, Sequence[Input]]:
        """The task run that paused first, or the one asked for, and what it asks for when it is resumed."""
        runs = await self._store.executions.task_runs(execution.id)
        paused = [run for run in runs if run.state is State.PAUSED and task_run_id in (None, run.id)]
        if not paused:
            return None, ()
        first = min(paused, key=lambda run: run.history[-1].date)
        flow = await self._flows.find(execution.namespace, execution.flow_id, execution.revision)
        return first, cast("Sequence[Input]", getattr(flow.places[first.task_id].task, "on_resume", ()))

    async def _resumption(
        self,
        execution_id: str,
        inputs: Mapping[str, object] | None,
        task_run_id: str | None,
        uploads: Mapping[str, Upload] | None = None,
    ) -> ResumeRequested:
        """The event that has a paused execution go on. Raises NotFoundError and InvalidInputError."""
        execution = await self._store.executions.get(execution_id, reveal=True)
        paused, asked = await self._asked(execution, task_run_id)
        outputs: dict[str, object] = {}
        if paused is not None and (asked or inputs):
            with self._stored_uploads(asked, execution, uploads) as stored:
                outputs["onResume"] = self._resolve(asked, execution, {**(inputs or {}), **stored})
        run_id = task_run_id if paused is None else paused.id
        return ResumeRequested(now=self._clock(), run_id=run_id, outputs=outputs)

    async def force_run(self, execution_id: str) -> Execution:
        """Have an execution go on without waiting for its time, its turn or a person.

        Raises NotFoundError, and UserError where it waits for nothing of these.
        """
        states = (State.CREATED, State.QUEUED, State.PAUSED)
        return await self._ask(execution_id, ForceRunRequested(now=self._clock()), "forced to run", states)

    async def set_labels(self, execution_id: str, labels: Mapping[str, str]) -> Execution:
        """Give labels to an execution; they replace those with the same key.

        Raises NotFoundError, and InvalidInputError for tercel's own.
        """
        problem = next(label_problems(labels), None)
        if problem is not None:
            raise InvalidInputError(problem.message, problem.hint)
        try:
            await self._apply(execution_id, LabelsSet(now=self._clock(), labels=labels))
        except StaleExecutionError as error:
            raise _elsewhere(execution_id) from error
        return await self._store.executions.get(execution_id)

    async def change_status(self, execution_id: str, state: State) -> Execution:
        """Give an execution that has ended another final state. Raises NotFoundError and UserError."""
        refuse_unless_final(state)
        return await self._ask(execution_id, StatusChanged(now=self._clock(), state=state), "changed", _ENDS)

    async def change_task_state(self, execution_id: str, task_run_id: str, state: State) -> Execution:
        """Give a task run of an execution that has ended another final state; the execution goes on after it.

        Raises:
            NotFoundError: no such execution.
            UserError: the execution has not ended, it has no such task run, or that one is in the state already.
        """
        refuse_unless_final(state)
        execution = await self._store.executions.get(execution_id)
        event = TaskStateChanged(now=self._clock(), run_id=task_run_id, state=state, attempt=execution.attempt_number)
        if not execution.is_open:
            runs = {run.id: run for run in await self._store.executions.task_runs(execution_id)}
            run = runs.get(task_run_id)
            if run is None:
                raise _no_run(execution_id, task_run_id)
            if run.state is state:
                raise ConflictError(f"The task run {task_run_id} of the execution {execution_id} is {state} already.")
        return await self._ask(execution_id, event, "changed", _ENDS)

    async def _ask(self, execution_id: str, event: Event, what: str, states: Sequence[State]) -> Execution:
        """Apply an event that has to fit, and give the execution as it is then."""
        try:
            await self._apply(execution_id, event)
        except StaleExecutionError as error:
            execution = await self._store.executions.get(execution_id)
            possible = ", ".join(states[:-1]) + f" or {states[-1]}" if len(states) > 1 else states[0]
            raise ConflictError(
                f"The execution {execution_id} cannot be {what}: it is {execution.state}.",
                f"Only one in {possible} can be, and only by the process that it belongs to.",
            ) from error
        return await self._store.executions.get(execution_id)

    async def _apply(self, execution_id: str, event: Event) -> None:
        """Apply an event; a server takes the execution over first where a dead process left it open."""
        self._take_over([execution_id])
        await self._executor.apply(execution_id, event)

    def _take_over(self, execution_ids: Sequence[str]) -> None:
        if self.take_over is not None:
            unknown = [execution_id for execution_id in execution_ids if not self._executor.is_live(execution_id)]
            if unknown:
                self.take_over(unknown)

    async def replay(
        self,
        execution_id: str,
        *,
        task_run_id: str | None = None,
        revision: int | None = None,
        new_id: str | None = None,
        inputs: Mapping[str, object] | None = None,
        uploads: Mapping[str, Upload] | None = None,
    ) -> Execution:
        """Run an execution anew, as another one with the same inputs, labels and trigger.

        Args:
            execution_id: of the older one.
            task_run_id: begin at this task run, with what came before it as it was; from the start where None.
            revision: of the flow; the one that the older one ran where None.
            new_id: of the new one, for a caller that has to know it before; drawn where None.
            inputs: in place of those of the same ids; all others stay as they were.
            uploads: files that were sent, for inputs of type FILE; likewise.

        Returns:
            The new execution as it was saved.

        Raises:
            NotFoundError: no such execution or revision.
            InvalidInputError: naming every one of *inputs* that does not fit.
            UserError: it has no such task run, or what ran before it does not fit the revision.
        """
        old = await self._store.executions.get(execution_id, reveal=True)
        flow = await self._flows.find(old.namespace, old.flow_id, revision or old.revision)
        new = Execution(
            id=new_id or new_execution_id(),
            namespace=old.namespace,
            flow_id=old.flow_id,
            revision=flow.flow.revision,
            history=(StateChange(State.CREATED, self._clock()),),
            inputs=old.inputs,
            labels={**old.labels, "system.replay": "true"},
            variables=old.variables if task_run_id else {},
            has_variables=old.has_variables and task_run_id is not None,
            trigger=_without_parent(old.trigger),
            parent_id=old.id,
            original_id=old.original_id or old.id,
            from_scratch=True,
            kind=old.kind,
        )
        if inputs or uploads:
            declared = flow.flow.inputs
            before = {one.id: input_value(old.inputs, one.id) for one in declared}
            with self._stored_uploads(declared, new, uploads) as stored:
                new = replace(new, inputs=self._resolve(declared, new, {**before, **(inputs or {}), **stored}))
        if task_run_id is None:
            await self._executor.create(new)
            return new
        rows = {run.id: run for run in await self._store.executions.task_runs(execution_id, reveal=True)}
        if task_run_id not in rows:
            raise _no_run(execution_id, task_run_id)
        if flow.flow.revision != old.revision:
            before = await self._flows.find(old.namespace, old.flow_id, old.revision)
            found = misfits(before, flow, rows.values(), from_scratch=True)
            if found:
                raise _misfit(old, flow.flow.revision, found)
        copies = copies_for_replay(flow, rows, task_run_id, new.id)
        if copies is None:
            raise _misfit(old, flow.flow.revision, [f"the task {rows[task_run_id].task_id!r} is gone"])
        event = ReplayRequested(now=new.history[0].date, run_id=copies.target)
        await self._executor.create(new, runs=copies.runs, event=event)
        return new

    async def set_key_value(
        self,
        namespace: str,
        key: str,
        value: object,
        *,
        ttl: timedelta | None = None,
        overwrite: bool = True,
        description: str = "",
    ) -> None:
        """Store a value under a key of a namespace.

        Args:
            namespace: of the key.
            key: letters, digits, `.`, `-` and `_`, with a letter or digit first.
            value: with its type.
            ttl: how long it is kept; for good where None.
            overwrite: take the place of a value that is there.
            description: for readers.

        Raises:
            InvalidInputError: the key cannot be one, *ttl* is no time, or there is a value and *overwrite* is False.
        """
        if not is_key(key):
            raise InvalidInputError(
                f"{key!r} cannot be a key.", "Use letters, digits, '.', '-' and '_', with a letter or digit first."
            )
        if ttl is not None and ttl <= timedelta(0):
            raise InvalidInputError("A value cannot be kept for no time.", "Give a longer time, such as PT1H.")
        now = self._clock()
        try:
            expires_at = None if ttl is None else now + ttl
        except OverflowError:
            raise InvalidInputError("A value cannot be kept longer than time is.", "Leave the time out.") from None
        stored = await self._store.key_values.set(
            namespace, key, value, now=now, expires_at=expires_at, overwrite=overwrite, description=description
        )
        if not stored:
            raise InvalidInputError(f"The namespace {namespace} has the key {key!r} already.", "Overwrite it.")

    async def delete_key_value(self, namespace: str, key: str) -> None:
        """Remove a key and its value. Raises NotFoundError."""
        if not await self._store.key_values.delete(namespace, key, self._clock()):
            raise NotFoundError(f"The namespace {namespace} has no key {key!r}.")

    async def delete_key_values(self, namespace: str, keys: Iterable[str]) -> list[str]:
        """Remove keys and their values; gives those that were there."""
        now = self._clock()
        return [key for key in dict.fromkeys(keys) if await self._store.key_values.delete(namespace, key, now)]

    async def delete_execution(
        self, execution_id: str, *, logs: bool = True, metrics: bool = True, files: bool = True
    ) -> None:
        """Remove an execution that has ended with its task runs, and what else is wanted.

        Args:
            execution_id: of an execution that has ended.
            logs: its log, too.
            metrics: its metrics, too.
            files: what it has in internal storage, too.

        Raises:
            NotFoundError: no such execution.
            ConflictError: it has not ended.
        """
        execution = await self._store.executions.get(execution_id)
        if execution.is_open:
            raise ConflictError(f"The execution {execution_id} has not ended.", "Kill it first, or wait for its end.")
        await self._store.executions.delete([execution_id])
        if logs or metrics:
            await self._store.logs.delete([execution_id], lines=logs, metrics=metrics)
        if files:
            self.delete_files(execution)

    def delete_files(self, execution: Execution) -> int:
        """Remove what an execution has in internal storage; gives the number of files."""
        folder = execution_path(execution.namespace, execution.flow_id, execution.id)
        uris = [file.uri for file in self._storage.list(folder)]
        self._storage.delete(uris)
        return len(uris)

    async def restartable(self, execution_id: str) -> Execution:
        """An execution that can be restarted. Raises NotFoundError, and UserError where it cannot."""
        execution = await self._store.executions.get(execution_id)
        _refuse_unless_restartable(execution, await self._store.executions.task_runs(execution_id))
        return execution

    async def restart(self, execution_id: str, *, revision: int | None = None, from_scratch: bool = False) -> Execution:
        """Go on with an execution that ended badly, at what failed or was killed; what ended well stays.

        Args:
            execution_id: of an execution in FAILED, KILLED or CANCELLED, in WARNING with a task run that failed, or in
                PAUSED, where what is paused begins its wait anew.
            revision: of the flow, to go on with; the one that it ran where None.
            from_scratch: WorkingDirectories run again from their first child, not from the one that failed.

        Returns:
            The execution as it was restarted. It belongs to this process.

        Raises:
            NotFoundError: no such execution or revision.
            UserError: it has not ended, nothing of it failed, the revision does not fit to what ran, or somebody else
                was faster.
        """
        execution = await self.restartable(execution_id)
        if revision is None:
            revision = execution.revision
        if revision != execution.revision:
            await self._check_revision(execution, revision, from_scratch=from_scratch)
        event = RestartRequested(
            now=self._clock(), attempt=execution.attempt_number, revision=revision, from_scratch=from_scratch
        )
        try:
            await self._apply(execution_id, event)
        except StaleExecutionError as error:
            raise ConflictError(
                f"Somebody else has restarted the execution {execution_id} meanwhile.",
                f"`tercel execution show {execution_id}` tells how it stands.",
            ) from error
        return await self._store.executions.get(execution_id)

    async def _check_revision(self, execution: Execution, revision: int, *, from_scratch: bool) -> None:
        """Refuse a revision in which what has run has no place any more."""
        namespace, flow_id = execution.namespace, execution.flow_id
        new = await self._flows.find(namespace, flow_id, revision)
        old = await self._flows.find(namespace, flow_id, execution.revision)
        runs = await self._store.executions.task_runs(execution.id)
        found = misfits(old, new, runs, from_scratch=from_scratch)
        if found:
            raise _misfit(execution, revision, found)

    async def wait(self, execution_id: str) -> Execution:
        """Wait until an execution has ended, with what follows its end, and give it as it is then.

        One that is tried again by another execution has not ended before that one has, which is given then.
        Raises NotFoundError.
        """
        execution = await self.wait_for_end(execution_id)
        while execution.state is State.RETRIED:
            execution = await self.wait_for_end(retry_id(execution))
        return execution

    async def wait_for_end(self, execution_id: str) -> Execution:
        """As `wait`, but one that is tried again by another execution has ended."""
        ended = self._executor.ended(execution_id)
        try:
            if ended.is_done or self._executor.is_live(execution_id):
                return await ended
            execution = await self._store.executions.get(execution_id)
            return await ended if execution.is_open else execution
        finally:
            self._executor.forget(execution_id, ended)


def _refuse_unless_restartable(execution: Execution, runs: Sequence[TaskRun]) -> None:
    state = execution.state
    if state is State.PAUSED and not can_restart(execution, runs):
        raise ConflictError(
            f"The execution {execution.id} cannot be restarted: it was paused by hand.",
            f"`tercel execution resume {execution.id}` has it go on.",
        )
    if execution.is_open and state is not State.PAUSED:
        raise ConflictError(
            f"The execution {execution.id} cannot be restarted: it has not ended, it is {state}.",
            f"Wait for its end, or kill it. If its process is gone, `tercel execution recover {execution.id}` goes on.",
        )
    if not can_restart(execution, runs):
        raise UserError(
            f"The execution {execution.id} cannot be restarted: it ended in {state}, and none of its tasks failed.",
            "`tercel run` runs the flow anew.",
        )


def _elsewhere(execution_id: str) -> ConflictError:
    return ConflictError(
        f"The execution {execution_id} belongs to another process, or was changed meanwhile.",
        "Ask the process that it belongs to, or try again.",
    )


def _no_run(execution_id: str, task_run_id: str) -> UserError:
    return UserError(
        f"The execution {execution_id} has no task run {task_run_id}.",
        f"`tercel execution show {execution_id}` lists them.",
    )


def refuse_unless_final(state: State) -> None:
    """Raise UserError where an execution, or a task run, cannot be given *state* when it has ended."""
    if state not in _ENDS:
        names = ", ".join(_ENDS)
        raise UserError(f"{state} is no final state.", f"Final states are: {names}.")


def _misfit(execution: Execution, revision: int, found: Sequence[str]) -> UserError:
    name = f"{execution.namespace}.{execution.flow_id}"
    return UserError(
        f"The execution {execution.id} cannot go on with revision {revision} of {name}: there {_listed(found)}.",
        "Tasks that have run have to stay where they were, under their ids; all else may change.",
    )


def _without_parent(trigger: Mapping[str, object] | None) -> Mapping[str, object] | None:
    """A trigger without the task run that waits for the execution: a replay is nobody's child."""
    if trigger is None:
        return None
    return {name: value for name, value in trigger.items() if name not in ("taskRunId", "fence", "number")}


_ENDS = (State.SUCCESS, State.WARNING, State.FAILED, State.KILLED, State.CANCELLED)


def _listed(parts: Sequence[str]) -> str:
    return ", and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
