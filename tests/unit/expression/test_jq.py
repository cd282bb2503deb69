"""The jq language: results, errors and limits."""

import itertools
import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercel.errors import ExpressionError
from tercel.expression.budget import Budget
from tercel.expression.jq import run_jq


def run(program: str, value: object = None) -> list[object]:
    return run_jq(program, value, Budget())


class TestLanguage:
    # Results as jq 1.6 gives them.
    @pytest.mark.parametrize(
        ("program", "value", "results"),
        [
            ("", 1, [1]),
            (".[].uri", [{"uri": "a"}, {"uri": "b"}], ["a", "b"]),
            (".zz", {"a": 1}, [None]),
            (".a.b", {"a": {"b": "c"}}, ["c"]),
            ('."a b", .["a b"], ."a\\u0020b"', {"a b": 1}, [1, 1, 1]),
            (".[2:4], .[:-1], .[-2:]", "abcdef", ["cd", "abcde", "ef"]),
            (".[-1], .[5], .[1.7]", [0, 1, 2], [2, None, 1]),
            (".[(0,1):(2,3)]", [10, 20, 30], [[10, 20], [10, 20, 30], [20], [20, 30]]),
            ("..", [1, [2]], [[1, [2]], 1, [2], 2]),
            (".[]?, 1", 5, [1]),
            ("[(1,2) + (10,20)]", None, [[11, 12, 21, 22]]),
            ("[(true,false) and (true,false)]", None, [[True, False, False]]),
            ('1 // 2, (null // 3), (empty // 4), (error("x") // 6)', None, [1, 3, 4, 6]),
            (".a?//1", 5, [1]),
            ("-5 % 3, 5.9 % -2.1, 7 / 2, 6 / 2, 1 - 2 * 3", None, [-2, 1, 3.5, 3, -5]),
            ('"x" * 3, "x" * 0, {a:{b:1}} * {a:{c:2}}', None, ["xxx", None, {"a": {"b": 1, "c": 2}}]),
            ('"a,b" / ",", [1,2,1] - [1]', None, [["a", "b"], [2]]),
            ("{a:(1,2), b:(3,4)}", None, [{"a": a, "b": b} for a in (1, 2) for b in (3, 4)]),
            (
                '{user, title: .titles[], "x\\(1)": 2}',
                {"user": "u", "titles": ["t"]},
                [{"user": "u", "title": "t", "x1": 2}],
            ),
            (
                '1 as $v | {$v, $__loc__, ("k"): 3, if: 4}',
                None,
                [{"v": 1, "__loc__": {"file": "<top-level>", "line": 1}, "k": 3, "if": 4}],
            ),
            ('if .a > 1 then "big" elif .a then "some" else "none" end', {"a": 2}, ["big"]),
            ("[if (true,false) then 1 else 2 end]", None, [[1, 2]]),
            ("reduce .[] as [$a,$b] (0; . + $a * $b)", [[1, 2], [3, 4]], [14]),
            ("reduce (1,2,3) as $x (0; empty)", None, [None]),
            ("[foreach range(5) as $i (0; . + $i; [$i, .])]", None, [[[0, 0], [1, 1], [2, 3], [3, 6], [4, 10]]]),
            ("[foreach (1,2) as $x (0; . + $x, 10)]", None, [[1, 10, 12, 10]]),
            (". as {a: $x, b: [$c, {d: $y}]} | [$x, $c, $y]", {"a": 1, "b": [2, {"d": 3}]}, [[1, 2, 3]]),
            (". as {$a, b: [$c]} | [$a, $c]", {"a": 1}, [[1, None]]),
            (".[] as [$a] ?// $a | [$a]", [[1], 2], [[1], [2]]),
            ('.[] as [$a] ?// [$b] | if $a != null then error("e") else {$a, $b} end', [[3]], [{"a": None, "b": 3}]),
            ('try error({a: 1}) catch .a, try error("x") catch ., (.a.b)?', {"a": 1}, [1, "x"]),
            ("label $f | 1, break $f, 2", None, [1]),
            ("[label $a | label $b | 1, break $a, 2]", None, [[1]]),
            ("def f: def g: 3; g; f", None, [3]),
            ("def f($a; $b): [$a, $b]; f(1,2; 3,4)", None, [[1, 3], [1, 4], [2, 3], [2, 4]]),
            ("def f($x; g): $x + g + x; f(1; 2)", None, [4]),
            ("def f(g): g | g; 3 | f(. + 1)", None, [5]),
            ("def fac: if . <= 1 then 1 else . * (. - 1 | fac) end; 10 | fac", None, [3628800]),
            (
                "def fib: if . < 2 then . else (. - 1 | fib) + (. - 2 | fib) end; [range(10) | fib]",
                None,
                [[0, 1, 1, 2, 3, 5, 8, 13, 21, 34]],
            ),
            ("def x: 1; def f: x; def x: 2; [f, x]", None, [[1, 2]]),
            ('"\\(.a)-\\(.b | ascii_upcase) \\("q\\(1)")"', {"a": 1, "b": "x"}, ["1-X q1"]),
            ('"\\(1,2)-\\(3,4)"', None, ["1-3", "2-3", "1-4", "2-4"]),
            ("# note\n.a # more", {"a": 1}, [1]),
            ("$ENV, env", None, [{}, {}]),
            ("true, false, null, 1.0, 1e3, .5", None, [True, False, None, 1, 1000, 0.5]),
        ],
    )
    def test_given_a_program_then_its_results(self, program: str, value: object, results: list[object]) -> None:
        assert run(program, value) == results

    def test_given_numbers_that_only_pass_through_then_they_keep_their_form(self) -> None:
        value = [10.0, Decimal("1.50"), 123456789012345678901234]

        assert str(run(".[]", value)) == str(value)

    def test_given_calculated_numbers_then_whole_ones_are_integers(self) -> None:
        results = run("2 + 1, 0.5 + 0.5, 2 / 4, 9007199254740993 + 0, 9e18 * 9")

        assert [type(result) for result in results] == [int, int, float, int, float]
        assert results[3] == 9007199254740993


