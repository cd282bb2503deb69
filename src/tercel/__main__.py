"""`python -m tercel`, and the command `tercel`."""

import sys


def main() -> None:
    """Run the command line; a bare `--version` is answered without loading it."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from tercel import __version__  # noqa: PLC0415  # the shortest way to an answer

        print(f"tercel {__version__}")
        return
    try:
        _start_lightly()
        from tercel.cli import run_command_line  # noqa: PLC0415  # click alone takes as long as the answer above

        run_command_line()
    except KeyboardInterrupt:  # while modules are imported; later on commands see to it themselves
        sys.exit(130)


def _start_lightly() -> None:
    """Spare what a short command would only start: a tenth of the time that `tercel run` takes to begin."""
    import gc  # noqa: PLC0415  # `--version` does not need it

    # Modules are made of objects that stay: by default they are looked at over and over while they are imported.
    gc.set_threshold(50_000, 20, 20)
    if "typing_extensions" not in sys.modules:
        # msgspec imports it where it is installed, and needs nothing of it that this Python does not have.
        sys.modules["typing_extensions"] = None  # pyright: ignore[reportArgumentType]  # None forbids an import
        try:
            import msgspec  # noqa: F401, PLC0415  # pyright: ignore[reportUnusedImport]  # for its imports
        finally:
            del sys.modules["typing_extensions"]


if __name__ == "__main__":
    main()
