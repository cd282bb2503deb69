"""The examples of docs/api.md, run against a real server: each works, and answers what the page says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.api_servers import CREDENTIALS, PASSWORD, USER, ApiServer
from tests.command_line import ROOT
from tests.tools import need

BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE | re.DOTALL)
MARK = "-- the next block --"


def test_given_the_page_then_its_examples_answer_what_it_says(tmp_path: Path) -> None:
    need("curl", "curl")
    need("jq", "jq")
    (tmp_path / "work").mkdir()
    examples = [text for language, text in BLOCKS if language == "bash"]
    expected = [
        json.loads(BLOCKS[number + 1][1]) if BLOCKS[number + 1][0] == "json" else None
        for number, (language, _) in enumerate(BLOCKS)
        if language == "bash"
    ]

    with ApiServer(tmp_path / "home", CREDENTIALS) as server:
        env = {**os.environ, "TERCEL": server.address, "LOGIN": f"{USER}:{PASSWORD}"}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"\necho '\n{MARK}'\n".join(examples)],
            cwd=tmp_path / "work",
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr}"
        for language, text in BLOCKS:
            if language == "python":
                told = subprocess.run(
                    [sys.executable, "-W", "ignore", "-c", text], env=env, capture_output=True, text=True, check=True
                )
                assert told.stdout.splitlines()[-1] == "SUCCESS"

    answers = done.stdout.split(MARK)
    assert len(answers) == len(examples) > 10
    for example, answer, wanted in zip(examples, answers, expected, strict=True):
        assert wanted is None or is_within(wanted, last_value(answer)), f"{example}\ngives {answer}"


def last_value(text: str) -> Any:
    """The last JSON of what was printed."""
    decoder = json.JSONDecoder()
    found: Any = None
    for match in re.finditer(r"[{\[]", text):
        try:
            found, end = decoder.raw_decode(text, match.start())
        except ValueError:
            continue
        if not text[end:].strip():
            return found
    return found


def is_within(wanted: Any, found: Any) -> bool:
    """What the page shows may leave members out."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(is_within(one, found.get(name)) for name, one in wanted.items())
    return wanted == found
