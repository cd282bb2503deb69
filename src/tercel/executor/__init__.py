"""Applies events to executions: a batch of them, the machine's answers, rows and jobs, in one transaction."""

from tercel.executor.children import StartChild, last_try, open_children, parent_of, retry_id
from tercel.executor.executor import Executor
from tercel.executor.skips import Skips
from tercel.executor.work import FindFlow, FunctionsOf, PlanRequests, RunInline, Watcher

__all__ = [
    "Executor",
    "FindFlow",
    "FunctionsOf",
    "PlanRequests",
    "RunInline",
    "Skips",
    "StartChild",
    "Watcher",
    "last_try",
    "open_children",
    "parent_of",
    "retry_id",
]
