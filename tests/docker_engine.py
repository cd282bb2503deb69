"""A real Docker engine for tests, and images of the names that flows use.

The engine that answers is taken; where none does, root starts Debian's, and it stays for later runs. Images are built
here when a test first asks for them, and stay too.
"""

from __future__ import annotations

import os
from functools import cache

from tests.tools import unavailable
from tools import docker_images
from tools.docker_engine import EngineError, ensure_engine


@cache
def engine_or_skip() -> str:
    """The address of an engine that answers; skips the test, in one line, where none can be had."""
    try:
        return ensure_engine()
    except EngineError as error:
        return unavailable(str(error) if os.environ.get("CI") == "true" else error.reason)


@cache
def ensure_image(name: str) -> str:
    """The full name of an image, built if the engine does not have it; the test is skipped where it cannot be built."""
    engine_or_skip()
    try:
        return docker_images.ensure_image(name)
    except docker_images.ImageError as error:
        return unavailable(
            f"the image {name} ({error if os.environ.get('CI') == 'true' else str(error).splitlines()[0]})"
        )
