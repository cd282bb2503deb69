"""Endpoints of the conformance file that are not there yet: the one place that says so."""

NOT_YET: set[str] = set()
