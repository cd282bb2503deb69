"""Mistakes of the machine, made on purpose: each has to be noticed by the simulator.

A mutant is a patch of one line, applied to a copy of the machine's modules in memory. A checker that lets one live is
too weak: the test fails. Equivalent ones change nothing that anybody was promised; each says why.
"""

import builtins
import json
from collections.abc import Mapping
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from tests.simulation.run import check
from tests.simulation.world import Machine

# ruff: noqa: E501  # a mutant reads best on one line

PACKAGE = "tercel.machine"
CAUGHT = Path(__file__).with_name("caught.json")
MODULES = ("index", "limits", "live", "variables", "step", "moves", "waits", "restart", "transition", "replay")


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
    Mutant("ended execution takes events", "transition", "if not live.execution.is_open and not", "if False and not"),
    Mutant("started twice", "transition", "run is None or run.state not in (State.CREATED, State.RESTARTED)", "run is None"),
    Mutant("timer fires early", "transition", "run.due is None or run.due > self._now:", "run.due is None:"),
    Mutant("job reports after it failed", "transition", "run.state is State.RETRYING or", ""),
    Mutant("job of a directory reports in its branches", "transition", " or run.id in self._live.scopes:", ":"),
    Mutant("child row taken twice", "transition", "len(child.history) <= seen", "len(child.history) < seen"),
    Mutant("second kill", "transition", "        if execution.state is State.KILLING:\n", "        if False:\n"),
    Mutant("late timer ends a flowable anyway", "moves", "if not (has_open or scope.is_waiting or scope.has_left):", "if False:"),
    # Workers that die
    Mutant("a fourth try after three losses", "transition", "lost >= MAX_LOST", "lost > MAX_LOST"),
    Mutant("loss eats a retry", "transition", "attempts=run.attempts[:-1]", "attempts=_failed(run)"),
    Mutant("loss is not counted", "transition", "lost = run.lost + 1", "lost = run.lost"),
    Mutant("queued job counts as lost", "transition", "elif run.state is State.RUNNING:\n            lost", "elif True:\n            lost"),
    Mutant("killed job starts again", "transition", "if run.state is State.KILLING:\n            self._end_attempt", "if False:\n            self._end_attempt"),
    Mutant("three losses are tried again", "transition", "message, retryable=False", "message, retryable=True"),
    Mutant("same fence twice", "moves", "fence = run.fence + 1\n", "fence = run.fence or 1\n"),
    Mutant("children of a lost job stay", "transition", "self._keep_children(place, run, also=(State.RESTARTED,))", "pass"),
    Mutant("children of a lost job go", "transition", "self._keep_children(place, run, also=(State.RESTARTED,))", "self._forget_children(run)"),
    Mutant("child to go on at goes with a lost job", "transition", "also=(State.RESTARTED,)", "also=()"),
    Mutant("children of a retry stay", "waits", "            self._forget_children(run)\n            self._dispatch(place, run)", "            self._dispatch(place, run)"),
    Mutant("children after a gap stay", "moves", "                break\n            kept[row.id]", "                continue\n            kept[row.id]"),
    Mutant("child's history is written over", "transition", " or (stored is not None and child.history[:seen] != stored.history):", ":"),
    Mutant("retry waits on while running", "moves", "        live.waiting.discard(run.id)\n        group", "        group"),
    # Order
    Mutant("errors never run", "moves", "scope.outcome() is State.FAILED\n", "False\n"),
    Mutant("errors run after a kill", "moves", "scope.outcome() is State.FAILED\n", "scope.is_stopped\n"),
    Mutant("errors do not wait for a timeout's end", "moves", "and not (scope.is_timed_out and scope.open)", ""),
    Mutant("finally runs after a kill", "moves", "or scope.outcome() is State.KILLED or", "or"),
    Mutant("finally never runs", "moves", "if scope.finally_started or", "if True or"),
    Mutant("finally does not wait", "moves", "            if scope.open or scope.is_waiting:\n", "            if (scope.open and scope.finally_started) or scope.is_waiting:\n"),
    Mutant("lane goes on after a failure", "live", "if is_last or self.lanes.side_by_side or self.is_stopped:", "if is_last or self.lanes.side_by_side:"),
    Mutant("what is ready starts after a failure", "live", "        self._main_killed |= state is State.KILLED\n        self._forget_ready()\n", "        self._main_killed |= state is State.KILLED\n"),
    Mutant("what is ready starts after a timeout", "live", "        self.is_timed_out = True\n        self._forget_ready()\n", "        self.is_timed_out = True\n"),
    Mutant("what is ready outlives a kill", "live", "        self._forget_ready()\n        self.ready.clear()\n", ""),
    Mutant("branches that are ready outlive a kill", "live", "        self._forget_ready()\n        self.ready.clear()\n", "        self._forget_ready()\n"),
    Mutant("what is forgotten stays counted", "live", "            self.active -= len(self.ready) - len(left)\n", ""),
    Mutant("lane opens after a failure", "moves", "if not scope.is_stopped and scope.has_lane:", "if scope.has_lane:"),
    Mutant("no limit", "moves", "if limit == 0 or scope.active < limit:", "if True:"),
    Mutant("one lane too many", "moves", "scope.active < limit", "scope.active <= limit"),
    Mutant("a stopped error branch goes on", "live", "is_last = self.is_killing or state in _STOPPED or", "is_last = self.is_killing or"),
    Mutant("second lane never opens", "live", "            self.active -= 1", "            pass"),
    # States
    Mutant("kill of a child is forgotten", "live", "self._main_killed |= state is State.KILLED", "pass"),
    Mutant("failure of a child is forgotten", "live", "self._main_failed |= state in (State.FAILED, State.RETRIED)", "pass"),
    Mutant("warning of a child is forgotten", "live", "self.warned += state is State.WARNING", "pass"),
    Mutant("failed finally is forgotten", "live", "self.finally_failed |= state is State.FAILED", "pass"),
    Mutant("failure before kill", "live", "        if self._main_killed:\n            return State.KILLED\n", ""),
    Mutant("timed out but fine", "live", "        if self.is_timed_out:\n            return State.FAILED\n", ""),
    Mutant("job of a directory is forgotten", "live", "            return self.job_state\n", "            return State.SUCCESS\n"),
    Mutant("allow failure forgotten", "moves", "if state is State.FAILED and task.allow_failure:", "if False:"),
    Mutant("allow warning first", "moves", "if state is State.WARNING and task.allow_warning:", "if state is State.WARNING and task.allow_warning and not task.allow_failure:"),
    Mutant("warning on retry forgotten", "moves", "retry is not None and retry.warning_on_retry:", "False:"),
    Mutant("warning on the first try", "moves", "if failed_attempts(counted_attempts(run)) else state", "if True else state"),
    Mutant("AllowFailure does not absorb", "moves", "state = scope.place.flowable.resolve(state, Decision(outputs=run.outputs, plan=run.plan))", "pass"),
    Mutant("children of an ended job stay open", "moves", "self._close_children(run, result)", "pass"),
    Mutant("due stays at the end", "moves", "replace(run, history=grown(run.history, end), due=None,", "replace(run, history=grown(run.history, end),"),
    # Kill and timeouts
    Mutant("killed scope ends by its children", "moves", "State.KILLED if scope.is_killing else scope.outcome()", "scope.outcome()"),
    Mutant("retrying run survives a kill", "moves", "is_over = run.state is State.RETRYING or", "is_over ="),
    Mutant("kill cancels nothing", "moves", "                    self._commands.append(CancelTask", "                    (lambda _: None)(CancelTask"),
    Mutant("kill stops at the first flowable", "moves", "                else:\n                    self._kill(inner, cascade=cascade)\n", "                else:\n"),
    Mutant("killed flowable waits for nothing", "moves", "                    self._pump(inner)\n", ""),
    Mutant("failed while killing is tried again", "moves", "result.retryable and run.state is not State.KILLING", "result.retryable"),
    Mutant("flowable never times out", "moves", "        scope.time_out()\n        scope.is_waiting = False", "        scope.is_waiting = False"),
    Mutant("timeout ends the error branch too", "moves", "if only_main and place", "if False and place"),
    Mutant("hard failure is tried again", "moves", "state is State.FAILED and result.retryable and", "state is State.FAILED and"),
    # Retries
    Mutant("one retry too many", "limits", "done >= retry.attempts", "done > retry.attempts"),
    Mutant("exponential from the second power", "limits", "** (done - 1)", "** done"),
    Mutant("no cap", "limits", "min(interval.total_seconds() * factor, cap.total_seconds())", "interval.total_seconds() * factor"),
    Mutant("maxDuration ignored", "limits", "if retry.max_duration is not None and", "if False and"),
    Mutant("retry in the past", "limits", "at = max(now, last", "at = max(last, last"),
    Mutant("random is always the shortest", "limits", "* (int.from_bytes(digest, \"big\") / 2**64)", "* 0", "a wait of exactly the minimum is within what was promised"),
    Mutant("policy of the flowable around is forgotten", "index", "task.retry or retry)", "task.retry)"),
    Mutant("disabled tasks run", "index", "if not task.disabled", "if True"),
    # Rows
    Mutant("version stands still", "step", "version=live.execution.version + 1", "version=live.execution.version"),
    Mutant("rests while others run", "step", "rests = bool(live.waiting) and len(live.waiting) == len(live.jobs)", "rests = bool(live.waiting)"),
    Mutant("never rests", "step", "rests = bool(live.waiting) and", "rests = False and"),
    Mutant("kill forgotten by the rows", "live", "scope.is_killing = run.state is State.KILLING", "pass"),
    Mutant("timeout forgotten by the rows", "live", "scope.is_timed_out = bool(run.message)", "pass"),
    Mutant("lanes forgotten by the rows", "live", "scope.leave_open(set(lanes))", "pass"),
    Mutant("open lanes forgotten by the rows", "live", "        elif is_open and not is_after(place.branch):\n            scope.active += 1\n", ""),
    Mutant("errors forgotten by the rows", "live", "            scope.errors_started = True", "            pass"),
    Mutant("finally forgotten by the rows", "live", "            scope.finally_started = True", "            pass"),
    Mutant("outputs of a dropped child stay", "live", "branch.pop(path[length - 1] if length else run.task_id, None)", "pass"),
    # Restarts
    Mutant("restart of another attempt", "restart", "execution.attempt_number != event.attempt or not", "not"),
    Mutant("success restarts", "restart", "return execution.state in BAD", "return True"),
    Mutant("warning does not restart", "restart", "return any(run.state in BAD for run in runs)", "return False"),
    Mutant("restarted job does not begin", "transition", "run.state not in (State.CREATED, State.RESTARTED)", "run.state is not State.CREATED"),
    Mutant("restart gives no tries back", "limits", "run.attempts[run.past_attempts :]", "run.attempts"),
    Mutant("restart forgives no losses", "restart", "                lost=0,\n", ""),
    Mutant("fences begin anew", "moves", "(live.execution.attempt_number - 1) << 32", "0"),
    Mutant("timed out for ever", "restart", '                message=run.message if is_past_main else "",\n            )\n        )', "            )\n        )"),
    Mutant("timeout is not set again", "restart", "due = None if limit is None or place.pause is not None or run.message else self._now + limit", "due = None"),
    Mutant("errors stay at a restart", "restart", "or place.branch != scope.lanes.branch", "or place.branch == FINALLY"),
    Mutant("finally stays at a restart", "restart", "or place.branch != scope.lanes.branch", "or place.branch == ERRORS"),
    Mutant("branches of a directory stay", "restart", "            if inside.id not in children:\n                self._drop_with_inside(inside)", "            if inside.id not in children:\n                pass"),
    Mutant("only the row itself is dropped", "restart", "            self._drop_with_inside(child)", "            pass"),
    Mutant("what ended well runs again", "restart", "(run.state in BAD and not", "(run.state in TERMINAL and not"),
    Mutant("lane is not gone on with", "restart", "            scope.ready.append((scope.main[left].branch, lane, left))", "            pass"),
    Mutant("restarted lane is not counted", "restart", "            scope.active += 1\n            again.append", "            again.append"),
    Mutant("warnings are forgotten at a restart", "restart", "scope.warned += run.state is State.WARNING", "pass"),
    Mutant("inside of a flowable is left alone", "restart", "        self._keep(run)\n        self._reopen(scope)\n", "        self._keep(run)\n"),
    Mutant("flowable decides again", "restart", "any(change.state is State.RUNNING for change in run.history)", "False"),
    Mutant("directory begins from scratch", "restart", "if place.is_directory and self._live.execution.from_scratch:", "if place.is_directory:"),
    Mutant("directory never begins from scratch", "restart", "if place.is_directory and self._live.execution.from_scratch:", "if False:"),
    Mutant("failed child is dropped", "restart", "self._keep_children(place, run, also=BAD)", "self._keep_children(place, run, also=())"),
    Mutant("failed child is not restarted", "restart", "                self._restarted(child)", "                pass"),
    Mutant("absorbed failures stay", "restart", "live.absorbed = absorbed_failures(live.execution, live.runs)", "live.absorbed = set()"),
    Mutant("absorbed failures forgotten by the rows", "live", "live.absorbed = absorbed_failures(execution, live.runs)", "live.absorbed = set()"),
    Mutant("absorbed failures are sought in every restart", "live", "before.date if change.state is State.WARNING else None", "before.date"),
    Mutant("lanes that absorbed are not walked again", "restart", "elif not done or any(run.id in self._live.absorbed for run in done):", "elif not done:"),
    Mutant("lanes are walked for ever", "live", "self._since is None or any(_has_begun(run, self._since) for run in lane)", "self._since is None"),
    Mutant("absorbed failure counts twice", "restart", "        scope.warned -= run.state is State.WARNING\n", ""),
    Mutant("lane ends at what is done", "restart", "is_last=place.position + 1 >= len(scope.main)", "is_last=True"),
    Mutant("opened lanes open again", "live", "        while self.next_lane in self._opened:", "        while False:"),
    Mutant("outputs of what runs again stay", "live", "elif before is not None and (before.outputs or before.state in TERMINAL):", "elif False:"),
    # Pauses
    Mutant("a pause by hand holds nothing", "moves", "            self._pass_over(scope)\n            return False\n", "            pass\n"),
    Mutant("a Pause does not wait", "moves", "if scope.is_held and not scope.is_killing:", "if False:"),
    Mutant("a killed Pause waits on", "moves", "if scope.is_held and not scope.is_killing:", "if scope.is_held:"),
    Mutant("a Pause has no timer", "moves", "due=None if hold.after is None else self._now + min(hold.after, LONGEST)", "due=None"),
    Mutant("the wrong one is resumed", "waits", "live.first_paused() if event.run_id is None else event.run_id", "live.first_paused()"),
    Mutant("the last one is resumed", "live", "        first = min(paused, key=", "        first = max(paused, key="),
    Mutant("the first made is resumed", "live", "key=lambda run: (run.history[-1].date, _made_at(run))", "key=_made_at"),
    Mutant("of those that paused at once the last made is resumed", "live", "key=lambda run: (run.history[-1].date, _made_at(run))", "key=lambda run: (run.history[-1].date, -_made_at(run)[0])"),
    Mutant("whatever is named is resumed", "waits", "scope = live.scopes.get(run_id) if run_id in live.paused else None", "scope = live.scopes.get(run_id)"),
    Mutant("a named resumption lifts a pause by hand", "waits", "            if event.run_id is None:\n                self._go_on()", "            self._go_on()"),
    Mutant("outputs of a resumption are lost", "waits", "{**run.outputs, **event.outputs}, plan=plan))", "run.outputs, plan=plan))"),
    Mutant("a resumed Pause waits again after a restart", "waits", 'plan = {**plan_of(run), "resumed": True}\n            self', "plan = run.plan\n            self"),
    Mutant("a Pause that went on waits again after a restart", "waits", 'self._resume(scope, replace(run, plan={**plan_of(run), "resumed": True}))\n            case "WARN"', 'self._resume(scope, run)\n            case "WARN"'),
    Mutant("a Pause that failed does not wait again", "restart", 'and not plan_of(run).get("resumed"):', "and False:"),
    Mutant("branches of a Pause stay when it waits again", "restart", "                self._drop_with_inside(inside)\n            self._open", "                pass\n            self._open"),
    Mutant("a resumed Pause keeps its timer", "waits", "replace(run, history=grown(run.history, change), due=None))\n        scope.is_held", "replace(run, history=grown(run.history, change)))\n        scope.is_held"),
    Mutant("a resumed Pause is held", "waits", "        scope.is_held = False\n", "        pass\n"),
    Mutant("WARN is forgotten", "waits", "replace(run, plan=place.pause.warned(decision).plan)", "run"),
    Mutant("FAIL goes on", "waits", "                scope.time_out()\n            case", "            case"),
    Mutant("CANCEL ends the Pause alone", "waits", "                self._force_end(State.CANCELLED)\n", ""),
    Mutant("CANCEL kills", "waits", "place, run, State.CANCELLED, message)", "place, run, State.KILLED, message)"),
    Mutant("no pause while it waits for a retry", "waits", "if self._live.execution.state in (State.RUNNING, State.RETRYING):\n            self._live.is_held", "if self._live.execution.state is State.RUNNING:\n            self._live.is_held"),
    Mutant("a second pause", "waits", "if self._live.execution.state in (State.RUNNING, State.RETRYING):\n            self._live.is_held", "if True:\n            self._live.is_held"),
    Mutant("a held retry starts", "waits", "            if live.is_held:\n                return\n            self._forget", "            self._forget"),
    Mutant("a held round starts", "waits", "if place.loop is None or self._live.is_held:", "if place.loop is None:"),
    Mutant("retries do not start when it goes on", "waits", "[*live.waiting, *(key", "[*(key"),
    Mutant("rounds do not start when it goes on", "waits", "*(key for key, scope in live.scopes.items() if key and scope.is_waiting)]", "]"),
    Mutant("retries start early when it goes on", "waits", "if run.due is not None and run.due <= self._now:\n                self._timer", "if run.due is not None:\n                self._timer"),
    Mutant("what was held does not go on", "waits", "            if live.scopes.get(run_id) is scope:\n                self._pump(scope)", "            pass"),
    Mutant("what was held goes on from the outside in", "waits", "key=lambda item: item[1].depth, reverse=True)", "key=lambda item: item[1].depth)"),
    Mutant("a pause by hand is forgotten by the rows", "live", "live.is_held = execution.state is State.PAUSED and not live.paused", "pass"),
    Mutant("a Pause is forgotten by the rows", "live", "scope.is_held = run.state is State.PAUSED", "pass"),
    Mutant("what a pause held is forgotten by the rows", "live", "        if not self._live.is_held:\n            return\n        there", "        return\n        there"),
    Mutant("what a pause held is not counted by the rows", "live", "                scope.ready.append((branch, lane, position))\n                scope.active += 1\n", "                scope.ready.append((branch, lane, position))\n"),
    Mutant("a job that ended in a pause runs on by the rows", "live", "if len(children) == len(inside) and not is_job_over(run):", "if len(children) == len(inside):"),
    Mutant("a Pause does not show", "step", "if live.paused or live.is_held:", "if live.is_held:"),
    Mutant("tasks that a pause holds back have no timeout", "moves", "has_open or scope.is_waiting or scope.has_left", "has_open or scope.is_waiting"),
    Mutant("tasks that never start keep a timeout", "live", "        if self.is_stopped:\n            return False\n        return self.has_lane", "        return self.has_lane"),
    Mutant("lanes that a pause holds back have no timeout", "live", "return self.has_lane or any(", "return any("),
    Mutant("a paused lane stops at what is done", "moves", "            self._pass_over(scope)\n", ""),
    Mutant("a paused lane stops at what is done by the rows", "live", "        while position in done:\n            position += 1\n", ""),
    Mutant("a paused lane is everywhere by the rows", "live", "elif lane in lanes and position == self._goes_on_at(lanes[lane]):", "elif lane in lanes:"),
    Mutant("a paused lane goes on before its end by the rows", "live", "        if any(run.state not in TERMINAL for run in lane):\n            return None\n", ""),
    Mutant("a pause by hand does not show", "step", "if live.paused or live.is_held:", "if live.paused:"),
    Mutant("no RESTARTED after a pause", "step", "            self._move_execution(State.RESTARTED)\n", ""),
    Mutant("a dropped row stays paused", "live", "        self.paused.pop(run_id, None)\n", "", "rows are only dropped once they have ended"),
    # Loops
    Mutant("a loop does not wait", "moves", "        scope.is_waiting = True\n        return True", "        scope.is_waiting = True\n        return False"),
    Mutant("a loop goes round once", "moves", "if not scope.finally_started and self._goes_round(scope):", "if False:"),
    Mutant("a loop goes round after its finally", "moves", "if not scope.finally_started and self._goes_round(scope):", "if self._goes_round(scope):"),
    Mutant("a loop without tasks goes round", "moves", "scope.is_stopped or not scope.main:", "scope.is_stopped:"),
    Mutant("a failed round is followed by another", "moves", "or scope.is_stopped or not scope.main:", "or not scope.main:"),
    Mutant("a loop that failed ends well", "moves", "due=None, message=again.failure))\n            scope.time_out()\n            return True", "due=None, message=again.failure))\n            return False"),
    Mutant("a loop waits beyond its timeout", "moves", "due = wakes if deadline is None else min(wakes, deadline)", "due = wakes"),
    Mutant("a waiting loop forgets its timeout", "moves", "with_times(plan_of(run), deadline=deadline, wakes=wakes)", "with_times(plan_of(run), wakes=wakes)"),
    Mutant("a loop begins without a timeout", "moves", "run = replace(run, plan=with_times(plan_of(run), deadline=run.due))", "pass"),
    Mutant("a waiting loop does not time out", "moves", "has_open or scope.is_waiting or scope.has_left", "has_open or scope.has_left"),
    Mutant("a loop that timed out waits on", "moves", "        scope.time_out()\n        scope.is_waiting = False\n", "        scope.time_out()\n"),
    Mutant("a loop that timed out waits on by the rows", "moves", "plan = with_times(plan_of(run)) if scope.is_waiting else run.plan", "plan = run.plan"),
    Mutant("a round begins early", "waits", "wakes is not None and wakes <= self._now and", "wakes is not None and", "its timer is heard when it is due, which is not before it wakes"),
    Mutant("a round begins after the timeout", "waits", "wakes <= self._now and (deadline is None or wakes < deadline)", "wakes <= self._now"),
    Mutant("rows of a round stay", "waits", "            self._drop_all(child_id)\n        decision", "            pass\n        decision"),
    Mutant("rows inside those of a round stay", "waits", "            self._drop_all(child_id)\n        live.directory_runs", "            pass\n        live.directory_runs"),
    Mutant("a round has no timeout", "waits", "plan=plan, due=deadline))\n        scope.begin_again", "plan=plan, due=None))\n        scope.begin_again"),
    Mutant("a round forgets the timeout", "waits", "plan = with_times(plan_of(run), deadline=deadline)\n        self._keep", "plan = with_times(plan_of(run))\n        self._keep"),
    Mutant("rounds are not counted", "waits", "decision = place.loop.next_round(Decision(outputs=run.outputs, plan=run.plan))", "decision = Decision(outputs=run.outputs, plan=run.plan)"),
    Mutant("a round has the number of the one before", "live", "        self.lanes = lanes\n        self.ready.clear()", "        self.ready.clear()"),
    Mutant("warnings of earlier rounds count", "live", "        self.warned = 0\n        self.is_waiting = False", "        self.is_waiting = False"),
    Mutant("lanes of a round are open already", "live", "        self.next_lane = 0\n        self.active = 0\n        self.warned = 0\n        self.is_waiting", "        self.active = 0\n        self.warned = 0\n        self.is_waiting"),
    Mutant("a restarted loop has no rounds left", "restart", "decision = place.loop.afresh(decision)", "pass"),
    Mutant("a restarted loop has no timeout", "restart", "run = replace(run, plan=with_times(plan_of(run), deadline=due))", "pass"),
    Mutant("a wait is forgotten by the rows", "live", "scope.is_waiting = wakes_at(run) is not None", "pass"),
    Mutant("a loop's time begins with its first start", "moves", "for change in reversed(run.history) if change.state is State.RUNNING", "for change in run.history if change.state is State.RUNNING"),
    # Dags
    Mutant("nobody waits for anybody in a Dag", "live", "            self._openable.extend(at for at, count in enumerate(self._blocked) if not count)", "            self._openable.extend(range(len(self.main)))"),
    Mutant("one of several is waited for in a Dag", "live", "            if not self._blocked[dependent] and dependent", "            if dependent"),
    Mutant("a Dag begins again all at once", "restart", "            if scope.is_blocked(position):\n", "            if False:\n"),
    Mutant("what waits again in a Dag stays counted", "restart", "                opened.discard(position)\n                scope.active -= 1\n", "                opened.discard(position)\n"),
    Mutant("what waits again in a Dag never begins", "restart", "                opened.discard(position)\n", ""),
    Mutant("a second run in a Dag holds nothing back", "restart", "        if run.id not in self._live.absorbed:\n            scope.release", "        if True:\n            scope.release"),
    Mutant("a second run in a Dag holds nothing back by the rows", "live", "            if run.id in self._live.absorbed:\n                scope.hold_back(place.position)\n", ""),
    Mutant("a Dag ends with its first tasks", "live", "            self.release(place.position)\n", ""),
    Mutant("a restarted Dag waits for what is done", "restart", "            scope.release(place.position)\n", "            pass\n"),
    Mutant("a Dag opens lanes again by the rows", "live", "if not count and at not in opened]", "if not count]"),
    # Executions that a task starts
    Mutant("executions are started after a kill", "waits", "if task is None or run.state is State.KILLING:", "if task is None:"),
    Mutant("a start is told twice", "waits", "event.started <= plan.started:", "event.started < plan.started:"),
    Mutant("an end counts twice", "waits", " or plan.has(event.index):", ":"),
    Mutant("a Subflow has no timeout", "waits", "                due=self._deadline(place, run),\n                plan=None,", "                plan=None,"),
    Mutant("a Subflow's attempt is not written down", "waits", 'attempts=(*run.attempts, Attempt((begun,), "engine")),', "attempts=run.attempts,"),
    Mutant("a killed Subflow waits for executions that never were", "waits", "if ended >= plan.started:", "if ended >= plan.total:"),
    Mutant("a killed Subflow ends at once", "waits", "            if ended >= plan.started:\n", "            if True:\n"),
    Mutant("a killed Subflow ends well", "waits", 'self._result(run, State.KILLED, ""))\n            return', 'self._result(run, State.SUCCESS, ""))\n            return'),
    Mutant("those that are not started are not waited for", "waits", "if plan.started < plan.total or (", "if ("),
    Mutant("wait is ignored", "waits", "(task.wait and ended < plan.total)", "(ended < plan.total)"),
    Mutant("nobody waits", "waits", "(task.wait and ended < plan.total)", "False"),
    Mutant("the last one is not waited for", "waits", "(task.wait and ended < plan.total)", "(task.wait and ended < plan.total - 1)"),
    Mutant("transmitFailed is ignored", "waits", "if task.wait and task.transmit_failed:", "if task.wait:"),
    Mutant("kill before failure", "waits", "_WORST_FIRST = (State.FAILED, State.KILLED, State.WARNING)", "_WORST_FIRST = (State.KILLED, State.FAILED, State.WARNING)"),
    Mutant("a warning is not transmitted", "waits", "(State.FAILED, State.KILLED, State.WARNING)", "(State.FAILED, State.KILLED)"),
    Mutant("states are not counted", "waits", "outputs = task.counted(run.outputs, plan.states, event.state, event.outputs)", "outputs = run.outputs"),
    Mutant("executions of an earlier try count", "moves", "plan = None if place.is_leaf else run.plan", "plan = run.plan"),
    Mutant("a running Subflow is started again", "transition", "if place.executable is not None and run.plan is not None:", "if False:"),
    # Ends by force
    Mutant("Exit does not end it", "transition", "            self._force_end(update.ends_as)\n", ""),
    Mutant("Exit kills", "moves", "        if forced is not None:\n            state = forced\n", ""),
    Mutant("a kill does not win over Exit", "transition", "            if execution.ends_as is not None:\n", "            if False:\n"),
    Mutant("a second end by force", "moves", "        if live.execution.state not in GOING_ON:\n            return\n        live.is_held", "        live.is_held"),
    Mutant("Exit does not end a pause by hand", "moves", "        live.is_held = False\n        live.execution = replace(live.execution, ends_as", "        live.execution = replace(live.execution, ends_as"),
    Mutant("Exit kills the executions that were started", "moves", "self._kill(top, cascade=False)", "self._kill(top)"),
    Mutant("a kill spares the executions that were started", "transition", "self._kill(top, cascade=event.cascade)", "self._kill(top, cascade=False)"),
    Mutant("a kill takes all executions along", "transition", "self._kill(top, cascade=event.cascade)", "self._kill(top)"),
    Mutant("a kill forgets what was being ended", "moves", "            elif inner is not None:\n                self._kill(inner, cascade=cascade)\n                self._pump(inner)\n", ""),
    Mutant("a kill does not end a pause by hand", "transition", "        live.is_held = False\n        if execution.is_closing", "        if execution.is_closing"),
    Mutant("the timer outlives a kill", "transition", "            live.execution = replace(execution, due=None)\n            self._move", "            self._move", "an execution that is being ended looks at no timer, and its end removes it"),
    # A new execution that tries again
    Mutant("the task is tried again, not the flow", "moves", 'if retry is not None and retry.behavior == "CREATE_NEW_EXECUTION":\n                if', "if False:\n                if"),
    Mutant("one new execution too many", "moves", "next_execution_at(retry, execution.attempt_number, tried,", "next_execution_at(retry, execution.attempt_number - 1, tried,"),
    Mutant("maxDuration from the last try", "moves", "tried = first, run.attempts[-1].history[-1].date", "tried = run.attempts[-1].history[-1].date, run.attempts[-1].history[-1].date"),
    Mutant("a new execution waits from now", "moves", "tried = first, run.attempts[-1].history[-1].date", "tried = first, self._now"),
    Mutant("what failed is FAILED though tried again", "moves", "place, run, State.RETRIED, result.message)", "place, run, State.FAILED, result.message)"),
    Mutant("what is around is KILLED though tried again", "moves", "state = State.RETRIED if scope.is_retried else State.KILLED", "state = State.KILLED"),
    Mutant("tried again twice", "moves", "        if execution.state not in GOING_ON:\n            return False\n", ""),
    Mutant("nobody starts the new execution", "moves", "        if retry_at is not None:\n", "        if False:\n"),
    Mutant("the old execution is followed, too", "moves", "if started and state is not State.RETRIED else ()", "if started else ()"),
    Mutant("a new execution in spite of a kill", "moves", "live.execution.due if forced is State.RETRIED else None", "live.execution.due"),
    # The start
    Mutant("a schedule is ignored", "waits", "if at is not None and at > self._now:", "if False:"),
    Mutant("a schedule is set twice", "waits", "            if execution.due != at:\n", "            if True:\n"),
    Mutant("no slot is needed", "waits", "if event.has_slot or limit is None:", "if True:"),
    Mutant("CANCEL fails", "waits", "self._end_execution(State.CANCELLED)", "self._end_execution(State.FAILED)"),
    Mutant("FAIL cancels", "waits", "                self._end_execution(State.FAILED)", "                self._end_execution(State.CANCELLED)"),
    Mutant("QUEUE runs", "waits", "self._move_execution(State.QUEUED)", "self._begin_execution()"),
    Mutant("a queued execution never runs", "waits", "if self._live.execution.state is State.QUEUED:", "if False:"),
    Mutant("a slot starts what has not been created", "waits", "if self._live.execution.state is State.QUEUED:", "if self._live.execution.state in (State.QUEUED, State.CREATED):"),
    Mutant("a forced run waits for its time", "waits", "if state in (State.CREATED, State.QUEUED):", "if state is State.QUEUED:"),
    Mutant("a forced run waits for a slot", "waits", "if state in (State.CREATED, State.QUEUED):", "if state is State.CREATED:"),
    Mutant("a forced run does not resume", "waits", "        elif state is State.PAUSED:\n", "        elif False:\n"),
    Mutant("a started execution keeps the timer of its start", "waits", "        live.execution = replace(live.execution, due=self._sla_due())\n        live.scopes[None]", "        live.scopes[None]"),
    # Labels, variables
    Mutant("known labels stay", "transition", "labels = {**self._live.execution.labels, **event.labels}", "labels = {**event.labels, **self._live.execution.labels}"),
    Mutant("the same labels are news", "transition", "        if labels != self._live.execution.labels:\n", "        if True:\n"),
    Mutant("known labels stay when a task sets them", "transition", "labels={**execution.labels, **update.labels}", "labels={**update.labels, **execution.labels}"),
    Mutant("variables are not removed", "transition", "if name not in update.unset}", "if True}"),
    Mutant("variables are not merged deeply", "transition", "variables=merged(left, update.variables)", "variables={**left, **update.variables}"),
    # SLAs
    Mutant("an SLA is violated early", "waits", "since + sla.duration <= self._now and self._is_kept(sla)", "self._is_kept(sla)"),
    Mutant("an SLA acts twice", "waits", "execution.state in GOING_ON and sla.id not in execution.violated", "execution.state in GOING_ON"),
    Mutant("an SLA acts after the end", "waits", "return execution.state in GOING_ON and sla.id", "return sla.id"),
    Mutant("an SLA gives no labels", "waits", "labels={**execution.labels, **sla.labels}", "labels=execution.labels"),
    Mutant("NONE ends", "waits", '        if sla.behavior == "NONE":\n            return\n', ""),
    Mutant("an SLA only warns", "waits", '        if sla.behavior == "NONE":\n', "        if True:\n"),
    Mutant("an SLA always cancels", "waits", 'State.FAILED if sla.behavior == "FAIL" else State.CANCELLED', "State.CANCELLED"),
    Mutant("an assertion is never looked at", "transition", "if self._flow.assertions and not self.is_empty:", "if False:"),
    Mutant("an assertion breaks when it holds", "waits", "            if not holds:\n", "            if holds:\n"),
    Mutant("the timer of an SLA stays", "waits", "            self._set_execution(replace(self._live.execution, due=self._sla_due()))", "            pass"),
    Mutant("the timer of a violated SLA is set again", "waits", "if sla.duration is not None and sla.id not in execution.violated\n        ]", "if sla.duration is not None\n        ]"),
    Mutant("an SLA's time goes on after a restart", "waits", "return begun_again_at(history) or first", "return first"),
    Mutant("a restart forgives no SLA", "restart", "after=(), violated=())", "after=())"),
    # After the end
    Mutant("nothing follows the end", "moves", "branches = self._closing_branches() if", "branches = () if"),
    Mutant("afterExecution does not follow", "moves", "[AFTER] if self._flow.branch(None, AFTER) else []", "[]"),
    Mutant("listeners do not follow", "moves", "                branches.append(name)\n", "                pass\n"),
    Mutant("what follows is no part of it", "moves", "is_closing=bool(branches), after=branches)", "is_closing=False, after=branches)"),
    Mutant("the first branch is the last", "moves", "            if scope.closing:\n                scope.ready.append", "            if False:\n                scope.ready.append"),
    Mutant("finally follows the end", "moves", "            if scope.closing is not None:\n                break\n", ""),
    Mutant("the end is never told", "moves", "        self._commands.append(EndExecution(state=live.execution.state))\n", ""),
    Mutant("it never closes", "moves", "        self._set_execution(replace(live.execution, is_closing=False))\n", ""),
    Mutant("a failed branch stops what follows", "live", "        if place.branch == ERRORS or is_after(place.branch):", "        if place.branch == ERRORS:"),
    Mutant("a kill after the end stops one branch", "transition", "        top.closing = None if top.closing is None else []\n", ""),
    Mutant("a kill after the end is forgotten by the rows", "live", "            top.is_killing = not live.execution.after\n", ""),
    Mutant("branches that ran follow again by the rows", "live", "if branch not in begun]", "]"),
    Mutant("a second kill after the end", "transition", "        if execution.is_closing and not execution.after:\n            return\n", ""),
    Mutant("a status before the end", "transition", "if execution.is_open or execution.state in (event.state, State.RETRIED) or", "if execution.state in (event.state, State.RETRIED) or"),
    Mutant("the same status is news", "transition", "execution.state in (event.state, State.RETRIED)", "execution.state is State.RETRIED"),
    # The state of a task run, given by hand
    Mutant("what failed elsewhere begins again", "restart", "            keeps_failures=True,", "            keeps_failures=False,"),
    Mutant("nothing around begins again", "restart", "self._begin_again(self._around(run.id), given=run.id)", "self._begin_again(given=run.id)"),
    Mutant("only the nearest begins again", "restart", "self._begin_again(self._around(run.id), given=run.id)", "self._begin_again(self._around(run.id)[:1], given=run.id)"),
    Mutant("a restart keeps failures", "restart", "            keeps_failures=False,\n", ""),
    Mutant("a state of another attempt", "restart", "execution.is_open or execution.attempt_number != event.attempt:", "execution.is_open:"),
    Mutant("the same state is news", "restart", "if place is None or run.state is event.state or", "if place is None or"),
    Mutant("what is tried again elsewhere is restarted", "restart", "if execution.is_open or execution.state is State.RETRIED:", "if execution.is_open:"),
    Mutant("what is tried again elsewhere is changed", "restart", "if event.state not in TERMINAL or execution.state is State.RETRIED:", "if event.state not in TERMINAL:"),
    Mutant("failures that stay are forgotten", "restart", "            scope.fail(run.state)\n", "            pass\n"),
    Mutant("a lane goes on before what was changed in it", "restart", "        if self._target is None:  # given", "        if False:  # given"),
    Mutant("a branch begins again for what was changed in it", "restart", "is_meant = run.id in self._again or run.id == self._given", "is_meant = run.id in self._again"),
    Mutant("what was changed in a branch begins again", "restart", "        if target.id == self._given:\n", "        if False:\n"),
    Mutant("what another execution was to try again is remembered by the rows", "live", "                scope.is_retried = is_retried  #", "                pass  #"),
    # A restart with more failures than lanes
    Mutant("a restart knows no limit", "restart", "        self._keep_to_limit(scope, again, opened)\n", ""),
    Mutant("a restart opens one lane too many", "restart", "for _, lane in sorted(lanes)[limit:]:", "for _, lane in sorted(lanes)[limit + 1 :]:"),
    Mutant("what was changed waits for its turn", "restart", "lanes = [(run.id not in self._again, lane)", "lanes = [(True, lane)"),
    Mutant("what waits for its turn does not come", "restart", "                self._live.absorbed.add(runs[lane].id)\n", ""),
    Mutant("an unfinished lane does not wait", "restart", "        lanes += [(True, lane) for _, lane, _ in scope.ready]\n", ""),
    Mutant("a lane that waits is open", "restart", "            opened.discard(lane)\n            scope.active -= 1\n", "            scope.active -= 1\n"),
    Mutant("a lane that waits counts", "restart", "            opened.discard(lane)\n            scope.active -= 1\n", "            opened.discard(lane)\n"),
    Mutant("what waits for its turn is forgotten by the rows", "live", "            live.absorbed |= {run.id for run in live.runs.values() if self._is_put_off(run)}\n", ""),
    Mutant("what waits for its turn counts by the rows", "live", "            if run.id in self._live.absorbed and run.state in BAD:\n                return\n", ""),
    Mutant("what stays waits for its turn by the rows", "live", " or self._live.execution.keeps_failures:\n            return False\n        is_around", ":\n            return False\n        is_around"),
    Mutant("an unfinished lane is open by the rows", "live", "return is_short or any(run.id in", "return any(run.id in"),
    # A restart of what is paused
    Mutant("what is paused does not wait anew", "restart", "        for run_id in list(live.paused):\n", "        for run_id in ():\n"),
    Mutant("only the first that is paused waits anew", "restart", "        for run_id in list(live.paused):\n", "        for run_id in list(live.paused)[:1]:\n"),
    Mutant("what is paused waits anew under the same fence", "restart", "StateChange(State.RUNNING, at)), fence=run.fence + 1)", "StateChange(State.RUNNING, at)))"),
    Mutant("a restart of what is paused is no attempt", "restart", "self._set_execution(replace(live.execution, attempt_number=event.attempt + 1))", "self._set_execution(live.execution)"),
    Mutant("what is paused is not restarted", "restart", "return any(run.state is State.PAUSED for run in runs)", "return False"),
    # A child of a directory that asks for a new execution
    Mutant("a child of a directory asks for nothing", "moves", "        if place.is_directory:\n            for child_id in", "        if False:\n            for child_id in"),
    Mutant("children that ended well ask for a new execution", "moves", "if child.state is State.FAILED and retry is not None and", "if retry is not None and"),
    Mutant("an attempt outlives a kill without its executions", "moves", "                run = with_attempt_over(run, StateChange(State.KILLED, max(self._now, run.history[-1].date)))\n", ""),
    # Replay
    Mutant("a replay can be repeated", "restart", "if live.execution.state is not State.CREATED or event.run_id not in live.runs:", "if event.run_id not in live.runs:"),
    Mutant("a replay begins where it was bad", "restart", "self._open_again([event.run_id, *self._around(event.run_id)], target=event.run_id)", "self._open_again([])"),
    Mutant("a replay leaves alone what is around", "restart", "self._open_again([event.run_id, *self._around(event.run_id)], target=event.run_id)", "self._open_again([event.run_id], target=event.run_id)"),
    Mutant("a replay goes on where the target was", "restart", "self._open_again([event.run_id, *self._around(event.run_id)], target=event.run_id)", "self._open_again([event.run_id, *self._around(event.run_id)])"),
    Mutant("what follows in a lane stays at a replay", "restart", "later = {at for at in runs if at > position}", "later = set()"),
    Mutant("lanes that follow stay at a replay", "restart", "if scope.lanes.limit == 1 and not scope.lanes.after:", "if False:"),
    Mutant("all lanes follow at a replay", "restart", "if scope.lanes.limit == 1 and not scope.lanes.after:", "if True:"),
    Mutant("what depends on it stays at a replay", "restart", "                gone += [(at, at) for at in scope.following(position) if at in lanes]\n", ""),
    Mutant("only what depends on it directly goes", "live", "                    pending.append(dependent)\n", ""),
    Mutant("a replay in a branch begins with the main one", "restart", "            self._reopen_branch(scope, self._flow.places[target.task_id], target)\n            return\n", "            pass\n"),
    Mutant("a replay in a branch forgets what is before", "restart", "            elif other is not None and _is_before(other, place):", "            elif False:"),
    Mutant("a replay in a branch keeps what follows", "restart", "            elif other is not None and _is_before(other, place):", "            elif True:"),
    Mutant("errors run again before finally", "restart", "                scope.errors_started |= other.branch == ERRORS\n", "                pass\n"),
    Mutant("errors do not know that they run", "restart", "        scope.errors_started |= place.branch == ERRORS\n", ""),
    Mutant("finally does not know that it runs", "restart", '        scope.finally_started = place.branch == FINALLY\n', ""),
    Mutant("what failed is forgotten in a branch", "restart", "                self._count_done(scope, other, run)\n", ""),
    Mutant("a timeout is forgotten in a branch", "restart", "        scope.is_timed_out = bool(run.message)\n", ""),
    Mutant("a Pause waits again for a branch", "restart", "if place.pause is not None and not is_past_main and not plan_of", "if place.pause is not None and not plan_of"),
    Mutant("tries are forgotten for a branch", "restart", "run.past_attempts if is_past_main else len(run.attempts)", "len(run.attempts)"),
    Mutant("a directory begins again for a branch", "restart", "        if place.is_directory and self._again_in_branch(run.id) is not None:\n", "        if False:\n"),
    Mutant("children go with a branch", "restart", "or (other is not None and other.is_run_by_worker):", "or False:"),
    Mutant("a replayed directory forgets its children for a branch", "restart", "        if place.is_directory and is_past_main:\n", "        if False:\n"),
    Mutant("copies keep their timers", "replay", "                due=None,\n", ""),
    Mutant("copies keep their fences", "replay", "                fence=0,\n", ""),
    Mutant("copies keep their losses", "replay", "                lost=0,\n", ""),
    Mutant("copies keep their ids", "replay", "ids[run.id] = task_run_id(execution_id, parent_id, run.task_id, run.value, run.iteration)", "ids[run.id] = run.id"),
    Mutant("what has not ended is copied", "replay", "or run.state in TERMINAL\n", "or True\n"),
    Mutant("what is inside the target is copied", "replay", " or run.parent_id == target.id)", ")"),
    Mutant("copies still run", "replay", "    if last.state in TERMINAL:\n        return run\n", "    if last.state:\n        return run\n"),
    Mutant("only the child of a directory begins again", "replay", "if place is not None and place.is_run_by_worker and target", "if False and target"),
    # Nobody can tell
    Mutant("last ready first", "moves", "scope.ready.pop()", "scope.ready.pop(0)", "what is ready at the same time belongs to different branches, whose order nobody promised"),
    Mutant("parent looked up twice", "waits", "self._climb(live.scopes.get(run.parent_id) if scope is None else scope)", "self._climb(live.scopes.get(run.id) or live.scopes.get(run.parent_id))", "moving a scope on that has nothing to do changes nothing"),
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


def known_seeds() -> dict[str, int]:
    """For each mutant the seed that noticed it when somebody last looked."""
    return json.loads(CAUGHT.read_text(encoding="utf-8"))


def caught_by(mutant: Mutant, seeds: int, guess: int | None = None) -> int | None:
    """A seed that notices the mistake: *guess*, or the first of *seeds* seeds; None where none does."""
    machine = mutated(mutant)
    for seed in chain([] if guess is None else [guess], range(seeds)):
        try:
            check(seed, machine, explain=False)
        except AssertionError:
            return seed
    return None


def write_known_seeds(seeds: int) -> list[str]:
    """Look for a seed for each mutant, those known first, and write them down; gives the names that have none."""
    known = known_seeds()
    found = {one.name: caught_by(one, seeds, known.get(one.name)) for one in MUTANTS if not one.equivalent}
    caught = {name: seed for name, seed in found.items() if seed is not None}
    CAUGHT.write_text(json.dumps(caught, indent=1) + "\n", encoding="utf-8")
    return [name for name, seed in found.items() if seed is None]
