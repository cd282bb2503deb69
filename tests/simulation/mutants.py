"""Mistakes of the machine, made on purpose: each has to be noticed by the simulator.

A mutant is a patch of one line, applied to a copy of the machine's modules in memory. A checker that lets one live is
too weak: the test fails. Equivalent ones change nothing that anybody was promised; each says why.
"""

import builtins
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from tests.simulation.run import check
from tests.simulation.world import Machine

# ruff: noqa: E501  # a mutant reads best on one line

PACKAGE = "tercel.machine"
MODULES = ("index", "limits", "live", "variables", "step", "moves", "restart", "transition")


class Mutant(NamedTuple):
    """One mistake.

    Attributes:
        old: the line as it is, or the part of it that changes; stands in the module once.
        equivalent: why nobody can notice; empty where somebody has to.
    """

    name: str
    module: str
    old: str
    new: str
    equivalent: str = ""


MUTANTS = [
    # Which events are still good
    Mutant("fence not checked", "transition", "run.fence != fence or", ""),
    Mutant("ended row takes events", "transition", " or run.state in TERMINAL:\n            return None", ":\n            return None"),
    Mutant("ended execution takes events", "transition", "if live.execution.state in TERMINAL and not", "if False and not"),
    Mutant("started twice", "transition", "run is None or run.state not in (State.CREATED, State.RESTARTED)", "run is None"),
    Mutant("timer fires early", "transition", "run.due > self._now", "False"),
    Mutant("job reports after it failed", "transition", "run.state is State.RETRYING or", ""),
    Mutant("job of a directory reports in its branches", "transition", " or run.id in self._live.scopes:", ":"),
    Mutant("child row taken twice", "transition", "len(child.history) <= seen", "len(child.history) < seen"),
    Mutant("second kill", "transition", "if live.execution.state is State.KILLING:", "if False:"),
    Mutant("late timer ends a flowable anyway", "moves", "if all(place.branch in (ERRORS, FINALLY)", "if False and all(place.branch in (ERRORS, FINALLY)"),
    # Workers that die
    Mutant("a fourth try after three losses", "transition", "lost >= MAX_LOST", "lost > MAX_LOST"),
    Mutant("loss eats a retry", "transition", "attempts=run.attempts[:-1]", "attempts=_failed(run)"),
    Mutant("loss is not counted", "transition", "lost = run.lost + 1", "lost = run.lost"),
    Mutant("queued job counts as lost", "transition", "elif run.state is State.RUNNING:\n            lost", "elif True:\n            lost"),
    Mutant("killed job starts again", "transition", "if run.state is State.KILLING:\n            self._end_attempt", "if False:\n            self._end_attempt"),
    Mutant("three losses are tried again", "transition", "message, retryable=False", "message, retryable=True"),
    Mutant("same fence twice", "moves", "history=history, fence=run.fence + 1", "history=history, fence=run.fence or 1"),
    Mutant("children of a lost job stay", "transition", "self._keep_children(place, run, also=(State.RESTARTED,))", "pass"),
    Mutant("children of a lost job go", "transition", "self._keep_children(place, run, also=(State.RESTARTED,))", "self._forget_children(run)"),
    Mutant("child to go on at goes with a lost job", "transition", "also=(State.RESTARTED,)", "also=()"),
    Mutant("children of a retry stay", "transition", "            self._forget_children(run)\n            self._dispatch(place, run)", "            self._dispatch(place, run)"),
    Mutant("children after a gap stay", "moves", "                break\n            kept[row.id]", "                continue\n            kept[row.id]"),
    Mutant("child's history is written over", "transition", " or (stored is not None and child.history[:seen] != stored.history):", ":"),
    Mutant("retry waits on while running", "moves", "        live.waiting.discard(run.id)\n        group", "        group"),
    # Order
    Mutant("errors never run", "moves", "scope.outcome() is State.FAILED\n", "False\n"),
    Mutant("errors run after a kill", "moves", "scope.outcome() is State.FAILED\n", "scope.is_stopped\n"),
    Mutant("errors do not wait for a timeout's end", "moves", "and not (scope.is_timed_out and scope.open)", ""),
    Mutant("finally runs after a kill", "moves", "or scope.outcome() is State.KILLED or", "or"),
    Mutant("finally never runs", "moves", "if scope.finally_started or", "if True or"),
    Mutant("finally does not wait", "moves", "            if scope.open:\n                return False\n            if scope.finally", "            if scope.open and scope.finally_started:\n                return False\n            if scope.finally"),
    Mutant("lane goes on after a failure", "moves", "elif scope.is_stopped:", "elif False:"),
    Mutant("lane opens after a failure", "moves", "if not scope.is_stopped and scope.next", "if scope.next"),
    Mutant("no limit", "moves", "if limit == 0 or scope.active < limit:", "if True:"),
    Mutant("one lane too many", "moves", "scope.active < limit", "scope.active <= limit"),
    Mutant("a stopped error branch goes on", "live", "is_last = self.is_killing or state in _STOPPED or", "is_last = self.is_killing or"),
    Mutant("second lane never opens", "live", "            self.active -= 1", "            pass"),
    # States
    Mutant("kill of a child is forgotten", "live", "self._main_killed |= state is State.KILLED", "pass"),
    Mutant("failure of a child is forgotten", "live", "self._main_failed |= state is State.FAILED", "pass"),
    Mutant("warning of a child is forgotten", "live", "self.warned += state is State.WARNING", "pass"),
    Mutant("failed finally is forgotten", "live", "self.finally_failed |= state is State.FAILED", "pass"),
    Mutant("failure before kill", "live", "        if self._main_killed:\n            return State.KILLED\n", ""),
    Mutant("timed out but fine", "live", "        if self.is_timed_out:\n            return State.FAILED\n", ""),
    Mutant("job of a directory is forgotten", "live", "            return self.job_state\n", "            return State.SUCCESS\n"),
    Mutant("allow failure forgotten", "moves", "if state is State.FAILED and task.allow_failure:", "if False:"),
    Mutant("allow warning first", "moves", "if state is State.WARNING and task.allow_warning:", "if state is State.WARNING and task.allow_warning and not task.allow_failure:"),
    Mutant("warning on retry forgotten", "moves", "retry is not None and retry.warning_on_retry:", "False:"),
    Mutant("warning on the first try", "moves", "if failed_attempts(counted_attempts(run)) else state", "if True else state"),
    Mutant("AllowFailure does not absorb", "moves", "state = scope.place.flowable.resolve(state)", "pass"),
    Mutant("children of an ended job stay open", "moves", "self._close_children(run, result)", "pass"),
    Mutant("due stays at the end", "moves", "replace(run, history=grown(run.history, end), due=None,", "replace(run, history=grown(run.history, end),"),
    # Kill and timeouts
    Mutant("killed scope ends by its children", "moves", "State.KILLED if scope.is_killing else scope.outcome()", "scope.outcome()"),
    Mutant("retrying run survives a kill", "moves", "if inner is None and run.state is State.RETRYING:", "if False:"),
    Mutant("kill cancels nothing", "moves", "                    self._commands.append(CancelTask", "                    (lambda _: None)(CancelTask"),
    Mutant("kill stops at the first flowable", "moves", "                    self._kill(inner)\n", ""),
    Mutant("killed flowable waits for nothing", "moves", "                    self._pump(inner)\n", ""),
    Mutant("failed while killing is tried again", "moves", "result.retryable and run.state is not State.KILLING", "result.retryable"),
    Mutant("flowable never times out", "moves", "scope.is_timed_out = True", "pass"),
    Mutant("timeout ends the error branch too", "moves", "if only_main and place", "if False and place"),
    Mutant("hard failure is tried again", "moves", "state is State.FAILED and result.retryable and", "state is State.FAILED and"),
    # Retries
    Mutant("one retry too many", "limits", "done >= retry.attempts", "done > retry.attempts"),
    Mutant("exponential from the second power", "limits", "** (done - 1)", "** done"),
    Mutant("no cap", "limits", "min(interval.total_seconds() * factor, cap.total_seconds())", "interval.total_seconds() * factor"),
    Mutant("maxDuration ignored", "limits", "if retry.max_duration is not None and", "if False and"),
    Mutant("retry in the past", "limits", "at = max(now, attempts[-1]", "at = max(attempts[-1].history[-1].date, attempts[-1]"),
    Mutant("random is always the shortest", "limits", "* (int.from_bytes(digest, \"big\") / 2**64)", "* 0", "a wait of exactly the minimum is within what was promised"),
    Mutant("policy of the flowable around is forgotten", "index", "task.retry or retry)", "task.retry)"),
    Mutant("disabled tasks run", "index", "if not task.disabled", "if True"),
    # Rows
    Mutant("version stands still", "step", "version=live.execution.version + 1", "version=live.execution.version"),
    Mutant("rests while others run", "step", "rests = bool(live.waiting) and len(live.waiting) == len(live.jobs)", "rests = bool(live.waiting)"),
    Mutant("never rests", "step", "rests = bool(live.waiting) and", "rests = False and"),
    Mutant("kill forgotten by the rows", "live", "scope.is_killing = run.state is State.KILLING", "pass"),
    Mutant("timeout forgotten by the rows", "live", "scope.is_timed_out = bool(run.message)", "pass"),
    Mutant("lanes forgotten by the rows", "live", "scope.leave_open({lane for lane, rows in lanes.items() if not self._is_left(rows)})", "pass"),
    Mutant("open lanes forgotten by the rows", "live", "        elif is_open:\n            scope.active += 1\n", ""),
    Mutant("errors forgotten by the rows", "live", "            scope.errors_started = True", "            pass"),
    Mutant("finally forgotten by the rows", "live", "            scope.finally_started = True", "            pass"),
    Mutant("outputs of a dropped child stay", "live", "branch.pop(path[length - 1] if length else run.task_id, None)", "pass"),
    # Restarts
    Mutant("restart of another attempt", "restart", "execution.attempt_number != event.attempt or ", ""),
    Mutant("success restarts", "restart", "return execution.state in BAD", "return True"),
    Mutant("warning does not restart", "restart", "return any(run.state in BAD for run in runs)", "return False"),
    Mutant("restarted job does not begin", "transition", "run.state not in (State.CREATED, State.RESTARTED)", "run.state is not State.CREATED"),
    Mutant("restart gives no tries back", "limits", "since = run.restarted_at", "since = None"),
    Mutant("restart forgives no losses", "restart", "                lost=0,\n", ""),
    Mutant("fences begin anew", "moves", "(live.execution.attempt_number - 1) << 32", "0"),
    Mutant("timed out for ever", "restart", '                message="",\n            )\n        )', "            )\n        )"),
    Mutant("timeout is not set again", "restart", "due=None if limit is None else self._now + limit", "due=None"),
    Mutant("errors stay at a restart", "restart", "or place.branch != scope.lanes.branch", "or place.branch == FINALLY"),
    Mutant("finally stays at a restart", "restart", "or place.branch != scope.lanes.branch", "or place.branch == ERRORS"),
    Mutant("branches of a directory stay", "restart", "                self._drop_with_inside(inside)", "                pass"),
    Mutant("only the row itself is dropped", "restart", "            self._drop_with_inside(child)", "            pass"),
    Mutant("what ended well runs again", "restart", "runs[at].state in BAD", "runs[at].state in TERMINAL"),
    Mutant("lane is not gone on with", "restart", "            scope.ready.append((scope.main[left].branch, lane, left))", "            pass"),
    Mutant("restarted lane is not counted", "restart", "            scope.active += 1\n            again.append", "            again.append"),
    Mutant("warnings are forgotten at a restart", "restart", "scope.warned += sum(run.state is State.WARNING for run in done)", "pass"),
    Mutant("inside of a flowable is left alone", "restart", "        self._reopen(scope)\n        self._pump", "        self._pump"),
    Mutant("flowable decides again", "restart", "any(change.state is State.RUNNING for change in run.history)", "False"),
    Mutant("directory begins from scratch", "restart", "if place.is_directory and self._live.execution.from_scratch:", "if place.is_directory:"),
    Mutant("directory never begins from scratch", "restart", "if place.is_directory and self._live.execution.from_scratch:", "if False:"),
    Mutant("failed child is dropped", "restart", "self._keep_children(place, run, also=BAD)", "self._keep_children(place, run, also=())"),
    Mutant("failed child is not restarted", "restart", "                self._restarted(child)", "                pass"),
    Mutant("absorbed failures stay", "restart", "live.absorbed = absorbed_failures(live.execution, live.runs)", "live.absorbed = set()"),
    Mutant("absorbed failures forgotten by the rows", "live", "live.absorbed = absorbed_failures(live.execution, live.runs)", "live.absorbed = set()"),
    Mutant("absorbed failures are sought in every restart", "live", "before.date if change.state is State.WARNING else None", "before.date"),
    Mutant("lanes that absorbed are not walked again", "restart", "elif not done or any(run.id in self._live.absorbed for run in done):", "elif not done:"),
    Mutant("lanes are walked for ever", "live", " and not any(_has_begun(run, since) for run in lane)", ""),
    Mutant("absorbed failure counts twice", "restart", "        scope.warned -= run.state is State.WARNING\n", ""),
    Mutant("lane ends at what is done", "restart", "is_last=place.position + 1 >= len(scope.main)", "is_last=True"),
    Mutant("opened lanes open again", "live", "        while self.next_lane in self._opened:", "        while False:"),
    Mutant("outputs of what runs again stay", "live", "elif before is not None and (before.outputs or before.state in TERMINAL):", "elif False:"),
    # Nobody can tell
    Mutant("last ready first", "moves", "scope.ready.pop()", "scope.ready.pop(0)", "what is ready at the same time belongs to different branches, whose order nobody promised"),
    Mutant("parent looked up twice", "transition", "self._climb(self._scope_around(run) if scope is None else scope)", "self._climb(self._live.scopes.get(run.id) or self._scope_around(run))", "moving a scope on that has nothing to do changes nothing"),
]  # fmt: skip

