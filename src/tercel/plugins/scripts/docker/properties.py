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
    """Run the commands of a script in a container, by Docker or any engine that speaks its API, such as Podman.

    The container sees the working directory at the same path, with modes and links: as a mount where the engine sees
    the worker's files, else copied in and back. Inside a WorkingDirectory, tasks with the same image and settings
    share one container.

    Attributes:
        host: address of the engine; `DOCKER_HOST`, or the usual sockets, where absent.
        config: registries' logins, as in a Docker config.json: a map, or its text.
        credentials: login at the image's registry.
        image: of the container; the task's `containerImage` where absent.
        user: whom the commands run as, a name or number, with `:GROUP`; the image's own where absent.
        entry_point: program and arguments that get the command as further arguments.
        extra_hosts: `HOST:ADDRESS`, known in the container.
        network_mode: such as bridge, host, none or the name of a network.
        port_bindings: `[IP:]HOST_PORT:PORT[/PROTOCOL]`, ports of the container opened to the machine.
        volumes: `HOST_PATH:PATH[:MODE]`; only where the worker's setting TERCEL_DOCKER_VOLUMES allows it.
        pull_policy: when to pull the image.
        device_requests: devices such as GPUs.
        cpu: limit of processors.
        memory: limits of memory.
        shm_size: size of `/dev/shm`, such as 64MB.
        privileged: give the container all rights on the machine.
        file_handling_strategy: MOUNT shows the working directory to the container, VOLUME copies it in and back.
        delete: remove the container afterwards.
        wait: False to start it and go on at once.
        kill_grace_period: on a kill or timeout, the time between the request to end and the end by force.
        resume: accepted from other flows.
        reuse_container: False for a container of its own inside a WorkingDirectory, too.
    """

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
