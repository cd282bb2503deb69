"""Which web pages may use the API from a browser, and under which names the server may be called. Pure."""

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from tercel.api.options import Options
from tercel.api.problems import RequestError

_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})
_METHODS = "GET, POST, PUT, PATCH, DELETE"


def check_origin(method: str, headers: Mapping[str, str], options: Options) -> None:
    """Refuse what a foreign web page has a browser send.

    A page of somebody else can send requests to a server of this machine, with the credentials that the browser knows,
    and by a name of its own that leads here it could even read the answers.

    Raises:
        RequestError: 403.
    """
    host = headers.get("host", "")
    is_anybodys = options.is_local and not options.login.is_required
    if is_anybodys and _name(host) not in _OWN_NAMES and not _name(host).endswith(".localhost"):
        raise RequestError(
            403,
            f"This server is only for its own machine, and is not called {host!r}.",
            hint="Call it localhost, or configure a login.",
        )
    origin = headers.get("origin")
    if origin is None or method in _HARMLESS or is_allowed(origin, options.allowed_origins):
        return
    if urlsplit(origin).netloc.lower() != host.lower() or not host:
        raise RequestError(403, f"Pages of {origin!r} may not change anything here.", hint="Allow that origin.")


def is_allowed(origin: str, allowed: Collection[str]) -> bool:
    """Say whether pages of *origin* may use the API."""
    return origin.rstrip("/").lower() in {one.rstrip("/").lower() for one in allowed}


def origin_headers(method: str, headers: Mapping[str, str], options: Options) -> dict[str, str]:
    """What tells a browser that a page of an allowed origin may use the answer; empty for all others."""
    origin = headers.get("origin")
    if origin is None or not is_allowed(origin, options.allowed_origins):
        return {}
    found = {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Expose-Headers": "Content-Disposition",
        "Vary": "Origin",
    }
    if method == "OPTIONS":
        found["Access-Control-Allow-Methods"] = _METHODS
        found["Access-Control-Allow-Headers"] = headers.get("access-control-request-headers", "")
        found["Access-Control-Max-Age"] = "600"
    return found


def _name(host: str) -> str:
    """A host without its port."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower()
