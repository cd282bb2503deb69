from hypothesis import given
from hypothesis import strategies as st

from tercel.model.execution import base62, task_run_id

PLACES = st.tuples(
    st.text(), st.none() | st.text(), st.text(), st.none() | st.text(), st.none() | st.integers(0, 10**6)
)


class TestTaskRunId:
    def test_given_a_place_then_its_id_is_fixed_for_ever(self) -> None:
        assert task_run_id("ex", None, "hello", None, None) == "05sWP9AJNzfjMeA0s3i00p"
        assert task_run_id("ex", "p", "hello", "é", 3) == task_run_id("ex", "p", "hello", "é", 3)

    @given(PLACES, PLACES)
    def test_given_two_places_then_their_ids_differ(
        self,
        one: tuple[str, str | None, str, str | None, int | None],
        other: tuple[str, str | None, str, str | None, int | None],
    ) -> None:
        assert (task_run_id(*one) == task_run_id(*other)) == (one == other)

    @given(PLACES)
    def test_given_any_place_then_the_id_is_22_letters_and_digits(
        self, place: tuple[str, str | None, str, str | None, int | None]
    ) -> None:
        written = task_run_id(*place)

        assert len(written) == 22
        assert written.isascii()
        assert written.isalnum()


class TestBase62:
    def test_given_numbers_then_digits_come_before_letters(self) -> None:
        assert [base62(number, 2) for number in (0, 9, 10, 36, 61, 62)] == ["00", "09", "0A", "0a", "0z", "10"]
