"""What an endpoint takes and gives, read from code of every kind that answers."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec
import pytest
from starlette.responses import Response

from tercel.api import RESOURCES
from tercel.api.answers import bulk_answer, empty_answer, file_answer, json_answer, page_answer, text_answer
from tercel.api.call import Call
from tercel.api.endpoints import Endpoint, Given, Parameter, path_parameters, read_endpoint
from tercel.api.filters import DATE, TEXT, read_filters
from tercel.api.paging import read_paging
from tercel.api.routing import Route
from tercel.api.streams import event_stream

FIELDS = {"namespace": TEXT, "startDate": DATE}


class Color(StrEnum):
    RED = "RED"
    BLUE = "BLUE"


class Body(msgspec.Struct):
    name: str


def of(*paths: str) -> list[Route]:
    return [route for resource in RESOURCES for route in resource.ROUTES if route.path in paths]


class TestQuery:
    def test_given_parameters_then_each_is_read_with_its_kind(self) -> None:
        def answer(call: Call) -> Response:
            call.query.labels()
            call.query.flag("wait", True)
            call.query.whole("revision", least=1)
            call.query.choice("color", Color)
            return json_answer(call.query.needed("path"))

        found = read_endpoint(answer).query

        assert found == {
            "labels": Parameter("labels"),
            "wait": Parameter("flag", default=True),
            "revision": Parameter("whole", least=1),
            "color": Parameter("choice", choices=("RED", "BLUE")),
            "path": Parameter("needed", is_needed=True),
        }

    def test_given_pages_and_filters_then_the_fields_are_known(self) -> None:
        def answer(call: Call) -> Response:
            read_filters(call.query, FIELDS, call.now)
            read_paging(call.query, FIELDS)
            return page_answer([], 0)

        found = read_endpoint(answer)

        assert found.filters == FIELDS
        assert found.sortable == ("namespace", "startDate")

    def test_given_a_function_that_is_told_the_name_then_it_is_that_which_it_is_called_with(self) -> None:
        [by_ids] = of("/executions/change-status/by-ids")
        [file] = [one for one in of("/namespaces/{namespace}/files") if one.method == "GET"]
        [folder] = [one for one in of("/namespaces/{namespace}/files/directory") if one.method == "GET"]

        assert read_endpoint(by_ids.answer).query["newStatus"].is_needed
        assert read_endpoint(file.answer).query["path"].is_needed
        assert not read_endpoint(folder.answer).query["path"].is_needed

    def test_given_a_branch_that_is_never_taken_then_it_is_left_out(self) -> None:
        [by_ids] = of("/flows/disable/by-ids")
        [by_query] = of("/flows/disable/by-query")

        assert read_endpoint(by_ids.answer).body
        assert not read_endpoint(by_ids.answer).filters
        assert read_endpoint(by_query.answer).filters
        assert not read_endpoint(by_query.answer).body


class TestBody:
    def test_given_a_type_then_it_is_known(self) -> None:
        assert read_endpoint(lambda call: json_answer(call.json_as(Body))).body is Body
        assert read_endpoint(lambda call: json_answer(call.json_as(list[Body]))).body == list[Body]

    def test_given_a_text_or_a_file_then_it_is_taken(self) -> None:
        assert read_endpoint(lambda call: json_answer(call.text)).takes_text
        assert read_endpoint(lambda call: json_answer(call.file("data"))).parts == ["data"]


class TestAnswers:
    @pytest.mark.parametrize(
        ("answer", "given"),
        [
            (lambda _: json_answer([]), Given(200, "json")),
            (lambda _: json_answer([], 503), Given(503, "json")),
            (lambda _: page_answer([], 0), Given(200, "page")),
            (lambda _: bulk_answer(1), Given(200, "bulk")),
            (lambda _: empty_answer(), Given(204, "empty")),
            (lambda _: empty_answer(200), Given(200, "empty")),
            (lambda _: text_answer("x"), Given(200, "text/plain")),
            (lambda _: file_answer(b"", "a.csv", "text/csv"), Given(200, "text/csv")),
            (lambda _: file_answer(b"", "a"), Given(200, "application/octet-stream")),
            (lambda _: event_stream(None), Given(200, "events")),  # type: ignore[arg-type]
            (lambda _: Response(b"", media_type="image/svg+xml"), Given(200, "image/svg+xml")),
        ],
        ids=lambda one: one.kind if isinstance(one, Given) else "",
    )
    def test_given_an_answer_then_its_status_and_kind_are_known(
        self, answer: Callable[[Call], Response], given: Given
    ) -> None:
        assert given in read_endpoint(answer).given

    def test_given_nothing_that_answers_then_nothing_is_known(self) -> None:
        assert read_endpoint(lambda _: None) == Endpoint()


def test_given_a_path_then_its_parameters_are_named() -> None:
    assert [*path_parameters("/a/{b}/{c*}")] == ["b", "c"]
