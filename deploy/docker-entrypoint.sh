#!/usr/bin/env bash
# What the container is given is given to the command, which gets its signals.
exec /app/kestra "$@"
