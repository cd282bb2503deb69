"""Labels: which keys are tercel's own, and which labels an execution starts with."""

from collections.abc import Collection, Iterable, Iterator, Mapping

from tercel.errors import InvalidInputError
from tercel.model.task import Problem

CORRELATION = "system.correlationId"
"""The label that executions share which have to do with each other; by itself the execution's own id."""

READ_ONLY = "system.readOnly"
"""The one label of tercel's that a flow may set for itself."""

_OWN = "system."


def label_problems(keys: Iterable[str], allowed: Collection[str] = ()) -> Iterator[Problem]:
    """One problem for each of *keys* that is tercel's own and not *allowed*, at `labels.<key>` of the part."""
    for key in keys:
        if key.startswith(_OWN) and key not in allowed:
            message = f"The label '{key}' is reserved: tercel itself sets labels that begin with '{_OWN}'."
            yield Problem(message, "Choose another key.", "label.system", ("labels", key))


def execution_labels(
    flow: Mapping[str, str],
    *given: Mapping[str, str],
    execution_id: str,
    system: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The labels that a new execution starts with.

    Args:
        flow: those of the flow; tercel's own among them stay there.
        given: those of whoever creates it, of the trigger, of a backfill. Of several with the same key the first
            counts, the flow's before all of them.
        execution_id: what `system.correlationId` says where nobody says it.
        system: what tercel itself sets, or hands down to a subflow.

    Raises:
        InvalidInputError: naming every one of *given* that is tercel's own; only `system.correlationId` may be given.

    Example:
        >>> execution_labels({"team": "a", "system.readOnly": "true"}, {"team": "b", "day": "1"}, execution_id="x")
        {'team': 'a', 'day': '1', 'system.correlationId': 'x'}
    """
    refused = [key for labels in given for key in labels if key.startswith(_OWN) and key != CORRELATION]
    if refused:
        names = ", ".join(dict.fromkeys(refused))
        message = f"The label {names} is" if len(set(refused)) == 1 else f"The labels {names} are"
        raise InvalidInputError(f"{message} tercel's own.", f"Only {CORRELATION} may be given at a start.")
    own = {key: value for key, value in flow.items() if not key.startswith(_OWN)}
    labels: dict[str, str] = {}
    for source in (own, *given, system or {}, {CORRELATION: execution_id}):
        for key, value in source.items():
            labels.setdefault(key, value)
    return labels
