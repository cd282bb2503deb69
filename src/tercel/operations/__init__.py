"""The verbs that users have: save a flow, start it, kill an execution, look at what came of it.

The only place that draws ids. Everything here is a coroutine that awaits only the store's promises.
"""

from tercel.operations.actions import Operations, refuse_unless_final
from tercel.operations.flows import FlowChanges
from tercel.operations.queries import Queries, ReadFlow, RunningFlows
from tercel.operations.starts import RenderTyped, Upload, new_execution_id
from tercel.operations.webhooks import WebRequest

__all__ = [
    "FlowChanges",
    "Operations",
    "Queries",
    "ReadFlow",
    "RenderTyped",
    "RunningFlows",
    "Upload",
    "WebRequest",
    "new_execution_id",
    "refuse_unless_final",
]
