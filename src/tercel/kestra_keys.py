"""The keys of Kestra's configuration: what each sets here, or why it has no effect.

`KEYS` is the one table; the docs follow from it, and `give_settings` makes settings of values. Pure.
"""

import re
from collections.abc import Mapping
from typing import cast
from urllib.parse import parse_qsl, quote, unquote, urlencode

import msgspec

from tercel.settings import SETTINGS, Given

_LOGIN = "kestra.server.basic-auth."
_DATASOURCE = "datasources.postgres."


Content = str | list[object] | dict[str, object]
"""A text, or a list or mapping as it stands."""


class Value(msgspec.Struct, frozen=True):
    """What stands at a key.

    Attributes:
        key: its whole path, in small letters with dashes.
        content: what stands there.
        name: what people know it as: the key, or the environment variable that stands for it.
        place: the file or variable and the line; empty for an environment variable.
        rank: higher is more important.
    """

    key: str
    content: Content
    name: str
    place: str
    rank: int

    @property
    def where(self) -> str:
        """The beginning of a sentence about it."""
        return f"{self.place}: {self.name}" if self.place else self.name

    @property
    def text(self) -> str:
        """Its content as one text; a list with commas between."""
        match self.content:
            case str():
                return self.content
            case list():
                return ",".join(str(one) for one in self.content)
            case _:
                return msgspec.json.encode(self.content).decode()


