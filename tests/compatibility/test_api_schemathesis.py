"""The description of the API is true: a short, repeatable run of schemathesis; `api_schemathesis` runs for longer."""

from __future__ import annotations

from pathlib import Path

from tests.api_servers import CREDENTIALS, ApiServer
from tests.compatibility.api_schemathesis import check


def test_given_the_description_then_every_endpoint_answers_as_it_says(tmp_path: Path) -> None:
    with ApiServer(tmp_path, CREDENTIALS) as server:
        found = check(server, seed=0, examples=4)

    assert not found.problems, found.problems
    assert found.calls > 500
