"""Flowable tasks: pure, like the machine that asks them."""
