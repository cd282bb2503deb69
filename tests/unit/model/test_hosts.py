from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercel.model.hosts import NAMED_NETWORKS, HostRules


class TestHostRules:
    @pytest.mark.parametrize(
        ("rule", "address"),
        [
            ("metadata", "169.254.169.254"),
            ("metadata", "::ffff:169.254.169.254"),
            ("metadata", "64:ff9b::a9fe:a9fe"),
            ("metadata", "fd00:ec2::254"),
            ("loopback", "127.3.2.1"),
            ("loopback", "::1"),
            ("loopback", "0.0.0.0"),
            ("loopback", "::"),
            ("loopback", "2002:7f00:1::"),
            ("link-local", "169.254.1.1"),
            ("link-local", "fe80::1%eth0"),
            ("private", "10.0.0.1"),
            ("private", "172.31.255.255"),
            ("private", "192.168.1.1"),
            ("private", "100.64.0.1"),
            ("private", "fd12::1"),
            ("all", "8.8.8.8"),
            ("all", "2001:db8::1"),
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3/8", "10.200.0.1"),
            ("2001:DB8::/32", "2001:db8:1::1"),
            ("2001:db8::1", "2001:db8::1"),
        ],
    )
    def test_given_an_address_that_a_rule_means_then_the_rule_is_told(self, rule: str, address: str) -> None:
        assert HostRules(["192.0.2.1", rule]).rule_for_address(address) == rule

    @pytest.mark.parametrize(
        ("rule", "address"),
        [
            ("metadata", "169.254.169.253"),
            ("loopback", "128.0.0.1"),
            ("private", "172.32.0.1"),
            ("private", "127.0.0.1"),
            ("private", "11.0.0.1"),
            ("10.1.2.3", "10.1.2.4"),
            ("10.0.0.0/8", "2001:db8::1"),
            ("2001:db8::/32", "10.0.0.1"),
            ("::/96", "10.0.0.1"),
            ("none", "127.0.0.1"),
            ("example.org", "127.0.0.1"),
        ],
    )
    def test_given_another_address_then_no_rule_is(self, rule: str, address: str) -> None:
        assert HostRules([rule]).rule_for_address(address) is None

    @pytest.mark.parametrize(
        ("rule", "host"),
        [
            ("example.org", "Example.ORG"),
            ("example.org", "example.org."),
            ("*.example.org", "a.b.example.org"),
            ("metadata", "metadata.google.internal"),
            ("loopback", "LocalHost"),
            ("loopback", "x.localhost"),
            ("wiki", "wiki"),
            ("my_host-1", "my_host-1"),
        ],
    )
    def test_given_a_host_that_a_rule_means_then_the_rule_is_told(self, rule: str, host: str) -> None:
        assert HostRules(["other", rule]).rule_for_host(host) == rule

    @pytest.mark.parametrize(
        ("rule", "host"),
        [
            ("*.example.org", "example.org"),
            ("*.example.org", "badexample.org"),
            ("example.org", "a.example.org"),
            ("127.0.0.1", "localhost"),
            ("none", "none"),
            ("private", "private"),
        ],
    )
    def test_given_another_host_then_no_rule_is(self, rule: str, host: str) -> None:
        assert HostRules([rule]).rule_for_host(host) is None

    @pytest.mark.parametrize(
        "text", ["10.0.0.300", "10.0.0.0/33", "a b", "-x", "http://x", "*", "*.", "x.*", "1.2", ""]
    )
    def test_given_something_else_then_it_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="a list of networks, addresses, hosts"):
            HostRules([text])

    @given(address=st.ip_addresses(v=4))
    def test_given_any_address_then_its_disguises_are_treated_alike(self, address: object) -> None:
        number = int(address)  # type: ignore[call-overload]
        rules = [HostRules([word]) for word in NAMED_NETWORKS]

        told = [rule.rule_for_address(str(address)) for rule in rules]

        assert [rule.rule_for_address(f"::ffff:{address}") for rule in rules] == told
        assert [rule.rule_for_address(f"64:ff9b::{number >> 16:x}:{number & 0xFFFF:x}") for rule in rules] == told
