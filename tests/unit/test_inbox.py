from datetime import UTC, datetime, timedelta
from threading import Timer
from time import monotonic

from tercel.inbox import PATIENCE_S, Inbox, Letter
from tercel.machine.messages import ExecutionTimerDue, KillRequested, TimerDue
from tests.builders import a_task_run, an_execution

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def a_letter(execution_id: str) -> Letter:
    return Letter(execution_id, KillRequested(now=NOON))


class TestInbox:
    def test_given_letters_then_all_are_taken_at_once_and_in_order(self) -> None:
        inbox = Inbox(lambda: NOON)
        for name in ("a", "b", "c"):
            inbox.put(a_letter(name), is_urgent=name == "c")

        assert inbox.wait()
        assert [letter.execution_id for letter in inbox.take()] == ["a", "b", "c"]
        assert inbox.take() == []

    def test_given_only_a_patient_letter_then_it_waits_for_others_but_not_for_long(self) -> None:
        inbox = Inbox(lambda: NOON)
        inbox.put(a_letter("a"), is_urgent=False)
        began = monotonic()

        assert inbox.wait()

        assert PATIENCE_S / 2 < monotonic() - began < 5
        assert len(inbox.take()) == 1

    def test_given_a_timer_then_it_is_taken_when_due_and_not_before(self) -> None:
        now = [NOON]
        inbox = Inbox(lambda: now[0])
        due = NOON + timedelta(seconds=1)
        inbox.set_timers([a_task_run(id="run", execution_id="x", due=due, fence=3), a_task_run(due=None)])

        assert inbox.take() == []
        now[0] = due
        assert inbox.wait()
        [letter] = inbox.take()

        assert (letter.execution_id, letter.event) == ("x", TimerDue(now=due, run_id="run", fence=3))

    def test_given_a_timer_of_an_execution_then_it_is_taken_when_due(self) -> None:
        now = [NOON]
        inbox = Inbox(lambda: now[0])
        inbox.set_timer(an_execution(id="x", due=NOON + timedelta(seconds=1)))
        inbox.set_timer(an_execution(id="none"))

        assert inbox.take() == []
        now[0] += timedelta(seconds=1)
        [letter] = inbox.take()

        assert (letter.execution_id, letter.event) == ("x", ExecutionTimerDue(now=now[0]))

    def test_given_timers_of_both_kinds_then_the_earlier_comes_first(self) -> None:
        now = [NOON]
        inbox = Inbox(lambda: now[0])
        inbox.set_timers([a_task_run(id="run", execution_id="late", due=NOON + timedelta(seconds=2))])
        inbox.set_timer(an_execution(id="early", due=NOON + timedelta(seconds=1)))

        now[0] += timedelta(seconds=3)

        assert [letter.execution_id for letter in inbox.take()] == ["early", "late"]

    def test_given_a_letter_for_later_then_it_is_brought_at_that_time(self) -> None:
        now = [NOON]
        inbox = Inbox(lambda: now[0])
        for name, seconds in (("b", 2), ("a", 1), ("c", 2)):
            inbox.at(NOON + timedelta(seconds=seconds), a_letter(name))

        assert inbox.take() == []
        now[0] += timedelta(seconds=1)
        assert inbox.wait()
        assert [letter.execution_id for letter in inbox.take()] == ["a"]
        now[0] += timedelta(seconds=1)

        assert sorted(letter.execution_id for letter in inbox.take()) == ["b", "c"]

    def test_given_only_a_letter_for_later_then_it_is_waited_for(self) -> None:
        inbox = Inbox(lambda: datetime.now(UTC))
        inbox.at(datetime.now(UTC) + timedelta(seconds=0.02), a_letter("a"))

        assert inbox.wait()

        assert [letter.execution_id for letter in inbox.take()] == ["a"]

    def test_given_many_letters_then_some_are_left_for_the_next_transaction(self) -> None:
        inbox = Inbox(lambda: NOON)
        for number in range(2500):
            inbox.put(a_letter(str(number)))

        assert [len(inbox.take()), inbox.wait(), len(inbox.take())] == [2000, True, 500]

    def test_given_letters_then_they_bring_along_what_they_were_given(self) -> None:
        execution, runs = an_execution(), [a_task_run()]
        letter = Letter("x", KillRequested(now=NOON), None, execution, runs)

        assert (letter.created, letter.runs, letter.is_admitted) == (execution, runs, False)

    def test_given_it_is_closed_then_the_reader_gets_the_rest_and_stops(self) -> None:
        inbox = Inbox(lambda: NOON)
        timer = Timer(0.01, inbox.close)
        timer.start()

        assert not inbox.wait()
        inbox.put(a_letter("late"), is_urgent=False)
        assert inbox.wait()
        assert [letter.execution_id for letter in inbox.drain()] == ["late"]
        assert not inbox.wait()
        timer.join()
