"""A short day of twenty flows whose server is killed again and again: every start is accounted for, each once."""

from pathlib import Path

from tests.end_to_end.day import run_day


def test_given_a_server_killed_again_and_again_then_every_start_is_there_once_and_whole(tmp_path: Path) -> None:
    report = run_day(tmp_path, day_s=36, kill_every_s=8, seed=1)

    assert report.problems == [], str(report)
    assert report.counts["flows"] == 20
    assert report.counts["kills"] >= 3
    for kind in ("Schedule", "Webhook", "http.Trigger", "trigger.Flow", "Subflow"):
        assert report.counts[f"started by {kind}"] >= 10, str(report)