class TestPaths:
    @pytest.mark.parametrize(
        ("program", "value", "results"),
        [
            (".a.b.c = 1 | .x[2] = 1", {}, [{"a": {"b": {"c": 1}}, "x": [None, None, 1]}]),
            (".a = (1,2)", {}, [{"a": 1}, {"a": 2}]),
            (".a |= . + 1 | .b //= 3 | .c += 4", {"a": 1}, [{"a": 2, "b": 3, "c": 4}]),
            (".[1:] = [9], (.[-1:] |= map(. + 1)), del(.[0,2])", [1, 2, 3], [[1, 9], [1, 2, 4], [2]]),
            ("(.[] | select(. > 1)) |= empty", [1, 2, 3, 4], [[1]]),
            (".. |= (numbers |= . + 1)", [1, [2]], [[2, [3]]]),
            ("def inc(x): x |= . + 1; inc(.a, .b[])", {"a": 1, "b": [1]}, [{"a": 2, "b": [2]}]),
            (
                '[paths], [leaf_paths], [paths(type == "number")]',
                [1, [2]],
                [[[0], [1], [1, 0]], [[0], [1, 0]], [[0], [1, 0]]],
            ),
            ("path(first(.a, .b)), path(.a // .b), path(if .a then .a else .b end)", {"a": 1}, [["a"], ["a"], ["a"]]),
            ('path(getpath(["a", "b"])), path(.[1:]?), path(.a | recurse)', {"a": None}, [["a", "b"], ["a"]]),
            ('del(.a, .b), delpaths([["a"]]), to_entries', {"a": 1}, [{}, {}, [{"key": "a", "value": 1}]]),
            ('getpath(["a", 0, "b"]), setpath([0]; 1), pick(.a)', None, [None, [1], {"a": None}]),
            (
                "[tostream], fromstream(tostream)",
                {"a": [1, {}]},
                [[[["a", 0], 1], [["a", 1], {}], [["a", 1]], [["a"]]], {"a": [1, {}]}],
            ),
            ("[1 | truncate_stream([[0], 1], [[1, 0], 2], [[1, 0]], [[1]])]", None, [[[[0], 2], [[0]]]]),
        ],
    )
    def test_given_paths_then_parts_are_found_and_changed(
        self, program: str, value: object, results: list[object]
    ) -> None:
        assert run(program, value) == results

    def test_given_an_assignment_then_the_input_stays(self) -> None:
        value = {"a": [1, {"b": 2}]}

        run(".a[1].b = 5 | .a += [1] | del(.a[0])", value)

        assert value == {"a": [1, {"b": 2}]}


