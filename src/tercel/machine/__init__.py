"""The rules, pure: what happens next. `advance` is the whole interface; the rest is what it takes and gives."""

from tercel.machine.flowable import Decision, FlowableTask, Lanes, Render
from tercel.machine.index import FlowIndex, Place, compile_flow
from tercel.machine.limits import next_attempt_at
from tercel.machine.live import LiveExecution
from tercel.machine.restart import can_restart, misfits
from tercel.machine.step import Change
from tercel.machine.transition import advance
from tercel.machine.variables import child_variables, task_run_variables, variables

__all__ = [
    "Change",
    "Decision",
    "FlowIndex",
    "FlowableTask",
    "Lanes",
    "LiveExecution",
    "Place",
    "Render",
    "advance",
    "can_restart",
    "child_variables",
    "compile_flow",
    "misfits",
    "next_attempt_at",
    "task_run_variables",
    "variables",
]
