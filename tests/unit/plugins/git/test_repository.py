import pytest

from tercel.plugins.git.repository import commit_url


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://github.com/team/flows.git", "https://github.com/team/flows/commit/abc"),
        ("https://github.example.com/team/flows", "https://github.example.com/team/flows/commit/abc"),
        ("git@github.com:team/flows.git", "https://github.com/team/flows/commit/abc"),
        ("ssh://git@gitlab.com:22/a/b/flows.git", "https://gitlab.com/a/b/flows/-/commit/abc"),
        ("https://me:word@bitbucket.org/team/flows.git", "https://bitbucket.org/team/flows/commits/abc"),
        ("https://codeberg.org/team/flows.git/", "https://codeberg.org/team/flows/commit/abc"),
        ("https://git.example.com/team/flows.git", None),
        ("https://notgithub.com/team/flows.git", None),
        ("file:///srv/github/flows.git", None),
        ("/srv/github.com/flows.git", None),
        ("../flows", None),
    ],
)
def test_given_an_address_then_the_page_of_a_commit_is_known_for_well_known_hosts(url: str, page: str | None) -> None:
    assert commit_url(url, "abc") == page
