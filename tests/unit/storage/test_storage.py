import pytest

from tercel.errors import StorageError
from tercel.storage import (
    cache_folder,
    decode_segment,
    encode_segment,
    format_uri,
    input_path,
    namespace_file_path,
    output_path,
    parse_uri,
    task_run_path,
    trigger_path,
)


class TestUris:
    def test_given_a_path_when_formatted_and_parsed_then_it_is_the_same(self) -> None:
        path = "/a.b/c d/é#?%20[x]/\udcff"

        assert parse_uri(format_uri(path)) == path

    def test_given_a_stray_percent_when_decoded_then_it_stays(self) -> None:
        assert decode_segment("100%") == "100%"
        assert decode_segment(encode_segment("100%")) == "100%"

    def test_given_a_part_that_leads_up_when_formatted_then_the_message_names_it(self) -> None:
        with pytest.raises(StorageError) as error:
            format_uri("/a/../b")

        assert error.value.message == "Internal storage refuses '/a/../b': '..' cannot be a part of a path."

    def test_given_an_encoded_slash_when_parsed_then_it_is_refused(self) -> None:
        with pytest.raises(StorageError):
            parse_uri("kestra:///a/..%2F..%2Fetc")


class TestPaths:
    def test_given_what_a_file_is_for_then_it_has_the_place_of_the_specification(self) -> None:
        run = task_run_path("company.team", "my_flow", "e1", "my_task", "t1")

        assert run == "/company/team/my-flow/executions/e1/tasks/my-task/t1"
        assert output_path(run, "d/a b.csv") == f"{run}/outputs/d/a b.csv"
        assert input_path("n", "f", "e", "i", "x.csv") == "/n/f/executions/e/inputs/i/x.csv"
        assert trigger_path("n", "f", "e", "t_1", "x.csv") == "/n/f/executions/e/trigger/t-1/x.csv"
        assert namespace_file_path("a.b", "/lib/u.py") == "/a/b/_files/lib/u.py"
        assert cache_folder("a.b", "my-flow", "wd") == "/a/b/my-flow/wd/cache"
        assert cache_folder("a.b", "my_flow", "wd").startswith("/a/b/my-flow-")
