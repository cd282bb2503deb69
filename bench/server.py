"""How fast `tercel server` is, over HTTP, in a process of its own; each figure over a floor where there is one.

Prints one JSON line a figure; `python -m bench.server NAME…` measures only those below whose name contains NAME.
"""

import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import urlopen

import httpx

from bench.report import report, timed
from tercel.model.execution import Execution
from tercel.model.state import State, StateChange
from tercel.server import open_home
from tercel.settings import read_settings
from tercel.store import Changes, Store, run
from tercel.store.opening import open_store

ROUNDS = int(os.environ.get("TERCEL_BENCH_ROUNDS", "5"))
REQUESTS = 300
WEBHOOKS_A_MINUTE = 8_000
WEBHOOK_SECONDS = int(os.environ.get("TERCEL_BENCH_WEBHOOK_SECONDS", "120"))
STORED = 100_000
LINES = int(os.environ.get("TERCEL_BENCH_LOG_LINES", "1000000"))
IDLE_SECONDS = 10.0
FLOWS = (1_000, 5_000)

RETURN = "{id: ID, type: io.kestra.plugin.core.debug.Return, format: x}"
ECHO = "{id: ID, type: io.kestra.plugin.scripts.shell.Commands, runner: PROCESS, commands: [echo hello]}"
WEBHOOK = "triggers: [{id: hook, type: io.kestra.plugin.core.trigger.Webhook, key: benchmark}]\n"


def main(wanted: Sequence[str] = ()) -> None:
    with tempfile.TemporaryDirectory(prefix="tercel-bench-", dir=os.environ.get("TERCEL_BENCH_DIR")) as folder:
        for name, measure in FIGURES.items():
            if not wanted or any(part in f"server.{name}" for part in wanted):
                place = Path(folder) / name
                place.mkdir()
                measure(place)


