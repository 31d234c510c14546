"""Refuse files that are too large for the repository (a hook of pre-commit).

    python scripts/check_file_size.py FILE [FILE ...]

Prints each file over the limit and exits with 1 if there is one. Pictures, masks and weights grow
a repository forever: make them smaller, or let a script download or build them.
"""

from __future__ import annotations

import sys
from pathlib import Path

MAX_BYTES = 500_000


def main(names: list[str]) -> int:
    """Print the files that are too large and return the exit status."""
    too_large = [name for name in names if Path(name).stat().st_size > MAX_BYTES]
    for name in too_large:
        print(f"{name}: {Path(name).stat().st_size:,} bytes, at most {MAX_BYTES:,} allowed")
    return 1 if too_large else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
