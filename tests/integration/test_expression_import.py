"""What importing the expression language loads."""

import subprocess
import sys

HEAVY = ("regex", "yaml", "babel", "json", "inspect", "dataclasses", "asyncio", "threading", "random", "msgspec")


def _loaded(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(ended.stdout.split())


def test_given_a_fresh_interpreter_when_expressions_are_imported_then_nothing_heavy_is_loaded() -> None:
    added = _loaded("import tercel.expression") - _loaded("pass")

    assert "tercel.expression" in added
    assert added.isdisjoint(HEAVY)
