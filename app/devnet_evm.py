"""A private Ethereum chain in this process: py-evm over one SQLite file, one block for each transaction.

For development networks only: whoever reaches it can spend from its unlocked accounts and mint its play money. Not
thread-safe: the caller serialises. Never opens a socket.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
from eth.chains.base import MiningChain
from eth.constants import BLANK_ROOT_HASH, POST_MERGE_DIFFICULTY, POST_MERGE_MIX_HASH, POST_MERGE_NONCE, ZERO_ADDRESS
from eth.db.atomic import AtomicDB
from eth.vm.forks import PragueVM
from eth.vm.spoof import SpoofTransaction
from eth_hash.auto import keccak
from eth_keys.main import KeyAPI

from app.devnet_json import block_of
from app.devnet_store import ChainStore

GAS_LIMIT = 30_000_000
ACCOUNTS = 4
_ETHER = 10**18
_ENOUGH = 1 << 200
_CALL_FLOOR = 21_000


class WrongChainId(Exception):
    """The chain in this folder has another chain id; the message says which."""


class Refused(Exception):
    """The chain won't take this transaction or call. data is what a contract returned with its revert, if it did."""

    def __init__(self, reason: str, data: bytes | None = None) -> None:
        super().__init__(reason)
        self.data = data


class Call(msgspec.Struct, frozen=True):
    """A call to simulate: who calls (sender), what (an empty `to` creates a contract), with how much gas and value."""

    sender: bytes
    to: bytes
    data: bytes = b""
    value: int = 0
    gas: int = GAS_LIMIT


