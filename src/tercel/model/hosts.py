"""Which hosts and addresses a list of rules means, such as `private, 10.1.2.3, *.corp.example`.

Pure: no name is looked up here.
"""

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

NAMED_NETWORKS: Mapping[str, tuple[str, ...]] = {
    # Where clouds hand a machine its own credentials; those of AWS, Azure, Alibaba, Oracle, and of containers there.
    "metadata": (
        *("169.254.169.254/32", "169.254.170.2/32", "169.254.170.23/32", "168.63.129.16/32", "100.100.100.200/32"),
        *("192.0.0.192/32", "fd00:ec2::254/128", "fd00:ec2::23/128", "fd20:ce::254/128"),
    ),
    "loopback": ("127.0.0.0/8", "::1/128", "0.0.0.0/8", "::/128"),  # whoever asks 0.0.0.0 reaches this machine
    "link-local": ("169.254.0.0/16", "fe80::/10"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"),
    "all": ("0.0.0.0/0", "::/0"),
}
"""What the words stand for."""

_NAMED_HOSTS: Mapping[str, tuple[str, ...]] = {
    "metadata": ("metadata.google.internal", "metadata.goog"),
    "loopback": ("localhost", "*.localhost"),
}
_HOST = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_EMBEDDING = IPv6Network("64:ff9b::/96")


class HostRules:
    """Networks, addresses and hosts.

    Args:
        texts: each a word of `NAMED_NETWORKS`, an address, a network such as 10.0.0.0/8, a host, or `*.example` for all
            hosts below it; `none` is nothing.

    Raises:
        ValueError: one of them is none of these.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._networks: list[tuple[str, IPv6Network]] = []
        self._hosts: list[tuple[str, str]] = []
        for text in texts:
            self._add(text)

    def _add(self, text: str) -> None:
        word = text.lower()
        if word == "none":
            return
        if word in NAMED_NETWORKS:
            self._networks += [(text, _as_ipv6(one)) for one in NAMED_NETWORKS[word]]
            self._hosts += [(text, one) for one in _NAMED_HOSTS.get(word, ())]
            return
        try:
            self._networks.append((text, _as_ipv6(word)))
        except ValueError:
            if not _HOST.fullmatch(word) or re.fullmatch(r"[0-9.]+", word):
                raise ValueError(
                    f"a list of networks, addresses, hosts, *.DOMAIN and {', '.join(NAMED_NETWORKS)}; {text!r} is none"
                ) from None
            self._hosts.append((text, word))

    def rule_for_host(self, host: str) -> str | None:
        """The rule that means a host by its name; None where none does.

        Example:
            >>> HostRules(["*.corp.example"]).rule_for_host("Wiki.corp.example.")
            '*.corp.example'
        """
        name = host.lower().rstrip(".")
        for text, one in self._hosts:
            if name == one or (one.startswith("*.") and name.endswith(one[1:])):
                return text
        return None

    def rule_for_address(self, address: str) -> str | None:
        """The rule that means an address, also where it is an IPv4 one in the guise of IPv6; None where none does.

        Example:
            >>> HostRules(["private"]).rule_for_address("::ffff:10.1.2.3")
            'private'
        """
        number = int(_unwrapped(ip_address(address.partition("%")[0])))
        for text, network in self._networks:
            if number & int(network.netmask) == int(network.network_address):
                return text
        return None


def _as_ipv6(text: str) -> IPv6Network:
    """A network, one of IPv4 in its mapped form, so that all compare alike."""
    network = ip_network(text, strict=False)
    if isinstance(network, IPv6Network):
        return network
    return IPv6Network((int(_mapped(network.network_address)), network.prefixlen + 96))


def _mapped(address: IPv4Address) -> IPv6Address:
    return IPv6Address(0xFFFF_0000_0000 | int(address))


def _unwrapped(address: Address) -> IPv6Address:
    if isinstance(address, IPv4Address):
        return _mapped(address)
    if address in _EMBEDDING:
        return _mapped(IPv4Address(int(address) & 0xFFFF_FFFF))
    return _mapped(address.sixtofour) if address.sixtofour is not None else address
