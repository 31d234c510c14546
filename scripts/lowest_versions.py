"""Print the lowest version of each dependency that `pyproject.toml` permits, as pip constraints.

    python scripts/lowest_versions.py > lowest.txt
    make test CONSTRAINTS=lowest.txt

Only direct dependencies get a line; pip chooses the others.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\w.]+)")


def lowest_versions(pyproject: Path = PYPROJECT) -> dict[str, str]:
    """Return the lowest permitted version of each dependency.

    Parameters
    ----------
    pyproject : Path

    Raises
    ------
    ValueError
        When a dependency has no lower bound, or more than that.
    """
    found = {}
    for requirement in tomllib.loads(pyproject.read_text("utf-8"))["project"]["dependencies"]:
        match = REQUIREMENT.fullmatch(requirement)
        if match is None:
            raise ValueError(f"'{requirement}' in {pyproject.name} is not of the form 'name>=1.2'")
        found[match[1]] = match[2]
    return found


if __name__ == "__main__":
    print("\n".join(f"{name}=={version}" for name, version in lowest_versions().items()))