HELPER = """
def _failed(run):
    last = run.attempts[-1]
    return (*run.attempts[:-1], replace(last, history=(*last.history, StateChange(State.FAILED, run.history[-1].date))))
"""


def source_of(module: str) -> str:
    """The text of one of the machine's modules."""
    spec = find_spec(f"{PACKAGE}.{module}")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8")


def mutated(mutant: Mutant) -> Machine:
    """The machine with one mistake in it; the real modules stay as they are."""
    modules: dict[str, ModuleType] = {}
    first = MODULES.index(mutant.module)
    for name in MODULES[first:]:
        text = source_of(name)
        if name == mutant.module:
            assert text.count(mutant.old) == 1, f"{mutant.name}: the line stands {text.count(mutant.old)} times."
            text = text.replace(mutant.old, mutant.new) + (HELPER if name == "transition" else "")
        full = f"{PACKAGE}.{name}"
        module = ModuleType(full)
        module.__dict__["__builtins__"] = _builtins(modules)
        exec(compile(text, f"<mutant {full}>", "exec"), module.__dict__)  # our own source, patched
        modules[full] = module
    return Machine.of({f"{PACKAGE}.{name}": _real(name) for name in MODULES} | modules)


def _real(name: str) -> ModuleType:
    return builtins.__import__(f"{PACKAGE}.{name}", fromlist=["_"])


def _builtins(modules: Mapping[str, ModuleType]) -> dict[str, Any]:
    """Built-ins whose `import` prefers the patched modules."""

    def patched_import(name: str, *rest: Any, **named: Any) -> ModuleType:
        return modules.get(name) or builtins.__import__(name, *rest, **named)

    return {**vars(builtins), "__import__": patched_import}


def caught_by(mutant: Mutant, seeds: int) -> int | None:
    """The first of *seeds* seeds that notices the mistake; None where none does."""
    machine = mutated(mutant)
    for seed in range(seeds):
        try:
            check(seed, machine, explain=False)
        except AssertionError:
            return seed
    return None
