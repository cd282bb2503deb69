"""What a task says of its container, as the engine's API takes it: units, names, and what is refused."""

import base64
import json
from pathlib import Path
from typing import Any, cast

import pytest
from docker.api.client import APIClient

from tercel.plugin_api import TaskFailedError
from tercel.plugins.scripts.docker.configuration import Configuration, configure, labels_for
from tercel.plugins.scripts.docker.engines import EngineClient
from tercel.plugins.scripts.docker.properties import DockerCpu, DockerCredentials, DockerDevice, DockerMemory
from tercel.plugins.scripts.docker.runner import Docker
from tests.run_contexts import DirectoryContext

HUB = "https://index.docker.io/v1/"


@pytest.fixture
def context(tmp_path: Path) -> DirectoryContext:
    return DirectoryContext(tmp_path, variables={"name": "rendered", "size": "2GB", "cpus": "1.5"})


@pytest.fixture(scope="module")
def client() -> EngineClient:
    """The library's client, which asks no engine for what it only writes down."""
    return cast("EngineClient", APIClient(base_url="unix:///nowhere.sock", version="1.41"))


def configured(context: DirectoryContext, **properties: Any) -> Configuration:
    return configure(Docker(**properties), "app", context, keeps_entry_point=False)


class TestImage:
    def test_given_an_image_of_the_runner_then_it_wins_rendered(self, context: DirectoryContext) -> None:
        assert configured(context, image=" {{ name }}:1 ").image == "rendered:1"
        assert configured(context).image == "app"

    def test_given_none_at_all_then_the_message_says_so(self, context: DirectoryContext) -> None:
        with pytest.raises(TaskFailedError) as caught:
            configure(Docker(), " ", context, keeps_entry_point=False)

        assert caught.value.message == "No image is named to run in."
        assert caught.value.hint == "Name one by 'containerImage'."

    @pytest.mark.parametrize(
        ("given", "keeps", "entry_point"),
        [
            (None, False, ()),
            (None, True, None),
            ([""], True, ()),
            ([], True, ()),
            (["/bin/{{ name }}", "-c"], True, ("/bin/rendered", "-c")),
        ],
    )
    def test_given_an_entry_point_then_it_wins_over_the_images_own(
        self, context: DirectoryContext, given: list[str] | None, keeps: bool, entry_point: tuple[str, ...] | None
    ) -> None:
        assert configure(Docker(entry_point=given), "app", context, keeps_entry_point=keeps).entry_point == entry_point


class TestGrace:
    @pytest.mark.parametrize(("given", "grace_s"), [("PT0S", 0), ("PT1M0.5S", 60.5), (" PT2S ", 2)])
    def test_given_a_period_then_it_is_the_grace(self, context: DirectoryContext, given: str, grace_s: float) -> None:
        context.settings["script.kill-grace"] = 7.0

        assert configured(context, kill_grace_period=given).grace_s == grace_s

    def test_given_none_then_it_is_the_workers(self, context: DirectoryContext) -> None:
        assert configured(context).grace_s == 10
        context.settings["script.kill-grace"] = 7.0
        assert configured(context).grace_s == 7

    def test_given_no_period_then_the_message_says_so(self, context: DirectoryContext) -> None:
        with pytest.raises(TaskFailedError) as caught:
            configured(context, kill_grace_period="soon")

        assert caught.value.message == (
            "'killGracePeriod' cannot be used: 'soon' is not a duration; write it like PT15M, PT1H30M or P1D."
        )


