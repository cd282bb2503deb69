"""By addresses, which no name has to be looked up for; names are in tests/integration/test_http_guard.py."""

from __future__ import annotations

import pytest

from tercel.errors import TaskFailedError
from tercel.plugins.http.guard import Guard


class TestAddresses:
    def test_given_nothing_denied_then_all_may_be_connected_to(self) -> None:
        assert Guard((), ()).addresses("127.0.0.1", 80) == ["127.0.0.1"]

    def test_given_a_denied_address_then_it_says_which_rule_and_how_to_mend(self) -> None:
        with pytest.raises(TaskFailedError) as caught:
            Guard(("metadata", "10.0.0.0/8"), ()).addresses("10.1.2.3", 80)

        assert str(caught.value) == (
            "HTTP tasks may not reach 10.1.2.3: the rule '10.0.0.0/8' denies it. "
            "An administrator can allow it by the setting TERCEL_HTTP_ALLOW."
        )

    def test_given_it_allowed_too_then_that_wins(self) -> None:
        guard = Guard(("all",), ("10.1.0.0/16",))

        assert guard.addresses("10.1.2.3", 80) == ["10.1.2.3"]
        with pytest.raises(TaskFailedError):
            guard.addresses("10.2.2.3", 80)

    def test_given_a_host_denied_by_name_then_nothing_is_looked_up(self) -> None:
        with pytest.raises(TaskFailedError, match=r"may not reach metadata\.google\.internal: the rule 'metadata'"):
            Guard(("metadata",), ("all",)).addresses("metadata.google.internal", 80)


class TestBehindProxy:
    def test_given_a_denied_address_then_no_proxy_is_asked_for_it(self) -> None:
        with pytest.raises(TaskFailedError, match="the rule 'private'"):
            Guard(("private",), ()).check_behind_proxy("10.1.2.3", 443)

    def test_given_an_allowed_one_then_it_is(self) -> None:
        Guard(("private",), ("10.1.2.3",)).check_behind_proxy("10.1.2.3", 443)
