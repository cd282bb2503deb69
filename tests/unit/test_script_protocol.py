"""The script protocol beyond its conformance file: cuts anywhere, limits, and what must never break."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tercel.model.task import LogLevel
from tercel.script_protocol import MAX_LINE_CHARACTERS, LineSplitter, ScriptOutput
from tercel.script_protocol.lines import MAX_FRAME_BYTES
from tests.script_sinks import KeepingSink, said


def lines_of(*chunks: bytes) -> list[str]:
    splitter = LineSplitter()
    return [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.close()


class TestLines:
    @given(
        st.lists(st.sampled_from(["a", "é", "👋", "\n", "\r", "\r\n", "\u2028", "\x85", "::{", "}::"]), max_size=30),
        st.lists(st.integers(0, 80), max_size=6),
    )
    @example(["a", "\r\n", "é"], [1, 2, 4])
    def test_given_any_cuts_then_the_lines_are_the_same(self, parts: list[str], cuts: list[int]) -> None:
        data = "".join(parts).encode()
        places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})

        lines = lines_of(*(data[start:end] for start, end in pairwise(places)))

        whole = data.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n")
        assert lines == (whole[:-1] if whole[-1] == "" else whole)

    def test_given_a_progress_bar_then_each_step_comes_at_once(self) -> None:
        splitter = LineSplitter()

        assert splitter.feed(b"10%\r") == ["10%"]
        assert splitter.feed(b"20%\r\n") == ["20%"]
        assert splitter.feed(b"") == []
        assert splitter.feed(b"\r") == [""]
        assert splitter.feed(b"\n") == []

    def test_given_a_line_of_the_largest_size_then_it_is_whole(self) -> None:
        assert lines_of(b"x" * MAX_LINE_CHARACTERS + b"\nb\n") == ["x" * MAX_LINE_CHARACTERS, "b"]

    def test_given_a_longer_line_then_it_is_cut_and_says_so(self) -> None:
        block = b"x" * 65536

        first, second = lines_of(*[block] * 40, b"end\nb\n")

        cut = 40 * 65536 + 3 - MAX_LINE_CHARACTERS
        assert first == "x" * MAX_LINE_CHARACTERS + f"… [{cut:,} bytes cut]"
        assert second == "b"

    def test_given_a_payload_longer_than_that_then_it_is_read(self) -> None:
        sink = KeepingSink()
        output = ScriptOutput("stdout", sink)
        value = "v" * (3 * MAX_LINE_CHARACTERS)

        frame = f'::{{"outputs":{{"big":"{value}"}}}}::\n'.encode()
        for start in range(0, len(frame), 65536):
            output.feed(frame[start : start + 65536])

        assert sink.vars == {"big": value}

    @pytest.mark.parametrize(("start", "is_frame"), [("::{", True), ("{", False), ("x::{", False)])
    def test_given_a_line_too_long_to_be_read_then_it_is_known_whether_a_frame_was_lost(
        self, start: str, is_frame: bool
    ) -> None:
        output = ScriptOutput("stdout", KeepingSink())
        size = MAX_FRAME_BYTES + 10

        output.feed(start.encode() + b"x" * (size - len(start)))
        output.feed(b"}::\nb\n::{}::\n")

        assert output.cut_frame_bytes == (size + 3 if is_frame else 0)


class TestFrames:
    def test_given_too_many_lines_in_an_open_frame_then_they_are_ordinary(self) -> None:
        sink = said("::{", *["x"] * 10_001, "}::")

        assert sink.logs == [(LogLevel.INFO, line) for line in ["::{", *["x"] * 10_001, "}::"]]

    def test_given_too_much_text_in_an_open_frame_then_it_is_ordinary(self) -> None:
        sink = said("::{", "x" * (1 << 20), "after")

        assert [len(message) for _, message in sink.logs] == [3, 1 << 20, 5]

    def test_given_open_frames_on_two_streams_then_each_has_its_own(self) -> None:
        sink = KeepingSink()
        stdout, stderr = ScriptOutput("stdout", sink), ScriptOutput("stderr", sink)

        stdout.feed(b'::{"outputs":\n')
        stderr.feed(b"oops\n")
        stdout.feed(b'{"a":1}}::\n')
        for output in (stdout, stderr):
            output.close()

        assert sink.vars == {"a": 1}
        assert sink.logs == [(LogLevel.WARN, "oops")]
        assert (stdout.line_count, stderr.line_count) == (2, 1)

    def test_given_order_then_log_lines_and_log_payloads_keep_it(self) -> None:
        sink = said("one", '::{"logs":[{"level":"ERROR","message":"two"}]}::', "three", '{"not":"ours"}', "four")

        assert [message for _, message in sink.logs] == ["one", "two", "three", '{"not":"ours"}', "four"]

    def test_given_a_good_and_a_bad_payload_on_one_line_then_the_good_one_counts(self) -> None:
        sink = said('::{"outputs":{"a":1}}::::{"outputs":3}::')

        assert sink.vars == {"a": 1}
        assert sink.logs == [(LogLevel.WARN, "Invalid outputs 'outputs is a number, not an object'")]

    def test_given_markers_on_stderr_then_they_are_text(self) -> None:
        sink = said("##kestra:log:debug##", stream="stderr")

        assert sink.logs == [(LogLevel.WARN, "##kestra:log:debug##")]

    def test_given_debug_markers_then_a_replayed_line_has_that_level_too(self) -> None:
        sink = said("##kestra:log:debug##", "::{", "##kestra:log:info##")

        assert sink.logs == [(LogLevel.DEBUG, "::{"), (LogLevel.DEBUG, "##kestra:log:info##")]


class TestPayloads:
    @pytest.mark.parametrize(
        ("frame", "reason"),
        [
            ('::{"outputs":{"a":NaN}}::', "NaN is not a JSON number"),
            ('::{"outputs":{"a":1e999}}::', "1e999 is too large for a number"),
            ('::{"outputs":[1]}::', "outputs is a list, not an object"),
            ('::{"metrics":[{"type":"sum","name":"n","value":1}]}::', "the metric type 'sum' is none of "),
            ('::{"metrics":[{"type":"timer","name":"n","value":"soon"}]}::', "the metric value 'soon' cannot be used"),
            (
                '::{"metrics":[{"type":"counter","name":"n","value":"PT1S"}]}::',
                "the metric value 'PT1S' is not a number",
            ),
            ('::{"metrics":[{"type":"counter","name":"n","value":[]}]}::', "the metric value a list is not a number"),
            ('::{"metrics":[{"type":"counter","name":["n"],"value":1}]}::', "a metric's name is a list, not a text"),
            ('::{"metrics":["n"]}::', "a metric is a text, not an object"),
            ('::{"logs":[3]}::', "a log is a number, not an object"),
            ('::{"logs":[{"level":"LOUD","message":"m"}]}::', "the log level 'LOUD' is none of TRACE, DEBUG, INFO, "),
            ('::{"logs":[{"level":9,"message":"m"}]}::', "the log level 9 is none of TRACE"),
            ("::{no}::", "Expecting property name enclosed in double quotes at character 2 of {no}"),
        ],
    )
    def test_given_a_payload_that_is_refused_then_one_warning_says_why(self, frame: str, reason: str) -> None:
        sink = said(frame)

        ((level, message),) = sink.logs
        assert level is LogLevel.WARN
        assert message.startswith(f"Invalid outputs '{reason}")
        assert sink.details == [f"The script printed {frame}"]
        assert (sink.vars, sink.metrics) == ({}, {})

    def test_given_nesting_within_reason_then_it_is_read(self) -> None:
        assert said('::{"outputs":{"a":' + "[" * 90 + r'"\ud83d"' + "]" * 90 + "}}::").logs == []

    @pytest.mark.parametrize("depth", [101, 900, 10_000, 200_000])
    def test_given_bottomless_nesting_then_it_is_refused_not_a_crash(self, depth: int) -> None:
        sink = said('::{"outputs":{"a":' + "[" * depth + "]" * depth + "}}::", "on")

        assert [message[:15] for _, message in sink.logs] == ["Invalid outputs", "on"]

    def test_given_an_endless_number_then_it_is_refused_not_a_crash(self) -> None:
        sink = said('::{"outputs":{"a":' + "9" * 10_000 + "}}::")

        assert sink.vars == {}
        assert sink.logs[0][1].startswith("Invalid outputs")

    @pytest.mark.parametrize(
        ("metric", "message"),
        [
            ("null", "Invalid metric: null is none; it was left out"),
            ('{"type":"counter","value":1}', "Invalid metric: it has no name; it was left out"),
            ('{"type":"counter","name":"","value":1}', "Invalid metric: it has no name; it was left out"),
            ('{"type":"counter","name":"n","value":""}', "Invalid metric 'n': it has no value; it was left out"),
        ],
    )
    def test_given_an_incomplete_metric_then_only_it_is_left_out(self, metric: str, message: str) -> None:
        sink = said(f'::{{"metrics":[{metric},{{"type":"gauge","name":"g","value":2}}]}}::')

        assert sink.metrics == {("gauge", "g", ()): 2.0}
        assert sink.logs == [(LogLevel.WARN, message)]

    def test_given_a_tag_without_a_value_then_only_it_is_left_out(self) -> None:
        sink = said('::{"metrics":[{"type":"counter","name":3,"value":1,"tags":{"a":null,"b":1.5}}]}::')

        assert sink.metrics == {("counter", "3", (("b", "1.5"),)): 1.0}
        assert sink.logs == [(LogLevel.WARN, "Invalid metric '3': its tag 'a' has no value")]

    @pytest.mark.parametrize(("value", "seconds"), [('"-1.5"', -1.5), ('"PT1M"', 60), ('" 2 "', 2), ("3", 3)])
    def test_given_a_timer_then_its_value_is_seconds(self, value: str, seconds: float) -> None:
        sink = said(f'::{{"metrics":[{{"type":"timer","name":"t","value":{value}}}]}}::')

        assert sink.metrics == {("timer", "t", ()): seconds}

    @pytest.mark.parametrize(
        ("level", "expected"),
        [('" debug "', "DEBUG"), ('"FATAL"', "ERROR"), ('"Critical"', "ERROR"), ("0", "ERROR"), ("4", "TRACE")],
    )
    def test_given_a_level_in_other_words_then_it_is_understood(self, level: str, expected: str) -> None:
        assert said(f'::{{"logs":[{{"level":{level},"message":true}}]}}::').logs == [(LogLevel(expected), "true")]

    def test_given_a_very_long_message_then_it_is_cut_and_says_so(self) -> None:
        text = "x" * (MAX_LINE_CHARACTERS + 5)

        ((_, message),) = said(f'::{{"logs":[{{"level":"INFO","message":"{text}"}}]}}::').logs

        assert message == "x" * MAX_LINE_CHARACTERS + "… [5 characters cut]"

    def test_given_encrypted_outputs_then_they_are_secrets_before_they_are_outputs(self) -> None:
        sink = said('::{"encryptedOutputs":{"key":"s3cret"}}::')

        assert sink.secret_values == [{"key": "s3cret"}]
        assert sink.vars == {"key": "s3cret"}

    def test_given_half_surrogates_anywhere_then_they_are_replaced_and_pairs_are_kept(self) -> None:
        sink = said(r'::{"outputs":{"k\udc00":["\ud83d","\ud83d\udc4b"]}}::')

        assert sink.vars == {"k\ufffd": ["\ufffd", "👋"]}

    @pytest.mark.parametrize(
        "line", ['{"outputs":{"a":1}} ', '{"outputs":{"a":1}}x}', '{"outputs":{"a":1},}', '{"logs":[{"level":"X"}]}']
    )
    def test_given_nearly_a_bare_payload_then_it_is_text(self, line: str) -> None:
        assert said(line).logs == [(LogLevel.INFO, line)]
