"""``python -m exporter``: align, train, evaluate, trim, export, verify and inspect translation models."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from exporter import align, evaluate, export, inspect, train, trim, verify
from service.errors import DragomanError

_COMMANDS = (align, train, evaluate, trim, export, verify, inspect)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; an error the user made is one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m exporter", description=__doc__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(subparsers)
    args = parser.parse_args(arguments)
    try:
        code: int = args.run(args)
    except DragomanError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
