"""`python -m tercel`, and the command `tercel`."""

import sys


def main() -> None:
    """Run the command line; a bare `--version` is answered without loading it."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from tercel import __version__  # noqa: PLC0415  # the shortest way to an answer

        print(f"tercel {__version__}")
        return
    from tercel.cli import run_command_line  # noqa: PLC0415  # click alone takes as long as the answer above

    run_command_line()


if __name__ == "__main__":
    main()
