"""Secrets and masking."""

from __future__ import annotations

import json
import shlex
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercel.secrets import Masker, Secrets, Vault


def encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


class TestSecrets:
    def test_given_the_environment_then_names_are_found_in_either_case(self) -> None:
        secrets = Secrets.from_environment(
            {"SECRET_MY_KEY": encoded("väl\nue"), "secret_low": encoded("x"), "HOME": "/"}
        )

        assert secrets.find("my_key") == "väl\nue"
        assert secrets.find("LOW") == "x"
        assert secrets.find("HOME") is None
        assert secrets.names() == ["LOW", "MY_KEY"]
        assert secrets.problems == ()

    def test_given_line_breaks_in_the_base64_then_they_are_ignored(self) -> None:
        text = encoded("a longer secret")

        assert Secrets.from_environment({"SECRET_A": f"{text[:5]}\n{text[5:]}\n"}).find("A") == "a longer secret"

    @pytest.mark.parametrize("value", ["not base64!", encoded("x") + "=", b64encode(b"\xff\xfe").decode()])
    def test_given_a_value_that_cannot_be_read_then_it_is_absent_and_said(self, value: str) -> None:
        secrets = Secrets.from_environment({"SECRET_BAD": value, "SECRET_GOOD": encoded("y")})

        assert secrets.find("BAD") is None
        assert secrets.find("GOOD") == "y"
        assert secrets.problems == ("SECRET_BAD is not Base64 of a UTF-8 text; there is no such secret until it is.",)


class TestMasker:
    @pytest.mark.parametrize(
        ("secret", "masked"), [("abc", "***"), ("12345678", "********"), ("123456789012", "**masked****")]
    )
    def test_given_a_secret_then_stars_as_many_as_characters_stand_for_it(self, secret: str, masked: str) -> None:
        masker = Masker()
        masker.add(secret)

        assert masker.mask(f"<{secret}>") == f"<{masked}>"

    @pytest.mark.parametrize(
        "disguise",
        [
            encoded,
            lambda text: urlsafe_b64encode(text.encode()).decode(),
            lambda text: quote(text, safe=""),
            quote,
            lambda text: json.dumps({"x": text}),
            lambda text: json.dumps(text, ensure_ascii=False),
            lambda text: encoded(f"user:{text}"),
            lambda text: encoded(f"me:{text}@x"),
            lambda text: encoded(f"{text}:tail"),
            lambda text: f"{text}\n",
        ],
    )
    def test_given_a_disguise_then_nothing_of_the_secret_shows(self, disguise: object) -> None:
        secret = 'pä?>s"s/w+rd~ with\tmore'
        masker = Masker()
        masker.add(secret)
        disguised: str = disguise(secret)  # type: ignore[operator]

        assert "*" * 5 in masker.mask(disguised)

    def test_given_a_secret_of_several_lines_then_each_line_is_masked(self) -> None:
        masker = Masker()
        masker.add("first-line-of-key\nsecond-line-of-key\nx\n")

        assert masker.mask("second-line-of-key") == "**masked**********"
        assert masker.mask("x") == "x"

    def test_given_a_secret_inside_another_then_the_longer_one_is_masked_whole(self) -> None:
        masker = Masker()
        masker.add("pass")
        masker.add("password")

        assert masker.mask("password pass") == "******** ****"

    @pytest.mark.parametrize("blank", ["", " ", "\n"])
    def test_given_blank_text_then_it_is_no_secret(self, blank: str) -> None:
        masker = Masker()
        masker.add(blank)

        assert masker.mask("a b\nc") == "a b\nc"

    @given(st.text(min_size=1, max_size=30), st.text(max_size=20), st.text(max_size=20))
    def test_given_any_secret_then_it_never_shows(self, secret: str, before: str, after: str) -> None:
        masker = Masker()
        masker.add(secret)

        shown = masker.mask(before + secret + after)

        assert not secret.strip() or secret not in shown or set(secret) <= set("*maskedx ")

    @given(st.binary(max_size=9), st.text(min_size=10, max_size=30), st.binary(max_size=9))
    def test_given_a_secret_inside_base64_then_most_of_it_is_masked(self, head: bytes, text: str, tail: bytes) -> None:
        masker = Masker()
        masker.add(text)

        whole = b64encode(head + text.encode() + tail).decode()

        assert not text.strip() or "**masked" in masker.mask(whole) or "********" in masker.mask(whole)


class TestVault:
    @pytest.fixture
    def masker(self) -> Masker:
        masker = Masker()
        masker.add("open-sesame")
        return masker

    def test_given_a_text_without_a_secret_then_it_needs_no_seal(self, masker: Masker, tmp_path: Path) -> None:
        assert Vault(masker, tmp_path / "key").seal("nothing here") is None
        assert not (tmp_path / "key").exists()

    def test_given_a_text_with_a_secret_then_only_the_key_opens_it(self, masker: Masker, tmp_path: Path) -> None:
        sealed = Vault(masker, tmp_path / "key").seal("say open-sesame")
        assert sealed is not None
        again = Masker()

        masked = Vault(again, tmp_path / "key").open(sealed, reveal=False)
        revealed = Vault(again, tmp_path / "key").open(sealed, reveal=True)

        assert b"open-sesame" not in sealed
        assert masked == "say **masked***"
        assert revealed == "say open-sesame"
        assert again.mask("they say open-sesame") == "they **masked*******"
        assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600

    def test_given_another_key_then_the_masked_text_comes(self, masker: Masker, tmp_path: Path) -> None:
        sealed = Vault(masker, tmp_path / "key").seal("say open-sesame")
        assert sealed is not None
        (tmp_path / "other").write_bytes(bytes(32))

        assert Vault(masker, tmp_path / "other").open(sealed, reveal=True) == "say **masked***"
        assert Vault(masker, tmp_path / "nowhere").open(sealed, reveal=True) == "say **masked***"

    def test_given_a_key_of_its_own_then_no_file_is_made_or_asked(self, masker: Masker, tmp_path: Path) -> None:
        sealed = Vault(masker, tmp_path / "key", b"k" * 32).seal("say open-sesame")
        assert sealed is not None

        opened = Vault(Masker(), tmp_path / "other", b"k" * 32).open(sealed, reveal=True)

        assert opened == "say open-sesame"
        assert list(tmp_path.iterdir()) == []

    def test_given_two_vaults_at_once_then_they_share_the_key(self, masker: Masker, tmp_path: Path) -> None:
        one, two = Vault(masker, tmp_path / "key"), Vault(masker, tmp_path / "key")
        sealed = [one.seal("1 open-sesame"), two.seal("2 open-sesame")]

        assert [two.open(text, reveal=True) for text in sealed if text is not None] == [
            "1 open-sesame",
            "2 open-sesame",
        ]


def test_given_quotes_in_a_secret_then_the_shell_and_error_forms_are_hidden_too() -> None:
    secret = "it's-a\\se\"cret"
    masker = Masker()
    masker.add(secret)

    for shown in (shlex.join(["sh", "-c", f"echo {secret}"]), repr(f"x {secret}"), json.dumps(secret)):
        assert "cret" not in masker.mask(shown), shown
