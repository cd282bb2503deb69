import re
from base64 import b64encode
from pathlib import Path

import pytest

from tercel.model.flow import PluginDefault
from tercel.settings import (
    SETTINGS,
    Given,
    InvalidSettingError,
    Settings,
    read_settings,
    settings_table,
    unknown_settings,
)

SOURCE = Path(__file__).parents[2] / "src" / "tercel"
ASKED = re.compile(r"""\.setting\(\s*"([^"]+)\"""")


class TestForTasks:
    def test_given_what_tasks_ask_for_then_each_is_a_setting_and_each_setting_is_asked_for(self) -> None:
        asked = {name for path in SOURCE.rglob("*.py") for name in ASKED.findall(path.read_text("utf-8"))}

        assert asked == {one.task_name for one in SETTINGS if one.task_name}

    def test_given_nothing_set_then_tasks_get_their_defaults(self) -> None:
        assert read_settings({}, home=Path("/home")).for_tasks() == {
            "script.task-runner": "",
            "script.warning-on-std-err": True,
            "script.stderr-level": "",
            "script.kill-grace": 10.0,
            "script.environment": "",
            "outputs.max-bytes": 10 * 1024 * 1024,
            "cache.max-bytes": None,
            "script.dependency-directory": Path("/home/dependencies"),
            "docker.volumes": False,
            "http.deny": ("metadata",),
            "http.allow": (),
        }

    @pytest.mark.parametrize(
        ("text", "rules"),
        [
            ("none", ("none",)),
            ("metadata, private,10.0.0.0/8,*.corp.example", ("metadata", "private", "10.0.0.0/8", "*.corp.example")),
        ],
    )
    def test_given_rules_for_hosts_then_tasks_get_them(self, text: str, rules: tuple[str, ...]) -> None:
        assert read_settings({"TERCEL_HTTP_DENY": text}).for_tasks()["http.deny"] == rules

    def test_given_a_rule_for_hosts_that_is_none_then_it_is_refused(self) -> None:
        with pytest.raises(InvalidSettingError) as caught:
            read_settings({"TERCEL_HTTP_ALLOW": "10.0.0.300"})

        assert caught.value.message == (
            "TERCEL_HTTP_ALLOW is '10.0.0.300', which is not a list of networks, addresses, hosts, *.DOMAIN and "
            "metadata, loopback, link-local, private, all; '10.0.0.300' is none."
        )

    def test_given_a_task_runner_that_does_not_exist_then_it_is_refused(self) -> None:
        with pytest.raises(InvalidSettingError) as caught:
            read_settings({"TERCEL_TASK_RUNNER": "docker"})

        assert caught.value.message == "TERCEL_TASK_RUNNER is 'docker', which is not one of process."


