"""The JSON-RPC methods of the development chain (Ethereum's execution-apis, and a few evm_ ones to drive it).

Turns parameters into calls on the chain and its answers into JSON. Takes one request at a time. Never opens a socket.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from app.devnet_evm import GAS_LIMIT, Call, EvmChain, Refused
from app.devnet_json import octets, pending_of, quantity
from app.devnet_pool import Pool
from app.devnet_store import Block, Json

TIP = 1_000_000_000  # wei a gas: what this node advises as priority fee
MAX_MINED_AT_ONCE = 256
_WORD = 32
_NEWEST = ("latest", "pending", "safe", "finalized")

INVALID_PARAMS = -32602
NO_SUCH_METHOD = -32601
REFUSED = -32000
REVERTED = 3


class RpcError(Exception):
    """An answer of JSON-RPC that is no result."""

    def __init__(self, code: int, message: str, *, data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class Methods:
    """Every method by name. Safe to call from several threads."""

    def __init__(self, chain: EvmChain) -> None:
        self._chain = chain
        self._store = chain.store
        self._pool = Pool()
        self._newest_used = chain.height  # the newest block with a transaction, or the newest when we started
        self._lock = Lock()
        self._by_name: dict[str, Callable[..., Any]] = {
            "web3_clientVersion": lambda: "starling-devnet/py-evm",
            "net_version": lambda: str(chain.chain_id),
            "net_listening": lambda: True,
            "eth_chainId": lambda: quantity(chain.chain_id),
            "eth_syncing": lambda: False,
            "eth_accounts": lambda: [octets(account) for account in chain.accounts],
            "eth_blockNumber": lambda: quantity(chain.height),
            "eth_gasPrice": lambda: quantity(chain.next_base_fee + TIP),
            "eth_maxPriorityFeePerGas": lambda: quantity(TIP),
            "eth_feeHistory": self._fee_history,
            "eth_getBalance": self._balance,
            "eth_getTransactionCount": self._count,
            "eth_getCode": lambda address, at="latest": octets(self._state(at).get_code(_address(address))),
            "eth_getStorageAt": self._storage,
            "eth_call": self._call,
            "eth_estimateGas": self._estimate,
            "eth_sendRawTransaction": self._send_raw,
            "eth_sendTransaction": self._send,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getLogs": self._logs,
            "evm_mine": self._mine,
            "evm_increaseTime": self._increase_time,
        }

    def call(self, name: str, params: list[Any]) -> Any:
        """The result of one method. Raises RpcError."""
        method = self._by_name.get(name)
        if method is None:
            raise RpcError(NO_SUCH_METHOD, f"the method {name} does not exist")
        try:
            with self._lock:
                return method(*params)
        except Refused as error:
            code = REVERTED if error.data else REFUSED
            raise RpcError(code, str(error), data=octets(error.data) if error.data else None) from error
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise RpcError(INVALID_PARAMS, f"invalid parameters of {name}: {error}") from error

    def confirm(self, depth: int) -> None:
        """Add an empty block while the newest transaction is less than `depth` blocks deep; otherwise nothing."""
        with self._lock:
            if self._chain.height - self._newest_used < depth - 1:
                self._chain.mine([])

    def close(self) -> None:
        """Finish the request under way, then let go of the chain's file."""
        with self._lock:
            self._store.close()

    # ---- state -----------------------------------------------------------------------------------------------

    def _balance(self, address: str, at: Any = "latest") -> str:
        return quantity(self._state(at).get_balance(_address(address)))

    def _count(self, address: str, at: Any = "latest") -> str:
        mined = self._state(at).get_nonce(_address(address))
        return quantity(self._pool.next_nonce(_address(address), mined) if at == "pending" else mined)

    def _storage(self, address: str, slot: str, *at: Any) -> str:
        value: int = self._state(*at[:1] or ("latest",)).get_storage(_address(address), int(slot, 16))
        return octets(value.to_bytes(_WORD))

    def _call(self, request: Json, *at: Any) -> str:
        return octets(self._chain.call(self._request(request), self._height(*at[:1] or ("latest",))))

    def _estimate(self, request: Json, *at: Any) -> str:
        return quantity(self._chain.estimate(self._request(request), self._height(*at[:1] or ("latest",))))

    # ---- transactions ----------------------------------------------------------------------------------------

    def _send_raw(self, raw: str) -> str:
        return self._take(self._chain.decode(_octets(raw)))

    def _send(self, request: Json) -> str:
        call = self._request(request)
        if "gas" not in request:
            call = self._request({**request, "gas": quantity(self._chain.estimate(call, self._chain.height))})
        mined = self._state("latest").get_nonce(call.sender)
        nonce = int(request["nonce"], 16) if "nonce" in request else self._pool.next_nonce(call.sender, mined)
        return self._take(self._chain.sign(call, nonce=nonce, max_fee=2 * self._chain.next_base_fee + TIP))

    def _take(self, transaction: Any) -> str:
        if self._store.entry(octets(transaction.hash)) is not None:
            raise Refused("already known")
        self._pool.add(transaction, self._state("latest").get_nonce(transaction.sender))
        self._mine_ready(transaction)
        return octets(transaction.hash)

    def _mine_ready(self, newest: Any) -> None:
        """Mine what has its turn. Only a refusal of the newest transaction is its sender's to hear."""
        sender = newest.sender
        while turn := self._pool.take(sender, self._state("latest").get_nonce(sender)):
            try:
                self._chain.mine([turn])
                self._newest_used = self._chain.height
            except Refused:
                if turn.hash == newest.hash:
                    raise
                return

    def _transaction(self, wanted: str) -> Json | None:
        entry = self._store.entry(wanted.lower())
        if entry is not None:
            return entry[0]
        waiting = self._pool.find(_octets(wanted))
        return None if waiting is None else pending_of(waiting)

    def _receipt(self, wanted: str) -> Json | None:
        entry = self._store.entry(wanted.lower())
        return None if entry is None else entry[1]

    # ---- blocks ----------------------------------------------------------------------------------------------

    def _block_by_number(self, at: Any, full: bool = False) -> Json | None:
        found = self._store.block(self._height(at))
        return None if found is None else _shown(found, full)

    def _block_by_hash(self, wanted: str, full: bool = False) -> Json | None:
        height = self._store.height_of(wanted.lower())
        return None if height is None else self._block_by_number(quantity(height), full)

    def _logs(self, wanted: Json) -> list[Json]:
        if "blockHash" in wanted:
            height = self._store.height_of(wanted["blockHash"].lower())
            first, last = (1, 0) if height is None else (height, height)
        else:
            first = self._height(wanted.get("fromBlock", "latest"))
            last = self._height(wanted.get("toBlock", "latest"))
        return [log for log in self._store.logs(first, last) if _matches(log, wanted)]

    def _fee_history(self, count: Any, newest: Any = "latest", *percentiles: Any) -> Json:
        last = self._height(newest)
        asked = count if isinstance(count, int) else int(count, 16)
        first = max(0, last - min(max(asked, 1), MAX_MINED_AT_ONCE) + 1)
        blocks = [found.body for n in range(first, last + 1) if (found := self._store.block(n))]
        following = self._store.block(last + 1)
        fee_after = following.body["baseFeePerGas"] if following else quantity(self._chain.next_base_fee)
        answer: Json = {
            "oldestBlock": quantity(first),
            "baseFeePerGas": [body["baseFeePerGas"] for body in blocks] + [fee_after],
            "gasUsedRatio": [int(body["gasUsed"], 16) / GAS_LIMIT for body in blocks],
        }
        if percentiles and percentiles[0]:
            answer["reward"] = [[quantity(TIP)] * len(percentiles[0]) for _ in blocks]
        return answer

    def _mine(self, blocks: Any = 1) -> str:
        count = int(blocks, 16) if isinstance(blocks, str) else int(blocks)
        if not 1 <= count <= MAX_MINED_AT_ONCE:
            raise ValueError(f"between 1 and {MAX_MINED_AT_ONCE} blocks at once")
        for _ in range(count):
            self._chain.mine([])
        return "0x0"

    def _increase_time(self, seconds: Any) -> str:
        self._chain.skip_time(int(seconds, 16) if isinstance(seconds, str) else int(seconds))
        return "0x0"

    # ---- parameters ------------------------------------------------------------------------------------------

    def _height(self, at: Any) -> int:
        if isinstance(at, dict):
            at = at["blockNumber"]
        if at is None or at in _NEWEST:
            return self._chain.height
        return 0 if at == "earliest" else int(at, 16)

    def _state(self, at: Any) -> Any:
        height = self._height(at)
        if not 0 <= height <= self._chain.height:
            raise Refused("header not found")
        return self._chain.state_at(height)

    def _request(self, request: Json) -> Call:
        text = request.get("input") or request.get("data") or "0x"
        return Call(
            sender=_address(request.get("from", "0x" + "00" * 20)),
            to=_octets(request.get("to") or "0x"),
            data=_octets(text),
            value=int(request.get("value", "0x0"), 16),
            gas=min(int(request.get("gas", hex(GAS_LIMIT)), 16), GAS_LIMIT),
        )


def _octets(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _address(text: str) -> bytes:
    raw = _octets(text)
    if len(raw) != 20:
        raise ValueError("an address has 20 bytes")
    return raw


def _shown(block: Block, full: bool) -> Json:
    return {**block.body, "transactions": [entry[0] for entry in block.entries]} if full else block.body


def _matches(log: Json, wanted: Json) -> bool:
    addresses = wanted.get("address") or []
    addresses = [addresses] if isinstance(addresses, str) else addresses
    if addresses and log["address"] not in [address.lower() for address in addresses]:
        return False
    topics = wanted.get("topics") or []
    return len(topics) <= len(log["topics"]) and all(map(_topic_matches, log["topics"], topics))


def _topic_matches(topic: str, wanted: Any) -> bool:
    if wanted is None:
        return True
    return topic in [one.lower() for one in ([wanted] if isinstance(wanted, str) else wanted)]
