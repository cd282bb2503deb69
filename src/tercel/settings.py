"""Every setting: its meaning, default, unit and environment name; read once, when the program starts.

`SETTINGS` is the one table; the docs, `--help` and `Settings` follow from it.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from tercel.errors import InvalidSettingError
from tercel.model.size import parse_size

_PREFIX = "TERCEL_"
_SET_BY_TERCEL = ("TERCEL_ATTEMPT_ID", "TERCEL_GIT_")
"""What scripts find in their environment, and so also a tercel that a script starts."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one process; what each means is said by `SETTINGS`."""

    home: Path
    temporary_directory: Path
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
    stores_snapshots: bool = False
    dependency_directory: Path
    template_directory: Path | None = None
    recover_missed_schedules: Literal["ALL", "LAST", "NONE"] = "ALL"
    live_executions: int = 1000
    database: str = ""
    home_patience_s: float = 10.0

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
    """

    field: str
    environment: str
    meaning: str
    default: str
    parse: Callable[[str], object]
    unit: str = ""
    task_name: str = ""
    shown: Callable[[str], str] = str


def _path(text: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(text)))  # links in it stay as they are


def _one_of(*choices: str) -> Callable[[str], object]:
    def parse(text: str) -> str:
        for choice in choices:
            if text.lower() == choice.lower():
                return choice
        raise ValueError("one of " + ", ".join(choice for choice in choices if choice))

    return parse


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
)


def read_settings(environment: Mapping[str, str], **given: object) -> Settings:
    """Read the settings.

    Args:
        environment: such as `os.environ`; empty values count as unset.
        given: fields set on the command line; they win, and None counts as unset.

    Raises:
        InvalidSettingError: a value cannot be used.
    """
    values: dict[str, object] = {}
    for one in SETTINGS:
        text = environment.get(one.environment, "")
        if given.get(one.field) is not None:
            values[one.field] = given[one.field]
        elif text:
            try:
                values[one.field] = one.parse(text)
            except ValueError as error:
                raise InvalidSettingError(
                    f"{one.environment} is {one.shown(text)!r}, which is not {error}.", f"Unset means {one.default}."
                ) from None
    home = Path(str(values.setdefault("home", _path("~/.tercel"))))
    values.setdefault("temporary_directory", home / "tmp")
    values.setdefault("dependency_directory", home / "dependencies")
    values.setdefault("slots", max(8, 4 * (os.cpu_count() or 1)))
    return Settings(**values)  # pyright: ignore[reportArgumentType]  # each was made by its own parser


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
        f"| `{one.environment}` | {one.meaning} | {one.default} | {one.unit or '–'} |".replace("\n", " ")
        for one in SETTINGS
    ]
    return "\n".join(["| variable | meaning | default | unit |", "|---|---|---|---|", *rows])