class TestReadSettings:
    def test_given_nothing_then_defaults_follow_from_the_home(self) -> None:
        settings = read_settings({})

        assert settings.home == Path("~/.tercel").expanduser()
        assert settings.temporary_directory == settings.home / "tmp"
        assert settings.dependency_directory == settings.home / "dependencies"
        assert settings.synchronous == "FULL"
        assert settings.slots >= 8

    def test_given_a_user_without_a_home_folder_then_one_has_to_be_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("HOME", raising=False)
        unknown: dict[int, object] = {}
        monkeypatch.setattr("pwd.getpwuid", unknown.__getitem__)

        assert read_settings({"TERCEL_HOME": "/somewhere"}).home == Path("/somewhere")
        with pytest.raises(InvalidSettingError, match="Name one: --home DIR, or TERCEL_HOME"):
            read_settings({})
        with pytest.raises(InvalidSettingError, match="TERCEL_TMP_DIR is '~nobody-at-all/tmp', which is not a folder"):
            read_settings({"TERCEL_HOME": "/somewhere", "TERCEL_TMP_DIR": "~nobody-at-all/tmp"})

    def test_given_the_environment_then_each_value_is_parsed(self) -> None:
        settings = read_settings(
            {
                "TERCEL_HOME": "/srv/tercel",
                "TERCEL_TMP_DIR": "/fast",
                "TERCEL_SLOTS": "3",
                "TERCEL_SYNCHRONOUS": "normal",
                "TERCEL_WARNING_ON_STD_ERR": "no",
                "TERCEL_KILL_GRACE": "0.5",
                "TERCEL_MAX_OUTPUT_SIZE": "64K",
                "TERCEL_CACHE_SIZE": "2GiB",
                "TERCEL_STDERR_LEVEL": "",
                "TERCEL_DATABASE": "postgresql://me:hush@db.example/flows",
            }
        )

        assert settings == Settings(
            home=Path("/srv/tercel"),
            temporary_directory=Path("/fast"),
            storage_directory=Path("/srv/tercel/storage"),
            slots=3,
            synchronous="NORMAL",
            warning_on_std_err=False,
            kill_grace_s=0.5,
            max_output_bytes=65_536,
            cache_limit_bytes=2 << 30,
            dependency_directory=Path("/srv/tercel/dependencies"),
            database="postgresql://me:hush@db.example/flows",
        )

    def test_given_json_then_globals_and_plugin_defaults_are_read_from_it(self) -> None:
        settings = read_settings(
            {
                "TERCEL_GLOBALS": '{"a": {"b": [1]}}',
                "TERCEL_PLUGIN_DEFAULTS": '[{"type": "io.kestra", "values": {"x": 1}, "forced": true}]',
                "TERCEL_ENCRYPTION_KEY": b64encode(b"k" * 32).decode(),
            }
        )

        assert settings.globals == {"a": {"b": [1]}}
        assert settings.plugin_defaults == (PluginDefault(type="io.kestra", values={"x": 1}, forced=True),)
        assert settings.encryption_key == b"k" * 32

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("TERCEL_GLOBALS", "[1]", "TERCEL_GLOBALS is '[\"******\"]', which is not a mapping, in JSON."),
            ("TERCEL_GLOBALS", "hush", "TERCEL_GLOBALS is '******', which is not a mapping, in JSON."),
            (
                "TERCEL_PLUGIN_DEFAULTS",
                '[{"type": "", "values": {"x": "hush"}}]',
                'TERCEL_PLUGIN_DEFAULTS is \'[{"type":"","values":{"x":"******"}}]\', '
                "which is not a list of plugin defaults, each with type, values and perhaps forced.",
            ),
            (
                "TERCEL_ENCRYPTION_KEY",
                "aHVzaA==",
                "TERCEL_ENCRYPTION_KEY is '******', which is not 32 bytes in base64.",
            ),
        ],
    )
    def test_given_something_else_then_it_is_refused_and_no_secret_is_told(
        self, name: str, value: str, message: str
    ) -> None:
        with pytest.raises(InvalidSettingError) as caught:
            read_settings({name: value})

        assert caught.value.message == message
        assert caught.value.hint == "Unset means empty."

    def test_given_a_configuration_then_it_is_between_the_environment_and_the_default(self) -> None:
        configured = {
            "slots": Given("5", "tercel.slots", "a.yml:2"),
            "synchronous": Given("NORMAL", "tercel.synchronous", "a.yml:3"),
            "home": Given("/one", "tercel.home", "a.yml:4"),
        }

        settings = read_settings({"TERCEL_SLOTS": "3", "TERCEL_HOME": ""}, configured, home=Path("/two"))

        assert (settings.slots, settings.synchronous, settings.home) == (3, "NORMAL", Path("/two"))

    def test_given_several_values_that_do_not_fit_then_all_are_told_with_their_places(self) -> None:
        with pytest.raises(InvalidSettingError) as caught:
            read_settings({"TERCEL_PORT": "x"}, {"slots": Given("0", "tercel.slots", "a.yml:2")})

        assert caught.value.message.splitlines() == [
            "a.yml:2: tercel.slots is '0', which is not a whole number of at least 1. "
            "Unset means 4 for each CPU, at least 8.",
            "TERCEL_PORT is 'x', which is not a port, from 0 to 65535. Unset means 8080.",
        ]

    def test_given_the_command_line_then_it_wins(self) -> None:
        settings = read_settings({"TERCEL_HOME": "/one", "TERCEL_SLOTS": "3"}, home=Path("/two"), slots=None)

        assert (settings.home, settings.slots) == (Path("/two"), 3)

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("TERCEL_SLOTS", "0", "TERCEL_SLOTS is '0', which is not a whole number of at least 1. Unset means"),
            ("TERCEL_SYNCHRONOUS", "off", "TERCEL_SYNCHRONOUS is 'off', which is not one of FULL, NORMAL. Unset means"),
            ("TERCEL_KILL_GRACE", "-1", "TERCEL_KILL_GRACE is '-1', which is not a number of seconds. Unset means 10."),
            ("TERCEL_CACHE_SIZE", "10 X", "TERCEL_CACHE_SIZE is '10 X', which is not a size such as 500M or 10G."),
            ("TERCEL_WARNING_ON_STD_ERR", "2", "TERCEL_WARNING_ON_STD_ERR is '2', which is not true or false."),
        ],
    )
    def test_given_a_value_that_does_not_fit_then_it_says_what_does(self, name: str, value: str, message: str) -> None:
        with pytest.raises(InvalidSettingError) as caught:
            read_settings({name: value})

        assert str(caught.value).startswith(message)


