"""Noise for many bytes: stock asks the system twice for each message and copies it seven times; this reads what there
is and hands it on.

The same Noise, message for message: nothing here makes or skips a key, a nonce or a tag.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

import trio
from libp2p.io.exceptions import IncompleteReadError
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH, NoiseTransportReadWriter
from libp2p.security.secure_session import SecureSession
from libp2p.stream_muxer.yamux.yamux import HEADER_SIZE

READ_BYTES = 262_144
LENGTH_BYTES = 2


class Lane(Protocol):
    """Takes what needs none of stock's care (see quick_lane)."""

    def is_ours(self, header: bytes) -> int | None:
        """How many bytes of a stream follow this header, if they are for the lane; None: it is for stock."""

    def take(self, part: memoryview) -> None:
        """Some of those bytes."""


class QuickSession(SecureSession):  # type: ignore[misc]
    """A secured connection after its handshake. One task reads, one at a time writes: Yamux sees to both."""

    def __init__(self, session: SecureSession) -> None:
        super().__init__(
            local_peer=session.local_peer,
            local_private_key=session.local_private_key,
            remote_peer=session.remote_peer,
            remote_permanent_pubkey=session.remote_permanent_pubkey,
            is_initiator=session.is_initiator,
            conn=session.conn,
        )
        self.lane: Lane | None = None
        self.heard_at = trio.current_time()
        noise = session.conn.noise_state.noise_protocol
        self._seal = noise.cipher_state_encrypt.encrypt_with_ad
        self._unseal = noise.cipher_state_decrypt.decrypt_with_ad
        self._raw = session.conn.read_writer.read_write_closer
        self._cipher = memoryview(b"")
        self._plain: deque[memoryview] = deque()
        if left := session._drain(None):
            self._plain.append(memoryview(left))

    async def read(self, n: int | None = None) -> bytes:
        """So many bytes; a header of Yamux only if it is not for the lane. Raises IncompleteReadError at the end."""
        if n == HEADER_SIZE and self.lane is not None:
            return await self._next_header(self.lane)
        if n is None:
            return bytes(await self._some(READ_BYTES))
        return await self._exactly(n)

    async def write(self, data: bytes) -> None:
        """All of it in one write of the transport."""
        if len(data) <= MAX_PLAINTEXT_LENGTH:
            sealed = self._seal(None, data)
            await self._raw.write(len(sealed).to_bytes(LENGTH_BYTES) + sealed)
            return
        parts, whole = [], memoryview(data)
        for start in range(0, len(data), MAX_PLAINTEXT_LENGTH):
            sealed = self._seal(None, whole[start : start + MAX_PLAINTEXT_LENGTH])
            parts += [len(sealed).to_bytes(LENGTH_BYTES), sealed]
        await self._raw.write(b"".join(parts))

    async def _next_header(self, lane: Lane) -> bytes:
        while True:
            header = await self._exactly(HEADER_SIZE)
            left = lane.is_ours(header)
            if left is None:
                return header
            while left:
                part = await self._some(left)
                left -= len(part)
                lane.take(part)

    async def _exactly(self, count: int) -> bytes:
        found = bytes(await self._some(count))
        while len(found) < count:
            found += await self._some(count - len(found))
        return found

    async def _some(self, most: int) -> memoryview:
        """What is there, up to so much; waits while nothing is."""
        while not self._plain:
            await self._open_next()
        part = self._plain[0]
        if len(part) <= most:
            return self._plain.popleft()
        self._plain[0] = part[most:]
        return part[:most]

    async def _open_next(self) -> None:
        """Decrypt every message that is whole; wait for more where none is."""
        if not self._open_whole():
            received = await self._raw.read(READ_BYTES)
            if not received:
                raise IncompleteReadError("The connection is closed.", LENGTH_BYTES, len(self._cipher))
            self.heard_at = trio.current_time()
            self._cipher = memoryview(bytes(self._cipher) + received if len(self._cipher) else received)

    def _open_whole(self) -> bool:
        cipher, at = self._cipher, 0
        while len(cipher) - at >= LENGTH_BYTES:
            end = at + LENGTH_BYTES + int.from_bytes(cipher[at : at + LENGTH_BYTES])
            if end > len(cipher):
                break
            self._plain.append(memoryview(self._unseal(None, cipher[at + LENGTH_BYTES : end])))
            at = end
        self._cipher = cipher[at:]
        return at > 0


def quickened(session: Any) -> Any:
    """The same connection, quick where it is Noise as we know it."""
    if type(session) is SecureSession and type(session.conn) is NoiseTransportReadWriter:
        return QuickSession(session)
    return session
