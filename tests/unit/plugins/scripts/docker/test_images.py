"""Which registry is asked with which login, and pulls: one at a time for all who wait, tried again, given up on."""

import base64
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import cast

import pytest
import requests
from docker.errors import APIError, NotFound
from urllib3.exceptions import ProtocolError

from tercel.model.task import LogLevel
from tercel.plugin_api import TaskFailedError, TaskKilledError
from tercel.plugins.scripts.docker import images
from tercel.plugins.scripts.docker.engines import EngineClient
from tercel.plugins.scripts.docker.images import Image, auth_for, auths_of, ensure_image, registry_of
from tests.contract.test_task_runner import eventually
from tests.run_contexts import DirectoryContext

HUB = "https://index.docker.io/v1/"
Event = Mapping[str, object]


def an_api_error(text: str, status: int = 500) -> APIError:
    response = requests.Response()
    response.status_code = status
    return (NotFound if status == 404 else APIError)("it failed", response, text)


class Engine:
    """The edge of an engine: has images, and gets them by pulls that go as the test says.

    Attributes:
        answers: of the pulls to come: what is raised, or the events that are sent; none for one that succeeds.
        pulls: the name and login of each so far.
        gate: pulls wait for it.
    """

    def __init__(self, *there: str) -> None:
        self.there = set(there)
        self.answers: list[Exception | Iterable[Event]] = []
        self.pulls: list[tuple[str, object]] = []
        self.gate = threading.Event()
        self.gate.set()

    def inspect_image(self, image: str) -> Mapping[str, object]:
        if image not in self.there:
            raise an_api_error(f"No such image: {image}", 404)
        return {"Id": f"sha256:{image}", "Config": {"User": "7:8", "Entrypoint": ["enter", "-x"]}}

    def pull(self, repository: str, **settings: object) -> Iterator[Event]:
        assert settings["stream"]
        assert settings["decode"]
        self.pulls.append((repository, settings["auth_config"]))
        answer = self.answers.pop(0) if self.answers else ()
        if isinstance(answer, Exception):
            raise answer
        return self._events(repository, answer)

    def _events(self, name: str, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            yield event
            if "error" in event:
                return
        assert self.gate.wait(10)
        self.there.add(name)

    @property
    def client(self) -> EngineClient:
        return cast("EngineClient", self)


@pytest.fixture
def make(tmp_path: Path) -> Callable[[], DirectoryContext]:
    return lambda: DirectoryContext(tmp_path)


@pytest.fixture
def context(make: Callable[[], DirectoryContext]) -> DirectoryContext:
    return make()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between tries, without any waiting."""
    seconds: list[float] = []
    monkeypatch.setattr(images, "_sleep", seconds.append)
    return seconds


def pull(engine: Engine, context: DirectoryContext, *, policy: str = "IF_NOT_PRESENT") -> Image:
    return ensure_image(engine.client, "app", policy, None, context)


class Waiter(threading.Thread):
    """Wants an image, in a thread."""

    def __init__(self, engine: Engine, context: DirectoryContext, auth: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.context = context
        self.image: Image | None = None
        self.error: Exception | None = None
        self._arguments = (engine.client, "app", "IF_NOT_PRESENT", auth, context)
        self.start()

    def run(self) -> None:
        try:
            self.image = ensure_image(*self._arguments)
        except (TaskFailedError, TaskKilledError) as error:
            self.error = error

    @property
    def waits(self) -> bool:
        return any(line.startswith("Pulling") for line in self.context.logger.at())


class TestEnsureImage:
    def test_given_it_is_there_then_it_is_not_pulled(self, context: DirectoryContext) -> None:
        engine = Engine("app")

        assert pull(engine, context) == Image("sha256:app", "7:8", ("enter", "-x"))
        assert engine.pulls == []
        assert context.logger.at() == []

    def test_given_it_is_not_there_then_it_is_pulled(self, context: DirectoryContext) -> None:
        engine = Engine()

        assert pull(engine, context).id == "sha256:app"
        assert engine.pulls == [("app", None)]
        assert context.logger.at() == ["Pulling the image app.", "The image app is there."]

    def test_given_always_then_it_is_pulled_though_it_is_there(self, context: DirectoryContext) -> None:
        engine = Engine("app")

        pull(engine, context, policy="ALWAYS")

        assert len(engine.pulls) == 1

    def test_given_never_when_it_is_not_there_then_the_message_says_so(self, context: DirectoryContext) -> None:
        engine = Engine()

        with pytest.raises(TaskFailedError) as caught:
            pull(engine, context, policy="NEVER")

        assert caught.value.message == "The image 'app' is not there, and 'pullPolicy' is NEVER."
        assert caught.value.hint == "Pull or build it: docker pull app"
        assert engine.pulls == []

    def test_given_a_pull_that_brings_nothing_then_the_task_fails(
        self, context: DirectoryContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = Engine()
        monkeypatch.setattr(engine, "_events", lambda *_: iter(()))

        with pytest.raises(TaskFailedError, match="The image 'app' is not there after it was pulled"):
            pull(engine, context)


class TestPulls:
    def test_given_many_who_wait_then_there_is_one_pull_and_all_see_how_it_goes(
        self, make: Callable[[], DirectoryContext], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(images, "_TELL_EVERY_S", 0.0)
        engine = Engine()
        engine.gate.clear()

        def events() -> Iterator[Event]:
            assert engine.gate.wait(10)
            yield {"id": "a", "status": "Already exists"}
            yield {"id": "b", "status": "Downloading"}
            yield {"status": "Digest: sha256:1"}
            yield {"id": "b", "status": "Pull complete"}

        engine.answers = [events()]
        waiters = [Waiter(engine, make()) for _ in range(8)]
        eventually(lambda: all(waiter.waits for waiter in waiters))
        engine.gate.set()
        for waiter in waiters:
            waiter.join(10)

        assert engine.pulls == [("app", None)]
        assert [waiter.image for waiter in waiters] == [waiters[0].image] * 8
        firsts = sorted(waiter.context.logger.at()[0] for waiter in waiters)
        assert firsts == ["Pulling the image app (a pull is under way)."] * 7 + ["Pulling the image app."]
        for waiter in waiters:
            assert waiter.context.logger.at()[1:] == [
                "Pulling the image app: 1 of 1 layers.",
                "Pulling the image app: 1 of 2 layers.",
                "Pulling the image app: 1 of 2 layers.",
                "Pulling the image app: 2 of 2 layers.",
                "The image app is there.",
            ]

    def test_given_other_logins_or_engines_then_each_has_its_own_pull(
        self, make: Callable[[], DirectoryContext]
    ) -> None:
        one, two = Engine(), Engine()
        one.gate.clear()
        two.gate.clear()

        waiters = [Waiter(one, make()), Waiter(one, make(), {"username": "u"}), Waiter(two, make())]
        eventually(lambda: all(waiter.waits for waiter in waiters))
        eventually(lambda: len(one.pulls) + len(two.pulls) == 3)
        one.gate.set()
        two.gate.set()
        for waiter in waiters:
            waiter.join(10)

        assert sorted(map(str, one.pulls)) == ["('app', None)", "('app', {'username': 'u'})"]
        assert two.pulls == [("app", None)]

    def test_given_a_kill_while_pulling_then_that_task_ends_and_the_pull_goes_on_for_others(
        self, make: Callable[[], DirectoryContext]
    ) -> None:
        engine = Engine()
        engine.gate.clear()
        killed, other = Waiter(engine, make()), Waiter(engine, make())
        eventually(lambda: killed.waits and other.waits)

        killed.context.stop("kill")
        killed.join(10)

        assert isinstance(killed.error, TaskKilledError)
        assert other.is_alive()
        engine.gate.set()
        other.join(10)
        assert other.image is not None
        assert len(engine.pulls) == 1

    def test_given_nobody_who_waits_any_more_then_it_is_not_tried_again(
        self, context: DirectoryContext, slept: list[float]
    ) -> None:
        engine = Engine()
        engine.gate.clear()

        def broken() -> Iterator[Event]:
            assert engine.gate.wait(10)
            raise ProtocolError("broken")
            yield {}

        engine.answers = [broken()]
        context.stop("kill")
        with pytest.raises(TaskKilledError):
            pull(engine, context)
        engine.gate.set()
        for thread in threading.enumerate():
            if thread.name == "tercel-pull":
                thread.join(10)

        assert len(engine.pulls) == 1
        assert slept == []

    @pytest.mark.usefixtures("slept")
    def test_given_a_pull_that_failed_then_the_next_one_is_a_new_one(self, context: DirectoryContext) -> None:
        engine = Engine()
        engine.answers = [an_api_error("manifest unknown", 404)]
        with pytest.raises(TaskFailedError):
            pull(engine, context)

        assert pull(engine, context).id == "sha256:app"
        assert len(engine.pulls) == 2

    def test_given_an_error_that_nobody_thought_of_then_those_who_wait_hear_of_it(
        self, context: DirectoryContext
    ) -> None:
        engine = Engine()
        engine.answers = [KeyError("credsStore")]

        with pytest.raises(TaskFailedError, match="The image 'app' cannot be pulled: 'credsStore'"):
            pull(engine, context)


class TestTries:
    def test_given_passing_trouble_then_it_is_tried_again_after_longer_and_longer_waits(
        self, context: DirectoryContext, slept: list[float]
    ) -> None:
        engine = Engine()
        engine.answers = [
            an_api_error("Get https://registry/v2/: EOF", 500),
            requests.ConnectionError("refused"),
            ProtocolError("broken"),
            ConnectionResetError(104, "reset"),
        ]

        assert pull(engine, context).id == "sha256:app"
        assert slept == [5, 10, 20, 40]
        assert context.logger.at(LogLevel.INFO)[1:5] == [
            "The pull of app failed: Get https://registry/v2/: EOF Trying again in 5 s.",
            "The pull of app failed: the engine does not answer: refused Trying again in 10 s.",
            "The pull of app failed: the engine does not answer: broken Trying again in 20 s.",
            "The pull of app failed: the engine does not answer: [Errno 104] reset Trying again in 40 s.",
        ]

    def test_given_a_connection_that_breaks_in_the_middle_then_it_is_tried_again(
        self, context: DirectoryContext, slept: list[float]
    ) -> None:
        def broken() -> Iterator[Event]:
            yield {"id": "a", "status": "Downloading"}
            raise ProtocolError("broken in the middle")

        engine = Engine()
        engine.answers = [broken()]

        assert pull(engine, context).id == "sha256:app"
        assert slept == [5]

    def test_given_trouble_that_does_not_pass_then_it_is_given_up(
        self, context: DirectoryContext, slept: list[float]
    ) -> None:
        engine = Engine()
        engine.answers = [an_api_error("bad gateway", 502)] * 5

        with pytest.raises(TaskFailedError) as caught:
            pull(engine, context)

        assert caught.value.message == "The image 'app' cannot be pulled: bad gateway"
        assert caught.value.hint == "Check its name, and 'credentials' where its registry is private."
        assert len(slept) == 4
        assert len(engine.pulls) == 5

    @pytest.mark.parametrize(
        ("status", "text"),
        [
            (404, "manifest for app:latest not found: manifest unknown"),
            (400, "invalid reference format"),
            (500, "Get https://registry/v2/app: unauthorized: authentication required"),
            (500, "Head https://registry/v2/app: no basic auth credentials"),
            (500, "pull access denied for app, repository does not exist"),
        ],
    )
    def test_given_what_no_waiting_mends_then_it_is_not_tried_again(
        self, context: DirectoryContext, slept: list[float], status: int, text: str
    ) -> None:
        engine = Engine()
        engine.answers = [an_api_error(text, status)]

        with pytest.raises(TaskFailedError) as caught:
            pull(engine, context)

        assert caught.value.message == f"The image 'app' cannot be pulled: {text}"
        assert slept == []

    def test_given_an_error_with_a_secret_then_it_is_masked_wherever_it_is_told(
        self, context: DirectoryContext, slept: list[float]
    ) -> None:
        context.add_secret("s3cret")
        engine = Engine()
        engine.answers = [an_api_error("no way with s3cret", 503), [{"error": "user:s3cret is wrong"}]]

        with pytest.raises(TaskFailedError) as caught:
            pull(engine, context)

        assert caught.value.message == "The image 'app' cannot be pulled: user:*** is wrong"
        assert context.logger.at()[1] == "The pull of app failed: no way with *** Trying again in 5 s."
        assert slept == [5]


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("ubuntu", HUB),
        ("ubuntu:22.04", HUB),
        ("library/ubuntu", HUB),
        ("docker.io/library/ubuntu", HUB),
        ("index.docker.io/a/b", HUB),
        ("registry-1.docker.io/a/b", HUB),
        ("ghcr.io/a/b:1", "ghcr.io"),
        ("localhost/a", "localhost"),
        ("localhost:5000/a", "localhost:5000"),
        ("127.0.0.1:5000/a/b@sha256:0", "127.0.0.1:5000"),
        ("host:5000/a", "host:5000"),
    ],
)
def test_given_an_image_then_its_registry_is_in_its_name(image: str, registry: str) -> None:
    assert registry_of(image) == registry


def of_64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


CONFIG = {
    "auths": {
        "https://index.docker.io/v1/": {"auth": of_64("hub:pass:word")},
        "ghcr.io": {"username": "cat", "password": "pw", "email": ""},
        "https://there.example/v2/": {"identitytoken": "it", "registrytoken": "rt"},
        "broken.example": "no map",
    }
}


class TestAuthsOf:
    @pytest.mark.parametrize("config", [CONFIG, json.dumps(CONFIG)])
    def test_given_a_map_or_its_text_then_its_logins_are_found(self, config: object) -> None:
        assert auths_of(config) == {
            "https://index.docker.io/v1/": {"auth": of_64("hub:pass:word")},
            "ghcr.io": {"username": "cat", "password": "pw"},
            "https://there.example/v2/": {"identityToken": "it", "registryToken": "rt"},
        }

    @pytest.mark.parametrize("config", [None, "", " \n"])
    def test_given_nothing_then_there_are_none(self, config: object) -> None:
        assert auths_of(config) == {}

    @pytest.mark.parametrize("config", [{}, "[]", "1", {"auths": []}, {"credsStore": "x"}])
    def test_given_something_else_then_the_message_says_what_is_missing(self, config: object) -> None:
        with pytest.raises(TaskFailedError) as caught:
            auths_of(config)

        assert caught.value.message == "'config' has no 'auths'."
        assert caught.value.hint == "Write what is in a Docker config.json."

    def test_given_a_text_that_is_no_json_then_the_message_says_where(self) -> None:
        with pytest.raises(TaskFailedError, match="'config' is no JSON: Expecting value: line 1 column 1"):
            auths_of("user:password")


class TestAuthFor:
    def auth(self, image: str, config: object = None, **credentials: str) -> dict[str, str] | None:
        return auth_for(image, auths_of(config), credentials)

    def test_given_nothing_then_the_engines_own_login_counts(self) -> None:
        assert self.auth("ghcr.io/a") is None
        assert self.auth("other.example/a", CONFIG) is None
        assert self.auth("ghcr.io/a", registry="ghcr.io") is None

    @pytest.mark.parametrize(
        ("image", "login"),
        [
            ("ubuntu", {"username": "hub", "password": "pass:word", "serveraddress": HUB}),
            ("docker.io/a/b", {"username": "hub", "password": "pass:word", "serveraddress": HUB}),
            ("ghcr.io/a", {"username": "cat", "password": "pw", "serveraddress": "ghcr.io"}),
            (
                "there.example/a",
                {"identitytoken": "it", "registrytoken": "rt", "serveraddress": "there.example"},
            ),
        ],
    )
    def test_given_a_config_then_the_login_of_the_images_registry_is_taken(
        self, image: str, login: dict[str, str]
    ) -> None:
        assert self.auth(image, CONFIG) == login

    def test_given_credentials_then_they_are_for_the_images_registry(self) -> None:
        assert self.auth("ghcr.io/a", username="u", password="p") == {
            "username": "u",
            "password": "p",
            "serveraddress": "ghcr.io",
        }
        assert self.auth("a", registryToken="r", identityToken="i") == {
            "registrytoken": "r",
            "identitytoken": "i",
            "serveraddress": HUB,
        }

    @pytest.mark.parametrize("registry", ["ghcr.io", "https://ghcr.io", "ghcr.io/v2/", " ghcr.io "])
    def test_given_the_registry_in_another_form_then_it_is_the_same(self, registry: str) -> None:
        auth = self.auth("ghcr.io/a", registry=registry, username="u")

        assert auth == {"username": "u", "serveraddress": "ghcr.io"}

    def test_given_credentials_of_another_registry_then_they_are_told_to_nobody(self) -> None:
        assert self.auth("ubuntu", registry="ghcr.io", username="u", password="p") is None

    def test_given_both_then_the_credentials_win(self) -> None:
        auth = self.auth("ghcr.io/a", CONFIG, auth=of_64("u:p"))

        assert auth == {"username": "u", "password": "p", "serveraddress": "ghcr.io"}

    @pytest.mark.parametrize("text", ["not base64", "a", of_64("no colon"), base64.b64encode(b"\xff:\xff").decode()])
    def test_given_an_auth_that_is_none_then_the_message_says_so_without_it(self, text: str) -> None:
        with pytest.raises(TaskFailedError) as caught:
            self.auth("ghcr.io/a", auth=text)

        assert caught.value.message == "'auth' of the registry's credentials is not the Base64 form of USER:PASSWORD."
