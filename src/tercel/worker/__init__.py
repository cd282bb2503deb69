"""Runs jobs: one task run, or one WorkingDirectory with its children, at a time per slot.

`worker.py` claims and reports, `job_runner.py` runs one job, `working_directory.py` the phases of a WorkingDirectory.
"""
