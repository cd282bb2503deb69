import pytest

from tercel.configuration import Source, configure
from tercel.errors import InvalidSettingError
from tercel.kestra_keys import KEYS, database_address, find_key, is_setting, keys_table, variable_of
from tercel.settings import SETTINGS, read_settings

KNOWN = """
datasources.postgres.url datasources.postgres.username datasources.postgres.password
datasources.postgres.driver-class-name datasources.h2.url datasources.mysql.url datasources.postgres.maximum-pool-size
datasources.postgres.minimum-idle datasources.postgres.connection-timeout kestra.repository.type kestra.queue.type
kestra.storage.type kestra.storage.local.base-path kestra.storage.s3.bucket kestra.storage.minio.secret-key-id
kestra.jdbc.queues.min-poll-interval kestra.jdbc.cleaner.retention kestra.jdbc.queues.message-protection.enabled
kestra.jdbc.tables.flows.table kestra.tasks.tmp-dir.path kestra.tasks.scripts.docker.volume-enabled
kestra.plugins.configurations kestra.plugins.defaults kestra.tasks.defaults kestra.server.termination-grace-period
kestra.server.worker-task-restart-strategy kestra.server.liveness.enabled kestra.server.liveness.heartbeat-interval
kestra.retries.attempts kestra.server.standalone.running.timeout kestra.variables.env-vars-prefix
kestra.variables.redacted-env-vars kestra.variables.globals kestra.variables.recursive-rendering
kestra.variables.cache-enabled kestra.variables.cache-size kestra.encryption.secret-key kestra.url
kestra.environment.name kestra.environment.color micronaut.server.port endpoints.all.port
endpoints.all.basic-auth.username endpoints.all.enabled endpoints.all.sensitive endpoints.health.enabled
kestra.server.basic-auth.enabled kestra.server.basic-auth.username kestra.server.basic-auth.password
kestra.server.basic-auth.realm kestra.server.basic-auth.open-urls micronaut.server.context-path
micronaut.server.max-request-size micronaut.server.multipart.max-file-size micronaut.server.cors.enabled
micronaut.server.cors.configurations.all.allowed-origins micronaut.server.ssl.enabled
kestra.server.preview.initial-rows kestra.hidden-labels.prefixes kestra.system-flows.namespace
kestra.webserver.google-analytics kestra.webserver.html-head kestra.anonymous-usage-report.enabled
kestra.anonymous-usage-report.uri kestra.templates.enabled kestra.tutorial-flows.enabled micronaut.io.watch.enabled
micronaut.io.watch.tenant-id logger.levels.flow logger.config kestra.metrics.prefix kestra.metrics.tags.a
micronaut.metrics.enabled micronaut.otel.enabled kestra.traces.root kestra.configurations.delete-files-on-start
kestra.local-files.allowed-paths kestra.server-type
""".split()  # noqa: SIM905  # a hundred lines otherwise
"""Keys that operators of Kestra meet."""


def given(text: str, **environment: str) -> dict[str, str]:
    configuration = configure([Source("c", text)], environment)
    return {field: one.text for field, one in configuration.given.items()}


def warnings(text: str) -> list[str]:
    return list(configure([Source("c", text)], {}).warnings)


def fault(text: str) -> str:
    with pytest.raises(InvalidSettingError) as caught:
        configure([Source("c", text)], {})
    return caught.value.message


class TestTheTable:
    @pytest.mark.parametrize("path", KNOWN)
    def test_given_a_key_of_kestras_then_it_is_known(self, path: str) -> None:
        assert find_key(path) is not None

    def test_given_a_row_then_it_sets_something_or_says_why_not(self) -> None:
        fields = {one.field for one in SETTINGS}

        assert [key.path for key in KEYS if not key.settings and not key.note] == []
        assert {field for key in KEYS for field in key.settings} <= fields
        assert [key.path for key in KEYS if key.is_plain and len(key.settings) > 1] == []
        assert len({key.path for key in KEYS}) == len(KEYS)

    def test_given_a_plain_key_then_its_setting_takes_its_text(self) -> None:
        plain = [key for key in KEYS if key.is_plain and key.settings]
        text = "\n".join(f"{key.path}: some-text-{number}" for number, key in enumerate(plain))

        assert given(text) == {key.settings[0]: f"some-text-{number}" for number, key in enumerate(plain)}

    def test_given_the_table_for_people_then_every_key_is_in_it(self) -> None:
        assert [f"| `{key.path}` | " in keys_table() for key in KEYS] == [True] * len(KEYS)


class TestVariables:
    def test_given_a_variable_then_it_is_a_setting_where_it_stands_for_a_key(self) -> None:
        settings = [
            "KESTRA_CONFIGURATION",
            "KESTRA_URL",
            "KESTRA_STORAGE_S3_SECRET_KEY",
            "KESTRA_JDBC_QUEUES_POLL_SIZE",
        ]

        assert [is_setting(name) for name in settings] == [True] * 4
        assert not any(is_setting(name) for name in ("KESTRA_TEAM", "ENV_URL", "KESTRA_URLS"))
        assert {variable_of(key.path) for key in KEYS if "*" not in key.path} >= {"KESTRA_SERVER_BASIC_AUTH_PASSWORD"}


