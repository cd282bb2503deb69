from __future__ import annotations

from typing import Any, cast

from tercel.model.source import read_flow
from tercel.plugins import catalog
from tercel.scheduler import TriggeringFlows
from tercel.store import Store
from tests.schedulers import OWNER, MemoryStore, World
from tests.triggers import a_text, flow_trigger, schedule


def known(store: MemoryStore) -> tuple[TriggeringFlows, list[str]]:
    read: list[str] = []

    def reading(source: str) -> Any:
        read.append(source)
        return read_flow(source, catalog())

    return TriggeringFlows(cast("Store", store), reading), read


class TestRefresh:
    def test_given_flows_then_only_those_with_triggers_are_read_and_each_revision_once(self) -> None:
        world = World()
        world.store.put(a_text(id="plain").replace("triggers: []\n", ""))
        world.store.put(a_text(schedule()))
        flows, read = known(world.store)

        world.call(flows.refresh())
        world.call(flows.refresh())

        assert len(read) == 1
        assert flows.take_changed() == [OWNER]
        assert flows.take_changed() == []

    def test_given_an_older_revision_then_it_replaces_no_newer_one(self) -> None:
        world = World()
        old = world.store.put(a_text(schedule("old")))
        new = world.store.put(a_text(schedule("new")))
        flows, _ = known(world.store)

        flows.keep(new)
        flows.keep(old)

        found = flows.find(OWNER)
        assert found is not None
        assert found.flow == new

    def test_given_a_flow_that_is_saved_while_all_are_read_then_it_stays(self) -> None:
        world = World()
        flows, _ = known(world.store)
        flow = world.store.put(a_text(schedule()))
        del world.store.revisions[OWNER]
        latest = world.store.latest

        async def latest_and_saved(namespace: str | None = None) -> Any:
            found = await latest(namespace)
            flows.keep(flow)
            return found

        world.store.latest = latest_and_saved  # type: ignore[method-assign]
        world.call(flows.refresh())

        assert flows.find(OWNER) is not None

    def test_given_triggers_that_react_then_those_of_enabled_flows_are_gathered(self) -> None:
        world = World()
        flows, _ = known(world.store)
        flows.keep(world.store.put(a_text(flow_trigger("a"), flow_trigger("b", disabled=True), schedule())))
        flows.keep(world.store.put(a_text(flow_trigger("c"), id="off", disabled=True)))

        assert [(flow.id, trigger.id) for flow, trigger in flows.reacting] == [("owner", "a")]
        flows.drop(*OWNER)
        assert flows.reacting == ()
