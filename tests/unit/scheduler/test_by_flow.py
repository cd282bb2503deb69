from tercel.scheduler.by_flow import ByFlow

LOAD = ("company", "load")
DAILY, HOOK, OTHER = (*LOAD, "daily"), (*LOAD, "hook"), ("company", "other", "daily")


def test_given_values_then_they_are_found_by_trigger_and_by_flow() -> None:
    values = ByFlow({DAILY: 1, OTHER: 2})
    values[HOOK] = 3
    values[DAILY] = 4

    assert (values.get(DAILY), values[OTHER], values.get((*LOAD, "none"))) == (4, 2, None)
    assert values.of(LOAD) == {"daily": 4, "hook": 3}
    assert values.of(("company", "none")) == {}
    assert values.values() == [4, 2, 3]
    assert values.items() == [(DAILY, 4), (OTHER, 2), (HOOK, 3)]


def test_given_a_trigger_that_is_dropped_then_neither_it_nor_an_empty_flow_is_left() -> None:
    values = ByFlow({DAILY: None, HOOK: 1})

    for key in (DAILY, DAILY, OTHER):
        values.drop(key)

    assert DAILY not in values
    assert HOOK in values
    assert values.of(LOAD) == {"hook": 1}
    values.drop(HOOK)
    assert (values.items(), values.of(LOAD)) == ([], {})


def test_given_what_was_found_then_it_stays_as_it_is() -> None:
    values = ByFlow({DAILY: 1})
    found = values.of(LOAD), values.values(), values.items()

    values.drop(DAILY)

    assert found == ({"daily": 1}, [1], [(DAILY, 1)])