class TestTheDatabase:
    @pytest.mark.parametrize(
        ("url", "address"),
        [
            ("jdbc:postgresql://db:5432/flows", "postgresql://db:5432/flows"),
            ("jdbc:postgresql://a:1,b:2/flows", "postgresql://a:1,b:2/flows"),
            ("jdbc:postgresql://[::1]:5432/flows", "postgresql://[::1]:5432/flows"),
            ("jdbc:postgresql:flows", "postgresql://localhost/flows"),
            ("jdbc:postgresql://db/", "postgresql://db/"),
            ("postgres://me:a%2Fb@db/flows", "postgresql://me:a%2Fb@db/flows"),
            ("jdbc:postgresql://db/f?user=me&password=a%26b", "postgresql://me:a%26b@db/f"),
            ("jdbc:postgresql://db/f?ssl=true", "postgresql://db/f?sslmode=verify-full"),
            ("jdbc:postgresql://db/f?ssl=true&sslmode=require", "postgresql://db/f?sslmode=require"),
            ("jdbc:postgresql://db/f?targetServerType=primary", "postgresql://db/f?target_session_attrs=read-write"),
        ],
    )
    def test_given_a_jdbc_address_then_libpqs(self, url: str, address: str) -> None:
        assert database_address(url) == (address, [])

    def test_given_credentials_beside_it_then_they_win(self) -> None:
        assert database_address("jdbc:postgresql://db/f?user=x&password=y", "me", "z") == ("postgresql://me:z@db/f", [])

    @pytest.mark.parametrize("url", ["jdbc:mysql://db/f", "db/f", "", "jdbc:postgresql://db/a/b"])
    def test_given_another_address_then_it_is_none_and_its_password_is_not_told(self, url: str) -> None:
        told = fault(f"datasources: {{postgres: {{url: '{url}?password=hush', username: a}}}}")

        assert told == ("c:1: datasources.postgres.url is not an address such as jdbc:postgresql://HOST:PORT/DATABASE.")

    def test_given_parameters_that_mean_nothing_then_they_are_told(self) -> None:
        assert warnings("datasources: {postgres: {url: 'jdbc:postgresql://db/f?prepareThreshold=0'}}") == [
            "c:1: datasources.postgres.url: its parameter 'prepareThreshold' has no effect."
        ]

    @pytest.mark.parametrize("kind", ["h2", "memory"])
    def test_given_an_embedded_one_then_it_is_a_file_in_the_home(self, kind: str) -> None:
        text = f"kestra: {{repository: {{type: {kind}}}, queue: {{type: {kind}}}}}\n"

        assert given(text + "datasources: {h2: {url: 'jdbc:h2:mem:public'}}") == {}
        assert warnings(text + "datasources: {postgres: {url: 'jdbc:postgresql://db/f'}}") == [
            f"c:2: datasources.postgres.url has no effect: kestra.repository.type is '{kind}'."
        ]

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            (
                "kestra.repository.type: mysql",
                "c:1: kestra.repository.type is 'mysql'. "
                "Tercel keeps its records in PostgreSQL, or in a file of its home: set it to postgres, or to h2.",
            ),
            (
                "kestra.queue.type: kafka",
                "c:1: kestra.queue.type is 'kafka'. That is of another edition: set it to postgres.",
            ),
            ("kestra.queue.type: x", "c:1: kestra.queue.type is 'x'. It can be postgres, h2 or memory."),
            (
                "kestra: {queue.type: h2, repository.type: postgres}",
                "c:1: kestra.queue.type is 'h2', and kestra.repository.type is 'postgres'. They have to be one.",
            ),
            (
                "kestra.repository.type: postgres",
                "c:1: kestra.repository.type is 'postgres', and no datasources.postgres.url says which database.",
            ),
        ],
    )
    def test_given_one_that_cannot_be_had_then_it_says_so(self, text: str, told: str) -> None:
        assert fault(text) == told


class TestTheStorage:
    def test_given_a_folder_then_the_home_is_in_it_unless_another_is_named(self) -> None:
        text = "kestra.storage: {type: local, local.base-path: /data/}"

        assert given(text) == {"storage_directory": "/data/", "home": "/data/.tercel"}
        assert given(f"{text}\ntercel.home: /home") == {"storage_directory": "/data/", "home": "/home"}

    def test_given_another_kind_then_it_is_refused(self) -> None:
        assert fault("kestra.storage: {type: s3, s3: {bucket: x}}") == (
            "c:1: kestra.storage.type is 's3'. Internal storage is a folder: set it to local."
        )


