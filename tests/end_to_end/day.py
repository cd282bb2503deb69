"""A scripted day: `python -m tests.end_to_end.day --minutes 15 --kill-every 30 [--seed N] [--database postgresql]`.

A server with twenty flows that start by themselves is killed with -9 again and again and started anew, while clients
post to it; then it is left alone until it has done all, and every start is accounted for.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import httpx

from tercel.scheduler import evaluation_of, last_date_of
from tercel.server import Home, read_home
from tercel.settings import read_settings
from tercel.store import ExecutionQuery
from tests.command_line import command, environment
from tests.end_to_end.day_accounts import Day, Heard, Post, Ran, Report, account
from tests.end_to_end.day_flows import NAMESPACE, DayFlow, flows
from tests.homes import until
from tests.postgres import postgres_database
from tests.servers import Answer, http_server

API = "/api/v1/main"
SLOTS = 4
CALM_S = 180.0
"""How long a server may take to do all that is left."""

_AT_START = 0.2
"""How many kills hit a server right as it starts."""

_PAGE = 500
_OWN_TRIGGERS = ("trigger.Schedule", "http.Trigger")
"""Types that start executions although nobody does anything."""


class Events:
    """An HTTP server's part: numbered events in several rows; each is offered until somebody says that it is taken."""

    def __init__(self) -> None:
        self.taken: dict[str, list[int]] = defaultdict(list)
        self.wrong: list[str] = []
        self.is_over = False
        self._lock = threading.Lock()
        self._next: dict[str, int] = defaultdict(lambda: 1)

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """`GET /next/ROW` gives the number of an event, 404 once the day is over; `POST /taken/ROW/NUMBER` ends it."""
        verb, row, *number = path.strip("/").split("/")
        with self._lock:
            if (method, verb) == ("GET", "next"):
                return (404, {}, b"over") if self.is_over else (200, {}, str(self._next[row]).encode())
            taken = int(number[0])
            if taken > self._next[row]:
                self.wrong.append(f"event {taken} of {row} was taken before it was offered")
            self.taken[row].append(taken)
            self._next[row] = max(self._next[row], taken + 1)
            return 200, {}, b""


