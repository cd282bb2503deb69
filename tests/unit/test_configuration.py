from pathlib import Path

import pytest

from tercel.configuration import Configuration, Source, configure, environment_sources, file_sources
from tercel.errors import InvalidSettingError
from tercel.settings import Given

COMPOSE = """\
datasources:
  postgres:
    url: jdbc:postgresql://postgres:5432/kestra
    driverClassName: org.postgresql.Driver
    username: kestra
    password: k3str4
kestra:
  server:
    basic-auth:
      enabled: false
      username: admin
      password: kestra
  repository:
    type: postgres
  storage:
    type: local
    local:
      base-path: "/app/storage"
  queue:
    type: postgres
  tasks:
    tmp-dir:
      path: /tmp/kestra-wd/tmp
    scripts:
      docker:
        volume-enabled: true
  url: http://localhost:8080/
"""
"""What the deployment that Tercel has to stand in for carries as KESTRA_CONFIGURATION."""


def of(text: str, **environment: str) -> Configuration:
    return configure([Source("KESTRA_CONFIGURATION", text)], environment)


def texts(configuration: Configuration) -> dict[str, str]:
    return {field: given.text for field, given in configuration.given.items()}


def faults(text: str, **environment: str) -> list[str]:
    with pytest.raises(InvalidSettingError) as caught:
        of(text, **environment)
    return caught.value.message.splitlines()


class TestTheComposeFile:
    def test_given_it_then_every_line_works_or_has_its_reason(self) -> None:
        configuration = of(COMPOSE)

        assert texts(configuration) == {
            "database": "postgresql://kestra:k3str4@postgres:5432/kestra",
            "login": "none",
            "storage_directory": "/app/storage",
            "home": "/app/storage/.tercel",
            "temporary_directory": "/tmp/kestra-wd/tmp",
            "mounts_volumes": "true",
            "url": "http://localhost:8080/",
        }
        assert configuration.given["url"] == Given("http://localhost:8080/", "kestra.url", "KESTRA_CONFIGURATION:27")
        assert configuration.warnings == []
        assert [(note.key, note.place) for note in configuration.without_effect] == [
            ("datasources.postgres.driver-class-name", "KESTRA_CONFIGURATION:4")
        ]


class TestSpellings:
    @pytest.mark.parametrize(
        "text",
        [
            "kestra: {storage: {local: {base-path: /data}}}",
            "kestra: {storage: {local: {basePath: /data}}}",
            "KESTRA: {storage: {LOCAL: {BASE_PATH: /data}}}",
            "kestra.storage.local.base-path: /data",
            "kestra: {storage.local: {base_path: /data}}",
        ],
    )
    def test_given_any_of_them_then_the_key_is_the_same(self, text: str) -> None:
        assert texts(of(text))["storage_directory"] == "/data"

    def test_given_names_of_the_users_own_then_they_stay_and_kestras_are_there_too(self) -> None:
        configuration = of("kestra: {variables: {globals: {myVar: 1, deep: {anOther: [a]}}}}")

        assert texts(configuration) == {"globals": '{"my-var":1,"deep":{"an-other":["a"],"anOther":["a"]},"myVar":1}'}

    def test_given_a_dotted_key_into_the_users_own_then_the_rest_is_its_name(self) -> None:
        assert texts(of("kestra.variables.globals.my.name: x")) == {"globals": '{"my.name":"x"}'}


class TestPlaceholders:
    @pytest.mark.parametrize(
        ("text", "url"),
        [
            ("${NAME}", "there"),
            ("a${NAME}b${NAME}", "athere" + "bthere"),
            ("${NONE:http://x:80/}", "http://x:80/"),
            ("${NONE:}x", "x"),
            ("${NONE:${NAME}}!", "there!"),
            ("${EMPTY:default}.", "."),
            ("${kestra.server-type}", "standalone"),
            ("${kestra.serverType}", "standalone"),
            ("${kestra.environment.name}", "named by a variable"),
            ("${some.other}", "of the environment"),
            ("$HOME {NAME} $${NAME}", "$HOME {NAME} $there"),
            ("port ${random.port}", "port 0"),
        ],
    )
    def test_given_one_then_it_is_filled(self, text: str, url: str) -> None:
        environment = {
            "NAME": "there",
            "EMPTY": "",
            "KESTRA_ENVIRONMENT_NAME": "named by a variable",
            "SOME_OTHER": "of the environment",
        }

        configuration = of(f"kestra: {{server-type: standalone, url: '{text}'}}", **environment)

        assert texts(configuration)["url"] == url

    def test_given_one_that_nothing_fills_then_each_is_told_with_its_place(self) -> None:
        assert faults("kestra:\n  url: ${NONE}\n  environment: {name: 'x ${'}") == [
            "KESTRA_CONFIGURATION:2: kestra.url asks for ${NONE}, which is neither an environment variable nor a key. "
            "Set it, or give a default: ${NONE:…}.",
            "KESTRA_CONFIGURATION:3: kestra.environment.name has a ${ without its }.",
        ]

    def test_given_keys_that_ask_for_each_other_then_it_ends(self) -> None:
        assert faults("kestra: {url: '${kestra.server-type}', server-type: '${kestra.url}'}") == [
            "KESTRA_CONFIGURATION:1: kestra.url asks for itself by a placeholder.",
            "KESTRA_CONFIGURATION:1: kestra.server-type asks for itself by a placeholder.",
        ]

    def test_given_some_inside_lists_and_mappings_then_they_are_filled(self) -> None:
        text = "kestra: {plugins: {defaults: [{type: a, values: {x: '${NAME}', n: 1}}]}}"

        assert texts(of(text, NAME="y")) == {"plugin_defaults": '[{"type":"a","values":{"x":"y","n":1}}]'}


