"""Every setting: its meaning, default, unit and environment name; read once, when the program starts.

`SETTINGS` is the one table; the docs, `--help` and `Settings` follow from it.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import msgspec

from tercel.errors import InvalidSettingError
from tercel.model.size import parse_size

if TYPE_CHECKING:
    from tercel.model.flow import PluginDefault  # for its name: who has none pays nothing

CONFIGURATION_VARIABLE = "TERCEL_CONFIGURATION"
"""The environment variable whose text is a configuration."""

_PREFIX = "TERCEL_"
_SET_BY_TERCEL = (CONFIGURATION_VARIABLE, "TERCEL_ATTEMPT_ID", "TERCEL_GIT_")
"""What is no setting but means something, and what scripts find in their environment, and so a tercel in a script."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one process; what each means is said by `SETTINGS`."""

    home: Path
    temporary_directory: Path
    storage_directory: Path
    slots: int
    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    task_runner: Literal["process", ""] = ""
    warning_on_std_err: bool = True
    stderr_level: str = ""
    kill_grace_s: float = 10.0
    script_environment: str = ""
    max_output_bytes: int = 10 * 1024 * 1024
    max_cache_bytes: int | None = None
    cache_limit_bytes: int = 10 * 1024 * 1024 * 1024
    layers_backend: Literal["overlay", "userns", "reflink", "copy", ""] = ""
    contains_scripts: bool = True
    snapshot_limit_bytes: int = 5 * 1024 * 1024 * 1024
    snapshot_days: int = 7
    execution_days: int | None = None
    log_days: int | None = None
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "OFF"] = "INFO"
    task_log_level: Literal["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "OFF"] = "INFO"
    logs_requests: bool = True
    traces: Literal["otlp", "none"] = "none"
    stores_snapshots: bool = False
    dependency_directory: Path
    template_directory: Path | None = None
    mounts_volumes: bool = False
    recover_missed_schedules: Literal["ALL", "LAST", "NONE"] = "ALL"
    live_executions: int = 1000
    database: str = ""
    home_patience_s: float = 10.0
    host: str = ""
    port: int = 8080
    management_port: int | None = 8081
    context_path: str = ""
    url: str = ""
    login: Literal["none", ""] = ""
    username: str = ""
    password: str = ""
    api_tokens: tuple[str, ...] = ()
    open_urls: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    max_upload_bytes: int = 10 * 1024 * 1024 * 1024
    system_namespace: str = "system"
    globals: Mapping[str, object] = {}
    plugin_defaults: "tuple[PluginDefault, ...]" = ()
    environment_prefixes: tuple[str, ...] = ("KESTRA_", "ENV_")
    hidden_variables: tuple[str, ...] = ("KESTRA_PLUGINS_PATH", "KESTRA_CONFIGURATION_PATH", "KESTRA_CONFIGURATION")
    environment_name: str = ""
    encryption_key: bytes = b""
    http_deny: tuple[str, ...] = ("metadata",)
    http_allow: tuple[str, ...] = ()

    def for_tasks(self) -> Mapping[str, object]:
        """What `RunContext.setting` answers, by its dotted name."""
        return {one.task_name: getattr(self, one.field) for one in SETTINGS if one.task_name}


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table.

    Attributes:
        field: attribute of `Settings`.
        environment: name of the environment variable.
        unit: of the value; empty where it has none.
        default: for people.
        task_name: under which tasks ask for it; empty where they cannot.
        shown: how a value of it is shown to people.
        is_json: its text is JSON, and a configuration may give it as a list or mapping.
    """

    field: str
    environment: str
    meaning: str
    default: str
    parse: Callable[[str], object]
    unit: str = ""
    task_name: str = ""
    shown: Callable[[str], str] = str
    is_json: bool = False

    @property
    def key(self) -> str:
        """Its name in a configuration.

        Example:
            >>> SETTINGS[0].key
            'tercel.home'
        """
        return "tercel." + self.environment.removeprefix(_PREFIX).lower().replace("_", "-")


class Given(msgspec.Struct, frozen=True):
    """A text that a setting is given.

    Attributes:
        text: as `Setting.parse` reads it.
        name: what says so, such as `TERCEL_SLOTS` or `kestra.url`.
        place: where it does: a file or variable and a line of it; empty for an environment variable itself.
    """

    text: str
    name: str
    place: str = ""


def _path(text: str) -> Path:
    path = os.path.expanduser(text)
    if path.startswith("~"):
        raise ValueError("a folder, as the system knows of no home of that user")
    return Path(os.path.abspath(path))  # links in it stay as they are


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        for choice in choices:
            if text.lower() == choice.lower():
                return choice
        raise ValueError("one of " + ", ".join(choice for choice in choices if choice))

    return parse


def read_level(text: str) -> str:
    """The level that *text* names, also by another program's word. Raises ValueError, which says what it can be."""
    others = {"ALL": "TRACE", "WARNING": "WARN", "NONE": "OFF"}
    return _one_of("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "OFF")(others.get(text.upper(), text))


def _flag(text: str) -> bool:
    if text.lower() in {"true", "1", "yes", "on"}:
        return True
    if text.lower() in {"false", "0", "no", "off"}:
        return False
    raise ValueError("true or false")


def _whole(least: int) -> Callable[[str], object]:
    def parse(text: str) -> int:
        if not text.strip().isdecimal() or int(text) < least:
            raise ValueError(f"a whole number of at least {least}")
        return int(text)

    return parse


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e9:
        raise ValueError("a number of seconds")
    return value


def _database(text: str) -> str:
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError("an address such as postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    return text


def _context_path(text: str) -> str:
    path = text.strip("/")
    return f"/{path}" if path else ""


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > 65535:
        raise ValueError("a port, from 0 to 65535")
    return int(text)


def _port_or_none(text: str) -> int | None:
    return None if text.lower() == "none" else _port(text)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(",") if one.strip())


def _mapping(text: str) -> object:
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except msgspec.DecodeError:
        raise ValueError("a mapping, in JSON") from None


def _defaults(text: str) -> "tuple[PluginDefault, ...]":
    from tercel.model.flow import PluginDefault  # noqa: PLC0415  # few have any

    what = "a list of plugin defaults, each with type, values and perhaps forced"
    try:
        defaults = msgspec.json.decode(text, type=tuple[PluginDefault, ...])
    except msgspec.DecodeError:
        raise ValueError(what) from None
    if not all(one.type.strip() for one in defaults):
        raise ValueError(what)
    return defaults


def _host_rules(text: str) -> tuple[str, ...]:
    from tercel.model.hosts import HostRules  # noqa: PLC0415  # few set it

    rules = _listed(text)
    HostRules(rules)
    return rules


def _key(text: str) -> bytes:
    from base64 import b64decode  # noqa: PLC0415  # few have one

    try:
        key = b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ValueError("32 bytes in base64")
    return key


def _starred(_: str) -> str:
    return _STARS


def _starred_inside(text: str) -> str:
    """JSON with the names in it, and the values of `type` and `forced` in a list; everything else may be a secret."""
    try:
        return msgspec.json.encode(_stars_for(msgspec.json.decode(text))).decode()
    except msgspec.DecodeError:
        return _STARS


def _stars_for(value: object, *, is_default: bool = False) -> object:
    match value:
        case dict():
            shown = ("type", "forced") if is_default else ()
            pairs = cast("dict[str, object]", value).items()
            return {name: item if name in shown else _stars_for(item) for name, item in pairs}
        case list():
            return [_stars_for(one, is_default=True) for one in cast("list[object]", value)]
        case _:
            return _STARS


def without_password(address: str) -> str:
    """The address of a database as people may see it.

    Example:
        >>> without_password("postgresql://me:secret@db.example/flows?sslmode=require&password=secret")
        'postgresql://me:******@db.example/flows?sslmode=require&password=******'
    """
    address = re.sub(r"(//[^:/?#@]*):.*@", rf"\1:{_STARS}@", address)
    return re.sub(r"(?i)(pass\w*\s*=\s*)('(?:[^'\\]|\\.)*'|[^&\s]*)", rf"\1{_STARS}", address)


_STARS = "******"

SETTINGS = (
    Setting(
        field="home",
        environment="TERCEL_HOME",
        meaning="Folder that keeps flows, executions, logs, files and caches.",
        default="~/.tercel",
        parse=_path,
    ),
    Setting(
        field="temporary_directory",
        environment="TERCEL_TMP_DIR",
        meaning="Folder below which task runs get their private working directories.",
        default="tmp in the home",
        parse=_path,
    ),
    Setting(
        field="storage_directory",
        environment="TERCEL_STORAGE_DIR",
        meaning="Folder of internal storage: the files of executions and namespaces. Scripts do not see it.",
        default="storage in the home",
        parse=_path,
    ),
    Setting(
        field="slots",
        environment="TERCEL_SLOTS",
        meaning="Jobs that run side by side; a WorkingDirectory is one job.",
        default="4 for each CPU, at least 8",
        parse=_whole(1),
    ),
    Setting(
        field="synchronous",
        environment="TERCEL_SYNCHRONOUS",
        meaning="FULL: a committed step survives a power cut. NORMAL, which is faster: a crash of the process.",
        default="FULL",
        parse=_one_of("FULL", "NORMAL"),
    ),
    Setting(
        field="task_runner",
        environment="TERCEL_TASK_RUNNER",
        meaning="Task runner for scripts, whatever their flow says: process. Empty: what the flow says.",
        default="empty",
        parse=_one_of("process", ""),
        task_name="script.task-runner",
    ),
    Setting(
        field="warning_on_std_err",
        environment="TERCEL_WARNING_ON_STD_ERR",
        meaning="Scripts that write to stderr end in WARNING, where the task does not say otherwise.",
        default="true",
        parse=_flag,
        task_name="script.warning-on-std-err",
    ),
    Setting(
        field="stderr_level",
        environment="TERCEL_STDERR_LEVEL",
        meaning="Level of the log lines that scripts write to stderr. Empty: WARN or ERROR by the task.",
        default="empty",
        parse=_one_of("TRACE", "DEBUG", "INFO", "WARN", "ERROR", ""),
        task_name="script.stderr-level",
    ),
    Setting(
        field="kill_grace_s",
        environment="TERCEL_KILL_GRACE",
        meaning="How long a killed process may take to end by itself.",
        default="10",
        unit="seconds",
        parse=_seconds,
        task_name="script.kill-grace",
    ),
    Setting(
        field="script_environment",
        environment="TERCEL_SCRIPT_ENVIRONMENT",
        meaning="More environment variables that scripts inherit, their names with commas between.",
        default="empty",
        parse=str,
        task_name="script.environment",
    ),
    Setting(
        field="max_output_bytes",
        environment="TERCEL_MAX_OUTPUT_SIZE",
        meaning="Largest outputs of one task run; larger ones fail the task.",
        default="10M",
        unit="bytes; K, M, G are understood",
        parse=parse_size,
        task_name="outputs.max-bytes",
    ),
    Setting(
        field="max_cache_bytes",
        environment="TERCEL_MAX_CACHE_SIZE",
        meaning="Largest cache of one working directory; larger ones are not saved. Tasks may set less by maxSize.",
        default="no limit",
        unit="bytes; K, M, G are understood",
        parse=parse_size,
        task_name="cache.max-bytes",
    ),
    Setting(
        field="cache_limit_bytes",
        environment="TERCEL_CACHE_SIZE",
        meaning="How much the local copies of working directory caches may take on disk.",
        default="10G",
        unit="bytes; K, M, G are understood",
        parse=parse_size,
    ),
    Setting(
        field="layers_backend",
        environment="TERCEL_LAYERS",
        meaning=(
            "How working directories are made of layers: overlay (mounted, as root), userns (mounted, in a user "
            "namespace, in which sudo does not work), reflink (cloned files) or copy. Empty: the best that works."
        ),
        default="empty",
        parse=_one_of("overlay", "userns", "reflink", "copy", ""),
    ),
    Setting(
        field="contains_scripts",
        environment="TERCEL_CONTAIN",
        meaning="Scripts see neither the home nor the directories of other tasks, where the system can do that.",
        default="true",
        parse=_flag,
    ),
    Setting(
        field="snapshot_limit_bytes",
        environment="TERCEL_SNAPSHOT_SIZE",
        meaning="How much is kept of what tasks changed in their directories, for restarts and to look at; 0: nothing.",
        default="5G",
        unit="bytes; K, M, G are understood",
        parse=parse_size,
    ),
    Setting(
        field="execution_days",
        environment="TERCEL_EXECUTION_DAYS",
        meaning="How long a server keeps executions that have ended, from their start on, with all they left.",
        default="for ever",
        unit="days",
        parse=_whole(1),
    ),
    Setting(
        field="log_days",
        environment="TERCEL_LOG_DAYS",
        meaning="How long a server keeps log lines.",
        default="as long as their executions",
        unit="days",
        parse=_whole(1),
    ),
    Setting(
        field="snapshot_days",
        environment="TERCEL_SNAPSHOT_DAYS",
        meaning="How long it is kept.",
        default="7",
        unit="days",
        parse=_whole(0),
    ),
    Setting(
        field="stores_snapshots",
        environment="TERCEL_SNAPSHOTS_STORED",
        meaning="It is kept in internal storage too, so that workers on other machines can go on with a directory.",
        default="false",
        parse=_flag,
    ),
    Setting(
        field="dependency_directory",
        environment="TERCEL_DEPENDENCY_DIR",
        meaning="Folder for the environments that scripts' `dependencies` are installed into.",
        default="dependencies in the home",
        parse=_path,
        task_name="script.dependency-directory",
    ),
    Setting(
        field="mounts_volumes",
        environment="TERCEL_DOCKER_VOLUMES",
        meaning="Flows may mount folders of the machine into their containers, by `volumes`.",
        default="false",
        parse=_flag,
        task_name="docker.volumes",
    ),
    Setting(
        field="template_directory",
        environment="TERCEL_TEMPLATES",
        meaning="Folder with the files of templates, for flows with the deprecated task Template. Empty: they fail.",
        default="empty",
        parse=_path,
    ),
    Setting(
        field="recover_missed_schedules",
        environment="TERCEL_RECOVER_MISSED_SCHEDULES",
        meaning="Dates that passed while no server ran and are made up for, where a Schedule does not say.",
        default="ALL",
        parse=_one_of("ALL", "LAST", "NONE"),
    ),
    Setting(
        field="live_executions",
        environment="TERCEL_LIVE_EXECUTIONS",
        meaning="Executions kept in memory between their steps; others are read again when they go on.",
        default="1000",
        parse=_whole(1),
    ),
    Setting(
        field="database",
        environment="TERCEL_DATABASE",
        meaning="PostgreSQL database with the records of all processes that name it. Empty: a file in the home.",
        default="empty",
        parse=_database,
        shown=without_password,
    ),
    Setting(
        field="home_patience_s",
        environment="TERCEL_HOME_PATIENCE",
        meaning="How long to wait for a process that has the home to itself.",
        default="10",
        unit="seconds",
        parse=_seconds,
    ),
    Setting(
        field="host",
        environment="TERCEL_HOST",
        meaning="Address that `tercel server` listens on.",
        default="127.0.0.1, and 0.0.0.0 with a login",
        parse=str,
    ),
    Setting(
        field="port",
        environment="TERCEL_PORT",
        meaning="Port that `tercel server` listens on; 0 takes a free one.",
        default="8080",
        parse=_port,
    ),
    Setting(
        field="management_port",
        environment="TERCEL_MANAGEMENT_PORT",
        meaning="Port where /health, /prometheus and /version need no login; 0 takes a free one. none: there is none.",
        default="8081",
        parse=_port_or_none,
    ),
    Setting(
        field="context_path",
        environment="TERCEL_CONTEXT_PATH",
        meaning="What stands before every address of the server, such as /kestra.",
        default="empty",
        parse=_context_path,
    ),
    Setting(
        field="url",
        environment="TERCEL_URL",
        meaning="Address by which people reach the server, for links; `kestra.url` in expressions.",
        default="empty",
        parse=str,
        shown=without_password,
    ),
    Setting(
        field="username",
        environment="TERCEL_USERNAME",
        meaning="User who may use the server, by HTTP basic; an e-mail address.",
        default="empty",
        parse=str,
    ),
    Setting(
        field="password",
        environment="TERCEL_PASSWORD",
        meaning="Password of that user.",
        default="empty",
        parse=str,
        shown=_starred,
    ),
    Setting(
        field="api_tokens",
        environment="TERCEL_API_TOKENS",
        meaning="Bearer tokens that may use the server, with commas between; or sha256:HASH, in hexadecimal, of each.",
        default="empty",
        parse=_listed,
        shown=_starred,
    ),
    Setting(
        field="log_format",
        environment="TERCEL_LOG_FORMAT",
        meaning="text, or json: what the server says on stderr, one line each.",
        default="text",
        parse=_one_of("text", "json"),
    ),
    Setting(
        field="log_level",
        environment="TERCEL_LOG_LEVEL",
        meaning="Least level of what the server says of itself: TRACE, DEBUG, INFO, WARN, ERROR or OFF.",
        default="INFO",
        parse=read_level,
    ),
    Setting(
        field="task_log_level",
        environment="TERCEL_LOG_TASKS",
        meaning="Least level of what tasks log that the server says, too; OFF for none. All is kept with executions.",
        default="INFO",
        parse=read_level,
    ),
    Setting(
        field="logs_requests",
        environment="TERCEL_LOG_ACCESS",
        meaning="Whether the server says a line for each request; never for /ping, /health and /prometheus.",
        default="true",
        parse=_flag,
    ),
    Setting(
        field="traces",
        environment="TERCEL_TRACES",
        meaning=(
            "otlp: a span of each execution and task run that ends goes to an OpenTelemetry collector, which "
            "OTEL_EXPORTER_OTLP_ENDPOINT and the like name."
        ),
        default="none",
        parse=_one_of("otlp", "none"),
    ),
    Setting(
        field="login",
        environment="TERCEL_LOGIN",
        meaning="none: everybody who reaches the server may do everything, whatever credentials there are.",
        default="empty",
        parse=_one_of("none", ""),
    ),
    Setting(
        field="open_urls",
        environment="TERCEL_OPEN_URLS",
        meaning="Paths that need no login, with commas between; one that ends with / stands for all below it.",
        default="/ping, /health and webhooks",
        parse=_listed,
    ),
    Setting(
        field="allowed_origins",
        environment="TERCEL_ALLOWED_ORIGINS",
        meaning="Web pages of others that may use the server from a browser, such as https://tools.example.",
        default="empty",
        parse=_listed,
    ),
    Setting(
        field="max_upload_bytes",
        environment="TERCEL_MAX_UPLOAD_SIZE",
        meaning="Largest request with files that the server takes.",
        default="10G",
        unit="bytes; K, M, G are understood",
        parse=parse_size,
    ),
    Setting(
        field="system_namespace",
        environment="TERCEL_SYSTEM_NAMESPACE",
        meaning="Namespace for flows that keep the server in order; pages hide it in lists.",
        default="system",
        parse=str,
    ),
    Setting(
        field="globals",
        environment="TERCEL_GLOBALS",
        meaning="Values that the expressions of all flows see as `globals`.",
        default="empty",
        unit="JSON, a mapping",
        parse=_mapping,
        shown=_starred_inside,
        is_json=True,
    ),
    Setting(
        field="plugin_defaults",
        environment="TERCEL_PLUGIN_DEFAULTS",
        meaning="Plugin defaults of all flows; those of a flow are more important, unless these are `forced`.",
        default="empty",
        unit="JSON, a list of `type`, `values` and `forced`",
        parse=_defaults,
        shown=_starred_inside,
        is_json=True,
    ),
    Setting(
        field="environment_prefixes",
        environment="TERCEL_ENV_PREFIXES",
        meaning="Expressions see environment variables that begin so, as `envs` and without it; with commas between.",
        default="KESTRA_,ENV_",
        parse=_listed,
    ),
    Setting(
        field="hidden_variables",
        environment="TERCEL_HIDDEN_VARIABLES",
        meaning="Environment variables that they do not see, with commas between; and none that is a setting.",
        default="KESTRA_PLUGINS_PATH,KESTRA_CONFIGURATION_PATH,KESTRA_CONFIGURATION",
        parse=_listed,
    ),
    Setting(
        field="environment_name",
        environment="TERCEL_ENVIRONMENT_NAME",
        meaning="What this server is to people, such as production; `kestra.environment.name` in expressions.",
        default="empty",
        parse=str,
    ),
    Setting(
        field="encryption_key",
        environment="TERCEL_ENCRYPTION_KEY",
        meaning=(
            "Key of what is stored encrypted: outputs that hold a secret, inputs of type SECRET. Servers that share a "
            "database need the same. Empty: a file in the home, made when it is first needed."
        ),
        default="empty",
        unit="32 bytes in base64",
        parse=_key,
        shown=_starred,
    ),
    Setting(
        field="http_deny",
        environment="TERCEL_HTTP_DENY",
        meaning=(
            "What HTTP tasks and triggers may not reach, by redirects neither, with commas between: networks "
            "(10.0.0.0/8), addresses, hosts, *.DOMAIN, or metadata (of clouds), loopback, link-local, private, all. "
            "none: nothing is denied."
        ),
        default="metadata",
        parse=_host_rules,
        task_name="http.deny",
    ),
    Setting(
        field="http_allow",
        environment="TERCEL_HTTP_ALLOW",
        meaning="What they may reach all the same, in the same words.",
        default="empty",
        parse=_host_rules,
        task_name="http.allow",
    ),
)


def read_settings(
    environment: Mapping[str, str], configured: Mapping[str, Given] | None = None, **given: object
) -> Settings:
    """Read the settings.

    Args:
        environment: such as `os.environ`; empty values count as unset.
        configured: what configurations give, by field; the environment wins over them.
        given: fields set on the command line; they win, and None counts as unset.

    Raises:
        InvalidSettingError: values cannot be used; all of them are told.
    """
    values: dict[str, object] = {}
    faults: list[InvalidSettingError] = []
    for one in SETTINGS:
        if given.get(one.field) is not None:
            values[one.field] = given[one.field]
            continue
        found = given_for(one, environment, configured or {})
        if found is not None:
            try:
                values[one.field] = one.parse(found.text)
            except ValueError as error:
                where = f"{found.place}: " if found.place else ""
                message = f"{where}{found.name} is {one.shown(found.text)!r}, which is not {error}."
                faults.append(InvalidSettingError(message, f"Unset means {one.default}."))
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise InvalidSettingError("\n".join(map(str, faults)))
    home = Path(str(values.get("home") or _usual_home()))
    values["home"] = home
    values.setdefault("temporary_directory", home / "tmp")
    values.setdefault("storage_directory", home / "storage")
    values.setdefault("dependency_directory", home / "dependencies")
    values.setdefault("slots", max(8, 4 * (os.cpu_count() or 1)))
    return Settings(**values)  # pyright: ignore[reportArgumentType]  # each was made by its own parser


def _usual_home() -> Path:
    try:
        return _path("~/.tercel")
    except ValueError:
        message = "Nothing says where to keep what is run: this user has no home folder."
        raise InvalidSettingError(message, "Name one: --home DIR, or TERCEL_HOME.") from None


def given_for(setting: Setting, environment: Mapping[str, str], configured: Mapping[str, Given]) -> Given | None:
    """What gives a setting its value, beside the command line; None where nothing does."""
    text = environment.get(setting.environment, "")
    return Given(text, setting.environment) if text else configured.get(setting.field)


def unknown_settings(environment: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each `TERCEL_…` variable that is no setting."""
    known = {one.environment for one in SETTINGS}
    for name in sorted(environment):
        if name.startswith(_PREFIX) and name not in known and not name.startswith(_SET_BY_TERCEL):
            from difflib import get_close_matches  # noqa: PLC0415  # seldom needed

            near = get_close_matches(name.removeprefix(_PREFIX), [one.removeprefix(_PREFIX) for one in known], n=1)
            yield f"{name} is no setting of tercel." + (f" Did you mean {_PREFIX}{near[0]}?" if near else "")


def settings_table() -> str:
    """Every setting, as a Markdown table for the docs."""
    rows = [
        f"| `{one.environment}`<br>`{one.key}` | {one.meaning} | {one.default} | {one.unit or '–'} |".replace("\n", " ")
        for one in SETTINGS
    ]
    return "\n".join(["| variable, key | meaning | default | unit |", "|---|---|---|---|", *rows])
