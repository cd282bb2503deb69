"""What people are told of botocore's errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore import exceptions

from tercel.plugins.aws.connection import Place, code_of, failure
from tests.run_contexts import DirectoryContext

OBJECT = Place("orders", "in/a.csv")


def refused(code: str, said: str = "", operation: str = "GetObject") -> exceptions.ClientError:
    return exceptions.ClientError({"Error": {"Code": code, "Message": said}}, operation)


@pytest.mark.parametrize(
    ("error", "place", "message"),
    [
        (refused("NoSuchKey"), OBJECT, "There is no object s3://orders/in/a.csv."),
        (refused("404"), OBJECT, "There is no object s3://orders/in/a.csv."),
        (refused("NoSuchVersion"), OBJECT, "There is no object s3://orders/in/a.csv of this version."),
        (refused("NoSuchBucket"), Place("orders"), "There is no bucket 'orders'."),
        (refused("PreconditionFailed"), OBJECT, "s3://orders/in/a.csv was changed meanwhile."),
        (refused("Odd", "So it is."), OBJECT, "S3 refused GetObject for s3://orders/in/a.csv: Odd: So it is."),
        (refused("Odd"), None, "S3 refused GetObject: Odd: no reason was given."),
        (exceptions.NoCredentialsError(), OBJECT, "There are no AWS credentials."),
        (exceptions.NoRegionError(), None, "There is no region."),
        (
            exceptions.ReadTimeoutError(endpoint_url="http://s3/?X-Amz-Signature=abc", error=TimeoutError()),
            OBJECT,
            "The connection broke while S3 was asked for s3://orders/in/a.csv: ",
        ),
        (
            exceptions.EndpointConnectionError(
                endpoint_url="http://s3/orders?X-Amz-Signature=abc",
                error=ConnectionRefusedError(111, "Connection refused"),
            ),
            OBJECT,
            "There is no connection to http://s3/orders: Connection refused.",
        ),
        (exceptions.UnknownServiceError(service_name="x", known_service_names=""), None, "Asking for S3 failed: "),
    ],
)
def test_given_an_error_then_it_is_a_sentence(
    tmp_path: Path, error: Exception, place: Place | None, message: str
) -> None:
    told = failure(error, place, DirectoryContext(tmp_path))

    assert told.message.startswith(message)


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "InvalidAccessKeyId", "AccessDenied", "PermanentRedirect"])
def test_given_what_people_can_mend_then_the_hint_says_how(tmp_path: Path, code: str) -> None:
    assert failure(refused(code), OBJECT, DirectoryContext(tmp_path)).hint


def test_given_a_secret_in_what_the_store_says_then_it_is_masked(tmp_path: Path) -> None:
    context = DirectoryContext(tmp_path)
    context.add_secret("hunter2")

    assert "hunter2" not in failure(refused("Odd", "not hunter2"), OBJECT, context).message


def test_given_an_error_then_its_code_is_told() -> None:
    assert (code_of(refused("NoSuchKey")), code_of(ValueError())) == ("NoSuchKey", "")
