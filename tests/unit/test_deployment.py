"""What is written for those who deploy it: it is whole, and says what the code says."""

from __future__ import annotations

import re
from configparser import RawConfigParser
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tercel.api import RESOURCES
from tercel.configuration import Configuration, Source, configure
from tercel.settings import SETTINGS, read_settings

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"


def settings_of(text: str, **environment: str) -> tuple[Configuration, Any]:
    configuration = configure([Source("text", text)], environment)
    return configuration, read_settings(environment, configuration.given)


class TestTheComposeFile:
    FILE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    SERVER = FILE["services"]["tercel"]

    def interpolated(self) -> dict[str, str]:
        """The server's environment, as compose fills it with nothing set."""
        return {
            name: re.sub(r"\$\{\w+:-(\w*)\}", r"\1", text).replace("$$", "$")
            for name, text in self.SERVER["environment"].items()
        }

    def test_given_its_configuration_then_it_is_one_without_a_warning(self) -> None:
        environment = self.interpolated()

        configuration, settings = settings_of(environment.pop("TERCEL_CONFIGURATION"), **environment)

        assert configuration.warnings == []
        assert settings.database == "postgresql://tercel:tercel@postgres:5432/tercel"
        assert settings.login == "none"
        assert f"tercel-data:{settings.home}" in self.SERVER["volumes"]
        assert f"{settings.temporary_directory}:{settings.temporary_directory}" in self.SERVER["volumes"]

    def test_given_its_database_then_it_is_the_one_that_is_made(self) -> None:
        made = self.FILE["services"]["postgres"]["environment"]

        assert made == {
            "POSTGRES_DB": "tercel",
            "POSTGRES_USER": "tercel",
            "POSTGRES_PASSWORD": self.SERVER["environment"]["POSTGRES_PASSWORD"],
        }

    def test_given_a_server_that_lets_everybody_in_then_only_this_machine_reaches_it(self) -> None:
        assert [port.rpartition(":")[0] for port in self.SERVER["ports"]] == ["127.0.0.1:8080", "127.0.0.1:8081"]

    def test_given_volumes_then_each_that_is_named_is_there(self) -> None:
        named = {
            volume.partition(":")[0]
            for service in self.FILE["services"].values()
            for volume in service["volumes"]
            if not volume.startswith("/")
        }

        assert named == set(self.FILE["volumes"])


