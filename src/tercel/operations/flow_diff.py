"""What has changed in a flow from one revision to another."""

from collections.abc import Sequence

from tercel.errors import NotFoundError
from tercel.store import FlowRevision


def choose_revisions(
    known: Sequence[FlowRevision], earlier: int | None = None, later: int | None = None
) -> tuple[FlowRevision, FlowRevision]:
    """The two revisions that are to be compared.

    Args:
        known: those that there are, oldest first; at least one.
        earlier: a revision; the one before *later* where None, and *later* itself where there is none before.
        later: a revision; the latest one where None.

    Raises:
        NotFoundError: one of them is not there.
    """
    new = known[-1] if later is None else find_revision(known, later)
    if earlier is not None:
        return find_revision(known, earlier), new
    return next((one for one in reversed(known) if one.revision < new.revision), new), new


def find_revision(known: Sequence[FlowRevision], revision: int) -> FlowRevision:
    """The revision of that number. Raises NotFoundError, which names those that are there."""
    for one in known:
        if one.revision == revision:
            return one
    name = f"{known[0].namespace}.{known[0].id}"
    raise NotFoundError(
        f"The flow {name} has no revision {revision}.",
        f"Its revisions are: {', '.join(str(one.revision) for one in known)}.",
    )


def changes_between(old: FlowRevision, new: FlowRevision) -> list[str]:
    """The lines of a unified diff of their sources; none where they are the same."""
    from difflib import unified_diff  # noqa: PLC0415  # seldom needed

    name = f"{new.namespace}.{new.id}"
    return list(
        unified_diff(
            old.source.splitlines(),
            new.source.splitlines(),
            f"{name}, revision {old.revision}",
            f"{name}, revision {new.revision}",
            lineterm="",
        )
    )
