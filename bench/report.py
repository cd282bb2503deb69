"""What the benchmarks share: a figure as one line of JSON, compared with its floor and its target, and timing."""

import json
import time
from collections.abc import Callable


def report(
    name: str,
    value: float,
    unit: str = "s",
    *,
    floor: float | None = None,
    target: float | None = None,
    target_ratio: float | None = None,
) -> None:
    """Print a figure; where there is a target for the value and one for the ratio, a second line has the ratio's.

    Args:
        name: of the figure; the second line is called `<name>.ratio`.
        value: what was measured. A rate, whose unit ends in `/s`, has to reach its target, all else to stay within it.
        unit: of *value* and *floor*.
        floor: the least that anything could take, measured in the same run.
        target: for *value*.
        target_ratio: for *value* over *floor*.
    """
    ratio = None if not floor else value / floor
    row = {"name": name, "value": round(value, 5), "unit": unit, "floor": floor and round(floor, 5)}
    row["ratio"] = ratio and round(ratio, 3)
    if target is not None or target_ratio is None:
        met = None if target is None else (value >= target if unit.endswith("/s") else value <= target)
        print(json.dumps({**row, "target": target, "target_of": "value", "met": met}), flush=True)
        row["name"] = f"{name}.ratio"
    if target_ratio is not None:
        assert ratio is not None
        met = ratio <= target_ratio
        print(json.dumps({**row, "target": target_ratio, "target_of": "ratio", "met": met}), flush=True)


def as_text(row: dict[str, object]) -> str:
    """A line of `report` for people: name, value, ratio to its floor, target, and whether it is met."""
    over = "" if row["ratio"] is None else f"{row['ratio']:.2f} × floor {row['floor']:g}"
    verdict = ""
    if row["target"] is not None:
        sign = "≥" if str(row["unit"]).endswith("/s") else "≤"
        times = " ×" if row["target_of"] == "ratio" else ""
        verdict = f"target {sign} {row['target']:g}{times}: {'met' if row['met'] else 'MISSED'}"
    return f"{row['name']!s:<46} {row['value']:>10g} {row['unit']!s:<12} {over:<26} {verdict}".rstrip()


def timed(action: Callable[[], object]) -> float:
    """Seconds that *action* takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
