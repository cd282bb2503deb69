"""Namespace files over HTTP: no path leaves its namespace, archives are not trusted, and large files stream."""

from __future__ import annotations

import http.client
import io
import stat
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import httpx
import pytest

from tests.apis import MAIN, PLAIN, Api
from tests.flows import echo, flow
from tests.homes import Home

FILES = f"{MAIN}/namespaces/company.team/files"
SECRET = b"nobody may read this"

ENDPOINTS = (
    ("GET", "", "path={}"),
    ("GET", "", "path={}&revision=1"),
    ("POST", "", "path={}"),
    ("PUT", "", "from={}&to=/stolen"),
    ("PUT", "", "from=/mine.txt&to={}"),
    ("DELETE", "", "path={}"),
    ("GET", "/directory", "path={}"),
    ("POST", "/directory", "path={}"),
    ("GET", "/stats", "path={}"),
    ("GET", "/revisions", "path={}"),
)

OUTSIDE = (
    "../../other/_files/secret.txt",
    "/../../other/_files/secret.txt",
    "/mine/../../../other/_files/secret.txt",
    "%2e%2e/%2e%2e/other/_files/secret.txt",
    "%2F..%2F..%2Fother%2F_files%2Fsecret.txt",
    "..%2f..%2fother/_files/secret.txt",
    "/./mine.txt",
    "/mine//txt",
    "mine%00.txt",
    "/..",
    "/lib/..",
    "file:%2F%2F%2Fetc%2Fpasswd",
)
"""Paths, as they stand in an address, that have to be refused."""

INSIDE = (
    "{root}/outside.txt",
    "//{root}/outside.txt",
    "%252e%252e%252fother%252f_files%252fsecret.txt",
    "..%5c..%5cother%5c_files%5csecret.txt",
    "/...",
)
"""Paths that look as if they led out, and are no more than odd names inside of the namespace."""


@pytest.fixture
def api(home: Home) -> Iterator[Api]:
    with Api(home) as served:
        home.put_namespace_file("company.other", "secret.txt", SECRET.decode())
        (home.root / "outside.txt").write_bytes(SECRET)
        home.put_namespace_file("company.team", "mine.txt", "mine")
        yield served


def send(api: Api, method: str, address: str, content: bytes = b"new") -> tuple[int, bytes]:
    """A request whose address goes over the wire as it is; what it answers."""
    host, port = api.server.address.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    body, headers = b"", {}
    if method == "POST":
        body = b'--x\r\nContent-Disposition: form-data; name="fileContent"; filename="a"\r\n\r\n'
        body, headers = body + content + b"\r\n--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}
    connection.request(method, address, body=body, headers=headers)
    response = connection.getresponse()
    try:
        return response.status, response.read()
    finally:
        connection.close()


def everything(home: Home) -> dict[str, bytes]:
    """Every file of the home that is not of the namespace, or of the database."""
    kept = (path for path in home.root.rglob("*") if path.is_file() and "team" not in path.parts)
    return {str(path): path.read_bytes() for path in kept if path.suffix in (".txt", "")}


def stored(api: Api) -> list[str]:
    return api.get(f"{FILES}/search").json()


@pytest.mark.parametrize("outside", OUTSIDE)
def test_given_a_path_that_leads_out_then_every_endpoint_refuses_it(api: Api, outside: str) -> None:
    before = everything(api.home)

    for method, path, query in ENDPOINTS:
        status, body = send(api, method, f"{FILES}{path}?{query.format(outside)}")
        assert status == 422, (method, path, body)
        assert SECRET not in body

    assert everything(api.home) == before
    assert stored(api) == ["/mine.txt"]


@pytest.mark.parametrize("inside", INSIDE)
def test_given_an_odd_name_then_no_endpoint_leads_out_by_it(api: Api, inside: str) -> None:
    before = everything(api.home)

    for method, path, query in ENDPOINTS:
        status, body = send(api, method, f"{FILES}{path}?{query.format(inside.format(root=api.home.root))}")
        assert status in (200, 404, 422), (method, path, body)
        assert SECRET not in body

    assert everything(api.home) == before


@pytest.mark.parametrize(
    "namespace",
    [
        "..%2Fcompany%2Fother",
        "company..other",
        ".company.other",
        "company.team%2F..%2Fother",
        "company%2Fother",
        "company.team._files",
        "company.team._versions",
        ".staging",
        "%00",
        "company%0Aother",
        "%2E%2E",
    ],
)
def test_given_a_name_that_is_no_namespace_then_it_has_no_files(api: Api, namespace: str) -> None:
    for method, path, query in ENDPOINTS:
        address = f"{PLAIN}/namespaces/{namespace}/files{path}?{query.format('/secret.txt')}"
        status, body = send(api, method, address)
        assert status == 422, (method, path, body)
        assert SECRET not in body
    for path in ("/search", "/export"):
        assert send(api, "GET", f"{PLAIN}/namespaces/{namespace}/files{path}")[0] == 422


def test_given_a_link_in_the_storage_then_it_is_not_followed(api: Api) -> None:
    folder = Path(api.home.root / "storage" / "company" / "team" / "_files")
    (folder / "link.txt").symlink_to(api.home.root / "outside.txt")
    (folder / "linked").symlink_to(api.home.root)

    for path in ("/link.txt", "/linked/outside.txt"):
        status, body = send(api, "GET", f"{FILES}?path={path}")
        assert status in (404, 422)
        assert SECRET not in body
    assert stored(api) == ["/mine.txt"]
    assert SECRET not in api.get(f"{FILES}/export").content