class Outcome:
    """What values come to; filled step by step.

    Attributes:
        given: texts for settings, by field.
        warnings: sentences about what is said in vain.
        faults: sentences about what cannot be.
    """

    def __init__(self) -> None:
        self.given: dict[str, Given] = {}
        self.warnings: list[str] = []
        self.faults: list[str] = []
        self._ranks: dict[str, int] = {}

    def give(self, field: str, value: Value, text: str | None = None) -> None:
        """Give a setting *text*, or what stands in *value*, unless something more important has; empty is nothing."""
        if text is None and not isinstance(value.content, str) and _BY_FIELD[field].is_json:
            text = msgspec.json.encode(value.content).decode()
        elif text is None and isinstance(value.content, dict):
            self.faults.append(f"{value.where} is a mapping, where one value is meant.")
            return
        text = value.text if text is None else text
        if text and value.rank >= self._ranks.get(field, -1):
            self.given[field] = Given(text, value.name, value.place)
            self._ranks[field] = value.rank


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table.

    Attributes:
        path: of the key; `*` stands for one name, `**` at its end for all below it.
        settings: fields that it has a part in.
        note: what else there is to say; why it has no effect, where it sets nothing.
        is_plain: its value is that of its setting; else `give_settings` sees to it.
        is_whole: its value is a list or mapping of the user's, whose names stay as they are.
        warns: the value for which the note is told as a warning; `*` for any.
    """

    path: str
    settings: tuple[str, ...] = ()
    note: str = ""
    is_plain: bool = True
    is_whole: bool = False
    warns: str = ""


def _of_login(name: str, note: str = "") -> Key:
    field = "login" if name == "enabled" else name
    return Key(path=_LOGIN + name, settings=(field,), note=note, is_plain=False)


KEYS = (
    # The database, the queue, the storage
    Key(
        path="datasources.postgres.url",
        settings=("database",),
        note="a JDBC address: sslmode, currentSchema, user, password and a few more of its parameters are understood",
        is_plain=False,
    ),
    Key(path="datasources.postgres.username", settings=("database",), is_plain=False),
    Key(path="datasources.postgres.password", settings=("database",), is_plain=False),
    Key(path="datasources.*.driver-class-name", note="the address says which database it is"),
    Key(path="datasources.*.maximum-pool-size", note="a server has one connection that writes, and 8 that read"),
    Key(path="datasources.*.minimum-idle", note="connections are opened when they are needed"),
    Key(path="datasources.*.connection-timeout", note="a lost connection is tried for 30 seconds"),
    Key(path="datasources.h2.**", note="with the type h2 or memory records are in a file of the home"),
    Key(path="datasources.mysql.**", note="there is PostgreSQL, or a file in the home"),
    Key(
        path="kestra.repository.type",
        settings=("database",),
        note="postgres: that of datasources.postgres; h2 and memory: a file in the home; all else is refused",
        is_plain=False,
    ),
    Key(
        path="kestra.queue.type",
        settings=("database",),
        note="has to be that of the repository, as both are one database",
        is_plain=False,
    ),
    Key(path="kestra.storage.type", settings=("storage_directory",), note="only local", is_plain=False),
    Key(
        path="kestra.storage.local.base-path",
        settings=("storage_directory", "home"),
        note="the home is .tercel in it, where nothing else names one, so that one volume keeps all",
        is_plain=False,
    ),
    Key(path="kestra.storage.s3.**", note="internal storage is a folder; the type s3 is refused"),
    Key(path="kestra.storage.minio.**", note="internal storage is a folder; the type minio is refused"),
    Key(path="kestra.storage.gcs.**", note="internal storage is a folder; the type gcs is refused"),
    Key(path="kestra.storage.azure.**", note="internal storage is a folder; the type azure is refused"),
    Key(path="kestra.jdbc.**", note="there is no queue that is polled or cleaned: what comes is told at once"),
    # Tasks and workers
    Key(path="kestra.tasks.tmp-dir.path", settings=("temporary_directory",)),
    Key(path="kestra.tasks.scripts.docker.volume-enabled", settings=("mounts_volumes",), is_plain=False),
    Key(
        path="kestra.plugins.configurations",
        settings=("mounts_volumes",),
        note="volume-enabled of the Docker runner, by each of its names; a warning for all else",
        is_plain=False,
        is_whole=True,
    ),
    Key(path="kestra.plugins.defaults", settings=("plugin_defaults",), is_plain=False, is_whole=True),
    Key(
        path="kestra.tasks.defaults",
        settings=("plugin_defaults",),
        note="the old name; they come after those of the new one",
        is_plain=False,
        is_whole=True,
    ),
    Key(
        path="kestra.server.termination-grace-period",
        note="tasks that run are ended when the server is, and run again when it is started the next time",
    ),
    Key(path="kestra.server.worker-task-restart-strategy", note="what a dead process left goes on at once"),
    Key(path="kestra.server.liveness.**", note="a process that died is noticed by the lock that it held"),
    Key(path="kestra.server.standalone.**", note="there are no parts to wait for"),
    Key(path="kestra.server-type", note="every server does everything"),
    Key(path="kestra.retries.**", note="calls to internal storage go to a folder, and are not retried"),
    # Expressions and secrets
    Key(path="kestra.variables.env-vars-prefix", settings=("environment_prefixes",)),
    Key(path="kestra.variables.redacted-env-vars", settings=("hidden_variables",)),
    Key(
        path="kestra.variables.globals",
        settings=("globals",),
        note="by the names as written, and with dashes as Kestra has them: globals.myVar, globals['my-var']",
        is_plain=False,
        is_whole=True,
    ),
    Key(
        path="kestra.variables.recursive-rendering",
        note="what an expression gives is not rendered again: write render(…)",
        warns="true",
    ),
    Key(path="kestra.variables.cache-enabled", note="compiled expressions are kept as it suits"),
    Key(path="kestra.variables.cache-size", note="compiled expressions are kept as it suits"),
    Key(path="kestra.encryption.secret-key", settings=("encryption_key",)),
    Key(path="kestra.secret.**", note="secrets come from SECRET_… environment variables", warns="*"),
    Key(path="kestra.url", settings=("url",)),
    Key(path="kestra.environment.name", settings=("environment_name",)),
    Key(path="kestra.environment.color", note="there are no pages yet"),
    # The server
    Key(path="micronaut.server.port", settings=("port",)),
    Key(path="micronaut.server.host", settings=("host",)),
    Key(path="micronaut.server.context-path", settings=("context_path",)),
    Key(path="micronaut.server.max-request-size", settings=("max_upload_bytes",)),
    Key(path="micronaut.server.multipart.**", note="a request is limited as a whole, by max-request-size"),
    Key(
        path="micronaut.server.cors.enabled",
        settings=("allowed_origins",),
        note="with the allowed-origins of all its configurations; origins that are not named stay out",
        is_plain=False,
    ),
    Key(path="micronaut.server.cors.configurations.*.allowed-origins", settings=("allowed_origins",), is_plain=False),
    Key(path="micronaut.server.cors.**", note="methods and headers are those of the API"),
    Key(path="micronaut.server.ssl.enabled", note="the server speaks HTTP: have a proxy do HTTPS", warns="true"),
    Key(path="micronaut.server.ssl.**", note="the server speaks HTTP"),
    Key(path="endpoints.all.port", settings=("management_port",)),
    Key(
        path="endpoints.all.basic-auth.**",
        note="the port for operators has no login: let nobody else reach it, or set TERCEL_MANAGEMENT_PORT=none",
        warns="*",
    ),
    Key(path="endpoints.**", note="there are /health, /prometheus and /version, and no others"),
    _of_login(
        "enabled", "false: everybody who reaches the server may do everything, unless the environment names a user"
    ),
    _of_login("username", "only looked at where the login is not disabled"),
    _of_login("password", "only looked at where the login is not disabled"),
    Key(path="kestra.server.basic-auth.realm", note="it is always Kestra"),
    Key(path="kestra.server.basic-auth.open-urls", settings=("open_urls",)),
    Key(path="kestra.server.preview.**", note="previews have 100 lines at first and 5000 at most"),
    Key(path="kestra.server.access-log.enabled", settings=("logs_requests",)),
    Key(path="kestra.server.access-log.**", note="each request is a line in one form"),
    Key(path="kestra.hidden-labels.prefixes", note="labels that begin with system. and internal. are hidden"),
    Key(path="kestra.system-flows.namespace", settings=("system_namespace",)),
    Key(path="kestra.webserver.**", note="there are no pages yet, and never any that tell others who uses them"),
    Key(path="kestra.anonymous-usage-report.**", note="nobody is ever told"),
    Key(path="kestra.ui-anonymous-usage-report.**", note="nobody is ever told"),
    Key(
        path="kestra.templates.enabled",
        note="the files of templates are in a folder: name it in TERCEL_TEMPLATES",
        warns="true",
    ),
    Key(path="kestra.tutorial-flows.**", note="there are none"),
    Key(
        path="micronaut.io.watch.enabled", note="no folder is watched: `tercel flow save` saves its flows", warns="true"
    ),
    Key(path="micronaut.io.watch.**", note="no folder is watched"),
    # Logs, metrics and the rest
    Key(path="logger.levels.flow", settings=("task_log_level",)),
    Key(path="logger.levels.io.kestra", settings=("log_level",)),
    Key(path="logger.levels.io.kestra.webserver.access", note="TERCEL_LOG_ACCESS=false leaves requests out"),
    Key(path="logger.levels.**", note="the server and tasks have a level each: TERCEL_LOG_LEVEL, TERCEL_LOG_TASKS"),
    Key(path="logger.config", note="TERCEL_LOG_FORMAT=json gives lines for programs"),
    Key(path="logger.**", note="the server has no other loggers"),
    Key(path="kestra.metrics.**", note="metrics have the prefix kestra, and no tags of their own"),
    Key(path="kestra.traces.**", note="TERCEL_TRACES=otlp has a trace of each execution"),
    Key(path="micronaut.metrics.**", note="metrics are at /prometheus"),
    Key(path="micronaut.otel.**", note="TERCEL_TRACES=otlp has a trace of each execution"),
    Key(path="otel.traces.exporter", settings=("traces",)),
    Key(path="otel.**", note="the OTEL_… variables of the environment say it"),
    Key(path="kestra.configurations.**", note="a configuration is never written to a file that scripts could read"),
    Key(path="kestra.local-files.**", note="flows do not read files of the machine by file://"),
    Key(path="kestra.ee.**", note="it is of another edition"),
    Key(path="kestra.ai.**", note="no such service is asked"),
    Key(path="micronaut.**", note="it sets up the framework, which is another one here"),
    Key(path="flyway.**", note="the schema is brought up to date when the server starts"),
    Key(path="jackson.**", note="it sets up a library that is not used here"),
)
"""Every key that is known; of two that fit, the first one counts."""

_BY_FIELD = {one.field: one for one in SETTINGS}
_EXACT = {key.path: key for key in reversed(KEYS) if "*" not in key.path}
_PATTERNS = tuple(
    (re.compile(re.escape(key.path).replace(r"\.\*\*", r"\..+").replace(r"\*", r"[^.]+")), key)
    for key in KEYS
    if "*" in key.path
)


def kebab(name: str) -> str:
    """A name in small letters with dashes, by which its spellings are one.

    Example:
        >>> kebab("basePath"), kebab("BASE_PATH"), kebab("base-path")
        ('base-path', 'base-path', 'base-path')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).replace("_", "-").lower()


