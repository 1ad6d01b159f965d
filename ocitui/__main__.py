"""`python -m ocitui`, and the program `ocitui`."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line on this program's arguments; exits with its status."""
    from ocitui.cli.main import run

    raise SystemExit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
