"""Searches of executions as SQL: conditions to terms, orders to columns, labels to rows that an index knows."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from threading import Lock
from typing import Any, cast

from tercel.errors import InvariantError
from tercel.model.execution import Execution
from tercel.model.labels import CORRELATION
from tercel.model.search import AllOf, AnyOf, Condition, Operation, Where
from tercel.model.state import TERMINAL
from tercel.store.database import AMONG, listed
from tercel.store.rows import microseconds, without_nul

COLUMNS: Mapping[str, str] = {
    "id": "id",
    "namespace": "namespace",
    "flow_id": "flow_id",
    "revision": "revision",
    "state": "state",
    "created_at": "created_us",
    "ended_at": "ended_us",
    "duration": "ended_us - created_us",
    "trigger_id": "trigger_id",
    "caller_id": "caller_id",
    "parent_id": "parent_id",
    "kind": "kind",
}
"""What executions are searched and ordered by, as `ExecutionQuery` calls it; besides them there are `labels`."""

TERMINAL_STATES = "({})".format(", ".join(f"'{state}'" for state in sorted(TERMINAL)))
OPEN = f"(state NOT IN {TERMINAL_STATES} OR closing = 1)"
"""A condition: the execution is open. The migrations say it in the same words, or their indices would not be used."""

_LONGEST_KEY = 150
_LONGEST_VALUE = 400
_MOST_PLACEHOLDERS = 100
_MOST_KNOWN = 4096
_ORDERED = {
    Operation.EQUALS: "=",
    Operation.GREATER_THAN: ">",
    Operation.LESS_THAN: "<",
    Operation.GREATER_THAN_OR_EQUAL_TO: ">=",
    Operation.LESS_THAN_OR_EQUAL_TO: "<=",
}
_NEGATIVE = {
    Operation.NOT_EQUALS: Operation.EQUALS,
    Operation.NOT_IN: Operation.IN,
    Operation.NOT_CONTAINS: Operation.CONTAINS,
    Operation.IS_NULL: Operation.IS_NOT_NULL,
}
"""Operations that hold where another one does not; of nothing, too."""

Term = tuple[str, list[object]]
"""A term of a WHERE clause, and the values for its `?`."""


def where_term(where: Where) -> Term:
    """What has to hold, as a term. REGEX is none: whoever asks looks the values up first, by `Executions.values`."""
    match where:
        case AllOf():
            return _joined(" AND ", "1 = 1", map(where_term, where.parts))
        case AnyOf():
            return _joined(" OR ", "1 = 0", map(where_term, where.parts))
        case Condition(field="labels"):
            return _label_term(where)
        case Condition():
            return _column_term(COLUMNS[where.field], where.operation, where.value)


def order_by(order: Sequence[tuple[str, bool]]) -> str:
    """The columns of an ORDER BY; what is not there comes last, and of equal ones the newest first."""
    terms: list[str] = []
    for field, is_descending in order:
        column, direction = COLUMNS[field], " DESC" if is_descending else ""
        if field in {"ended_at", "duration"}:
            terms.append("ended_us IS NULL")
        terms.append(f"{column}{direction}")
    is_by_id = any(field == "id" for field, _ in order)
    return ", ".join(terms if is_by_id else [*terms, "id DESC"])


def _joined(word: str, without: str, terms: Iterable[Term]) -> Term:
    parts = list(terms)
    values = [value for _, given in parts for value in given]
    return (f"({word.join(sql for sql, _ in parts)})" if parts else without), values


def _column_term(column: str, operation: Operation, value: object) -> Term:
    if operation in _NEGATIVE:
        sql, values = _positive_term(column, _NEGATIVE[operation], value)
        return (f"{column} IS NULL" if operation is Operation.IS_NULL else f"({column} IS NULL OR NOT {sql})"), values
    return _positive_term(column, operation, value)


def _positive_term(column: str, operation: Operation, value: Any) -> Term:
    """A term that is false where the column is NULL."""
    if operation in _ORDERED:
        return f"({column} {_ORDERED[operation]} ?)", [_plain(value)]
    match operation:
        case Operation.IN:
            return _among(column, [_plain(one) for one in cast("Sequence[object]", value)])
        case Operation.STARTS_WITH:
            return f"(substr({column}, 1, ?) = ?)", [len(value), without_nul(value)]
        case Operation.ENDS_WITH:
            sql = f"(length({column}) >= ? AND substr({column}, length({column}) - ? + 1) = ?)"
            return sql, [len(value), len(value), without_nul(value)]
        case Operation.CONTAINS:
            return f"({column} LIKE ? ESCAPE '\\')", [f"%{_escaped(without_nul(value))}%"]
        case Operation.PREFIX:
            # A range, which an index knows, and a test that leaves out what lies between it and the first dot; by an OR
            # SQLite would read rows one by one.
            sql = f"({column} >= ? AND {column} < ? AND {column} || '.' >= ?)"
            return sql, [without_nul(value), without_nul(f"{value}/"), without_nul(f"{value}.")]
        case Operation.IS_NOT_NULL:
            return f"({column} IS NOT NULL)", []
        case _:
            message = f"{operation} is no operation of a database."
            raise InvariantError(message)


def _among(column: str, values: list[object]) -> Term:
    if not values:
        return "(1 = 0)", []
    if len(values) > _MOST_PLACEHOLDERS and all(isinstance(value, str) for value in values):
        return f"({column} IN {AMONG})", [listed(cast("list[str]", values))]
    return f"({column} IN ({', '.join('?' * len(values))}))", values


def _plain(value: object) -> object:
    """A value as the columns have it."""
    if isinstance(value, datetime):
        return microseconds(value)
    return without_nul(str(value)) if isinstance(value, str) else value


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _label_term(condition: Condition) -> Term:
    if condition.operation in _NEGATIVE:
        turned = Condition(
            field=condition.field,
            operation=_NEGATIVE[condition.operation],
            value=condition.value,
            key=condition.key,
        )
        sql, values = _label_term(turned)
        return f"(NOT {sql})", values
    key = _cut_key(condition.key)
    value = condition.value
    if condition.operation is Operation.EQUALS:
        value = _cut_value(value)
    sql, values = _positive_term("value", condition.operation, value)
    found = f"SELECT execution_id FROM execution_labels WHERE key = ? AND {sql}"
    if key != CORRELATION:
        return f"(id IN ({found}))", [key, *values]
    own, own_values = _positive_term("one.id", condition.operation, value)
    other = "EXISTS (SELECT 1 FROM execution_labels WHERE execution_id = one.id AND key = ?)"
    sql = f"(id IN ({found} UNION ALL SELECT one.id FROM executions AS one WHERE {own} AND NOT {other}))"
    return sql, [key, *values, *own_values, key]


def _cut_key(key: str) -> str:
    return without_nul(key)[:_LONGEST_KEY]


def _cut_value(value: str) -> str:
    return without_nul(value)[:_LONGEST_VALUE]


def label_rows(execution: Execution) -> list[tuple[str, str, str]]:
    """The rows of an execution's labels: its id, key and value."""
    rows = {
        _cut_key(key): _cut_value(value)
        for key, value in execution.labels.items()
        if key != CORRELATION or value != execution.id
    }
    return [(execution.id, key, value) for key, value in rows.items()]


class KnownLabels:
    """Which labels this process wrote last, so that a change of something else need not write them again.

    Versions tell whether somebody else has changed an execution since: a change names the version that it follows.
    """

    def __init__(self) -> None:
        self._guard = Lock()
        self._known: OrderedDict[str, tuple[int, Mapping[str, str]]] = OrderedDict()

    def are_written(self, execution: Execution, version: int) -> bool:
        """Say whether the labels are there already in *version*, which the execution's change follows."""
        return self._known.get(execution.id) == (version, execution.labels)

    def keep(self, executions: Iterable[Execution]) -> None:
        """Take note of what was committed."""
        with self._guard:
            for execution in executions:
                if execution.is_open:
                    self._known[execution.id] = execution.version, execution.labels
                    self._known.move_to_end(execution.id)
                else:
                    self._known.pop(execution.id, None)
            while len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