def variable_of(path: str) -> str:
    """The environment variable that stands for a key.

    Example:
        >>> variable_of("kestra.storage.local.base-path")
        'KESTRA_STORAGE_LOCAL_BASE_PATH'
    """
    return re.sub(r"[.-]", "_", path).upper()


def find_key(path: str) -> Key | None:
    """The row that a key is of; None where nobody knows it."""
    return _EXACT.get(path) or next((key for pattern, key in _PATTERNS if pattern.fullmatch(path)), None)


def nearest_key(path: str) -> str:
    """The known key that is most like an unknown one; empty where none is."""
    from difflib import get_close_matches  # noqa: PLC0415  # seldom needed

    near = get_close_matches(path, _EXACT, n=1, cutoff=0.75)
    return near[0] if near else ""


_SECRET_SECTIONS = tuple(variable_of(key.path.removesuffix(".**")) + "_" for key in KEYS if key.path.endswith(".**"))
_VARIABLES = frozenset(variable_of(path) for path in _EXACT) | {
    "KESTRA_CONFIGURATION",
    "KESTRA_CONFIGURATION_PATH",
    "KESTRA_PLUGINS_PATH",
}


def is_setting(variable: str) -> bool:
    """Whether an environment variable is a setting, and so nothing for expressions to see.

    Example:
        >>> is_setting("KESTRA_STORAGE_S3_SECRET_KEY"), is_setting("KESTRA_COLOUR")
        (True, False)
    """
    return variable in _VARIABLES or variable.startswith(_SECRET_SECTIONS)