class TestBuiltins:
    @pytest.mark.parametrize(
        ("program", "value", "results"),
        [
            ("map(.n) | add", [{"n": 1}, {"n": 2}], [3]),
            (
                'keys, keys_unsorted, length, has("a","z"), add',
                {"b": 1, "a": 2},
                [["a", "b"], ["b", "a"], 2, True, False, 3],
            ),
            (
                "sort, unique, group_by(.), min, max, reverse, index(3), rindex(3), contains([3])",
                [3, 1, 3],
                [[1, 3, 3], [1, 3], [[1], [3, 3]], 1, 3, [3, 1, 3], 0, 2, True],
            ),
            (
                "sort_by(.a, .b), unique_by(.a), min_by(.b), max_by(.a)",
                [{"a": 1, "b": 2}, {"a": 1, "b": 1}],
                [[{"a": 1, "b": 1}, {"a": 1, "b": 2}], [{"a": 1, "b": 2}], {"a": 1, "b": 1}, {"a": 1, "b": 1}],
            ),
            ("sort", [{"a": 1}, [1], "a", 1, True, False, None], [[None, False, True, 1, "a", [1], {"a": 1}]]),
            ("flatten, flatten(1), transpose?", [1, [2, [3]]], [[1, 2, 3], [1, 2, [3]]]),
            ("transpose, [combinations]", [[1, 2], [3]], [[[1, 3], [2, None]], [[1, 3], [2, 3]]]),
            (
                "to_entries, with_entries(.value += 1), map_values(. + 1), map_values(empty)",
                {"a": 1},
                [[{"key": "a", "value": 1}], {"a": 2}, {"a": 2}, {}],
            ),
            (
                "from_entries",
                [{"name": "a", "value": 1}, {"k": "b", "v": 2}, {"key": False}],
                [{"a": 1, "b": 2, "false": None}],
            ),
            (
                "first, last, nth(1), first(.[]), last(.[]), nth(1; .[]), [limit(2; .[])], isempty(.[])",
                [1, 2, 3],
                [1, 3, 2, 1, 3, 2, [1, 2], False],
            ),
            (
                "[range(3)], [range(5; 0; -2)], [range(0,1; 3,4)]",
                None,
                [[0, 1, 2], [5, 3, 1], [0, 1, 2, 0, 1, 2, 3, 1, 2, 1, 2, 3]],
            ),
            (
                "[while(. < 10; . * 2)], [until(. > 10; . * 2)], [limit(3; repeat(. * 2))], [recurse(. + 1; . < 3)]",
                1,
                [[1, 2, 4, 8], [16], [1, 2, 4], [1, 2]],
            ),
            ("any, all, any(. == null), all(.[]; true)", [1, None], [True, False, True, True]),
            ("IN(1,2), IN(5)", 2, [True, False]),
            (
                "INDEX(.id), (INDEX(.id) as $i | [.[] | {id}] | JOIN($i; .id | tostring))",
                [{"id": 1}],
                [{"1": {"id": 1}}, [[{"id": 1}, {"id": 1}]]],
            ),
            ('walk(if type == "array" then sort else . end)', {"a": [2, 1]}, [{"a": [1, 2]}]),
            ("bsearch(1), bsearch(5)", [1, 2], [0, -3]),
            (
                "[.[] | numbers, strings, nulls, booleans, arrays, objects, iterables, scalars]",
                [1, None],
                [[1, 1, None, None]],
            ),
            ("type, not, tostring, tojson, length", None, ["null", True, "null", "null", 0]),
            (
                "tojson, (tojson | fromjson), @json, @text",
                {"a": [1, "é\n"]},
                ['{"a":[1,"é\\n"]}', {"a": [1, "é\n"]}, '{"a":[1,"é\\n"]}', '{"a":[1,"é\\n"]}'],
            ),
            ("tonumber", "1e3", [1000.0]),
            (
                'ltrimstr("te"), rtrimstr("st"), startswith("t"), endswith("x"), explode[0], (explode | implode)',
                "test",
                ["st", "te", True, False, 116, "test"],
            ),
            (
                'ascii_downcase, ascii_upcase, split(", "), indices(", "), trim',
                "A, é",
                ["a, é", "A, é", ["A", "é"], [1], "A, é"],
            ),
            ('join(","), join(",","-")', [None, "a", True, 1.5], [",a,true,1.5", ",a,true,1.5", "-a-true-1.5"]),
            (
                "floor, ceil, round, trunc, fabs, sqrt, pow(.; 2), (. | log | floor)",
                2.25,
                [2, 3, 2, 2, 2.25, 1.5, 5.0625, 0],
            ),
            ("[pow(2,3; 1,2)], (8 | frexp, logb, exp2)", None, [[2, 3, 4, 9], [0.5, 4], 3, 256]),
            (
                "nan < nan, (nan == nan), ([nan] | sort | length), (infinite | isinfinite), (nan | isnan)",
                None,
                [True, False, 1, True, True],
            ),
            ('splits("a"; null)?, ([.[] | tostring] | inside(["1", "2"]))', [1], [True]),
            ("input_line_number, input_filename", None, [0, None]),
            ('[splits(", *")], [scan("[a-z]")]', "a,b, c", [["a", "b", "c"], ["a", "b", "c"]]),
        ],
    )
    def test_given_a_builtin_then_its_results(self, program: str, value: object, results: list[object]) -> None:
        assert run(program, value) == results

    @pytest.mark.parametrize(
        ("program", "value", "result"),
        [
            ('test("B"; "i")', "abc", True),
            ('test(["B", "i"])', "abc", True),
            ('test("^b")', "a\nb", False),
            ('test("a.b"; "p")', "a\nb", True),
            (
                'match("(?<x>b)(c)?")',
                "abd",
                {
                    "offset": 1,
                    "length": 1,
                    "string": "b",
                    "captures": [
                        {"offset": 1, "length": 1, "string": "b", "name": "x"},
                        {"offset": -1, "length": 0, "string": None, "name": None},
                    ],
                },
            ),
            ('[match("x"; "gi").offset]', "aXbx", [1, 3]),
            ('[match(""; "g").offset]', "ab", [0, 1, 2]),
            ('capture("(?<a>x)(?<n>q)?")', "xyz", {"a": "x", "n": None}),
            ('[scan("(a)(b)")]', "abab", [["a", "b"], ["a", "b"]]),
            ('sub("(?<x>b)"; "[\\(.x)]")', "abc", "a[b]c"),
            ('gsub("[-_ ]"; "")', "a-b_c d", "abcd"),
            ('gsub("^a"; "b")', "aaa", "baa"),
            ('gsub(""; "-")', "ab", "-a-b-"),
            ('[gsub("(?<x>[ac])"; "\\(.x)1", "\\(.x)2")]', "ac", ["a1c1", "a2c1", "a1c2", "a2c2"]),
            ('split("\\\\d"; null)', "a1b2", ["a", "b", ""]),
        ],
    )
    def test_given_a_regular_expression_then_its_matches(self, program: str, value: object, result: object) -> None:
        assert run(program, value) == [result]

    @pytest.mark.parametrize(
        ("program", "value", "text"),
        [
            ("@csv", [1, 'a"b', None, True], '1,"a""b",,true'),
            ("@tsv", ["a\tb", 1], "a\\tb\t1"),
            ("@html", "<&'\">", "&lt;&amp;&#39;&quot;&gt;"),
            ("@uri", "é ~", "%C3%A9%20~"),
            ("@sh", ["a b", 1, "it's"], "'a b' 1 'it'\\''s'"),
            ("@base64", "hi", "aGk="),
            ("@base64d", "aGk", "hi"),
            ("@base32 | @base32d", "hi", "hi"),
            ('@sh "echo \\(.)"', "a b", "echo 'a b'"),
            ('@json "x\\(.)"', [1, "a"], 'x[1,"a"]'),
        ],
    )
    def test_given_a_format_then_its_text(self, program: str, value: object, text: str) -> None:
        assert run(program, value) == [text]

    @pytest.mark.parametrize(
        ("program", "value", "result"),
        [
            ("todate", 1425599507, "2015-03-05T23:51:47Z"),
            ("fromdate", "2015-03-05T23:51:47Z", 1425599507),
            ("gmtime", 1425599507, [2015, 2, 5, 23, 51, 47, 4, 63]),
            ("gmtime | mktime", 1425599507.5, 1425599507),
            ('strptime("%H:%M %a %d %B %Y")', "10:20 Mon 5 March 2012", [2012, 2, 5, 10, 20, 0, 1, 64]),
            (
                'strftime("%A, %B %d, %Y %j %Z %e %I %p %U %V %u %F %T %%")',
                0,
                "Thursday, January 01, 1970 001 UTC  1 12 AM 00 01 4 1970-01-01 00:00:00 %",
            ),
        ],
    )
    def test_given_a_date_builtin_then_utc(self, program: str, value: object, result: object) -> None:
        assert run(program, value) == [result]

    def test_given_builtins_then_all_of_them_are_listed(self) -> None:
        (names,) = run("builtins")

        assert isinstance(names, list)
        assert {"map/1", "with_entries/1", "empty/0", "ascii_downcase/0"} <= set(names)
        assert not [name for name in names if name.startswith("_")]