class TestVolumes:
    @pytest.mark.parametrize(
        "text",
        [
            "tasks: {scripts: {docker: {volume-enabled: true}}}",
            "tasks: {scripts: {docker: {volumeEnabled: true}}}",
            "plugins: {configurations: [{type: io.kestra.plugin.scripts.runner.docker.Docker, "
            "values: {volume-enabled: true}}]}",
            "plugins: {configurations: [{type: io.kestra.plugin.scripts.runner.docker.DockerTaskRunner, "
            "values: {volumeEnabled: true}}]}",
        ],
    )
    def test_given_any_of_its_names_then_flows_may_mount(self, text: str) -> None:
        found = configure([Source("c", f"kestra: {{{text}}}")], {}).given

        assert read_settings({}, found).mounts_volumes is True

    def test_given_a_configuration_of_something_else_then_it_is_told(self) -> None:
        text = "kestra.plugins.configurations: [{type: io.kestra.plugin.x.Y, values: {a: 1}}, {values: {b: 1}}]"

        assert warnings(text) == [
            "c:1: kestra.plugins.configurations has no effect: a of io.kestra.plugin.x.Y.",
            "c:1: kestra.plugins.configurations has no effect: b of no type.",
        ]


class TestPluginDefaults:
    def test_given_both_names_then_the_new_one_comes_first(self) -> None:
        text = "kestra:\n  tasks.defaults: [{type: old, values: {}}]\n  plugins.defaults: [{type: new, values: {}}]"
        found = configure([Source("c", text)], {}).given

        assert [one.type for one in read_settings({}, found).plugin_defaults] == ["new", "old"]

    def test_given_what_is_no_list_then_it_says_where(self) -> None:
        found = configure([Source("c", "kestra.plugins.defaults: {type: a, values: {x: hush}}")], {}).given

        with pytest.raises(InvalidSettingError) as caught:
            read_settings({}, found)

        assert caught.value.message.startswith("c:1: kestra.plugins.defaults is ")
        assert "which is not a list of plugin defaults, each with type, values and perhaps forced." in str(caught.value)
        assert "hush" not in str(caught.value)


class TestTheLogin:
    LOGIN = "kestra.server.basic-auth: {enabled: WORD, username: me@example.org, password: Hush-Hush1}"

    def test_given_one_then_it_is_in_force_unless_it_is_disabled(self) -> None:
        credentials = {"username": "me@example.org", "password": "Hush-Hush1"}

        assert given(self.LOGIN.replace("WORD", "true")) == credentials
        assert given(self.LOGIN.replace("enabled: WORD, ", "")) == credentials
        assert given(self.LOGIN.replace("WORD", "false")) == {"login": "none"}

    @pytest.mark.parametrize("name", ["TERCEL_USERNAME", "TERCEL_API_TOKENS"])
    def test_given_credentials_in_the_environment_then_the_file_cannot_disable_them(self, name: str) -> None:
        assert given(self.LOGIN.replace("WORD", "false"), **{name: "x"}) == {}

    def test_given_a_login_without_credentials_then_it_is_told(self) -> None:
        assert warnings("kestra.server.basic-auth.enabled: true") == [
            "c:1: kestra.server.basic-auth.enabled is true, and there is no username, or no password."
        ]

    def test_given_neither_true_nor_false_then_it_is_refused(self) -> None:
        assert fault("kestra.server.basic-auth.enabled: perhaps") == (
            "c:1: kestra.server.basic-auth.enabled is 'perhaps', which is not true or false."
        )


class TestOrigins:
    CORS = "micronaut.server.cors: {enabled: true, configurations: {web: {allowed-origins: LIST}}}"

    def test_given_pages_of_others_then_those_that_are_named(self) -> None:
        text = self.CORS.replace("LIST", "['https://a.example', 'https://b.example']")

        assert given(text) == {"allowed_origins": "https://a.example,https://b.example"}
        assert given(text.replace("enabled: true", "enabled: false")) == {}

    @pytest.mark.parametrize("listed", ["'*'", "[]"])
    def test_given_everybody_then_nobody_and_that_is_told(self, listed: str) -> None:
        text = self.CORS.replace("LIST", listed)

        assert given(text) == {}
        assert warnings(text) == [
            "c:1: micronaut.server.cors.enabled has no effect: no allowed-origins name a page of others."
        ]


class TestWarnings:
    def test_given_what_would_matter_then_it_is_told(self) -> None:
        assert warnings("kestra.variables.recursive-rendering: true\nmicronaut.server.ssl.enabled: TRUE") == [
            "c:1: kestra.variables.recursive-rendering has no effect: "
            "what an expression gives is not rendered again: write render(…).",
            "c:2: micronaut.server.ssl.enabled has no effect: the server speaks HTTP: have a proxy do HTTPS.",
        ]
        assert warnings("kestra.variables.recursive-rendering: false") == []
