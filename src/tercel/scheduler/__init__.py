"""What starts executions by itself: dates, and what other executions do.

`Scheduler` is a service with a thread of its own; `FlowTriggers` answers the executor, which writes what it says in
the transaction of the change that it is about. Both know the flows that have triggers through `TriggeringFlows`.
"""

from tercel.scheduler.flow_triggers import FlowTriggers, PendingWindows, Reactions
from tercel.scheduler.flows import TriggeringFlows
from tercel.scheduler.plan import Backfill, backfill_of
from tercel.scheduler.service import Scheduler
from tercel.scheduler.starting import PreparesExecutions, Rendering, StartsExecutions

__all__ = [
    "Backfill",
    "FlowTriggers",
    "PendingWindows",
    "PreparesExecutions",
    "Reactions",
    "Rendering",
    "Scheduler",
    "StartsExecutions",
    "TriggeringFlows",
    "backfill_of",
]
