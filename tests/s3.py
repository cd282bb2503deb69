"""An S3 server for tests: `minio` where it is on the path, else the server of moto, as a process of its own.

Either listens on loopback, checks who asks, and ends with the test run. Tests use buckets of names of their own.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

REGION = "eu-central-1"
DEADLINE_S = 60.0
_EVERYTHING = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'
_UNCHECKED = 5
_numbers = count(1)


class S3Server:
    """A server that runs, and a client of it that may do everything.

    Attributes:
        address: its URL.
        key: who may do everything.
        secret: the secret that belongs to *key*.
        role: ARN of a role that may do everything, where the server has roles; else "".
    """

    def __init__(self, address: str, key: str, secret: str, role: str = "") -> None:
        self.address = address
        self.key = key
        self.secret = secret
        self.role = role
        self.client = cast("S3Client", a_client("s3", address, key, secret))

    @property
    def login(self) -> dict[str, Any]:
        """The properties of a task that asks it."""
        return {
            "accessKeyId": self.key,
            "secretKeyId": self.secret,
            "region": REGION,
            "endpointOverride": self.address,
        }

    def bucket(self, name: str = "bucket") -> str:
        """A new bucket; its name."""
        bucket = f"{name}-{os.getpid()}-{next(_numbers)}"
        self.make(bucket)
        return bucket

    def make(self, bucket: str) -> None:
        self.client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})

    def put(self, bucket: str, objects: Mapping[str, bytes | str]) -> None:
        for key, content in objects.items():
            self.client.put_object(Bucket=bucket, Key=key, Body=content)

    def keys(self, bucket: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [one["Key"] for page in pages for one in page.get("Contents", ()) if "Key" in one]

    def get(self, bucket: str, key: str) -> bytes:
        with self.client.get_object(Bucket=bucket, Key=key)["Body"] as body:
            return body.read()

    def uploads(self, bucket: str) -> list[str]:
        """The keys of uploads in parts that are neither completed nor aborted."""
        found: Sequence[Any] = self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())
        return [one["Key"] for one in found]


def a_client(service: Any, address: str, key: str = "any", secret: str = "any") -> Any:
    return boto3.session.Session().client(
        service,
        endpoint_url=address,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name=REGION,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, connect_timeout=5),
    )


@contextmanager
def running_server(*, is_open: bool = False) -> Iterator[S3Server]:
    """Start a server, and end it afterwards; one that *is_open* need not check who asks, which is quicker."""
    minio = shutil.which("minio")
    with _moto(is_open=is_open) if minio is None else _minio(minio) as server, closing(server.client):
        yield server


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@contextmanager
def _moto(*, is_open: bool) -> Iterator[S3Server]:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    env = {"INITIAL_NO_AUTH_ACTION_COUNT": "inf" if is_open else str(_UNCHECKED), "PYTHONWARNINGS": "ignore"}
    with _process(command, env, port):
        with closing(a_client("iam", address)) as iam:
            iam.create_user(UserName="tester")
            iam.put_user_policy(UserName="tester", PolicyName="all", PolicyDocument=_EVERYTHING)
            role = iam.create_role(RoleName="taker", AssumeRolePolicyDocument=_EVERYTHING)["Role"]["Arn"]
            iam.put_role_policy(RoleName="taker", PolicyName="all", PolicyDocument=_EVERYTHING)
            made = iam.create_access_key(UserName="tester")["AccessKey"]
        yield S3Server(address, made["AccessKeyId"], made["SecretAccessKey"], role)


@contextmanager
def _minio(program: str) -> Iterator[S3Server]:
    port = free_port()
    key, secret = "tester", "open-sesame-9000"
    with tempfile.TemporaryDirectory() as folder:
        env = {"MINIO_ROOT_USER": key, "MINIO_ROOT_PASSWORD": secret}
        with _process([program, "server", folder, "--address", f"127.0.0.1:{port}"], env, port):
            server = S3Server(f"http://127.0.0.1:{port}", key, secret)
            _until_it_answers(server)
            yield server


def _until_it_answers(server: S3Server) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            server.client.list_buckets()
        except (BotoCoreError, ClientError):
            assert time.monotonic() < deadline, "the S3 server does not answer"
            time.sleep(0.05)
        else:
            return


@contextmanager
def _process(command: Sequence[str], env: Mapping[str, str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
            except OSError:
                assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
                assert time.monotonic() < deadline, "the S3 server does not start"
                time.sleep(0.02)
            else:
                break
        yield
    finally:
        process.kill()
        process.wait()
