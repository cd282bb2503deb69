"""aws.s3.* through the engine, against a server process that checks who asks."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import command, environment, tercel
from tests.flows import echo, flow
from tests.homes import Home, Ran, until
from tests.s3 import REGION, S3Server
from tests.servers import Answer, http_server, stalling_server

S3 = "io.kestra.plugin.aws.s3"
LARGE = (8 << 20) * 2 + 12345
"""Bytes of an object that travels in three parts."""


class Bucket:
    """A bucket for one test, and tasks on it."""

    def __init__(self, server: S3Server, home: Home) -> None:
        self.server = server
        self.home = home
        self.name = server.bucket()

    def node(self, kind: str, id: str = "s3", **properties: Any) -> dict[str, Any]:
        given = {"bucket": self.name} if kind != "Copy" else {}
        return {"id": id, "type": f"{S3}.{kind}", **self.server.login, **given, **properties}

    def run(self, kind: str, **properties: Any) -> Ran:
        return self.home.run(flow(self.node(kind, **properties)))

    def outputs(self, kind: str, **properties: Any) -> dict[str, Any]:
        ran = self.run(kind, **properties)
        assert ran.state == "SUCCESS", ran.log_of("s3")
        return dict(ran.run_of("s3").outputs)

    def failure(self, kind: str, **properties: Any) -> str:
        """What the log says of a task that fails."""
        ran = self.run(kind, **properties)
        assert ran.state == "FAILED"
        assert files(self.home) == []
        return ran.log_of("s3")

    def put(self, **objects: bytes | str) -> None:
        self.server.put(self.name, objects)

    def keys(self) -> list[str]:
        return self.server.keys(self.name)

    def store(self, content: bytes, name: str = "file.csv") -> str:
        """A file of internal storage."""
        return self.home.put(f"/tests/{name}", content)


def files(home: Home) -> list[str]:
    """What tasks have stored, half written files included."""
    found = [path for path in (home.root / "storage").rglob("*") if path.is_file()]
    return [str(path) for path in found if "/tests/scenario/" in str(path) or "/.staging/" in str(path)]


def metrics(ran: Ran) -> dict[str, float]:
    return {metric.name: metric.value for metric in ran.metrics}


@pytest.fixture
def bucket(s3_server: S3Server, home: Home) -> Bucket:
    return Bucket(s3_server, home)


class TestUpload:
    def test_given_a_file_then_it_becomes_an_object_with_all_that_was_given(self, bucket: Bucket) -> None:
        ran = bucket.run(
            "Upload",
            **{
                "from": bucket.store(b"a,b\n"),
                "key": "stage/{{ flow.id }}.csv",
                "metadata": {"origin": "{{ flow.namespace }}"},
                "tagging": {"team": "a b+c"},
                "contentType": "text/csv",
                "contentEncoding": "identity",
                "contentDisposition": "attachment",
                "contentLanguage": "de",
                "contentLength": 4,
                "cacheControl": "no-store",
                "expires": "2040-01-02T03:04:05Z",
                "acl": "PUBLIC_READ",
                "storageClass": "STANDARD_IA",
                "serverSideEncryption": "AES256",
                "checksumAlgorithm": "SHA256",
                "checksum": b64encode(sha256(b"a,b\n").digest()).decode(),
            },
        )

        assert ran.state == "SUCCESS", ran.log_of("s3")
        outputs = ran.run_of("s3").outputs
        client, where = bucket.server.client, {"Bucket": bucket.name, "Key": "stage/scenario.csv"}
        head = client.head_object(**where)
        assert outputs == {
            "bucket": bucket.name,
            "key": "stage/scenario.csv",
            "eTag": head["ETag"].strip('"'),
            "versionId": None,
        }
        assert bucket.server.get(bucket.name, "stage/scenario.csv") == b"a,b\n"
        assert head["Metadata"] == {"origin": "tests"}
        assert head["ContentType"] == "text/csv"
        assert head["ContentDisposition"] == "attachment"
        assert head["ContentLanguage"] == "de"
        assert head["CacheControl"] == "no-store"
        assert head["StorageClass"] == "STANDARD_IA"
        assert head["ServerSideEncryption"] == "AES256"
        assert client.get_object_tagging(**where)["TagSet"] == [{"Key": "team", "Value": "a b+c"}]
        assert any("AllUsers" in str(grant) for grant in client.get_object_acl(**where)["Grants"])
        assert metrics(ran) == {"file.count": 1.0, "file.size": 4.0}

    def test_given_a_large_file_then_it_goes_in_parts(self, bucket: Bucket) -> None:
        content = os.urandom(LARGE)

        outputs = bucket.outputs(
            "Upload",
            **{"from": bucket.store(content), "key": "large", "metadata": {"a": "b"}, "storageClass": "STANDARD"},
        )

        assert outputs["eTag"].endswith("-3")
        assert bucket.server.get(bucket.name, "large") == content
        assert bucket.server.client.head_object(Bucket=bucket.name, Key="large")["Metadata"] == {"a": "b"}

    @pytest.mark.parametrize("kind", ["list", "map", "expression of a list", "expression of a map"])
    def test_given_several_files_then_the_key_is_their_prefix(self, bucket: Bucket, kind: str) -> None:
        one, two = bucket.store(b"1", "one.csv"), bucket.store(b"22", "t wo.csv")
        given: Any = [one, two] if "list" in kind else {"one.csv": one, "t wo.csv": two}
        if "expression" in kind:
            given = json.dumps(given)

        ran = bucket.run("Upload", **{"from": given, "key": "in/", "concurrentUploads": 2})

        assert ran.state == "SUCCESS", ran.log_of("s3")
        outputs = ran.run_of("s3").outputs
        assert bucket.keys() == ["in/one.csv", "in/t wo.csv"]
        sizes = {name: about["contentLength"] for name, about in outputs["files"].items()}
        assert sizes == {"one.csv": 1, "t wo.csv": 2}
        assert all(about["eTag"] for about in outputs["files"].values())
        assert (outputs["bucket"], outputs["key"]) == (bucket.name, "in/")
        assert metrics(ran) == {"file.count": 2.0, "file.size": 3.0}

    def test_given_a_list_of_one_then_it_is_a_single_file(self, bucket: Bucket) -> None:
        outputs = bucket.outputs("Upload", **{"from": [bucket.store(b"1")], "key": "single"})

        assert bucket.keys() == ["single"]
        assert outputs["eTag"]

    def test_given_outputs_of_a_task_then_their_map_is_taken_as_it_is(self, bucket: Bucket) -> None:
        writes = {
            "id": "writes",
            "type": "io.kestra.plugin.scripts.shell.Commands",
            "runner": "PROCESS",
            "commands": ["echo 1 > a.txt", "echo 2 > b.txt"],
            "outputFiles": ["*.txt"],
        }
        up = bucket.node("Upload", **{"from": "{{ outputs.writes.outputFiles }}", "key": "out"})

        ran = bucket.home.run(flow(writes, up))

        assert ran.state == "SUCCESS", ran.log_of("s3")
        assert bucket.keys() == ["out/a.txt", "out/b.txt"]

    @pytest.mark.parametrize(
        ("properties", "said"),
        [
            ({"from": []}, "No files to upload: the 'from' property contains an empty collection or array"),
            ({"from": "[]"}, "No files to upload: the 'from' property contains an empty collection or array"),
            ({"from": ["kestra:///a/x", "kestra:///b/x"]}, "'from' lists several files of one name"),
            ({"from": "kestra:///tests/none.csv"}, "There is no file kestra:///tests/none.csv in internal storage."),
            ({"contentLength": 3}, "has 1 bytes, and contentLength is 3."),
            ({"checksum": "x"}, "'checksum' needs 'checksumAlgorithm'."),
            ({"expires": "soon"}, "expires is 'soon', which is no date."),
            ({"bucket": "no-such-bucket-here"}, "There is no bucket 'no-such-bucket-here'."),
            ({"bucket": "No_Bucket!"}, "Invalid bucket name"),
            ({"metadata": "[1]"}, "metadata is a list, and a map is wanted."),
        ],
    )
    def test_given_what_cannot_be_sent_then_it_says_why(
        self, bucket: Bucket, properties: dict[str, Any], said: str
    ) -> None:
        log = bucket.failure("Upload", **{"from": bucket.store(b"1"), "key": "k", **properties})

        assert said in log
        assert bucket.keys() == []

    def test_given_a_part_that_is_refused_then_the_upload_is_aborted(self, bucket: Bucket) -> None:
        asked: list[str] = []

        def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
            asked.append(f"{method} {path.partition('?')[2]}")
            if method == "POST":
                return (
                    200,
                    {},
                    b"<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>",
                )
            if method == "DELETE":
                return 204, {}, b""
            return 403, {}, b"<Error><Code>AccessDenied</Code><Message>No more room for you.</Message></Error>"

        with http_server(answer) as address:
            given = {"from": bucket.store(os.urandom(LARGE)), "key": "k", "endpointOverride": address}
            log = bucket.failure("Upload", **given)

        assert f"S3 refused UploadPart for s3://{bucket.name}/k: AccessDenied: No more room for you. These" in log
        assert (asked[0], asked[-1]) == ("POST uploads", "DELETE uploadId=one")

    def test_given_a_bucket_with_versions_then_it_names_the_version(self, bucket: Bucket) -> None:
        client = bucket.server.client
        client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})

        outputs = bucket.outputs("Upload", **{"from": bucket.store(b"1"), "key": "k"})
        bucket.put(k="2")
        fetched = bucket.outputs("Download", key="k", versionId=outputs["versionId"])
        marker = bucket.outputs("Delete", key="k")
        gone = bucket.outputs("Delete", key="k", versionId=outputs["versionId"])

        assert bucket.home.read(fetched["uri"]) == b"1"
        assert fetched["versionId"] == outputs["versionId"]
        assert marker["deleteMarker"] is True
        assert marker["versionId"]
        assert gone["versionId"] == outputs["versionId"]


class TestDownload:
    def test_given_an_object_then_it_is_stored_and_described(self, bucket: Bucket) -> None:
        bucket.server.client.put_object(
            Bucket=bucket.name, Key="in/a b.csv", Body=b"a,b\n", ContentType="text/csv", Metadata={"x": "y"}
        )

        ran = bucket.run("Download", key="in/a b.csv")

        outputs = ran.run_of("s3").outputs
        assert re.fullmatch(r"kestra:///tests/scenario/executions/.*/[0-9a-f-]+\.csv", str(outputs.pop("uri")))
        [stored] = files(bucket.home)
        assert Path(stored).read_bytes() == b"a,b\n"
        assert outputs == {
            "contentLength": 4,
            "contentType": "text/csv",
            "metadata": {"x": "y"},
            "eTag": bucket.server.client.head_object(Bucket=bucket.name, Key="in/a b.csv")["ETag"].strip('"'),
            "versionId": None,
        }
        assert metrics(ran) == {"file.size": 4.0}

    @pytest.mark.parametrize("size", [0, 1, (8 << 20), (8 << 20) + 1, LARGE])
    def test_given_any_size_then_the_content_is_the_same(self, bucket: Bucket, size: int) -> None:
        content = os.urandom(size)
        bucket.put(large=content)

        outputs = bucket.outputs("Download", key="large")

        assert outputs["contentLength"] == size
        assert bucket.home.read(outputs["uri"]) == content

    def test_given_no_key_but_a_filter_then_all_that_match_are_fetched(self, bucket: Bucket) -> None:
        bucket.server.put(bucket.name, {"in/": b"", "in/a.csv": b"1", "in/b.txt": b"2", "other.csv": b"3"})

        found = bucket.outputs("Download", prefix="in/", regexp=r".*\.csv")["files"]
        capped = bucket.run("Download", prefix="in/", maxFiles=1)

        assert {key: bucket.home.read(one["uri"]) for key, one in found.items()} == {"in/a.csv": b"1"}
        assert found["in/a.csv"]["contentLength"] == 1
        assert list(capped.run_of("s3").outputs["files"]) == ["in/a.csv"]
        assert "2 objects match, and maxFiles allows 1" in capped.log_of("s3")

    def test_given_neither_key_nor_filter_then_the_flow_is_refused(self, bucket: Bucket) -> None:
        [issue] = bucket.home.issues(flow(bucket.node("Download")))

        assert "Download needs 'key', or 'prefix' or 'regexp'." in issue.text

    @pytest.mark.parametrize(
        ("properties", "said"),
        [
            ({"key": "none.csv"}, "There is no object s3://{bucket}/none.csv. Check 'bucket' and 'key'."),
            ({"bucket": "no-such-bucket-here", "key": "k"}, "There is no bucket 'no-such-bucket-here'."),
            ({"prefix": "a", "regexp": "("}, "regexp '(' is no regular expression"),
            ({"prefix": "a", "maxKeys": "{{ 'x' }}"}, "maxKeys is 'x', which is not a whole number of 1 or more."),
            ({"key": "k", "bucket": "{{ '' }}"}, "'bucket' is empty when rendered."),
        ],
    )
    def test_given_what_is_not_there_then_it_says_so(
        self, bucket: Bucket, properties: dict[str, Any], said: str
    ) -> None:
        assert said.replace("{bucket}", bucket.name) in bucket.failure("Download", **properties)


class TestList:
    def test_given_objects_then_they_are_described(self, bucket: Bucket) -> None:
        bucket.server.put(bucket.name, {"in/": b"", "in/ü b.csv": b"12"})

        ran = bucket.run("List", prefix="in/", filter="FILES")

        [found] = ran.run_of("s3").outputs["objects"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("lastModified"))
        assert set(found.pop("owner")) == {"id", "displayName"}
        etag = bucket.server.client.head_object(Bucket=bucket.name, Key="in/ü b.csv")["ETag"].strip('"')
        assert found == {"uri": None, "key": "in/ü b.csv", "etag": etag, "size": 2}
        assert metrics(ran) == {"s3.objects.count": 1.0}

    @pytest.mark.parametrize(
        ("properties", "expected"),
        [
            ({}, ["a/", "a/1", "a/b/2", "c.txt"]),
            ({"filter": "FILES"}, ["a/1", "a/b/2", "c.txt"]),
            ({"filter": "DIRECTORY"}, ["a/"]),
            ({"filter": "FILES", "maxKeys": 1}, ["a/1"]),
            ({"prefix": "a/", "delimiter": "/"}, ["a/", "a/1"]),
            ({"marker": "a/1"}, ["a/b/2", "c.txt"]),
            ({"regexp": "a/."}, ["a/1"]),
            ({"regexp": "a"}, []),
            ({"maxFiles": 2}, ["a/", "a/1"]),
            ({"prefix": "{{ null }}", "marker": "a/b/2", "regexp": " "}, ["c.txt"]),
        ],
    )
    def test_given_a_filter_then_only_what_matches_is_listed(
        self, bucket: Bucket, properties: dict[str, Any], expected: list[str]
    ) -> None:
        bucket.server.put(bucket.name, dict.fromkeys(["a/", "a/1", "a/b/2", "c.txt"], b""))

        found = bucket.outputs("List", **properties)["objects"]

        assert [one["key"] for one in found] == expected

    @pytest.mark.parametrize(
        ("properties", "expected"),
        [
            ({"prefix": " in /"}, [" in /1"]),
            ({"delimiter": " "}, ["a", "b"]),
            ({"marker": "a "}, ["a b", "b"]),
            ({"regexp": " .*"}, [" in /1"]),
        ],
    )
    def test_given_blanks_at_the_ends_of_a_filter_then_they_count(
        self, bucket: Bucket, properties: dict[str, Any], expected: list[str]
    ) -> None:
        bucket.server.put(bucket.name, dict.fromkeys([" in /1", "a", "a ", "a b", "b"], b""))

        found = bucket.outputs("List", **properties)["objects"]

        assert [one["key"] for one in found] == expected


class TestDownloads:
    @pytest.mark.parametrize(
        ("action", "left"),
        [("NONE", ["in/", "in/a.csv", "in/b.csv"]), ("DELETE", ["in/"]), ("MOVE", ["done/a.csv", "done/b.csv", "in/"])],
    )
    def test_given_an_action_then_it_follows_the_fetching(self, bucket: Bucket, action: str, left: list[str]) -> None:
        bucket.server.put(bucket.name, {"in/": b"", "in/a.csv": b"1", "in/b.csv": b"22"})
        move_to = {"moveTo": {"key": "done/"}} if action == "MOVE" else {}

        ran = bucket.run("Downloads", prefix="in/", filter="FILES", action=action, **move_to)

        assert ran.state == "SUCCESS", ran.log_of("s3")
        outputs = ran.run_of("s3").outputs
        assert [one["key"] for one in outputs["objects"]] == ["in/a.csv", "in/b.csv"]
        assert outputs["outputFiles"] == {one["key"]: one["uri"] for one in outputs["objects"]}
        assert [bucket.home.read(uri) for uri in outputs["outputFiles"].values()] == [b"1", b"22"]
        assert bucket.keys() == left

    def test_given_a_move_onto_itself_then_nothing_is_lost(self, bucket: Bucket) -> None:
        bucket.server.put(bucket.name, {"in/a.csv": b"1"})

        ran = bucket.run("Downloads", action="MOVE", moveTo={"key": "in"})

        assert "would be moved onto itself" in ran.log_of("s3")
        assert bucket.keys() == ["in/a.csv"]

    def test_given_a_move_to_nowhere_then_the_flow_is_refused(self, bucket: Bucket) -> None:
        [issue] = bucket.home.issues(flow(bucket.node("Downloads", action="MOVE")))

        assert "MOVE needs 'moveTo'." in issue.text


class TestCopy:
    def test_given_another_bucket_then_the_key_stays(self, bucket: Bucket) -> None:
        other = bucket.server.bucket()
        bucket.server.put(bucket.name, {"a/ü b.csv": b"1"})

        outputs = bucket.outputs(
            "Copy", **{"from": {"bucket": bucket.name, "key": "a/ü b.csv"}, "to": {"bucket": other}}
        )

        assert bucket.server.get(other, "a/ü b.csv") == b"1"
        etag = bucket.server.client.head_object(Bucket=other, Key="a/ü b.csv")["ETag"].strip('"')
        assert outputs == {"bucket": other, "key": "a/ü b.csv", "eTag": etag}
        assert bucket.keys() == ["a/ü b.csv"]

    def test_given_a_very_large_object_then_it_is_copied_in_parts_with_what_is_kept_of_it(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tercel.plugins.aws.streams._COPY_BYTES", 5 << 20)
        monkeypatch.setattr("tercel.plugins.aws.streams._COPY_PART_BYTES", 6 << 20)
        content = os.urandom(LARGE)
        about: dict[str, Any] = {"ContentType": "text/csv", "Metadata": {"x": "y"}}
        bucket.server.client.put_object(Bucket=bucket.name, Key="a", Body=content, **about)

        outputs = bucket.outputs("Copy", **{"from": {"bucket": bucket.name, "key": "a"}, "to": {"key": "b"}})

        head = bucket.server.client.head_object(Bucket=bucket.name, Key="b")
        assert outputs["eTag"].endswith("-3")
        assert bucket.server.get(bucket.name, "b") == content
        assert (head["ContentType"], head["Metadata"]) == ("text/csv", {"x": "y"})
        assert bucket.server.uploads(bucket.name) == []

    def test_given_delete_then_it_is_a_move(self, bucket: Bucket) -> None:
        bucket.put(a="1")

        bucket.outputs("Copy", **{"from": {"bucket": bucket.name, "key": "a"}, "to": {"key": "b"}, "delete": True})

        assert bucket.keys() == ["b"]

    @pytest.mark.parametrize(
        ("to", "said"),
        [
            ({"key": "b"}, "There is no object s3://{bucket}/none."),
            ({}, "would be copied onto itself. Give 'to' another bucket or key."),
        ],
    )
    def test_given_what_cannot_be_copied_then_it_says_so(self, bucket: Bucket, to: dict[str, str], said: str) -> None:
        log = bucket.failure("Copy", **{"from": {"bucket": bucket.name, "key": "none"}, "to": to})

        assert said.replace("{bucket}", bucket.name) in log


class TestDelete:
    def test_given_an_object_then_it_is_gone_and_so_is_one_that_never_was(self, bucket: Bucket) -> None:
        bucket.put(a="1", b="2")

        outputs = bucket.outputs("Delete", key="a")
        bucket.outputs("Delete", key="none")

        assert bucket.keys() == ["b"]
        assert outputs == {"versionId": None, "deleteMarker": False, "requestCharged": None}

    def test_given_a_list_then_what_matches_is_gone(self, bucket: Bucket) -> None:
        bucket.server.put(bucket.name, {"a/": b"", "a/1": b"1", "a/2": b"22", "b": b"3"})

        outputs = bucket.outputs("DeleteList", prefix="a/", filter="FILES", concurrent=2)
        empty = bucket.outputs("DeleteList", prefix="a/", filter="FILES")

        assert outputs == {"count": 2, "size": 3}
        assert empty == {"count": 0, "size": 0}
        assert bucket.keys() == ["a/", "b"]

    def test_given_nothing_that_matches_then_error_on_empty_fails(self, bucket: Bucket) -> None:
        log = bucket.failure("DeleteList", prefix="a/", errorOnEmpty=True)

        assert f"No object of s3://{bucket.name} matches." in log

    def test_given_a_bucket_that_is_not_there_then_it_says_so(self, bucket: Bucket) -> None:
        for kind in ("Delete", "DeleteList", "List", "Downloads"):
            log = bucket.failure(kind, bucket="no-such-bucket-here", **({"key": "k"} if kind == "Delete" else {}))
            assert "There is no bucket 'no-such-bucket-here'." in log


class TestCreateBucket:
    def test_given_a_name_then_the_bucket_is_there_and_no_second_one(self, bucket: Bucket) -> None:
        name = f"{bucket.name}-made"

        outputs = bucket.outputs("CreateBucket", bucket=name)
        log = bucket.failure("CreateBucket", bucket=name)

        assert outputs == {"bucket": name, "region": REGION}
        assert bucket.server.keys(name) == []
        assert "BucketAlreadyOwnedByYou" in log


TASKS: dict[str, dict[str, Any]] = {
    "Upload": {"from": "FILE", "key": "k"},
    "Download": {"key": "k"},
    "Downloads": {},
    "List": {},
    "Copy": {"from": {"bucket": "some-bucket", "key": "k"}, "to": {"key": "l"}},
    "Delete": {"key": "k"},
    "DeleteList": {},
    "CreateBucket": {"bucket": "some-bucket"},
}


class TestConnection:
    """Each type with logins that are wrong, and with nobody who answers."""

    def failure(self, bucket: Bucket, kind: str, **properties: Any) -> str:
        given = {**TASKS[kind], **properties}
        if given.get("from") == "FILE":
            given["from"] = bucket.store(b"1")
        return bucket.failure(kind, **given)

    @pytest.mark.parametrize("kind", TASKS)
    def test_given_wrong_credentials_then_it_says_so_and_what_to_check(self, bucket: Bucket, kind: str) -> None:
        unknown = self.failure(bucket, kind, accessKeyId="AKIANOBODY", secretKeyId="hunter2-hunter2")
        wrong = self.failure(bucket, kind, secretKeyId="hunter2-hunter2")

        head = kind == "Copy"  # which asks for the size first, and S3 gives no reasons there
        assert ("403" if head else "InvalidAccessKeyId") in unknown
        assert ("403" if head else "SignatureDoesNotMatch") in wrong
        assert "Check " in unknown
        assert "Check " in wrong
        assert "hunter2" not in unknown + wrong

    @pytest.mark.parametrize("kind", TASKS)
    def test_given_nobody_who_answers_then_it_says_so(self, bucket: Bucket, kind: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = f"http://127.0.0.1:{server.getsockname()[1]}"

        log = self.failure(bucket, kind, endpointOverride=address)

        assert f"There is no connection to {address}" in log
        assert "Connection refused. Check 'region' and 'endpointOverride', and that the store runs." in log

    def test_given_a_region_that_is_none_then_it_says_so(self, bucket: Bucket) -> None:
        log = bucket.failure("List", region="no region")

        assert "'no region' doesn't match a supported format. Check 'region': it is a name such as eu-central-1." in log

    def test_given_half_of_a_login_then_it_says_what_is_missing(self, bucket: Bucket) -> None:
        log = bucket.failure("List", secretKeyId=None)

        assert "secretKeyId is missing: accessKeyId and secretKeyId belong together." in log

    def test_given_no_credentials_at_all_then_it_says_where_they_can_come_from(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))

        log = bucket.failure("List", accessKeyId=None, secretKeyId=None)

        assert "There are no AWS credentials. Set accessKeyId and secretKeyId" in log

    def test_given_endpoint_and_login_of_the_environment_then_they_are_used_and_masked(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bucket.put(a="1")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", bucket.server.address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", bucket.server.key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", bucket.server.secret)
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
        task = {"id": "s3", "type": f"{S3}.List", "bucket": bucket.name}
        tell = {"id": "tell", "type": "io.kestra.plugin.core.log.Log", "message": f"it is {bucket.server.secret}"}

        ran = bucket.home.run(flow(task, tell))

        assert [one["key"] for one in ran.run_of("s3").outputs["objects"]] == ["a"]
        assert bucket.server.secret not in ran.log_of("tell")
        assert "**masked**" in ran.log_of("tell")

    def test_given_a_profile_then_its_login_is_used(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        path = tmp_path / "credentials"
        path.write_text(
            f"[reports]\naws_access_key_id={bucket.server.key}\naws_secret_access_key={bucket.server.secret}\n"
        )
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
        given: dict[str, Any] = {"accessKeyId": None, "secretKeyId": None}

        found = bucket.outputs("List", profile="reports", **given)
        log = bucket.failure("List", profile="other", **given)

        assert found == {"objects": []}
        assert "The config profile (other) could not be found. Check 'profile'" in log

    def test_given_a_role_then_it_is_assumed_and_its_credentials_are_masked(self, bucket: Bucket) -> None:
        if not bucket.server.role:
            pytest.skip("this server has no roles")
        bucket.put(a="1")
        role = {
            "stsRoleArn": bucket.server.role,
            "stsRoleExternalId": "external",
            "stsRoleSessionName": "tests",
            "stsRoleSessionDuration": "PT20M",
            "stsEndpointOverride": bucket.server.address,
        }

        found = bucket.outputs("List", **role)
        short = bucket.failure("List", **{**role, "stsRoleSessionDuration": "soon"})
        wrong = bucket.failure("List", **{**role, "secretKeyId": "hunter2-hunter2"})

        assert [one["key"] for one in found["objects"]] == ["a"]
        assert "stsRoleSessionDuration: " in short
        assert "S3 refused AssumeRole: SignatureDoesNotMatch" in wrong

    def test_given_a_session_token_then_it_is_sent(self, bucket: Bucket) -> None:
        from tests.s3 import a_client

        if not bucket.server.role:
            pytest.skip("this server has no roles")
        with closing(a_client("sts", bucket.server.address, bucket.server.key, bucket.server.secret)) as sts:
            given = sts.assume_role(RoleArn=bucket.server.role, RoleSessionName="tests")["Credentials"]
        login = {"accessKeyId": given["AccessKeyId"], "secretKeyId": given["SecretAccessKey"]}

        found = bucket.outputs("List", **login, sessionToken=given["SessionToken"])
        log = bucket.failure("List", **login, sessionToken="hunter2-hunter2")

        assert found == {"objects": []}
        assert "S3 refused ListObjectsV2" in log
        assert "hunter2" not in log


class Cutting:
    """A store whose answers to a GET break off in the middle, the first *times* of them."""

    def __init__(self, content: bytes, times: int) -> None:
        self.content = content
        self.times = times
        self.asked: list[str] = []

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        span = headers.get("range", f"bytes=0-{len(self.content) - 1}")
        self.asked.append(span)
        first, last = map(int, span.removeprefix("bytes=").split("-"))
        content = self.content[first : last + 1]
        sent = {"Content-Length": str(len(content)), "ETag": '"tag"', "Last-Modified": "Wed, 02 Jan 2030 10:00:00 GMT"}
        if self.times > 0:
            self.times -= 1
            content = content[: len(content) // 2]
        return 206 if "range" in headers else 200, sent, content


class TestBrokenTransfers:
    @pytest.mark.parametrize("size", [100, LARGE])
    def test_given_a_connection_that_is_cut_then_the_rest_is_asked_for_again(self, bucket: Bucket, size: int) -> None:
        store = Cutting(os.urandom(size), times=3)

        with http_server(store.answer) as address:
            outputs = bucket.outputs("Download", key="k", endpointOverride=address)

        assert bucket.home.read(outputs["uri"]) == store.content

    def test_given_a_connection_that_is_always_cut_then_nothing_half_written_is_left(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tercel.plugins.aws.streams._PAUSE_S", 0.001)
        store = Cutting(os.urandom(LARGE), times=1000)

        with http_server(store.answer) as address:
            log = bucket.failure("Download", key="k", endpointOverride=address)

        place = f"s3://{bucket.name}/k"
        said = rf"The connection broke 5 times while {place} was fetched, at byte [\d,]+ of {LARGE:,}\. Try again\."
        assert re.search(said, log)

    def test_given_a_store_that_says_nothing_then_a_kill_ends_the_task_before_it_asks_again(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tercel.plugins.aws.connection._READ_S", 1)
        with stalling_server() as (address, has_asked):
            execution_id = bucket.home.start(flow(bucket.node("List", endpointOverride=address)))
            until(has_asked)
            bucket.home.engine.call(bucket.home.engine.operations.kill(execution_id))
            ran = bucket.home.wait(execution_id)

        assert ran.state == "KILLED"


SECRET = "open-sesame-of-s3/+"


def test_given_a_secret_then_it_is_in_no_database_no_log_and_no_list_of_processes(
    tmp_path: Path, s3_server: S3Server
) -> None:
    home = tmp_path / "home"
    path = tmp_path / "flow.yaml"
    login = {"accessKeyId": s3_server.key, "secretKeyId": "{{ secret('S3') }}", "region": REGION}
    seen: list[str] = []

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        seen.append(subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout)
        said = f"<Error><Code>SignatureDoesNotMatch</Code><Message>Not signed with {SECRET}</Message></Error>"
        return 403, {"Content-Type": "application/xml"}, said.encode()

    with http_server(answer) as address:
        node = {"id": "s3", "type": f"{S3}.List", "bucket": "bucket", **login, "endpointOverride": address}
        path.write_text(flow(echo("before", "x"), node))
        done = tercel("run", path, home=home, env={"SECRET_S3": b64encode(SECRET.encode()).decode()})

    assert done.returncode == 1
    assert "SignatureDoesNotMatch: Not signed with **masked**" in done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert seen
    assert not any(SECRET in processes for processes in seen)
    for each in home.rglob("*"):
        if each.is_file():
            assert SECRET.encode() not in each.read_bytes(), each


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes."""
    path = tmp_path / "disk"
    path.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(path)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk takes root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize("kind", ["Download", "Downloads"])
