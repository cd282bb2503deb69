"""The same random flows on the real executor and real stores, with a fault at every await and every commit.

`places.py` says where a store is, `faults.py` puts faults around it, `process.py` is the memory of one process (the
real executor and dispatcher, driven by hand, and a fake worker), `mirror.py` replays what was committed on a model that
never crashed, `world.py` draws what happens from one seed, in one thread. `python -m tests.simulation_stores
--seeds 10000` runs it for volume.
"""
