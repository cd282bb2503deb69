"""core.http.*: Request, Download and Trigger; no retries of their own, as the flow's `retry` is for that."""

from tercel.plugins.http.download import Download
from tercel.plugins.http.request import Request
from tercel.plugins.http.trigger import Trigger

__all__ = ["Download", "Request", "Trigger"]
