"""How the API of a server is set up."""

import msgspec

from tercel.api.login import Login


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How the API is set up.

    Attributes:
        login: who may use it.
        tenant: the one that there is.
        context_path: what stands before all addresses, such as `/kestra`; empty for nothing.
        is_local: only this machine reaches it: as long as nobody has to sign in, requests that name another host are
            refused.
        allowed_origins: other web pages, such as `https://tools.example`, that may use the API from a browser.
        most_body_bytes: the longest body that is kept in memory.
        most_upload_bytes: the longest form, with its files.
        url: the address by which people reach the server; empty where it is not known.
        system_namespace: where flows of the system are.
        logs_requests: say a line for each request.
    """

    login: Login
    tenant: str = "main"
    context_path: str = ""
    is_local: bool = False
    allowed_origins: tuple[str, ...] = ()
    most_body_bytes: int = 64 * 1024 * 1024
    most_upload_bytes: int = 10 * 1024 * 1024 * 1024
    url: str = ""
    system_namespace: str = "system"
    logs_requests: bool = False
