"""Scripts in containers: by any engine that speaks the Docker API, with all that works in a process."""
