"""Which addresses a worker's HTTP tasks may reach, as its administrator says, and the looking up of names."""

import socket
from collections.abc import Iterable

from tercel.model.hosts import HostRules
from tercel.plugin_api import TaskFailedError


class Guard:
    """Lets a request through to the addresses that no rule denies.

    Args:
        deny: rules as `HostRules` has them, of the setting `http.deny`.
        allow: the same; what they mean is let through whatever *deny* says, of the setting `http.allow`.
    """

    def __init__(self, deny: Iterable[str], allow: Iterable[str]) -> None:
        self._deny = HostRules(deny)
        self._allow = HostRules(allow)

    def addresses(self, host: str, port: int) -> list[str]:
        """The addresses of a host that may be connected to, best first, at least one.

        Raises:
            TaskFailedError: none of them may be.
            socket.gaierror: there is no such host.
        """
        is_allowed = self._is_host_allowed(host)
        found = self._looked_up(host, port)
        if is_allowed:
            return found
        denied = {address: rule for address in found if (rule := self._rule_for(address)) is not None}
        left = [address for address in found if address not in denied]
        if not left:
            raise _refusal(host, found[0], denied[found[0]])
        return left

    def check_behind_proxy(self, host: str, port: int) -> None:
        """Say whether a proxy may be asked for *host*: none of its addresses may be denied, as the proxy chooses.

        A host that this machine cannot look up is the proxy's to refuse.

        Raises:
            TaskFailedError: it may not.
        """
        if self._is_host_allowed(host):
            return
        try:
            found = self._looked_up(host, port)
        except OSError:
            return
        for address in found:
            rule = self._rule_for(address)
            if rule is not None:
                raise _refusal(host, address, rule)

    def _is_host_allowed(self, host: str) -> bool:
        if self._allow.rule_for_host(host) is not None:
            return True
        rule = self._deny.rule_for_host(host)
        if rule is not None:
            raise _refusal(host, host, rule)
        return False

    def _rule_for(self, address: str) -> str | None:
        return None if self._allow.rule_for_address(address) is not None else self._deny.rule_for_address(address)

    def _looked_up(self, host: str, port: int) -> list[str]:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


def _refusal(host: str, address: str, rule: str) -> TaskFailedError:
    at = "" if address == host else f" at {address}"
    return TaskFailedError(
        f"HTTP tasks may not reach {host}{at}: the rule {rule!r} denies it.",
        "An administrator can allow it by the setting TERCEL_HTTP_ALLOW.",
    )