class EvmChain:
    """The chain in `path`, made on first use. Raises ChainInUse or WrongChainId."""

    def __init__(self, path: Path, chain_id: int) -> None:
        self.chain_id = chain_id
        self.store = ChainStore(path)
        api = KeyAPI()
        self.keys = tuple(api.PrivateKey(keccak(b"starling devnet account %d" % n)) for n in range(ACCOUNTS))
        self._kind = MiningChain.configure(
            __name__="DevelopmentChain", chain_id=chain_id, vm_configuration=((0, PragueVM),)
        )
        self._skipped_s = 0
        known = self.store.setting("chain_id")
        if known is None:
            self._begin()
        elif int(known) != chain_id:
            self.store.close()
            raise WrongChainId(f"it holds chain {known}, not chain {chain_id}")
        self._chain = self._kind(AtomicDB(self.store.nodes))

    @property
    def accounts(self) -> list[bytes]:
        """The addresses whose transactions this node signs."""
        return [key.public_key.to_canonical_address() for key in self.keys]

    @property
    def height(self) -> int:
        """The newest block's number."""
        return int(self._head().block_number)

    @property
    def next_base_fee(self) -> int:
        """The base fee (wei) of the block that comes next."""
        return int(self._chain.header.base_fee_per_gas)

    def decode(self, raw: bytes) -> Any:
        """A signed transaction. Raises Refused if it is none for this chain."""
        try:
            transaction = self._chain.get_vm().get_transaction_builder().decode(raw)
            transaction.check_signature_validity()
            found = getattr(transaction, "chain_id", None)
        except Exception as error:  # noqa: BLE001  py-evm raises rlp, eth_utils and its own errors on bad bytes
            raise Refused(f"not a transaction: {type(error).__name__}") from error
        if found not in (None, self.chain_id):
            raise Refused(f"invalid chain id for signer: have {found} want {self.chain_id}")
        return transaction

    def sign(self, call: Call, *, nonce: int, max_fee: int) -> Any:
        """A transaction of one of our accounts. Raises Refused for any other sender."""
        key = next((key for key in self.keys if key.public_key.to_canonical_address() == call.sender), None)
        if key is None:
            raise Refused("unknown account")
        return self._unsigned(call, nonce=nonce, max_fee=max_fee).as_signed_transaction(key)

    def mine(self, transactions: list[Any]) -> None:
        """Put these into the next block, and the block onto the disk. Raises Refused, and then nothing happened."""
        parent = self._head()
        when = max(parent.timestamp + 1, int(time.time()) + self._skipped_s)
        self._chain.header = self._chain.header.copy(timestamp=when, gas_limit=parent.gas_limit)
        try:
            result, receipts, computations = self._chain.mine_all(
                transactions, coinbase=ZERO_ADDRESS, mix_hash=keccak(parent.hash)
            )
        except Exception as error:  # noqa: BLE001  py-evm raises its own and eth_utils' ValidationError
            self.store.discard()
            self._chain = self._kind(AtomicDB(self.store.nodes))
            raise Refused(str(error)) from error
        created = tuple(c.msg.storage_address if c.msg.is_create else None for c in computations)
        self.store.commit(block_of(result.imported_block, receipts, contracts=created))

    def skip_time(self, seconds: int) -> None:
        """Let the clock of the blocks to come run ahead by this much more."""
        self._skipped_s += seconds

    def call(self, call: Call, height: int) -> bytes:
        """What the call returns on top of this block; nothing is kept. Raises Refused."""
        computation, _ = self._simulate(call, height)
        return bytes(computation.output)

    def estimate(self, call: Call, height: int) -> int:
        """Gas that is enough for this call as a transaction, found by running it twice. Raises Refused."""
        computation, transaction = self._simulate(call, height)
        used: int = transaction.intrinsic_gas + computation.get_gas_used()
        guess = max(used * 64 // 63 + 1_000, self._data_floor(call.data))
        try:
            self._simulate(msgspec.structs.replace(call, gas=guess), height)
        except Refused:
            return min(used * 2, GAS_LIMIT)
        return guess

    def state_at(self, height: int) -> Any:
        """py-evm's state after this block: get_balance, get_nonce, get_code, get_storage."""
        header = self._chain.get_canonical_block_header_by_number(height)
        return self._chain.get_vm(header).state

    def _begin(self) -> None:
        parameters = {
            "coinbase": ZERO_ADDRESS,
            "difficulty": POST_MERGE_DIFFICULTY,
            "extra_data": b"",
            "gas_limit": GAS_LIMIT,
            "mix_hash": POST_MERGE_MIX_HASH,
            "nonce": POST_MERGE_NONCE,
            "receipt_root": BLANK_ROOT_HASH,
            "timestamp": int(time.time()) - 1,
            "transaction_root": BLANK_ROOT_HASH,
        }
        rich = {"balance": 1_000_000 * _ETHER, "nonce": 0, "code": b"", "storage": {}}
        chain = self._kind.from_genesis(
            AtomicDB(self.store.nodes), parameters, dict.fromkeys(self.accounts, rich)
        )
        genesis = chain.get_canonical_block_by_number(0)
        self.store.commit(block_of(genesis, (), contracts=()), {"chain_id": str(self.chain_id)})

    def _head(self) -> Any:
        return self._chain.get_canonical_head()

    def _simulate(self, call: Call, height: int) -> tuple[Any, Any]:
        header = self._chain.get_canonical_block_header_by_number(height)
        state = self._chain.get_vm(header).state
        state.set_balance(call.sender, _ENOUGH)  # the state is thrown away: no caller needs ether to ask
        plain = self._unsigned(call, nonce=state.get_nonce(call.sender), max_fee=header.base_fee_per_gas)
        transaction = SpoofTransaction(plain, from_=call.sender)
        try:
            computation = state.apply_transaction(transaction)
        except Exception as error:  # noqa: BLE001  py-evm raises its own and eth_utils' ValidationError
            raise Refused(str(error)) from error
        if computation.is_error:
            output = bytes(computation.output)
            raise Refused("execution reverted" if output else f"execution failed: {computation.error}", output)
        return computation, transaction

    def _unsigned(self, call: Call, *, nonce: int, max_fee: int) -> Any:
        return self._chain.get_vm().get_transaction_builder().new_unsigned_dynamic_fee_transaction(
            chain_id=self.chain_id,
            nonce=nonce,
            max_priority_fee_per_gas=0,
            max_fee_per_gas=max_fee,
            gas=call.gas,
            to=call.to,
            value=call.value,
            data=call.data,
            access_list=(),
        )

    def _data_floor(self, data: bytes) -> int:
        """EIP-7623: calldata costs at least 10 gas a zero byte and 40 another."""
        return _CALL_FLOOR + 10 * (4 * len(data) - 3 * data.count(0))