class TestWhatWins:
    def test_given_several_sources_then_the_last_one_of_each_key(self) -> None:
        one = Source("one", "kestra: {url: 1, environment: {name: 1}, variables: {globals: {a: 1, b: 1}}}")
        other = Source("other", "kestra: {environment: {name: 2}, variables: {globals: {b: 2}}}\ntercel: {slots: 2}")

        configuration = configure([one, other], {})

        assert {field: (given.text, given.place) for field, given in configuration.given.items()} == {
            "url": ("1", "one:1"),
            "environment_name": ("2", "other:1"),
            "globals": ('{"a":1,"b":2}', "other:1"),
            "slots": ("2", "other:2"),
        }

    def test_given_a_variable_of_kestras_then_it_is_between_texts_and_files(self) -> None:
        text, file = Source("text", "kestra: {url: a, environment: {name: a}}"), Source("file", "kestra.url: c")
        environment = {"KESTRA_URL": "b", "KESTRA_ENVIRONMENT_NAME": "b", "DATASOURCES_POSTGRES_PASSWORD": "b"}

        configuration = configure([text], environment, [file])

        assert texts(configuration) == {"url": "c", "environment_name": "b"}
        assert configuration.given["environment_name"] == Given("b", "KESTRA_ENVIRONMENT_NAME")

    def test_given_parts_of_a_database_in_several_sources_then_they_are_one(self) -> None:
        text = "datasources: {postgres: {url: 'jdbc:postgresql://db/flows', username: me}}"

        configuration = of(text, DATASOURCES_POSTGRES_PASSWORD="a@b")

        assert texts(configuration) == {"database": "postgresql://me:a%40b@db/flows"}

    def test_given_one_setting_by_two_keys_then_tercels_of_the_same_source_and_else_the_higher_source(self) -> None:
        assert texts(of("tercel: {url: own}\nkestra: {url: other}")) == {"url": "own"}
        below, above = Source("below", "tercel: {url: own}"), Source("above", "kestra: {url: other}")
        assert texts(configure([below, above], {})) == {"url": "other"}

    def test_given_a_check_of_files_then_the_environment_only_fills_placeholders(self) -> None:
        file = Source("file", "kestra: {environment: {name: '${KESTRA_URL}'}}")

        assert texts(configure([], {"KESTRA_URL": "x"}, [file], with_variables=False)) == {"environment_name": "x"}


class TestOwnKeys:
    def test_given_them_then_they_are_the_settings(self) -> None:
        text = "tercel:\n  tmpDir: /w\n  api-tokens: [one, two]\n  globals: {aB: {c: 1}}\n  docker-volumes: yes\n  url:"

        assert texts(of(text)) == {
            "temporary_directory": "/w",
            "api_tokens": "one,two",
            "globals": '{"aB":{"c":1}}',
            "mounts_volumes": "yes",
        }

    def test_given_unknown_ones_then_all_are_refused_with_the_nearest(self) -> None:
        assert faults("tercel:\n  slot: 3\n  qqqq: {x: 1}") == [
            "KESTRA_CONFIGURATION:2: tercel.slot is no setting. Did you mean tercel.slots?",
            "KESTRA_CONFIGURATION:3: tercel.qqqq.x is no setting.",
        ]

    def test_given_a_mapping_where_one_value_is_meant_then_it_is_refused(self) -> None:
        assert faults("kestra.plugins.configurations: 1") == [
            "KESTRA_CONFIGURATION:1: kestra.plugins.configurations is not a list of mappings, "
            "each with type and values."
        ]
        assert faults("tercel: {slots: {a: 1}}") == [
            "KESTRA_CONFIGURATION:1: tercel.slots.a is no setting. Did you mean tercel.slots?"
        ]


