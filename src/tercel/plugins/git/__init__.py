"""git.*: clones, pushes of flows and files, syncs from a repository. By the `git` program; one module per idea."""
