"""The command: vdeblock, or python -m vfilter."""

import sys


def main() -> None:
    """Run the command line; an interruption is one line and code 130, however early it comes."""
    try:
        from vfilter.cli import main as run

        run()
    except KeyboardInterrupt:
        print("vdeblock: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