class TestErrors:
    @pytest.mark.parametrize(
        ("program", "value", "message"),
        [
            (".[[", {}, "jq: syntax error in line 1 of the program: expected an expression, found the end."),
            ("1\n+ }", None, "jq: syntax error in line 2 of the program: expected an expression, found '}'."),
            ('"abc', None, "jq: syntax error in line 1 of the program: a text is not closed."),
            (
                "1 == 2 == 3",
                None,
                "jq: syntax error in line 1 of the program: operators that do not chain, found '=='.",
            ),
            ("foo(1)", None, "jq: foo/1 is not defined."),
            ("$x", None, "jq: $x is not defined."),
            ("break $x", None, "jq: the label $x is not defined."),
            ('import "a" as a; 1', None, "jq: modules are not available."),
            ("input", None, "jq: input is not available"),
            ("now", None, "jq: now is not available"),
            (".a.b", {"a": 1}, "jq: Cannot index number with string"),
            (".[0]", {}, "jq: Cannot index object with number"),
            (".[]", 5, "jq: Cannot iterate over number"),
            (". + 1", "secret", "jq: string and number cannot be added"),
            ("{(1): 2}", None, "jq: Object keys must be strings, not number"),
            ("5 % 0", None, "jq: number and number cannot be divided (remainder) because the divisor is zero"),
            ('error("mine")', None, "jq: mine"),
            ("error({a: 1})", None, "jq: an error with the value object"),
            ("path(1)", None, "jq: Invalid path expression with result number"),
            ("@foo", None, "jq: foo is not a valid format"),
            ('test("a"; "q")', "a", "jq: q is not a valid modifier string"),
            (
                "fromjson",
                "{bad",
                "jq: The text is not JSON: expecting property name enclosed in double quotes, line 1, column 2.",
            ),
            ('strptime("%Y")', "x", 'jq: the date does not match format "%Y"'),
            ("[.[] = 1] | .[-5] = 1", [], "jq: Out of bounds negative array index"),
        ],
    )
    def test_given_a_mistake_then_the_message_names_it_without_values(
        self, program: str, value: object, message: str
    ) -> None:
        with pytest.raises(ExpressionError) as caught:
            run(program, value)

        assert caught.value.message == message

    @pytest.mark.parametrize(
        ("program", "value", "message"),
        [
            (". + 1", "abc", 'string ("abc") and number (1) cannot be added'),
            (". + 1", {"a": "very long string value here"}, 'object ({"a":"very ...) and number (1) cannot be added'),
            (".a", "x", 'Cannot index string with string "a"'),
            ("keys", 5, "number (5) has no keys"),
            ("implode", None, "implode input must be an array"),
        ],
    )
    def test_given_try_then_the_program_sees_jq_s_own_message(self, program: str, value: object, message: str) -> None:
        assert run(f"try ({program}) catch .", value) == [message]

    def test_given_try_then_errors_behind_its_body_are_not_caught(self) -> None:
        with pytest.raises(ExpressionError, match="late"):
            run('try 1 catch "caught" | error("late")')