def give_settings(values: Mapping[str, Value], outcome: Outcome, environment: Mapping[str, str]) -> None:
    """Make settings of what stands at Kestra's keys; what cannot be is in the outcome's faults.

    Args:
        values: by the path of their keys; others than Kestra's are passed over.
        outcome: to fill.
        environment: credentials in it are more important than a login that is disabled.
    """
    for value in values.values():
        key = find_key(value.key)
        if key is not None and key.settings and key.is_plain:
            outcome.give(key.settings[0], value)
        elif key is not None and key.warns and key.warns in ("*", value.text.lower()):
            outcome.warnings.append(f"{value.where} has no effect: {key.note}.")
    for give in (_database, _storage, _volumes, _defaults, _globals, _origins):
        give(values, outcome)
    _login(values, outcome, environment)


_EMBEDDED = ("h2", "memory")
_REFUSED = {
    "mysql": "Tercel keeps its records in PostgreSQL, or in a file of its home: set it to postgres, or to h2.",
    "elasticsearch": "That is of another edition: set it to postgres.",
    "kafka": "That is of another edition: set it to postgres.",
}


def _database(values: Mapping[str, Value], outcome: Outcome) -> None:
    kinds = [
        value for name in ("kestra.repository.type", "kestra.queue.type") if (value := values.get(name)) is not None
    ]
    for value in kinds:
        if value.text not in ("postgres", *_EMBEDDED):
            hint = _REFUSED.get(value.text, "It can be postgres, h2 or memory.")
            outcome.faults.append(f"{value.where} is {value.text!r}. {hint}")
            return
    if len({value.text == "postgres" for value in kinds}) > 1:
        outcome.faults.append(
            f"{kinds[1].where} is {kinds[1].text!r}, and {kinds[0].name} is {kinds[0].text!r}. They have to be one."
        )
        return
    url = values.get(_DATASOURCE + "url")
    if kinds and kinds[0].text != "postgres":
        if url is not None:
            outcome.warnings.append(f"{url.where} has no effect: {kinds[0].name} is {kinds[0].text!r}.")
        return
    if url is None:
        if kinds:
            outcome.faults.append(f"{kinds[0].where} is 'postgres', and no {_DATASOURCE}url says which database.")
        return
    user, password = (values.get(_DATASOURCE + name) for name in ("username", "password"))
    try:
        address, dropped = database_address(
            url.text, "" if user is None else user.text, "" if password is None else password.text
        )
    except ValueError as error:
        outcome.faults.append(f"{url.where} is not {error}.")
        return
    outcome.warnings += [f"{url.where}: its parameter {name!r} has no effect." for name in dropped]
    outcome.give("database", url, address)