class TestTheDatabase:
    @pytest.mark.parametrize(
        ("address", "shown"),
        [
            ("mysql://me:hush@db.example/flows", "mysql://me:******@db.example/flows"),
            ("mysql://me:hu@sh:h@db.example/flows", "mysql://me:******@db.example/flows"),
            ("mysql://me:hu/sh@db.example/flows", "mysql://me:******@db.example/flows"),
            ("//:hush@/flows", "//:******@/flows"),
            ("host=db password = 'hu sh' user=me", "host=db password = ****** user=me"),
            ("host=db password=hush", "host=db password=******"),
            ("mysql://db/flows?PASSWORD=hush&sslpassword=hush", "mysql://db/flows?PASSWORD=******&sslpassword=******"),
        ],
    )
    def test_given_an_address_that_does_not_fit_then_its_password_is_not_shown(self, address: str, shown: str) -> None:
        with pytest.raises(InvalidSettingError) as caught:
            read_settings({"TERCEL_DATABASE": address})

        assert str(caught.value) == (
            f"TERCEL_DATABASE is {shown!r}, which is not an address such as "
            "postgresql://USER:PASSWORD@HOST:PORT/DATABASE. Unset means empty."
        )


class TestTheTable:
    def test_every_field_is_in_it_once_and_in_the_documented_form(self) -> None:
        fields = [one.field for one in SETTINGS]

        assert sorted(fields) == sorted(Settings.__struct_fields__)
        assert all(one.environment.startswith("TERCEL_") and one.meaning.endswith(".") for one in SETTINGS)
        assert settings_table().count("\n") == len(SETTINGS) + 1

    def test_tasks_see_what_is_theirs(self) -> None:
        seen = read_settings({"TERCEL_STDERR_LEVEL": "ERROR"}).for_tasks()

        assert seen["script.stderr-level"] == "ERROR"
        assert "" not in seen


def test_given_unknown_variables_then_each_is_named_with_what_was_meant() -> None:
    assert list(unknown_settings({"TERCEL_HOM": "x", "TERCEL_HOME": "y", "TERCEL_QQQ": "", "OTHER": ""})) == [
        "TERCEL_HOM is no setting of tercel. Did you mean TERCEL_HOME?",
        "TERCEL_QQQ is no setting of tercel.",
    ]
