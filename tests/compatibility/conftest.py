"""The desk of a home of its own."""

from __future__ import annotations

import pytest

from tests.desks import Desk
from tests.homes import Home


@pytest.fixture
def desk(home: Home) -> Desk:
    return Desk(home)
