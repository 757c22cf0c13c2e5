"""The compiled contracts that ship with the application. Only reads files; deploys and calls nothing."""

from __future__ import annotations

from typing import Any

import msgspec

from assets import asset_path


class Immutable(msgspec.Struct, frozen=True):
    """A place in deployed code that the constructor fills in, in bytes."""

    start: int
    length: int


class Artifact(msgspec.Struct, frozen=True, rename="camel"):
    """One compiled contract; bytecode is 0x hex, and abi is Solidity's JSON."""

    abi: list[dict[str, Any]]
    bytecode: str
    deployed_bytecode: str
    immutables: tuple[Immutable, ...]

    def is_code_of(self, code: bytes) -> bool:
        """True if this deployed code is this contract's, whatever its immutables are."""
        return self._blank(code) == self._blank(bytes.fromhex(self.deployed_bytecode[2:]))

    def _blank(self, code: bytes) -> bytes:
        blanked = bytearray(code)
        for place in self.immutables:
            if place.start + place.length <= len(blanked):
                blanked[place.start : place.start + place.length] = bytes(place.length)
        return bytes(blanked)


def load_artifact(name: str) -> Artifact:
    """The artifact of "ComputeEscrow" or "TestToken". Raises OSError or msgspec.ValidationError on a broken install."""
    return msgspec.json.decode(asset_path(f"contracts/{name}.json").read_bytes(), type=Artifact)
