"""What the engine and the child that talks to the hub say to each other, in frames of core.framing.

Pure. Never carries the owner's access token: the child finds that in its own environment.
"""

from __future__ import annotations

import msgspec

MAX_FRAME_BYTES = 8 << 20


class HubFile(msgspec.Struct, frozen=True):
    """One file of a repository; sha256 is the hub's own, empty when it tells none."""

    name: str
    file_bytes: int
    sha256: str


class ListFiles(msgspec.Struct, frozen=True, tag="list_files"):
    """Which GGUF files a repository has; answered by Listed or HubFault."""

    endpoint: str
    repo: str


class FetchFile(msgspec.Struct, frozen=True, tag="fetch_file"):
    """Bring one file of this revision to target, from where target ends on; answered by Fetching and Fetched, or
    HubFault."""

    endpoint: str
    repo: str
    revision: str
    file: HubFile
    target: str


HubCommand = ListFiles | FetchFile


class Listed(msgspec.Struct, frozen=True, tag="listed"):
    """The GGUF files of a repository, and the revision (a commit) that they are of."""

    repo: str
    revision: str
    files: tuple[HubFile, ...]


class Fetching(msgspec.Struct, frozen=True, tag="fetching"):
    """How much of the file is there."""

    done_bytes: int


class Fetched(msgspec.Struct, frozen=True, tag="fetched"):
    """The file has its length; what is in it is for the caller to check."""


class HubFault(msgspec.Struct, frozen=True, tag="hub_fault"):
    """It could not be done; one sentence for the owner. is_full: for want of space."""

    message: str
    is_full: bool = False


HubReport = Listed | Fetching | Fetched | HubFault
