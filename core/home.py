"""Where one peer keeps its things: the paths inside a home folder.

Pure: makes no folder and reads no file. All of a peer lies under its home, so several can live on one machine.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

MAX_SOCKET_PATH_BYTES = 100


class Home(msgspec.Struct, frozen=True):
    """The layout of a home folder."""

    folder: Path

    @property
    def settings(self) -> Path:
        """settings.toml"""
        return self.folder / "settings.toml"

    @property
    def database(self) -> Path:
        """The store: journal, vouchers, benchmarks."""
        return self.folder / "starling.db"

    @property
    def models(self) -> Path:
        """Model files."""
        return self.folder / "models"

    @property
    def priors(self) -> Path:
        """What the meta-model has learned from peers."""
        return self.folder / "priors"

    @property
    def keys(self) -> Path:
        """Keys, readable by the owner alone."""
        return self.folder / "keys"

    @property
    def identity(self) -> Path:
        """The swarm identity key."""
        return self.keys / "peer.key"

    @property
    def run(self) -> Path:
        """What exists only while an engine runs; mode 0700."""
        return self.folder / "run"

    @property
    def lock(self) -> Path:
        """Held by the one engine of this home; its text is the control link's address."""
        return self.run / "engine.lock"

    @property
    def control_socket(self) -> Path:
        """The control link (see app.lockfile for homes whose path is too long for a socket)."""
        return self.run / "control.sock"

    @property
    def control_token(self) -> Path:
        """The secret that a client of the control link must know; mode 0600, new at every start."""
        return self.run / "control.token"

    @property
    def logs(self) -> Path:
        """Log files: never a key, a token, a prompt or an answer."""
        return self.folder / "logs"

    @property
    def network(self) -> Path:
        """The network file of this home."""
        return self.folder / "network.toml"

    @property
    def networks(self) -> Path:
        """Network files to choose from."""
        return self.folder / "networks"
