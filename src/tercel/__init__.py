"""Tercel runs flows written in Kestra's YAML. Importing it runs nothing."""

__version__ = "0.1.0"
