"""Kademlia for provider records alone: small questions, asked in time, at a bounded rate; no values of strangers.

Stock keeps 50,000 values of up to 1 MiB that nobody needs, and waits for ever for a question that does not come: twelve
silent streams, and the node answers nobody.
"""

from __future__ import annotations

import logging
from typing import Any

import trio
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.utils.varint import encode_uvarint, read_varint_prefixed_bytes_limited

from p2p.libp2p_adapter.bounded_stream import BoundedStream, OneQuestion
from p2p.libp2p_adapter.limits import (
    DHT_ANSWER_S,
    DHT_READ_S,
    MAX_DHT_KEY_BYTES,
    MAX_DHT_QUERIES_A_SECOND,
    MAX_DHT_QUERY_BYTES,
    RateLimit,
)
from p2p.libp2p_adapter.provider_records import ProviderRecords
from p2p.libp2p_adapter.traffic import Traffic

ASKED = (
    Message.MessageType.FIND_NODE,
    Message.MessageType.GET_PROVIDERS,
    Message.MessageType.ADD_PROVIDER,
    Message.MessageType.PING,
)

log = logging.getLogger(__name__)


class Kademlia(KadDHT):  # type: ignore[misc]
    """One node in server mode. The stock class finds and routes; what comes in is checked here first."""

    def __init__(self, host: Any, traffic: Traffic) -> None:
        super().__init__(host, DHTMode.SERVER, enable_values=False)
        self._traffic = traffic
        self._rate = RateLimit(MAX_DHT_QUERIES_A_SECOND)
        self.provider_store = ProviderRecords(host, self.peer_routing)

    async def handle_stream(self, stream: Any) -> None:
        """Answer the questions of one stream until it ends, each read whole and checked before stock sees it."""
        asked = BoundedStream(stream, most=MAX_DHT_QUERY_BYTES)
        try:
            while (question := await self._next_question(asked)) and await self._is_answered(stream, question):
                asked = BoundedStream(stream, most=MAX_DHT_QUERY_BYTES)
        except Exception as error:  # noqa: BLE001  strangers' bytes and libp2p raise many kinds; each ends this stream
            self._traffic.refused_dht_queries += 1
            log.debug("a question of the DHT was refused: %s", type(error).__name__)
        finally:
            await asked.reset()

    async def _next_question(self, asked: BoundedStream) -> bytes:
        """The next one, or b"" at the end. Raises when it is none that we answer."""
        try:
            with trio.fail_after(DHT_READ_S):
                question = bytes(await read_varint_prefixed_bytes_limited(asked, MAX_DHT_QUERY_BYTES))
        except StreamEOF:
            return b""
        message = Message()
        message.ParseFromString(question)
        if message.type not in ASKED or len(message.key) > MAX_DHT_KEY_BYTES:
            raise ValueError("this node keeps provider records only")
        return question

    async def _is_answered(self, stream: Any, question: bytes) -> bool:
        if not self._rate.admits(str(stream.muxed_conn.peer_id), now=trio.current_time()):
            raise ValueError("this peer asks too often")
        heard = OneQuestion(stream, encode_uvarint(len(question)) + question)
        with trio.fail_after(DHT_ANSWER_S):
            await super().handle_stream(heard)
        return not heard.is_refused
