"""The command's entry: `voxmeter`, or `python -m agent`."""

import sys


def main() -> None:
    """Loads the command line, which takes half a second in which somebody may already press Ctrl-C."""
    try:
        from agent.cli import main as run  # noqa: PLC0415  see above
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
