"""The REST API: what Kestra's clients send, answered by the verbs of `operations`.

Each module of a resource lists its routes as `ROUTES`; `create_app` joins them. Only `tercel server` imports this.
"""

from tercel.api import (
    configuration,
    evaluation,
    execution_actions,
    execution_bulk,
    execution_files,
    execution_following,
    execution_starts,
    executions,
    flow_bulk,
    flow_checks,
    flow_files,
    flows,
    graphs,
    key_values,
    logs,
    metrics,
    namespace_files,
    namespaces,
    openapi,
    overview,
    plugins,
    prometheus,
    triggers,
)
from tercel.api.application import Api
from tercel.api.call import Engine
from tercel.api.login import Login
from tercel.api.options import Options
from tercel.api.serving import HttpServer

__all__ = ["RESOURCES", "Api", "Engine", "HttpServer", "Login", "Options", "create_app"]

RESOURCES = (
    configuration,
    flows,
    flow_bulk,
    flow_checks,
    flow_files,
    triggers,
    key_values,
    logs,
    metrics,
    executions,
    execution_starts,
    execution_following,
    execution_actions,
    execution_bulk,
    execution_files,
    evaluation,
    graphs,
    namespaces,
    namespace_files,
    plugins,
    prometheus,
    overview,
    openapi,
)
"""Modules with `ROUTES`, in any order: the fixed words of a path win over its parameters."""


def create_app(engine: Engine, options: Options) -> Api:
    """The API of an engine, as an ASGI application.

    Args:
        engine: what does the work; it stays the caller's to close, after the application.
        options: how the API is set up.
    """
    return Api(engine, [route for resource in RESOURCES for route in resource.ROUTES], options)
