"""Functions: pure ones, those on the context, nested renders, and services."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tercel.errors import ExpressionError, InvariantError, MissingError, NotFoundError, StorageError
from tercel.expression import render

CONTEXT: dict[str, object] = {
    "v": None,
    "n": 5,
    "key": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "envs": {"foo": "bar", "empty": ""},
    "task": {"id": "inner"},
    "taskrun": {"value": "b", "iteration": 1},
    "parents": [
        {"task": {"id": "each"}, "taskrun": {"value": "p1"}},
        {"task": {"id": "top"}, "taskrun": {"value": "p0"}},
    ],
    "outputs": {
        "inner": {"x": {"value": "first"}, "y": {"value": "second"}},
        "deep": {"p0": {"p1": {"b": {"value": 7}}}},
        "each": {"p0": {"p1": {"v": 1}}},
        "top": {"p0": {"v": 9}},
    },
    "tasks": {"a": {"state": "FAILED"}, "b": {"x": {"state": "SUCCESS"}, "y": {"state": "FAILED"}}},
    "vars": {"greeting": "Hello {{ inputs.name }}", "loud": "{{ render(vars.greeting) | upper }}"},
    "inputs": {"name": "Ann"},
}


def _value(expression: str, **functions: Callable[..., object]) -> object:
    return render(f"{{{{ {expression} }}}}", CONTEXT, functions, mode="typed")


class TestPureFunctions:
    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("max(1, 2.5, n)", 5),
            ("min(3, 3.0)", 3),
            ("max()", None),
            ("range(1, 7, increment=3)", [1, 4, 7]),
            ("range('c', 'a', -1)", ["c", "b", "a"]),
            ("fromJson('[1] and more') | first", 1),
            ("fromIon('{a: 1}').a", 1),
            ("yaml('a: [yes, 010]').a", [True, 8]),
            ("fromJson(v) ?? fromIon(v) ?? yaml(v) ?? 'null'", "null"),
            ("isWeekend('2024-03-09')", True),
            ("dayOfWeek('2024-03-09')", "SATURDAY"),
            ("isDateBetween('2024-03-09', '2024-03-01', '2024-04-01')", True),
        ],
    )
    def test_given_arguments_when_called_then_it_gives_the_value(self, expression: str, expected: object) -> None:
        assert _value(expression) == expected

    @pytest.mark.parametrize(
        ("expression", "message"),
        [
            ("max('a')", "The function `max` needs numbers, not text"),
            ("range(1, 2, 0)", "The argument `increment` of the function `range` is zero"),
            ("range('aa', 'b')", "The function `range` needs whole numbers or single letters, not text"),
            ("fromJson(5)", "The argument `json` of the function `fromJson` needs text, not a whole number"),
            ("render(n, 1)", "The argument `recursive` of the function `render` must be a boolean, not a whole number"),
            ("appLink()", "The function `appLink` is not available"),
            ("isPublicHoliday('2024-01-01')", "The function isPublicHoliday is not available"),
        ],
    )
    def test_given_wrong_arguments_when_called_then_the_error_names_function_and_argument(
        self, expression: str, message: str
    ) -> None:
        with pytest.raises(ExpressionError, match=message):
            _value(expression)


class TestContextFunctions:
    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("currentEachOutput(outputs.deep).value", 7),
            (
                "tasksWithState('failed')",
                [{"taskId": "a", "state": "FAILED"}, {"taskId": "b", "state": "FAILED", "value": "y"}],
            ),
            ("parentOutput().v", 1),
            ("parentOutput(0).v", 9),
            ("iterationOutput()", "first"),
            ("iterationOutput('inner', 1)", "second"),
            ("env('foo') ~ env('empty', 'd') ~ env(name='q', default='e')", "barde"),
            ("printContext().n + fetchContext().n", 10),
        ],
    )
    def test_given_a_loop_when_asked_then_the_function_finds_its_part(self, expression: str, expected: object) -> None:
        assert _value(expression) == expected

    def test_given_a_task_without_a_value_inside_a_loop_then_the_iteration_is_that_of_the_loop(self) -> None:
        around = [{"taskrun": {}, "outputs": {"b": 1}}, {"taskrun": {"value": "y"}}, {"taskrun": {"value": "x"}}]
        outputs = {"deep": {"x": {"y": {"v": 7}}}}
        seen = {"outputs": outputs, "parents": around, "taskrun": {"id": "1"}}

        assert render("{{ currentEachOutput(outputs.deep).v }}", seen, mode="typed") == 7

        with pytest.raises(ExpressionError, match="Unable to find `value` in `taskrun`"):
            render("{{ currentEachOutput(outputs.deep).v }}", {**seen, "parents": []})

    @pytest.mark.parametrize(
        ("expression", "message"),
        [
            (
                "currentEachOutput('x')",
                "The argument `outputs` of the function `currentEachOutput` must be a map, not text",
            ),
            ("parentOutput(5)", "The function `parentOutput` finds 2 parents only"),
            ("iterationOutput('inner', 7)", "The function `iterationOutput` finds no iteration 7"),
        ],
    )
    def test_given_nothing_to_find_when_asked_then_it_is_an_error(self, expression: str, message: str) -> None:
        with pytest.raises(ExpressionError, match=message):
            _value(expression)


class TestRender:
    @pytest.mark.parametrize(
        ("template", "expected"),
        [
            ("{{ render(vars.greeting) }}", "Hello Ann"),
            ("{{ render(vars.loud) }}", "HELLO ANN"),
            ("{{ renderOnce('{{ \"{{ n }}\" }}') }}{{ render('{{ \"{{ n }}\" }}') }}", "{{ n }}5"),
            ("{% for i in 1..2 %}{{ render('{{ i }}{{ loop.index }}') }}{% endfor %}", "1021"),
            ("{{ render({'{{ n }}': ['{{ n }}', n]}) }}", '{"5":["5",5]}'),
            ("{{ render('{% raw %}{{ n }}{% endraw %}') }}", "{{ n }}"),
        ],
    )
    def test_given_text_in_a_value_when_rendered_then_it_sees_the_same_names(
        self, template: str, expected: str
    ) -> None:
        assert render(template, CONTEXT) == expected

    def test_given_something_missing_inside_when_rendered_then_no_coalescing_takes_it(self) -> None:
        with pytest.raises(ExpressionError) as failure:
            render("{{ render(t) ?? 'd' }}", {"t": "a secret\n{{ nope }}"})

        assert not isinstance(failure.value, MissingError)
        assert failure.value.message == (
            "Unable to find `nope` (line 2 of the text given to `render`), "
            "in the expression `{{ render(t) ?? 'd' }}` at line 1."
        )

    @pytest.mark.parametrize("function", ["render", "renderOnce"])
    def test_given_recursive_mode_when_called_then_there_is_no_such_function(self, function: str) -> None:
        with pytest.raises(ExpressionError, match=f"Unknown function `{function}`"):
            render(f"{{{{ {function}('a') }}}}", {}, recursive=True)


class TestServices:
    def test_given_services_when_called_then_they_get_their_arguments_by_position(self) -> None:
        calls: list[tuple[str, tuple[object, ...]]] = []

        def service(name: str) -> Callable[..., object]:
            return lambda *arguments: calls.append((name, arguments))

        names = ("secret", "kv", "read", "file_uri", "is_file_empty", "http", "random_int", "nano_id")
        template = (
            "{{ secret('a') }}{{ secret('a', subkey='s') }}{{ kv('k') }}{{ kv('k', errorOnMissing=true) }}"
            "{{ read('f', 'ns') }}{{ fileURI('f') }}{{ fileEmpty('f') }}{{ http('u', body=n) }}{{ randomInt(1, 5) }}"
            "{{ nanoId() }}"
        )
        render(template, CONTEXT, {name: service(name) for name in names})

        assert calls == [
            ("secret", ("a",)),
            ("secret", ("a", None, "s")),
            ("kv", ("k",)),
            ("kv", ("k", None, True)),
            ("read", ("f", "ns")),
            ("file_uri", ("f",)),
            ("is_file_empty", ("f",)),
            ("http", ("u", None, None, 5)),
            ("random_int", (1, 5)),
            ("nano_id", (21,)),
        ]

    @pytest.mark.parametrize(
        "expression",
        [
            "secret('a')",
            "kv('a')",
            "now()",
            "uuid()",
            "id()",
            "errorLogs()",
            "randomPort()",
            "encrypt(key, 'a')",
            "http('u')",
        ],
    )
    def test_given_no_service_when_called_then_the_error_says_so(self, expression: str) -> None:
        name = expression.partition("(")[0]

        with pytest.raises(ExpressionError, match=f"The function `{name}` is not available here"):
            _value(expression)

    def test_given_a_service_that_refuses_when_called_then_its_reason_is_told(self) -> None:
        def refuse(path: str) -> object:
            raise StorageError("The path leaves the storage.", "Take the `..` out.")

        with pytest.raises(ExpressionError) as failure:
            _value("read('x')", read=refuse)

        assert failure.value.message == (
            "The function `read` fails: The path leaves the storage. Take the `..` out, "
            "in the expression `{{ read('x') }}` at line 1."
        )

    def test_given_a_service_that_breaks_when_called_then_no_python_error_escapes(self) -> None:
        def fail(*_: object) -> object:
            raise KeyError("the secret value")

        with pytest.raises(ExpressionError) as failure:
            _value("secret('x')", secret=fail)

        assert "the secret value" not in str(failure.value)

    def test_given_a_mistake_of_ours_when_called_then_it_is_not_hidden(self) -> None:
        def fail(*_: object) -> object:
            raise InvariantError("This cannot be.")

        with pytest.raises(InvariantError):
            _value("secret('x')", secret=fail)

    def test_given_a_missing_key_when_the_service_gives_none_then_it_is_null(self) -> None:
        assert _value("kv('x') ?? 'd'", kv=lambda key: None) == "d"

    def test_given_a_refusal_when_coalesced_then_it_is_not_caught(self) -> None:
        def refuse(key: str) -> object:
            raise NotFoundError(f"There is no secret {key}.")

        with pytest.raises(ExpressionError, match="There is no secret NOPE"):
            _value("secret('NOPE') ?? 'd'", secret=refuse)

    @pytest.mark.parametrize(
        ("expression", "message"),
        [
            ("read(5)", "The argument `path` of the function `read` needs text, not a whole number"),
            ("fileURI('../x')", "The argument `path` of the function `fileURI` must not hold `../`"),
            ("fileSize('')", "The argument `path` of the function `fileSize` is empty"),
            ("randomInt(5, 1)", "The argument `upper` of the function `randomInt` must be more than `lower`"),
            ("nanoId(100000)", "The argument `length` of the function `nanoId` must be from 1 to 1000"),
            ("decrypt('*', 'a')", "The argument `encrypted` of the function `decrypt` must be Base64"),
            ("decrypt(key, 'YWJj')", "The function `decrypt` fails: the key does not fit"),
        ],
    )
    def test_given_wrong_arguments_when_called_then_the_service_is_not_asked(
        self, expression: str, message: str
    ) -> None:
        with pytest.raises(ExpressionError, match=message):
            _value(expression)

    def test_given_a_clock_when_now_is_called_then_it_is_formatted_like_a_date(self) -> None:
        now = _value(
            "now('yyyy-MM-dd HH:mm', timeZone='Europe/Paris')", now=lambda: datetime(2024, 3, 5, 10, tzinfo=UTC)
        )

        assert now == "2024-03-05 11:00"

    def test_given_random_bytes_when_encrypted_then_decrypt_gives_the_text_back(self) -> None:
        assert _value("decrypt(key, encrypt(key, 'gehëim'))", random_bytes=bytes) == "gehëim"