class Server:
    """A server that runs, and a client of it."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.client = httpx.Client(base_url=f"{address}/api/v1/main", timeout=60)

    def save(self, name: str, *tasks: str, more: str = "") -> None:
        """Save a flow of that name in the namespace `bench`."""
        lines = "".join(f"  - {task.replace('ID', f't{number}')}\n" for number, task in enumerate(tasks))
        text = f"id: {name}\nnamespace: bench\ntasks:\n{lines}{more}"
        self.client.post("/flows", content=text, headers={"Content-Type": "application/x-yaml"}).raise_for_status()

    def status(self, name: str) -> int:
        """A figure of the process from `/proc/PID/smaps_rollup`, in kB."""
        text = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        found = re.search(rf"^{name}: +(\d+) kB", text, re.MULTILINE)
        return int(found[1]) if found else 0

    def cpu_s(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start_server(home: Path) -> Server:
    """Start one, and wait until it says that it is healthy."""
    command = [sys.executable, "-m", "tercel", "server", "--port", "0", "--home", str(home)]
    environment = {**os.environ, "TERCEL_MANAGEMENT_PORT": "0"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(r"Running on (http://\S+),", line)
        if found:
            server = Server(process, found[1])
            # What it says is read to its end, by a process of its own: nothing here is to take time.
            subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
            urlopen(f"{found[1]}/health").close()  # httpx would first read the certificates of all the world
            return server
    sys.exit("The server did not start.")


@contextmanager
def serving(home: Path) -> Generator[Server]:
    """A server until the block ends."""
    server = start_server(home)
    try:
        yield server
    finally:
        server.process.send_signal(signal.SIGTERM)
        server.process.wait()


def start(folder: Path) -> None:
    """From nothing to healthy, in a home that is not there yet; then its memory and what it does while idle."""
    times: list[float] = []
    for number in range(ROUNDS):
        began = time.perf_counter()
        with serving(folder / f"home-{number}"):
            times.append(time.perf_counter() - began)
    report("server.start", statistics.median(times), target=0.6)
    with serving(folder / "idle") as server:
        time.sleep(2)
        before, began = server.cpu_s(), time.perf_counter()
        time.sleep(IDLE_SECONDS)
        report("server.memory", server.status("Pss") / 1000, "MB", target=60)
        report(
            "server.idle", 100 * (server.cpu_s() - before) / (time.perf_counter() - began), "% of a core", target=0.5
        )


def executions(folder: Path) -> None:
    """Starts over HTTP, one client, one after the other."""
    with serving(folder / "home") as server:
        server.save("one", RETURN)
        times = sorted(
            timed(lambda: server.client.post("/executions/bench/one").raise_for_status()) for _ in range(REQUESTS)
        )
        report("server.execution_p50", times[len(times) // 2], target=0.008)
        report("server.execution_p99", times[len(times) * 99 // 100], target=0.030)


def webhooks(folder: Path) -> None:
    """Webhooks at a steady rate: from each request to the end of its execution, and whether all are there."""
    count = WEBHOOKS_A_MINUTE * WEBHOOK_SECONDS // 60
    with serving(folder / "home") as server:
        server.save("hook", RETURN, RETURN, more=WEBHOOK)
        began = time.perf_counter()

        def post(number: int) -> tuple[str, float]:
            due = began + number * 60 / WEBHOOKS_A_MINUTE
            time.sleep(max(0.0, due - time.perf_counter()))
            posted = datetime.now(UTC).timestamp()
            answer = server.client.post("/executions/webhook/bench/hook/benchmark", json={"number": number})
            return answer.raise_for_status().json()["id"], posted

        with ThreadPoolExecutor(16) as pool:
            posted = dict(pool.map(post, range(count)))
        time.sleep(2)
    with open_home(read_settings({}, home=folder / "home")) as engine:
        waits: list[float] = []
        for execution_id, at in posted.items():
            execution = engine.call(engine.queries.get_execution(execution_id))
            if execution.state is State.SUCCESS:
                waits.append(execution.history[-1].date.timestamp() - at)
    report("server.webhook_mean", statistics.fmean(waits), target=0.050)
    report("server.webhooks_lost", count - len(waits), "executions", target=0)


def script(folder: Path) -> None:
    """A script, from the request that waits to its answer, over starting the process."""
    with serving(folder / "home") as server:
        server.save("script", ECHO)
        ours = [
            timed(lambda: server.client.post("/executions/bench/script", params={"wait": "true"}).raise_for_status())
            for _ in range(20 * ROUNDS)
        ]
        bare = [
            timed(lambda: subprocess.run(["/bin/sh", "-c", "echo hello"], capture_output=True, check=True))
            for _ in range(20 * ROUNDS)
        ]
    report("server.script_more_than_spawn", statistics.median(ours) - statistics.median(bare), target=0.015)


def search(folder: Path) -> None:
    """One page of many executions with a filter."""
    home = folder / "home"
    _store_executions(home)
    with serving(home) as server:
        parameters = {"filters[namespace][EQUALS]": "bench.n7", "filters[state][IN]": "FAILED,KILLED", "size": "50"}
        answer = server.client.get("/executions/search", params=parameters).raise_for_status().json()
        assert len(answer["results"]) == 50, answer["total"]
        times = [
            timed(lambda: server.client.get("/executions/search", params=parameters).raise_for_status())
            for _ in range(20)
        ]
    report("server.search", statistics.median(times), target=0.050)


def _store_executions(home: Path) -> None:
    """Fill a home as quickly as it can be filled."""
    begun = datetime.now(UTC) - timedelta(days=30)
    with open_home(read_settings({}, home=home)):
        pass
    store = open_store("", home, owner="bench")
    for first in range(0, STORED, 1000):
        run(_store_batch(store, range(first, first + 1000), begun))
    store.close()


async def _store_batch(store: Store, numbers: range, begun: datetime) -> None:
    async with store.transaction() as tx:
        store.executions.save(tx, Changes(created=[_stored(number, begun) for number in numbers]))


def _stored(number: int, begun: datetime) -> Execution:
    date = begun + timedelta(seconds=number)
    state = State.FAILED if number % 3 == 0 else State.SUCCESS
    return Execution(
        id=f"{number:022d}",
        namespace=f"bench.n{number % 10}",
        flow_id=f"flow-{number % 100}",
        revision=1,
        history=(StateChange(State.CREATED, date), StateChange(state, date)),
        original_id=f"{number:022d}",
    )


def follow(folder: Path) -> None:
    """A long log, followed from its beginning: the first line, and the memory for all of it."""
    with serving(folder / "home") as server:
        loop = f"i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); done"
        task = ECHO.replace("echo hello", f"'{loop}'")
        server.save("long", task)
        execution = server.client.post("/executions/bench/long", params={"wait": "true"}, timeout=600).json()
        report("server.follow_while_it_is_written", _first_line(server, execution["id"]))
        time.sleep(1)  # until the rest is written
        report("server.follow_first_line", _first_line(server, execution["id"]), target=0.050)
        before = server.status("Pss")
        peak, lines = before, 0
        with server.client.stream("GET", f"/logs/{execution['id']}/follow") as answer:
            for line in answer.iter_lines():
                if line.startswith("data:") and '"message"' in line:
                    lines += 1
                    if lines % 50_000 == 0:
                        peak = max(peak, server.status("Pss"))
        assert lines >= LINES, lines
    report("server.follow_memory", (peak - before) / 1000, "MB", target=30)


def _first_line(server: Server, execution_id: str) -> float:
    """Seconds from the request to the first line."""
    began = time.perf_counter()
    with server.client.stream("GET", f"/logs/{execution_id}/follow") as answer:
        next(line for line in answer.iter_lines() if line.startswith("data:") and '"message"' in line)
        return time.perf_counter() - began


def many(folder: Path) -> None:
    """Many flows that are started by dates and webhooks: how saving them grows, and what a server does of itself."""
    seconds: list[float] = []
    for count in FLOWS:
        sources = folder / f"flows-{count}"
        sources.mkdir()
        for number in range(count):
            schedule = f"{{id: s, type: io.kestra.plugin.core.trigger.Schedule, cron: '{number % 60} 4 * * *'}}"
            hook = f"{{id: h, type: io.kestra.plugin.core.trigger.Webhook, key: key{number}}}"
            text = (
                f"id: f{number}\nnamespace: bench\ntasks: [{RETURN.replace('ID', 't')}]\ntriggers: [{schedule}, {hook}]"
            )
            (sources / f"f{number}.yaml").write_text(text)
        home = folder / f"home-{count}"
        command = [sys.executable, "-m", "tercel", "flow", "save", str(sources), "--home", str(home)]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append((time.perf_counter() - began) / count)
    report("server.save_growth", seconds[1], floor=seconds[0], target_ratio=1.2)
    with serving(home) as server:
        server.client.post("/executions/bench/f0", params={"wait": "true"}, timeout=60).raise_for_status()
        time.sleep(10)  # what is new is written down
        before, began = server.cpu_s(), time.perf_counter()
        time.sleep(3 * IDLE_SECONDS)
        report(
            "server.many_idle", 100 * (server.cpu_s() - before) / (time.perf_counter() - began), "% of a core", target=5
        )
        report("server.many_memory", server.status("Pss") / 1000, "MB", target=120)


FIGURES: dict[str, Callable[[Path], None]] = {
    "start": start,
    "executions": executions,
    "webhooks": webhooks,
    "script": script,
    "search": search,
    "follow": follow,
    "many": many,
}

if __name__ == "__main__":
    main(sys.argv[1:])
