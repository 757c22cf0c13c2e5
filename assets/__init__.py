"""Files that ship with the application: icons, contracts, models, network files.

Only finds files. It must never read, change or interpret them.
"""

from pathlib import Path


def asset_path(name: str) -> Path:
    """Where the shipped file `name` lies, e.g. `asset_path("contracts/ComputeEscrow.json")`; it need not exist."""
    return Path(__file__).parent / name
