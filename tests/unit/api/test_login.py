"""Who may use the API, and from where."""

from __future__ import annotations

import hashlib
import stat
from base64 import b64encode
from pathlib import Path

import pytest

from tercel.api.login import Login, credential_problems
from tercel.api.options import Options
from tercel.api.origins import check_origin, origin_headers
from tercel.api.problems import RequestError
from tercel.errors import StorageError

ME, SECRET = "me@example.com", "Secret123"


def basic(username: str, password: str) -> str:
    return f"Basic {b64encode(f'{username}:{password}'.encode()).decode()}"


class TestLogin:
    def test_given_nothing_then_nobody_has_to_sign_in(self) -> None:
        assert not Login().is_required

    def test_given_credentials_that_are_switched_off_then_nobody_has_to_sign_in(self) -> None:
        assert not Login(username=ME, password=SECRET, is_off=True).is_required

    def test_given_a_configured_user_then_only_that_one_signs_in(self) -> None:
        login = Login(username=ME, password=SECRET)

        assert login.is_required
        assert login.user_of(basic(ME, SECRET)) == ME
        for wrong in (basic(ME, "x"), basic("x", SECRET), basic("", ""), "Basic §", "Basic", "", f"Bearer {SECRET}"):
            assert login.user_of(wrong) is None

    def test_given_tokens_then_they_sign_in_as_they_are_or_by_their_hash(self) -> None:
        login = Login(tokens=["one", f"sha256:{hashlib.sha256(b'two').hexdigest()}"])

        assert login.user_of("Bearer one") == "token"
        assert login.user_of("bearer two") == "token"
        assert login.user_of(f"Bearer {hashlib.sha256(b'two').hexdigest()}") is None
        assert login.user_of(basic("", "one")) is None

    def test_given_a_kept_login_then_it_outlives_the_process_and_wins_and_is_hashed(self, tmp_path: Path) -> None:
        file = tmp_path / "login.json"
        Login(username="old@example.com", password="Old12345", file=file).keep(ME, SECRET)

        login = Login(username="old@example.com", password="Old12345", file=file)

        assert login.user_of(basic(ME, SECRET)) == ME
        assert login.user_of(basic(ME, SECRET)) == ME
        assert login.user_of(basic(ME, "x")) is None
        assert login.user_of(basic("old@example.com", "Old12345")) is None
        assert SECRET not in file.read_text()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    def test_given_another_login_then_the_former_one_is_forgotten(self, tmp_path: Path) -> None:
        login = Login(file=tmp_path / "login.json")
        login.keep(ME, SECRET)
        assert login.user_of(basic(ME, SECRET)) == ME

        login.keep(ME, "Another1")

        assert login.user_of(basic(ME, SECRET)) is None
        assert login.user_of(basic(ME, "Another1")) == ME

    def test_given_a_damaged_file_then_nobody_is_let_in(self, tmp_path: Path) -> None:
        (tmp_path / "login.json").write_text("{}")

        with pytest.raises(StorageError, match="cannot be read"):
            Login(file=tmp_path / "login.json")

    @pytest.mark.parametrize(
        ("path", "is_open"),
        [
            ("/ping", True),
            ("/pingx", False),
            ("/ping/x", False),
            ("/api/v1/executions/webhook/a/b/c", True),
            ("/api/v1/main/executions/webhook/a/b/c", True),
            ("/api/v1/executions/webhook", False),
            ("/open/x", True),
            ("/api/v1/flows/search", False),
        ],
    )
    def test_given_a_path_then_it_is_open_or_not(self, path: str, is_open: bool) -> None:
        assert Login(open_paths=["/open/"]).is_open(path) is is_open


@pytest.mark.parametrize(
    ("username", "password", "count"),
    [(ME, SECRET, 0), ("admin", SECRET, 1), ("a@b", SECRET, 1), (ME, "", 1), (ME, "x" * 257, 1), ("a b@c.d", "", 2)],
)
def test_given_credentials_then_their_problems_are_told(username: str, password: str, count: int) -> None:
    assert len(credential_problems(username, password)) == count


class TestOrigins:
    own = Options(login=Login(), is_local=True)
    behind_login = Options(
        login=Login(username=ME, password=SECRET), is_local=False, allowed_origins=("https://tools.example",)
    )

    @pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "localhost", "a.localhost:1"])
    def test_given_a_name_of_this_machine_then_it_is_answered(self, host: str) -> None:
        check_origin("POST", {"host": host, "origin": f"http://{host}"}, self.own)

    @pytest.mark.parametrize(
        "host", ["evil.example:8080", "", "127.0.0.1.evil.example", "::1", "localhost.evil.example"]
    )
    def test_given_another_name_of_an_open_server_then_nobody_reads_it(self, host: str) -> None:
        if host == "::1":
            host = "[::2]:8080"
        with pytest.raises(RequestError) as refused:
            check_origin("GET", {"host": host}, self.own)

        assert refused.value.status == 403

    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://server.example:81", ""])
    def test_given_a_foreign_page_then_it_changes_nothing(self, origin: str) -> None:
        headers = {"host": "server.example", "origin": origin}

        check_origin("GET", headers, self.behind_login)
        with pytest.raises(RequestError):
            check_origin("DELETE", headers, self.behind_login)

    def test_given_an_allowed_page_then_it_may_and_its_browser_is_told(self) -> None:
        headers = {"host": "server.example", "origin": "https://tools.example"}

        check_origin("POST", headers, self.behind_login)

        told = origin_headers("GET", headers, self.behind_login)
        assert told["Access-Control-Allow-Origin"] == "https://tools.example"
        assert origin_headers("GET", {**headers, "origin": "https://evil.example"}, self.behind_login) == {}
        asked = {**headers, "access-control-request-headers": "authorization"}
        assert origin_headers("OPTIONS", asked, self.behind_login)["Access-Control-Allow-Headers"] == "authorization"
