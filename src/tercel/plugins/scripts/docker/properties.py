"""What a task may say of the container that its commands run in."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from tercel.plugin_api import Dynamic, DynamicDuration, Part, TaskRunner

DOCKER = "io.kestra.plugin.scripts.runner.docker.Docker"


class DockerCredentials(Part, frozen=True, kw_only=True):
    """How to log in at an image registry.

    Attributes:
        registry: its host; that of the image where absent.
        username: of the account.
        password: of the account, or a token in its place.
        registry_token: a token for the registry itself.
        identity_token: a token that stands for user and password.
        auth: user and password as the Base64 form of `USER:PASSWORD`.
    """

    registry: Dynamic | None = None
    username: Dynamic | None = None
    password: Dynamic | None = None
    registry_token: Dynamic | None = None
    identity_token: Dynamic | None = None
    auth: Dynamic | None = None


class DockerCpu(Part, frozen=True, kw_only=True):
    """How much of the processors a container may use.

    Attributes:
        cpus: how many, in decimals: 1.5 is one and a half.
    """

    cpus: float | Dynamic | None = None


class DockerMemory(Part, frozen=True, kw_only=True):
    """How much memory a container may use; sizes such as 512MB, with 1024 to the next unit.

    Attributes:
        memory: the limit.
        memory_swap: memory and swap together; -1 for no limit of swap.
        memory_swappiness: 0 to 100.
        memory_reservation: what it is kept to where the machine is short of memory.
        kernel_memory: accepted; engines have given it up.
        oom_kill_disable: let it wait rather than end it when there is no memory left.
    """

    memory: Dynamic | None = None
    memory_swap: Dynamic | None = None
    memory_swappiness: int | Dynamic | None = None
    memory_reservation: Dynamic | None = None
    kernel_memory: Dynamic | None = None
    oom_kill_disable: bool | None = None

    without_effect: ClassVar[Mapping[str, str]] = {"kernelMemory": "Engines have given it up; use 'memory'."}


class DockerDevice(Part, frozen=True, kw_only=True):
    """Devices, such as GPUs, that a container asks for.

    Attributes:
        driver: such as nvidia.
        count: how many; -1 for all.
        device_ids: these, instead of a number.
        capabilities: what they have to be able to: one of these lists in full.
        options: for the driver.
    """

    driver: Dynamic | None = None
    count: int | None = None
    device_ids: list[Dynamic] = []
    capabilities: list[list[Dynamic]] = []
    options: dict[str, Dynamic] = {}


class DockerProperties(TaskRunner, frozen=True, kw_only=True):
    """What a task may say of its container; what each property means is said by `runner.Docker`."""

    is_container: ClassVar[bool] = True
    former_names: ClassVar[Mapping[str, str]] = {"dockerHost": "host", "dockerConfig": "config"}
    without_effect: ClassVar[Mapping[str, str]] = {
        "resume": "A container whose worker died is removed, and the task runs again."
    }

    type: str = DOCKER
    host: Dynamic | None = None
    config: dict[str, object] | Dynamic | None = None
    credentials: DockerCredentials | None = None
    image: Dynamic | None = None
    user: Dynamic | None = None
    entry_point: list[Dynamic] | None = None
    extra_hosts: list[Dynamic] = []
    network_mode: Dynamic | None = None
    port_bindings: list[Dynamic] = []
    volumes: list[Dynamic] = []
    pull_policy: Literal["ALWAYS", "IF_NOT_PRESENT", "NEVER"] = "IF_NOT_PRESENT"
    device_requests: list[DockerDevice] = []
    cpu: DockerCpu | None = None
    memory: DockerMemory | None = None
    shm_size: Dynamic | None = None
    privileged: bool = False
    file_handling_strategy: Literal["VOLUME", "MOUNT"] | None = None
    delete: bool = True
    wait: bool = True
    kill_grace_period: DynamicDuration | None = None
    resume: bool | None = None
    reuse_container: bool = True
