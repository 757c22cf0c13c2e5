"""The network files of one home: those that ship, the owner's own, and the one in use.

Only finds, reads and writes files; what is in them is checked by core.network.
"""

from __future__ import annotations

from pathlib import Path

from assets import asset_path
from core.home import Home
from core.network import Network, NetworkError, dump_network, load_network

SUFFIX = ".toml"


def network_named(word: str, home: Home) -> Path:
    """The file that a word names: a path, one of the home's own, or one that ships. Raises NetworkError."""
    for found in (Path(word).expanduser(), home.networks / f"{word}{SUFFIX}", shipped() / f"{word}{SUFFIX}"):
        if found.is_file():
            return found
    known = ", ".join(sorted(names(home))) or "none is known yet"
    raise NetworkError(f"There is no network file {word}. Give a path or one of these: {known}.")


def names(home: Home) -> set[str]:
    """The names that network_named knows."""
    return {path.stem for folder in (home.networks, shipped()) for path in folder.glob(f"*{SUFFIX}")}


def shipped() -> Path:
    """Where the files lie that come with the app."""
    return asset_path("networks")


def read(path: Path) -> Network:
    """The network in this file. Raises NetworkError."""
    try:
        return load_network(path.read_bytes(), source=str(path))
    except OSError as error:
        raise NetworkError(f"The network file {path} cannot be read: {error.strerror}.") from error


def keep(network: Network, home: Home) -> Path:
    """Write one of the home's own. Raises NetworkError where there is another of that name already."""
    path = home.networks / f"{network.name}{SUFFIX}"
    if path.exists() and read(path).swarm_id != network.swarm_id:
        raise NetworkError(f"{path} is another network of that name. Choose another name, or remove that file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dump_network(network))
    return path


def use(network: Network, home: Home) -> None:
    """Make this the network of the home."""
    home.network.parent.mkdir(parents=True, exist_ok=True)
    home.network.write_bytes(dump_network(network))