class TestLimits:
    @pytest.mark.parametrize(
        ("program", "message"),
        [
            ("last(range(1e9))", "1,000,000 steps"),
            ("[range(1e9)]", "limit of 100,000"),
            ("range(1e9)", "limit of 100,000"),
            ("def f: f; f", "1,000,000 steps"),
            ("def f: f, f; f", "10,000 levels deep"),
            ("def f: 1 + f; f", "nested too deep"),
            ('"x" * 1e9', "limit of 10,000,000"),
            (".[1e9] = 1", "limit of 100,000"),
            ("reduce range(60) as $i ([0]; [., .]) | tojson", "1,000,000 steps"),
            ("reduce range(1000) as $i (0; [.]) | tojson", "deeper than 200"),
            ("reduce range(1000) as $i (0; [.]) | sort", "deeper than 200"),
            ('reduce range(40) as $i ("x"; . + .)', "limit of 10,000,000"),
            ("[range(3000)] as $x | $x - $x", "1,000,000 steps"),
            ('("a" * 40) | test("(a|aa)+$b")', "regular expression takes longer"),
            ("(" * 500 + "1" + ")" * 500, "deeper than 100"),
            ("1" + "+1" * 5000, "nested too deep"),
            ("." + "[0]" * 2000, "nested too deep"),
            ("path(repeat(.a))", "Path too deep"),
            ("#" * 200_000, "longer than 100,000"),
            ("try last(range(1e9)) catch 1", "1,000,000 steps"),
        ],
    )
    def test_given_a_program_that_takes_too_much_then_an_error_names_the_limit(
        self, program: str, message: str
    ) -> None:
        with pytest.raises(ExpressionError, match=message):
            run(program)

    def test_given_a_clock_then_the_deadline_ends_the_program(self) -> None:
        ticks = itertools.count()

        with pytest.raises(ExpressionError, match=r"takes longer than"):
            run_jq("last(range(1e9))", None, Budget(lambda: next(ticks) * 0.1))

    def test_given_long_loops_within_the_budget_then_they_take_no_depth(self) -> None:
        assert run("0 | until(. >= 20000; . + 1)") == [20000]
        assert run("def f: if . >= 20000 then . else . + 1 | f end; 0 | f") == [20000]
        assert run("last(limit(20000; repeat(1)))") == [1]

    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**60), 2**60)
            | st.text(st.characters(codec="utf-8"), max_size=5),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
            max_leaves=10,
        )
    )
    def test_given_any_value_then_what_must_hold_holds(self, value: object) -> None:
        assert run(".", value) == [value]
        assert run("tojson | fromjson", value) == [value]
        assert run("fromstream(tostream)", value) == [value]
        assert run(". as $v | reduce path(..) as $p (null; setpath($p; $v | getpath($p))) == $v", value) == [True]
        assert run("[.] | sort == (reverse | sort)", value) == [True]

    def test_given_infinite_numbers_then_no_error_leaks(self) -> None:
        (result,) = run("reduce range(100) as $i (2; . * .)")

        assert result == math.inf
