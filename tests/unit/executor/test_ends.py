import pytest

from tercel.errors import StorageError
from tercel.executor.ends import Ends
from tests.builders import an_execution

ENDED = an_execution("CREATED", "SUCCESS")


class TestEnds:
    def test_given_promises_then_all_of_that_execution_are_kept_with_its_end(self) -> None:
        ends = Ends()
        promises = [ends.promise("execution") for _ in range(2)]
        other = ends.promise("other")

        ends.tell("execution", ENDED)

        assert [promise.result() for promise in promises] == [ENDED, ENDED]
        assert not other.is_done

    def test_given_it_has_just_ended_then_a_promise_is_kept_at_once(self) -> None:
        ends = Ends()
        ends.tell("execution", ENDED)

        assert ends.promise("execution").result() is ENDED

    def test_given_it_goes_on_then_its_next_end_is_promised(self) -> None:
        ends = Ends()
        ends.tell("execution", ENDED)
        ends.goes_on("execution")
        ends.goes_on("never heard of")

        assert not ends.promise("execution").is_done

    def test_given_an_error_then_it_is_told_and_not_remembered(self) -> None:
        ends = Ends()
        promise = ends.promise("execution")

        ends.tell("execution", StorageError("The disk is full."))

        with pytest.raises(StorageError, match="disk is full"):
            promise.result()
        assert not ends.promise("execution").is_done

    def test_given_nobody_will_be_told_any_more_then_all_who_wait_are_told_why(self) -> None:
        ends = Ends()
        promises = [ends.promise(name) for name in ("a", "b")]

        ends.fail(StorageError("The disk is full."))

        for promise in promises:
            with pytest.raises(StorageError, match="disk is full"):
                promise.result()

    def test_given_a_promise_that_nobody_waits_for_then_only_that_one_is_forgotten(self) -> None:
        ends = Ends()
        forgotten, waited_for = ends.promise("execution"), ends.promise("execution")

        ends.forget("execution", forgotten)
        ends.forget("execution", forgotten)
        ends.tell("execution", ENDED)

        assert not forgotten.is_done
        assert waited_for.is_done

    def test_given_many_ends_then_the_oldest_are_not_remembered(self) -> None:
        ends = Ends()
        for number in range(1000):
            ends.tell(str(number), an_execution("CREATED", "SUCCESS", id=str(number)))

        assert not ends.promise("0").is_done
        assert ends.promise("999").is_done
