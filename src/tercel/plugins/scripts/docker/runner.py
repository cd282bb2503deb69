"""scripts.runner.docker.Docker: the task runner for containers. What it does is loaded when it runs."""

from collections.abc import Callable, Mapping
from typing import Literal

from tercel.plugin_api import Command, RunContext, plugin
from tercel.plugins.scripts.docker.properties import DOCKER, DockerProperties

__all__ = ["DOCKER", "Docker"]


@plugin(DOCKER)
class Docker(DockerProperties, frozen=True, kw_only=True):
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

    Example:
        tasks:
          - id: report
            type: io.kestra.plugin.scripts.shell.Commands
            containerImage: ubuntu
            taskRunner:
              type: io.kestra.plugin.scripts.runner.docker.Docker
              pullPolicy: IF_NOT_PRESENT
              memory:
                memory: 256MB
              cpu:
                cpus: 0.5
            commands:
              - echo "Runs on $(uname)" > where.txt
            outputFiles:
              - where.txt
    """

    def run(
        self,
        command: Command,
        context: RunContext,
        on_output: Callable[[Literal["stdout", "stderr"], bytes], None],
    ) -> int:
        """Run *command* in a container; its exit code.

        Raises:
            TaskFailedError: no engine answers, the image cannot be had, or the container cannot be made.
            TaskKilledError: the execution is being killed; *outputs* has the `exitCode` where it ran.
            TaskTimeoutError: its time is over; the same.
        """
        from tercel.plugins.scripts.docker.running import run_in_container  # noqa: PLC0415  # loads the library

        return run_in_container(self, command, context, on_output)

    def environment_id(self, image: str, context: RunContext) -> str:
        """The digest of the image, which is pulled where it has to be."""
        from tercel.plugins.scripts.docker.running import find_place  # noqa: PLC0415  # loads the library

        return find_place(self, image, context).image.id

    @classmethod
    def remove_leftover(cls, note: Mapping[str, str]) -> None:
        """Remove a container whose worker died."""
        from tercel.plugins.scripts.docker.containers import remove_container  # noqa: PLC0415  # as above

        remove_container(note["host"], note["name"])