class TestKubernetes:
    @staticmethod
    @cache
    def objects() -> dict[tuple[str, str], dict[str, Any]]:
        listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
        assert sorted([*listed, "kustomization.yaml"]) == sorted(path.name for path in KUBERNETES.iterdir())
        every = [one for name in listed for one in yaml.safe_load_all((KUBERNETES / name).read_text())]
        return {(one["kind"], one["metadata"]["name"]): one for one in every}

    def test_given_them_then_each_has_its_kind_and_place(self) -> None:
        versions = {
            "Namespace": "v1",
            "ConfigMap": "v1",
            "Secret": "v1",
            "Service": "v1",
            "StatefulSet": "apps/v1",
        }

        assert {(kind, one["apiVersion"]) for (kind, _), one in self.objects().items()} == set(versions.items())
        assert {
            one["metadata"].get("namespace") for (kind, _), one in self.objects().items() if kind != "Namespace"
        } == {"tercel"}

    @pytest.mark.parametrize("name", ["tercel", "postgres"])
    def test_given_a_set_then_its_service_and_selector_find_its_pods(self, name: str) -> None:
        made, service = self.objects()["StatefulSet", name]["spec"], self.objects()["Service", name]["spec"]
        pod = made["template"]
        [container] = pod["spec"]["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}

        assert made["serviceName"] == name
        assert made["selector"]["matchLabels"] == pod["metadata"]["labels"] == service["selector"]
        assert {port["name"]: port["port"] for port in service["ports"]} == ports
        volumes = {one["name"] for one in pod["spec"].get("volumes", [])}
        claims = {one["metadata"]["name"] for one in made["volumeClaimTemplates"]}
        assert {one["name"] for one in container["volumeMounts"]} == volumes | claims

    @pytest.mark.parametrize("name", ["tercel", "postgres"])
    def test_given_a_pod_then_it_may_do_no_more_than_it_has_to(self, name: str) -> None:
        pod = self.objects()["StatefulSet", name]["spec"]["template"]["spec"]
        [container] = pod["containers"]

        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}

    def test_given_the_configuration_then_its_settings_are_those_of_the_pod(self) -> None:
        [(_, text)] = self.objects()["ConfigMap", "tercel"]["data"].items()
        secret = self.objects()["Secret", "tercel"]["stringData"]
        pod = self.objects()["StatefulSet", "tercel"]["spec"]["template"]["spec"]
        [container] = pod["containers"]
        variables = {one["name"]: one["value"] for one in container["env"]}

        configuration, settings = settings_of(text, **secret, **variables)

        assert configuration.warnings == []
        assert settings.database == "postgresql://tercel:change-me@postgres:5432/tercel"
        assert (settings.username, settings.password) == (secret["LOGIN_USERNAME"], secret["LOGIN_PASSWORD"])
        assert settings.task_runner == "process"
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports == {"http": settings.port, "management": settings.management_port}
        mounted = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
        assert mounted["home"] == str(settings.home)
        assert mounted["work"] == str(settings.temporary_directory)
        assert container["args"] == ["server", "standalone", "--config", f"{mounted['configuration']}/tercel.yaml"]

    def test_given_the_probes_then_the_server_answers_them_without_a_login(self) -> None:
        routes = {route.path for resource in RESOURCES for route in resource.ROUTES if route.is_management}
        pod = self.objects()["StatefulSet", "tercel"]["spec"]["template"]
        [container] = pod["spec"]["containers"]
        probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")]

        assert {probe["path"] for probe in probes} <= routes
        assert {probe["port"] for probe in probes} == {"management"}


class TestTheUnit:
    UNIT = ROOT / "deploy" / "tercel.service"

    def test_given_it_then_its_variables_are_settings_and_it_stops_as_the_server_does(self) -> None:
        parser = RawConfigParser(strict=False)
        parser.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]  # keys keep their case
        parser.read(self.UNIT)
        service = parser["Service"]

        assert service["Environment"].partition("=")[0] in {one.environment for one in SETTINGS}
        assert service["ExecStart"] == "/opt/tercel/bin/tercel server --config /etc/tercel/tercel.yaml"
        assert service["KillMode"] == "mixed"
        assert "KillSignal" not in service
        assert "user" in service["RestrictNamespaces"].split()


class TestThePage:
    def test_given_its_configurations_then_each_can_be_used(self) -> None:
        page = (ROOT / "docs" / "deployment.md").read_text()
        texts = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)

        found = [settings_of(text, LOGIN_PASSWORD="Secret-123", DATABASE_PASSWORD="a/b") for text in texts]

        assert [configuration.warnings for configuration, _ in found] == [[]]
        assert found[0][1].database == "postgresql://tercel:a%2Fb@db.example/tercel"


class TestTheDockerfile:
    def test_given_it_then_what_it_copies_is_not_ignored(self) -> None:
        text = (ROOT / "Dockerfile").read_text()
        copied = {
            path for words in re.findall(r"^COPY (?!--from)(.*)", text, re.MULTILINE) for path in words.split()[:-1]
        }
        kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]

        assert all((ROOT / path).exists() for path in copied)
        assert [path for path in copied if not any(path == one or path.startswith(f"{one}/") for one in kept)] == []

    def test_given_no_target_then_the_slim_image_without_the_tools_is_built(self) -> None:
        stages = re.findall(r"^FROM (\S+)(?: AS (\w+))?", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

        assert [name for _, name in stages] == ["build", "base", "slim", "full", ""]
        assert stages[-1][0] == "slim"