def test_given_a_full_disk_then_nothing_half_written_is_left_and_no_object_is_lost(
    small_disk: Path, tmp_path: Path, s3_server: S3Server, kind: str
) -> None:
    bucket = s3_server.bucket()
    s3_server.put(bucket, {"large": bytes(40 << 20)})
    action = {"key": "large"} if kind == "Download" else {"action": "DELETE"}
    path = tmp_path / "flow.yaml"
    path.write_text(flow({"id": "s3", "type": f"{S3}.{kind}", "bucket": bucket, **s3_server.login, **action}))
    storage = small_disk / "storage"

    done = tercel("run", path, home=tmp_path / "home", env={"TERCEL_STORAGE_DIR": str(storage)})

    said = f"s3://{bucket}/large cannot be stored: No space left on device. Look at the disk of internal storage."
    assert done.returncode == 1
    assert said in done.stdout + done.stderr
    assert [each for each in storage.rglob("*") if each.is_file()] == []
    assert s3_server.keys(bucket) == ["large"]


def test_given_no_library_then_it_says_how_to_install_it(tmp_path: Path, s3_server: S3Server) -> None:
    (tmp_path / "hidden" / "botocore").mkdir(parents=True)
    (tmp_path / "hidden" / "botocore" / "__init__.py").write_text("raise ImportError('hidden')\n")
    path = tmp_path / "flow.yaml"
    path.write_text(flow({"id": "s3", "type": f"{S3}.List", "bucket": "bucket"}))

    done = subprocess.run(
        command("run", path),
        env=environment(tmp_path / "home", {"PYTHONPATH": str(tmp_path / "hidden")}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert "S3 tasks need the library boto3. Install it: pip install 'tercel[aws]'." in done.stdout + done.stderr


def test_given_an_upload_that_is_killed_then_no_parts_are_left(bucket: Bucket) -> None:
    content = bucket.store(os.urandom(8 * (8 << 20)))
    execution_id = bucket.home.start(flow(bucket.node("Upload", **{"from": content, "key": "k"})))
    until(lambda: bool(bucket.server.uploads(bucket.name)) or not _is_open(bucket.home, execution_id))
    with suppress(Exception):
        bucket.home.engine.call(bucket.home.engine.operations.kill(execution_id))

    ran = bucket.home.wait(execution_id)

    assert ran.state in {"KILLED", "SUCCESS"}
    assert bucket.server.uploads(bucket.name) == []
    assert bucket.keys() == ([] if ran.state == "KILLED" else ["k"])


def _is_open(home: Home, execution_id: str) -> bool:
    return home.engine.call(home.engine.queries.get_execution(execution_id)).is_open
