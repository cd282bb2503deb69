"""The rules, pure: what happens next. `advance` is the whole interface; the rest is what it takes and gives."""

from tercel.machine.flowable import Decision, ExecutableTask, FlowableTask, Lanes, Render, Request, Requests
from tercel.machine.index import FlowIndex, Place, compile_flow
from tercel.machine.limits import next_attempt_at
from tercel.machine.live import LiveExecution
from tercel.machine.replay import copies_for_replay
from tercel.machine.restart import can_restart, misfits
from tercel.machine.step import Change
from tercel.machine.transition import advance
from tercel.machine.variables import child_variables, task_run_variables, variables

__all__ = [
    "Change",
    "Decision",
    "ExecutableTask",
    "FlowIndex",
    "FlowableTask",
    "Lanes",
    "LiveExecution",
    "Place",
    "Render",
    "Request",
    "Requests",
    "advance",
    "can_restart",
    "child_variables",
    "compile_flow",
    "copies_for_replay",
    "misfits",
    "next_attempt_at",
    "task_run_variables",
    "variables",
]
