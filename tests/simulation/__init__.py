"""The machine in a hostile world: random flows, random histories with faults, and an oracle that knows the answer.

`flows.py` draws flows, `world.py` is the fake store, queue, workers and clock, `referee.py` judges each event on its
own account, `oracle.py` says at the end what every state has to be, `mutants.py` holds mistakes that must be noticed.
`python -m tests.simulation --seeds 100000` runs it for volume.
"""
