"""`/prometheus`: what was counted and what waits, as Prometheus reads it."""

from starlette.responses import Response

from tercel.api.answers import text_answer
from tercel.api.call import Call
from tercel.api.routing import Route

_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def page(call: Call) -> Response:
    """What was counted, and what waits."""
    return text_answer(call.meters.page(call.engine.load), _TYPE)


ROUTES = (Route(method="GET", path="/prometheus", answer=page, is_outside=True, is_management=True),)