_PARAMETERS = {
    "sslmode": "sslmode",
    "sslrootcert": "sslrootcert",
    "sslcert": "sslcert",
    "sslkey": "sslkey",
    "ApplicationName": "application_name",
    "connectTimeout": "connect_timeout",
    "targetServerType": "target_session_attrs",
}
_SESSIONS = {"primary": "read-write", "master": "read-write", "any": "any", "secondary": "standby"}


def database_address(url: str, username: str = "", password: str = "") -> tuple[str, list[str]]:
    """The address of a PostgreSQL database, of its JDBC address and credentials beside it.

    Returns:
        The address, as libpq reads it, and the names of the parameters that mean nothing there.

    Raises:
        ValueError: it is no such address.

    Example:
        >>> database_address("jdbc:postgresql://db:5432/flows?currentSchema=team&gssEncMode=x", "me", "p@ss")
        ('postgresql://me:p%40ss@db:5432/flows?options=-c%20search_path%3Dteam', ['gssEncMode'])
    """
    match = re.fullmatch(
        r"(?:jdbc:)?postgres(?:ql)?:(?://(?:(?P<user>[^@/?]*)@)?(?P<hosts>[^/?@]*)/?)?(?P<database>[^/?]*)"
        r"(?:\?(?P<query>.*))?",
        url.strip(),
    )
    if match is None:
        raise ValueError("an address such as jdbc:postgresql://HOST:PORT/DATABASE")
    inside_user, _, inside_password = (match["user"] or "").partition(":")
    given = dict(parse_qsl(match["query"] or "", keep_blank_values=True))
    user = username or given.pop("user", "") or unquote(inside_user)
    secret = password or given.pop("password", "") or unquote(inside_password)
    given = {name: value for name, value in given.items() if name not in ("user", "password")}
    kept = {_PARAMETERS[name]: value for name, value in given.items() if name in _PARAMETERS and value}
    if "target_session_attrs" in kept:
        kept["target_session_attrs"] = _SESSIONS.get(kept["target_session_attrs"], "any")
    if given.get("ssl") == "true":
        kept.setdefault("sslmode", "verify-full")
    if given.get("currentSchema"):
        kept["options"] = f"-c search_path={given['currentSchema']}"
    dropped = [name for name in given if name not in (*_PARAMETERS, "ssl", "currentSchema")]
    login = f"{quote(user, safe='')}{':' + quote(secret, safe='') if secret else ''}@" if user else ""
    query = f"?{urlencode(kept, quote_via=quote)}" if kept else ""
    return f"postgresql://{login}{match['hosts'] or 'localhost'}/{match['database']}{query}", dropped


def _storage(values: Mapping[str, Value], outcome: Outcome) -> None:
    kind = values.get("kestra.storage.type")
    if kind is not None and kind.text != "local":
        outcome.faults.append(f"{kind.where} is {kind.text!r}. Internal storage is a folder: set it to local.")
        return
    base = values.get("kestra.storage.local.base-path")
    if base is not None and base.text:
        outcome.give("storage_directory", base)
        outcome.give("home", base, f"{base.text.rstrip('/')}/.tercel")


_DOCKER = re.compile(r"io\.kestra\.plugin\.scripts\.runner\.docker\.Docker(TaskRunner)?")


