"""The machine in a hostile world: random flows, random histories with faults, and an oracle that knows the answer.

`flows.py` draws flows, `world.py` is the fake store, queue, workers, people and clock, `referee.py` judges each event
on its own account, with the books of `standing.py` (the execution as a whole), `rounds.py` (loops) and `restarts.py`
(what a restart has to leave), `oracle.py` says at the end what every state has to be. `mutants.py` holds mistakes that
must be noticed, `caught.json` the seed that noticed each.

`python -m tests.simulation --seeds 100000` runs it for volume.
"""