class TestHostConfig:
    def made(self, client: EngineClient, context: DirectoryContext, **properties: Any) -> dict[str, Any]:
        return dict(configured(context, **properties).host_config(client))

    def test_given_nothing_then_there_is_nothing_but_the_default(
        self, client: EngineClient, context: DirectoryContext
    ) -> None:
        assert self.made(client, context) == {"NetworkMode": "default"}

    def test_given_texts_then_they_are_rendered(self, client: EngineClient, context: DirectoryContext) -> None:
        made = self.made(
            client,
            context,
            privileged=True,
            network_mode="{{ name }}",
            extra_hosts=["{{ name }}:10.0.0.1"],
            shm_size="{{ size }}",
        )

        assert made == {
            "Privileged": True,
            "NetworkMode": "rendered",
            "ExtraHosts": ["rendered:10.0.0.1"],
            "ShmSize": 2 << 30,
        }

    @pytest.mark.parametrize(
        ("cpus", "nanos"),
        [(1, 10**9), (0.57, 570_000_000), ("0.29", 290_000_000), ("{{ cpus }}", 1_500_000_000), (2.0, 2 * 10**9)],
    )
    def test_given_processors_then_one_is_a_whole_one(
        self, client: EngineClient, context: DirectoryContext, cpus: float | str, nanos: int
    ) -> None:
        assert self.made(client, context, cpu=DockerCpu(cpus=cpus))["NanoCpus"] == nanos

    @pytest.mark.parametrize("cpus", ["many", "inf", "nan", "1,5"])
    def test_given_no_number_of_processors_then_the_message_says_so(self, context: DirectoryContext, cpus: str) -> None:
        with pytest.raises(TaskFailedError, match=f"'cpus' is '{cpus}', which is no number"):
            configured(context, cpu=DockerCpu(cpus=cpus))

    def test_given_sizes_of_memory_then_the_next_unit_is_1024_times_one(
        self, client: EngineClient, context: DirectoryContext
    ) -> None:
        memory = DockerMemory(
            memory="512MB",
            memory_swap="-1",
            memory_reservation="{{ size }}",
            memory_swappiness=10,
            oom_kill_disable=True,
            kernel_memory="1GB",
        )

        made = self.made(client, context, memory=memory)

        assert made == {
            "NetworkMode": "default",
            "Memory": 512 << 20,
            "MemorySwap": -1,
            "MemoryReservation": 2 << 30,
            "MemorySwappiness": 10,
            "OomKillDisable": True,
        }

    @pytest.mark.parametrize(
        ("given", "size"),
        [
            ("1000", 1000),
            ("64k", 64 << 10),
            ("64Kb", 64 << 10),
            ("3mib", 3 << 20),
            (" 1 G ", 1 << 30),
            ("1TB", 1 << 40),
        ],
    )
    def test_given_a_size_then_its_unit_counts_in_any_case(
        self, client: EngineClient, context: DirectoryContext, given: str, size: int
    ) -> None:
        assert self.made(client, context, memory=DockerMemory(memory=given))["Memory"] == size

    @pytest.mark.parametrize(
        ("properties", "message"),
        [
            (
                {"memory": DockerMemory(memory="lots")},
                "'memory' is 'lots', which is not a size such as 500M or 10G.",
            ),
            (
                {"memory": DockerMemory(memory_swap="-2")},
                "'memorySwap' is '-2', which is not a size such as 500M or 10G.",
            ),
            (
                {"memory": DockerMemory(memory_reservation="1.5G")},
                "'memoryReservation' is '1.5G', which is not a size such as 500M or 10G.",
            ),
            (
                {"memory": DockerMemory(memory_swappiness="some")},
                "'memorySwappiness' is 'some', which is no whole number.",
            ),
            ({"shm_size": "64X"}, "'shmSize' is '64X', which is not a size such as 500M or 10G."),
        ],
    )
    def test_given_a_value_that_is_none_then_the_message_names_it(
        self, context: DirectoryContext, properties: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(TaskFailedError) as caught:
            configured(context, **properties)

        assert caught.value.message == message

    def test_given_what_the_library_refuses_then_the_task_fails(
        self, client: EngineClient, context: DirectoryContext
    ) -> None:
        with pytest.raises(TaskFailedError) as caught:
            self.made(client, context, network_mode="host", port_bindings=["80:80"])

        assert caught.value.message == (
            'The container cannot be set up so: "host" network_mode is incompatible with port_bindings'
        )

    def test_given_ports_then_they_are_opened(self, client: EngineClient, context: DirectoryContext) -> None:
        ports = ["8080:80", "127.0.0.1:5353:53/udp", "9000", "7000-7001:70-71"]

        configuration = configured(context, port_bindings=ports)

        assert configuration.ports == ["80", ("53", "udp"), "9000", "70", "71"]
        assert configuration.host_config(client)["PortBindings"] == {
            "80/tcp": [{"HostIp": "", "HostPort": "8080"}],
            "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "5353"}],
            "9000/tcp": [{"HostIp": "", "HostPort": ""}],
            "70/tcp": [{"HostIp": "", "HostPort": "7000"}],
            "71/tcp": [{"HostIp": "", "HostPort": "7001"}],
        }

    def test_given_a_port_that_is_none_then_the_message_says_so(self, context: DirectoryContext) -> None:
        with pytest.raises(TaskFailedError, match="'portBindings' cannot be used: Invalid port \"web:80\""):
            configured(context, port_bindings=["web:80"])

    def test_given_devices_then_they_are_asked_for(self, client: EngineClient, context: DirectoryContext) -> None:
        gpus = DockerDevice(driver="nvidia", count=-1, capabilities=[["gpu", "{{ name }}"]])
        one = DockerDevice(device_ids=["{{ name }}"], options={"a": "b"})

        made = self.made(client, context, device_requests=[gpus, one])

        assert made["DeviceRequests"] == [
            {"Driver": "nvidia", "Count": -1, "DeviceIDs": [], "Capabilities": [["gpu", "rendered"]], "Options": {}},
            {"Driver": "", "Count": 0, "DeviceIDs": ["rendered"], "Capabilities": [], "Options": {"a": "b"}},
        ]


class TestVolumes:
    def test_given_no_setting_then_they_are_refused_with_the_way_to_allow_them(self, context: DirectoryContext) -> None:
        with pytest.raises(TaskFailedError) as caught:
            configured(context, volumes=["/data:/data"])

        assert caught.value.message == (
            "The task mounts folders of the machine by 'volumes', and this worker does not allow that."
        )
        assert caught.value.hint == "Whoever runs the worker can: TERCEL_DOCKER_VOLUMES=true."

    def test_given_the_setting_then_they_are_mounted(self, client: EngineClient, context: DirectoryContext) -> None:
        context.settings["docker.volumes"] = True

        made = configured(context, volumes=["/{{ name }}:/data:ro", "/b:/b"]).host_config(client)

        assert made["Binds"] == ["/rendered:/data:ro", "/b:/b"]


class TestLogin:
    def test_given_credentials_then_they_are_rendered_and_masked(self, context: DirectoryContext) -> None:
        context.variables = {"password": "pw", "token": "tok"}
        credentials = DockerCredentials(
            username="user", password="{{ password }}", registry_token="{{ token }}", identity_token=""
        )

        assert configured(context, credentials=credentials).auth == {
            "username": "user",
            "password": "pw",
            "registrytoken": "tok",
            "serveraddress": HUB,
        }
        assert context.mask("user pw tok") == "user *** ***"

    @pytest.mark.parametrize("as_text", [False, True])
    def test_given_a_config_then_all_its_passwords_are_masked(self, context: DirectoryContext, as_text: bool) -> None:
        auth = base64.b64encode(b"me:{{hidden}}").decode()
        config: dict[str, object] = {
            "auths": {"docker.io": {"auth": auth}, "other.example": {"username": "u", "password": "secret"}}
        }

        found = configured(context, config=json.dumps(config) if as_text else config).auth

        assert found == {"username": "me", "password": "{{hidden}}", "serveraddress": HUB}
        assert context.mask(f"me u {auth} {{{{hidden}}}} secret") == "me u *** *** ***"

    def test_given_nothing_then_there_is_no_login_and_no_secret(self, context: DirectoryContext) -> None:
        assert configured(context).auth is None
        assert context.logger.secrets == []


class TestLabels:
    def test_given_a_task_run_then_labels_name_it(self, context: DirectoryContext) -> None:
        context.variables = {
            "flow": {"namespace": "company.team", "id": "flow"},
            "execution": {"id": "ex"},
            "task": {"id": "task"},
            "taskrun": {"id": "run", "attemptsCount": 2},
        }

        assert labels_for(context) == {
            "kestra.io/namespace": "company.team",
            "kestra.io/flow-id": "flow",
            "kestra.io/execution-id": "ex",
            "kestra.io/task-id": "task",
            "kestra.io/taskrun-id": "run",
            "kestra.io/taskrun-attempt": "2",
        }

    def test_given_a_long_value_then_it_is_cut_and_ends_in_a_letter(self, context: DirectoryContext) -> None:
        context.variables = {"flow": {"namespace": "n" * 70, "id": "f" * 60 + "-._" + "g"}, "task": {"id": "t-"}}

        assert labels_for(context) == {
            "kestra.io/namespace": "n" * 63,
            "kestra.io/flow-id": "f" * 60,
            "kestra.io/task-id": "t",
        }

    def test_given_no_task_run_then_there_are_none(self, context: DirectoryContext) -> None:
        context.variables = {"flow": "odd"}

        assert labels_for(context) == {}
