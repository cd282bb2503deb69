from __future__ import annotations

import pytest

from tests.unit.model.samples import issues, said, say


def told(retry: str) -> list[tuple[str, str, str]]:
    return [(issue.path, issue.code, issue.text.partition(": ")[2]) for issue in issues(say(f"retry: {retry}"))]


class TestRetry:
    @pytest.mark.parametrize(
        "retry",
        [
            "{type: constant, interval: PT1S}",
            "{type: constant, interval: PT1S, maxAttempts: 1, maxDuration: PT2S}",
            "{type: exponential, interval: PT1S, maxInterval: PT10S, delayFactor: 1.5}",
            "{type: random, minInterval: PT1S, maxInterval: PT10S, maxAttempt: 3}",
        ],
    )
    def test_given_what_each_type_needs_then_it_is_taken(self, retry: str) -> None:
        assert said(f"retry: {retry}").retry is not None

    @pytest.mark.parametrize(
        ("retry", "expected"),
        [
            ("{type: constant}", ("interval", "retry.constant",
             "A retry of type constant needs 'interval'. Add 'interval', such as PT30S.")),
            ("{type: constant, interval: PT0S}", ("interval", "retry.constant",
             "'interval' is not longer than nothing. Write a duration such as PT30S.")),
            ("{type: constant, interval: PT5S, maxDuration: PT5S}", ("maxDuration", "retry.constant",
             "'maxDuration' is not longer than 'interval'. Make 'maxDuration' longer.")),
            ("{type: exponential, interval: PT5S, maxInterval: PT5S}", ("maxInterval", "retry.exponential",
             "'maxInterval' is not longer than 'interval'. Make 'maxInterval' longer.")),
            ("{type: exponential, interval: PT5S, maxInterval: PT6S, maxDuration: PT4S}",
             ("maxDuration", "retry.exponential",
              "'maxDuration' is not longer than 'interval'. Make 'maxDuration' longer.")),
            ("{type: random, minInterval: PT5S, maxInterval: PT4S}", ("maxInterval", "retry.random",
             "'maxInterval' is not longer than 'minInterval'. Make 'maxInterval' longer.")),
            ("{type: constant, interval: PT1S, maxAttempts: 0}", ("maxAttempts", "retry.maxAttempt",
             "0 is less than 1. Accepted: a whole number.")),
            ("{type: constant, interval: PT1S, maxAttempt: 0}", ("maxAttempt", "retry.maxAttempt",
             "0 is less than 1. Accepted: a whole number.")),
            ("{type: Constant}", ("type", "property.type", "'Constant' is none of the values that may stand here. "
             "Did you mean constant? Accepted: constant, exponential, random.")),
        ],
    )  # fmt: skip
    def test_given_what_leaves_no_second_try_then_it_is_refused(
        self, retry: str, expected: tuple[str, str, str]
    ) -> None:
        name, code, text = expected

        assert told(retry) == [(f"tasks[0].retry.{name}", code, text)]


@pytest.mark.parametrize("name", ["a.b", "-a", "a b", "ä"])
def test_given_a_task_id_that_does_not_fit_then_it_is_refused(name: str) -> None:
    (told,) = issues(say().replace("id: a", f"id: '{name}'"))

    assert (told.path, told.code) == ("tasks[0].id", "task.id.pattern")
    assert told.message == f"'{name}' is not allowed here."
    assert told.hint == "Use letters, digits, '-' and '_', with a letter or digit first."


@pytest.mark.parametrize(
    ("group", "path", "code"),
    [
        ("{}", "key", "property.missing"),
        ("{key: a.b}", "key", "workerGroup.key.pattern"),
        ("{key: a, fallback: Wait}", "fallback", "property.type"),
    ],
)
def test_given_a_faulty_worker_group_then_it_is_refused(group: str, path: str, code: str) -> None:
    (told,) = issues(say(f"workerGroup: {group}"))

    assert (told.path, told.code) == (f"tasks[0].workerGroup.{path}", code)
