"""What starts executions by itself: dates, what workers find when they look, and what other executions do.

`Scheduler` is a service with a thread of its own; `FlowTriggers` answers the executor, which writes what it says in
the transaction of the change that it is about. Both know the flows that have triggers through `TriggeringFlows`.
"""

from tercel.scheduler.evaluations import EvaluatesTriggers
from tercel.scheduler.flow_triggers import FlowTriggers, PendingWindows, Reactions
from tercel.scheduler.flows import TriggeringFlows
from tercel.scheduler.plan import Backfill, Evaluation, backfill_of, evaluation_of, last_date_of, problem_of
from tercel.scheduler.service import Scheduler, Trial
from tercel.scheduler.starting import PreparesExecutions, Rendering, StartsExecutions

__all__ = [
    "Backfill",
    "EvaluatesTriggers",
    "Evaluation",
    "FlowTriggers",
    "PendingWindows",
    "PreparesExecutions",
    "Reactions",
    "Rendering",
    "Scheduler",
    "StartsExecutions",
    "Trial",
    "TriggeringFlows",
    "backfill_of",
    "evaluation_of",
    "last_date_of",
    "problem_of",
]