class TestUnknownKeys:
    def test_given_them_then_each_is_a_warning_with_the_nearest(self) -> None:
        configuration = of(
            "kestra:\n  storage: {typ: local}\n  qqq: 1\ndatasource: {postgres: {url: x}}\nkestra.url: a"
        )

        assert configuration.warnings == [
            "KESTRA_CONFIGURATION:2: kestra.storage.typ is no key that is known. Did you mean kestra.storage.type?",
            "KESTRA_CONFIGURATION:3: kestra.qqq is no key that is known.",
            "KESTRA_CONFIGURATION:4: datasource.postgres.url is no key that is known. "
            "Did you mean datasources.postgres.url?",
        ]
        assert texts(configuration) == {"url": "a"}

    def test_given_keys_of_the_framework_then_nothing_is_said(self) -> None:
        configuration = of("micronaut: {executors: {io: {type: FIXED}}}\nlogger: {levels: {org.apache: DEBUG}}")

        assert configuration.warnings == []
        assert [note.key for note in configuration.without_effect] == [
            "micronaut.executors.io.type",
            "logger.levels.org.apache",
        ]

    def test_given_the_levels_of_loggers_then_they_are_those_of_the_server_and_of_tasks(self) -> None:
        configuration = of("logger.levels: {io.kestra: debug, flow: 'OFF'}\nkestra.server.access-log.enabled: false")

        assert configuration.warnings == []
        assert {field: one.text for field, one in configuration.given.items()} == {
            "log_level": "debug",
            "task_log_level": "OFF",
            "logs_requests": "false",
        }


class TestTexts:
    @pytest.mark.parametrize("text", ["# nothing\n", "---\n", "\ufeff\n\n"])
    def test_given_nothing_then_nothing_comes_of_it(self, text: str) -> None:
        assert of(text) == Configuration({}, [], [])

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("- a\n", "KESTRA_CONFIGURATION:1: A configuration is a mapping of keys to values."),
            ("a: 1\n---\nb: 1\n", "KESTRA_CONFIGURATION:3: A second document begins here. A configuration is one: "),
            ("kestra:\n\turl: x\n", "KESTRA_CONFIGURATION:2: "),
            (
                "kestra:\n  url: x\n  url: y\n",
                "KESTRA_CONFIGURATION:3: The key 'url' is given twice, on lines 2 and 3.",
            ),
        ],
    )
    def test_given_what_is_no_configuration_then_it_says_where(self, text: str, told: str) -> None:
        [fault] = faults(text)

        assert fault.startswith(told)

    @pytest.mark.parametrize(
        "text", ['password: "open-sesame\n', "password: open-sesame: x\n", "password: @open-sesame\n"]
    )
    def test_given_a_secret_in_what_is_no_yaml_then_it_is_not_told(self, text: str) -> None:
        assert "open-sesame" not in "".join(faults(f"kestra:\n  {text}"))

    def test_given_faults_in_several_texts_then_all_are_told(self) -> None:
        with pytest.raises(InvalidSettingError) as caught:
            configure([Source("one", "- a"), Source("other", "tercel: {x: 1}")], {}, [Source("file", "- b")])

        assert [line.partition(":")[0] for line in caught.value.message.splitlines()] == ["one", "other", "file"]


class TestSources:
    def test_given_the_environment_then_its_texts_and_files_in_their_order(self, tmp_path: Path) -> None:
        (tmp_path / "a.yml").write_text("a: 1")
        (tmp_path / "b.yml").write_text("b: 1")
        environment = {
            "TERCEL_CONFIGURATION": "d: 1",
            "KESTRA_CONFIGURATION": "c: 1",
            "MICRONAUT_CONFIG_FILES": f"{tmp_path}/a.yml, {tmp_path}/b.yml",
        }

        assert environment_sources(environment) == [
            Source("KESTRA_CONFIGURATION", "c: 1"),
            Source(f"{tmp_path}/a.yml", "a: 1"),
            Source(f"{tmp_path}/b.yml", "b: 1"),
            Source("TERCEL_CONFIGURATION", "d: 1"),
        ]
        assert environment_sources({"KESTRA_CONFIGURATION": " \n"}) == []

    def test_given_a_file_that_cannot_be_read_then_it_says_why(self, tmp_path: Path) -> None:
        (tmp_path / "binary").write_bytes(b"\xff\xfe\xfa")
        (tmp_path / "long").write_bytes(b"#" * (1 << 20) + b"#")
        told = {"missing": "No such file or directory.", "binary": "it is not UTF-8 text.", "": "Is a directory."}

        for name, why in told.items():
            with pytest.raises(InvalidSettingError) as caught:
                file_sources([tmp_path / name])
            assert caught.value.message == f"The configuration {tmp_path / name} cannot be read: {why}"
        with pytest.raises(InvalidSettingError, match="is longer than a megabyte"):
            file_sources([tmp_path / "long"])