def _volumes(values: Mapping[str, Value], outcome: Outcome) -> None:
    old, listed = (
        values.get(name) for name in ("kestra.tasks.scripts.docker.volume-enabled", "kestra.plugins.configurations")
    )
    if old is not None:
        outcome.give("mounts_volumes", old)
    if listed is None:
        return
    content = listed.content
    if not isinstance(content, list) or not all(isinstance(one, dict) for one in content):
        outcome.faults.append(f"{listed.where} is not a list of mappings, each with type and values.")
        return
    for one in cast("list[dict[str, object]]", content):
        type_, inside = str(one.get("type", "")), one.get("values")
        pairs = cast("dict[str, object]", inside).items() if isinstance(inside, dict) else ()
        for name, item in pairs:
            if _DOCKER.fullmatch(type_) and kebab(name) == "volume-enabled":
                outcome.give("mounts_volumes", listed, str(item).lower())
            else:
                outcome.warnings.append(f"{listed.where} has no effect: {name} of {type_ or 'no type'}.")


def _defaults(values: Mapping[str, Value], outcome: Outcome) -> None:
    both = [
        value
        for name in ("kestra.plugins.defaults", "kestra.tasks.defaults")
        if (value := values.get(name)) is not None
    ]
    if len(both) == 1:
        outcome.give("plugin_defaults", both[0])
    elif both and all(isinstance(value.content, list) for value in both):
        joined = [one for value in both for one in value.content]
        outcome.give("plugin_defaults", both[0], msgspec.json.encode(joined).decode())
    elif both:
        outcome.faults.append(f"{both[0].where} and {both[1].name} are not both lists.")


def _globals(values: Mapping[str, Value], outcome: Outcome) -> None:
    value = values.get("kestra.variables.globals")
    if value is not None:
        both = cast("Content", _both_spellings(value.content))
        outcome.give("globals", msgspec.structs.replace(value, content=both))


def _both_spellings(content: object) -> object:
    if not isinstance(content, dict):
        return content
    pairs = cast("dict[str, object]", content)
    items = {name: _both_spellings(value) for name, value in pairs.items()}
    return {**{kebab(name): value for name, value in items.items()}, **items}


def _origins(values: Mapping[str, Value], outcome: Outcome) -> None:
    enabled = values.get("micronaut.server.cors.enabled")
    if enabled is None or enabled.text.lower() != "true":
        return
    listed = [
        value
        for path, value in values.items()
        if path.startswith("micronaut.server.cors.configurations.") and path.endswith(".allowed-origins")
    ]
    origins = [origin for value in listed for origin in value.text.split(",") if origin.strip() not in ("", "*")]
    if origins:
        outcome.give("allowed_origins", listed[0], ",".join(origins))
    else:
        outcome.warnings.append(f"{enabled.where} has no effect: no allowed-origins name a page of others.")


def _login(values: Mapping[str, Value], outcome: Outcome, environment: Mapping[str, str]) -> None:
    enabled, username, password = (values.get(_LOGIN + name) for name in ("enabled", "username", "password"))
    word = "" if enabled is None else enabled.text.lower()
    if enabled is not None and word not in ("true", "false", ""):
        outcome.faults.append(f"{enabled.where} is {enabled.text!r}, which is not true or false.")
    elif enabled is not None and word == "false":
        if not any(environment.get(name) for name in ("TERCEL_USERNAME", "TERCEL_API_TOKENS")):
            outcome.give("login", enabled, "none")
    else:
        for field, value in (("username", username), ("password", password)):
            if value is not None:
                outcome.give(field, value)
        if word == "true" and (username is None or password is None) and enabled is not None:
            outcome.warnings.append(f"{enabled.where} is true, and there is no username, or no password.")


def keys_table() -> str:
    """Every key, as a Markdown table for the docs."""
    rows = [f"| `{key.path}` | {_effect(key)} |" for key in KEYS]
    return "\n".join(["| key | what it does here |", "|---|---|", *rows])


def _effect(key: Key) -> str:
    if not key.settings:
        return f"Without effect: {key.note}."
    sets = " and ".join(f"`{_BY_FIELD[field].environment}`" for field in key.settings)
    return f"{sets}{': ' + key.note if key.note else ''}."