def an_archive(*entries: tuple[str | ZipInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return packed.getvalue()


def upload(api: Api, content: bytes, name: str = "files.zip") -> httpx.Response:
    return api.post(FILES, params={"path": "/files.zip"}, files={"fileContent": (name, content)})


@pytest.mark.parametrize("name", ["../evil.txt", "/../evil.txt", "a/../../evil.txt", "a//b", "_flows"])
def test_given_an_archive_with_a_name_that_leads_out_then_nothing_of_it_is_stored(api: Api, name: str) -> None:
    response = upload(api, an_archive(("good.txt", b"good"), (name, b"evil")))

    assert response.status_code == 422
    assert stored(api) == ["/mine.txt"]
    assert not list(api.home.root.rglob("evil.txt"))


def test_given_an_archive_with_a_link_then_it_is_a_file(api: Api) -> None:
    link = ZipInfo("link")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16

    assert upload(api, an_archive((link, b"/etc/passwd"))).status_code == 200

    assert api.get(FILES, params={"path": "/link"}).content == b"/etc/passwd"


def test_given_an_archive_that_unpacks_to_too_much_then_it_is_refused(home: Home) -> None:
    with Api(home, most_upload_bytes=1_000_000) as api:
        response = upload(api, an_archive(("zeros", bytes(2_000_000))))

        assert response.status_code == 413
        assert stored(api) == []


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 no archive", an_archive(("a.txt", b"a" * 1000))[:-30]], ids=["empty", "other", "cut"]
)
def test_given_a_file_that_is_no_archive_then_it_is_told(api: Api, content: bytes) -> None:
    response = upload(api, content)

    assert response.status_code == 422
    assert response.json()["message"].startswith("Invalid format: The archive cannot be read")


def test_given_an_archive_whose_content_is_damaged_then_it_is_told(api: Api) -> None:
    damaged = bytearray(an_archive(("a.txt", b"abcdefgh" * 1000)))
    damaged[45] ^= 0xFF

    assert upload(api, bytes(damaged)).status_code == 422


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("/_flows/a.txt", b"id: a", "is no flow"),
        ("/_flows/a.yml", b"\xff", "is no UTF-8 text"),
        ("/_flows/a.yml", b"id: a", "Invalid entity"),
        ("/_flows/a.yml", b"- a", "Invalid entity"),
        ("/_flows", b"id: a", "flows are there"),
    ],
)
def test_given_what_is_no_flow_then_it_is_not_imported(api: Api, path: str, content: bytes, message: str) -> None:
    response = api.post(FILES, params={"path": path}, files={"fileContent": ("a", content)})

    assert response.status_code == 422
    assert message in response.json()["message"]


def test_given_flows_then_they_are_no_files(api: Api) -> None:
    text = flow(echo("say", "x"), id="hello", namespace="other")
    assert api.post(FILES, params={"path": "/_flows/x.yml"}, files={"fileContent": ("x", text)}).status_code == 200

    for method, path, query in ENDPOINTS:
        if method != "POST" or path:
            assert send(api, method, f"{FILES}{path}?{query.format('/_flows/x.yml')}")[0] == 422, (method, path)
    assert stored(api) == ["/mine.txt"]


def test_given_a_large_file_then_it_comes_back_as_it_was(api: Api) -> None:
    content = bytes(range(256)) * 40_000

    assert api.post(FILES, params={"path": "/big"}, files={"fileContent": ("big", content)}).status_code == 200

    response = api.get(FILES, params={"path": "/big"})
    assert response.headers["content-length"] == str(len(content))
    assert response.content == content
    assert list((api.home.root / "storage" / "company" / "team" / "_versions").rglob(".incoming-*")) == []


def test_given_a_file_and_a_folder_of_the_same_name_then_the_later_one_is_refused(api: Api) -> None:
    assert api.post(FILES, params={"path": "/mine.txt/x"}, files={"fileContent": ("x", b"x")}).status_code == 422
    assert api.post(FILES, params={"path": "/lib/x"}, files={"fileContent": ("x", b"x")}).status_code == 200
    assert api.post(FILES, params={"path": "/lib"}, files={"fileContent": ("x", b"x")}).status_code == 422
    assert api.post(FILES, params={"path": f"/{'x' * 300}"}, files={"fileContent": ("x", b"x")}).status_code == 422

    assert stored(api) == ["/lib/x", "/mine.txt"]


def test_given_secrets_then_only_their_names_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "c2VjcmV0IHZhbHVl")
    monkeypatch.setenv("SECRET_OTHER", "b3RoZXI=")
    with Home(tmp_path) as home, Api(home) as api:
        base = f"{MAIN}/namespaces/company.team"

        page = api.get(f"{base}/secrets", params={"q": "tok"})
        inherited = api.get(f"{base}/inherited-secrets")

        results = [{"key": "TOKEN", "namespace": "company.team"}]
        assert page.json() == {"results": results, "total": 1, "readOnly": True}
        assert inherited.json() == {"company.team": ["OTHER", "TOKEN"]}
        for response in (page, inherited):
            assert "secret value" not in response.text
            assert "c2VjcmV0IHZhbHVl" not in response.text