class Server:
    """`tercel server` on a port that stays the same however often it is killed; use it as a context."""

    def __init__(self, folder: Path, database: str) -> None:
        self.home = folder / "home"
        self.said = folder / "server.log"
        self.kills = 0
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}"
        self.env = {"TERCEL_MANAGEMENT_PORT": "0", **({"TERCEL_DATABASE": database} if database else {})}

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def start(self) -> None:
        arguments = ["server", "--host", "127.0.0.1", "--port", self._port, "--worker-thread", SLOTS]
        with self.said.open("ab") as said:
            self._process = subprocess.Popen(
                command(*arguments),
                env=environment(self.home, self.env),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def kill(self) -> None:
        """kill -9; a server that has ended by itself is told as an error."""
        if self._process.poll() is not None:
            raise AssertionError(f"the server has ended by itself with {self._process.returncode}: {self.text[-5000:]}")
        self._process.kill()
        self._process.wait()
        self.kills += 1

    def stop(self) -> int:
        """SIGTERM; gives the exit code."""
        self._process.terminate()
        return self._process.wait(60)

    @property
    def text(self) -> str:
        """What all of them have said."""
        return self.said.read_text(errors="replace")

    def until_ready(self) -> None:
        def is_ready() -> bool:
            try:
                return httpx.get(f"{self.address}/ping", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        until(is_ready, deadline_s=60)

    @contextmanager
    def look(self) -> Generator[Home]:
        """What it has written."""
        with read_home(read_settings(self.env, home=self.home)) as home:
            yield home


class Caller(threading.Thread):
    """A client that posts numbers to the webhook of a flow, each until it is answered; a try never twice."""

    def __init__(self, address: str, flow: DayFlow) -> None:
        super().__init__(name=f"caller-{flow.id}")
        self.posts: list[Post] = []
        self.wrong: list[str] = []
        self._flow = flow
        self._address = f"{address}{API}/executions/webhook/{NAMESPACE}/{flow.id}/{flow.key}"
        self._is_over = threading.Event()
        self._is_hopeless = threading.Event()

    def run(self) -> None:
        number = 0
        with httpx.Client(timeout=20) as client:
            while not self._is_over.wait(self._flow.gap_s):
                number += 1
                attempt = 1
                while not self._is_answered(client, number, attempt):
                    attempt += 1
                    if self._is_hopeless.wait(0.2):
                        return

    def _is_answered(self, client: httpx.Client, number: int, attempt: int) -> bool:
        def note(heard: Heard, execution_id: str = "") -> bool:
            self.posts.append(Post(self._flow.id, number, attempt, heard, execution_id))
            return heard is Heard.ANSWERED

        try:
            answer = client.post(self._address, json={"number": number, "attempt": attempt})
        except httpx.ConnectError:
            return note(Heard.REFUSED)
        except httpx.TransportError:
            return note(Heard.CUT)
        if answer.status_code != 200:
            self.wrong.append(f"{self._flow.id} was answered {answer.status_code}: {answer.text[:300]}")
            return note(Heard.CUT)
        return note(Heard.ANSWERED, answer.json()["id"])

    def end(self) -> None:
        """Post no further number, and wait until the last one is answered."""
        self._is_over.set()
        self.join()

    def give_up(self) -> None:
        """End, answered or not."""
        self._is_hopeless.set()
        self.end()


def run_day(folder: Path, *, day_s: float, kill_every_s: float, seed: int = 0, database: str = "") -> Report:
    """Have a day, and account for it.

    Args:
        folder: for all files; new.
        day_s: how long servers are killed.
        kill_every_s: how long one lives, about.
        seed: of the moments.
        database: address of an empty PostgreSQL database; SQLite in the home without one.
    """
    rng = Random(seed)
    lines = folder / "lines"
    lines.touch()
    events = Events()
    with ExitStack() as stack:
        address = stack.enter_context(http_server(events.answer))
        all_flows = flows(address, lines)
        server = stack.enter_context(Server(folder, database))
        server.until_ready()
        # Those that follow others first, so that they miss none.
        saved_at = {flow.id: _save(server, flow) for flow in reversed(all_flows)}
        callers = [Caller(server.address, flow) for flow in all_flows if flow.gap_s]
        for caller in callers:
            caller.start()
        try:
            calm_at = _disturb(server, rng, day_s, kill_every_s)
        except BaseException:
            for caller in callers:
                caller.give_up()
            raise
        for caller in callers:
            caller.end()
        events.is_over = True
        left = _calm(server, all_flows, calm_at)
        code = server.stop()
        with server.look() as home:
            ran = _ran(home)
        report = account(
            Day(
                flows=all_flows,
                saved_at=saved_at,
                calm_at=calm_at,
                kills=server.kills,
                posts=[post for caller in callers for post in caller.posts],
                taken=events.taken,
                ran=ran,
                lines=[_line(line) for line in lines.read_text().splitlines()],
                slots=SLOTS,
                left=left,
            )
        )
        report.problems += events.wrong + [problem for caller in callers for problem in caller.wrong]
        if code != 0:
            report.problems.append(f"the last server ended with {code}")
        if "Traceback" in server.text:
            report.problems.append(f"a server has told of an error of its own: {server.said}")
        return report


def _save(server: Server, flow: DayFlow) -> tuple[datetime, datetime]:
    before = datetime.now(UTC)
    answer = httpx.post(f"{server.address}{API}/flows", content=flow.text, timeout=30)
    assert answer.status_code == 200, answer.text
    return before, datetime.now(UTC)


def _disturb(server: Server, rng: Random, day_s: float, kill_every_s: float) -> datetime:
    """Kill servers until the day is over; gives when the last one was started."""
    night = time.monotonic() + day_s
    while True:
        is_at_start = server.kills > 0 and rng.random() < _AT_START
        lives_s = rng.uniform(0.05, 1.5) if is_at_start else kill_every_s * rng.uniform(0.8, 1.2)
        if time.monotonic() + lives_s > night:
            break
        time.sleep(lives_s)
        server.kill()
        server.start()
    server.until_ready()
    return datetime.now(UTC)


def _calm(server: Server, all_flows: list[DayFlow], calm_at: datetime) -> list[str]:
    """Wait until what was missed is made up for, end what starts by itself, wait for the rest; gives what is left."""
    dated = {
        (NAMESPACE, flow.id, trigger["id"])
        for flow in all_flows
        for trigger in flow.triggers
        if trigger["type"].endswith("trigger.Schedule")
    }

    def has_caught_up(home: Home) -> bool:
        states = {state.key: state for state in home.call(home.queries.trigger_states())}
        dates = [last_date_of(states[key]) for key in dated if key in states]
        return len(dates) == len(dated) and all(date is not None and date > calm_at for date in dates)

    with server.look() as home:
        is_calm = _comes_true(lambda: has_caught_up(home))
    names = [
        {"namespace": NAMESPACE, "flowId": flow.id, "triggerId": trigger["id"]}
        for flow in all_flows
        for trigger in flow.triggers
        if trigger["type"].endswith(_OWN_TRIGGERS)
    ]
    answer = httpx.post(
        f"{server.address}{API}/triggers/set-disabled/by-triggers",
        json={"triggers": names, "disabled": True},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    with server.look() as home:
        is_calm = _comes_true(lambda: not _left(home)) and is_calm
        return [*_left(home), *([] if is_calm else ["something, as the calm was too short"])]


def _comes_true(holds: Callable[[], bool]) -> bool:
    try:
        until(holds, deadline_s=CALM_S)
    except AssertionError:
        return False
    return True


def _left(home: Home) -> list[str]:
    """Executions that have not ended, and triggers that wait for something."""
    open_ids = home.call(home.queries.execution_ids(ExecutionQuery(open_only=True, limit=1000)))
    states = home.call(home.queries.trigger_states())
    held = [state for state in states if state.execution_id is not None or evaluation_of(state) is not None]
    return [*open_ids, *(".".join(state.key) for state in held)]


def _ran(home: Home) -> dict[str, list[Ran]]:
    """All executions with their task runs, by flow."""
    found: dict[str, list[Ran]] = defaultdict(list)
    before: str | None = None
    while True:
        query = ExecutionQuery(namespace=NAMESPACE, before=before, limit=_PAGE)
        page = home.call(home.queries.search_executions(query))
        if not page:
            return found
        for execution in page:
            found[execution.flow_id].append(Ran(execution, home.call(home.queries.task_runs(execution.id))))
        before = page[-1].id


def _line(line: str) -> tuple[str, str, str]:
    execution_id, run_id, task_id = line.split()
    return execution_id, run_id, task_id


def main() -> int:
    """Have the day that the command line asks for, and print the report; 1 where something is not as it is to be."""
    parser = argparse.ArgumentParser(prog="python -m tests.end_to_end.day")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--kill-every", type=float, default=30.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tercel-day-"))
    print(f"The files of the day are in {folder}.", flush=True)
    with postgres_database() if given.database == "postgresql" else nullcontext("") as database:
        report = run_day(
            folder, day_s=given.minutes * 60, kill_every_s=given.kill_every, seed=given.seed, database=database
        )
    print(report)
    if report.problems:
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
