import pytest

from tercel.plugin_api import TaskFailedError
from tercel.plugins.git.connection import clean_folder, is_text_path, joined
from tercel.plugins.git.push import Push
from tercel.plugins.git.push_flows import PushFlows


class TestPaths:
    @pytest.mark.parametrize(
        ("path", "clean"), [("_flows", "_flows"), ("/a//b/", "a/b"), ("./a/.", "a"), (".", ""), (" / ", "")]
    )
    def test_given_a_folder_then_it_is_relative_to_the_root(self, path: str, clean: str) -> None:
        assert clean_folder(path, "gitDirectory") == clean

    @pytest.mark.parametrize("path", ["..", "a/../b", ".git", "a/.git/hooks"])
    def test_given_a_way_out_then_it_is_refused(self, path: str) -> None:
        with pytest.raises(TaskFailedError, match=r"^gitDirectory: '.*' leaves the files of the repository\."):
            clean_folder(path, "gitDirectory")

    def test_given_names_then_they_are_put_together_and_judged(self) -> None:
        assert (joined("a", "b/c"), joined("", "b")) == ("a/b/c", "b")
        assert is_text_path("ä.txt")
        assert not is_text_path(b"\xe9".decode(errors="surrogateescape"))


class TestProblems:
    def messages(self, **properties: object) -> list[str]:
        given = {"id": "a", "type": "x", "url": "https://git.example.com/x.git", **properties}
        return [problem.message for problem in PushFlows(**given).problems()]  # type: ignore[arg-type]

    def test_given_a_secret_then_nothing_is_wrong(self) -> None:
        assert self.messages(username="me", password="{{ secret('X') }}") == []
        assert self.messages(url="https://{{ secret('X') }}:{{ secret('Y') }}@git.example.com/x.git") == []
        assert self.messages(url="git@git.example.com:x.git") == []

    def test_given_a_password_for_all_to_see_then_it_is_told(self) -> None:
        assert self.messages(username="me", password="abc") == ["`password` is written into the flow."]
        assert self.messages(url="https://me:abc@git.example.com/x") == ["`url` has a password in it."]

    def test_given_half_a_login_or_no_address_then_it_is_told(self) -> None:
        assert self.messages(username="me") == ["Git needs `username` and `password` together."]
        assert self.messages(url=None) == ["`url` is missing."]

    def test_given_a_push_without_branch_and_message_then_both_are_told(self) -> None:
        assert [problem.message for problem in Push(id="a", type="x").problems()] == [
            "`branch` is missing.",
            "`commitMessage` is missing.",
        ]
