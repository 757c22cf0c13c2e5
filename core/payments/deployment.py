"""Put the escrow, and a test token where none is named, onto any EVM chain, with a key of the operator's.

What is signed is written down before it is broadcast, so that a second run after a crash waits for the first one's
contracts and makes no others. Refuses a chain that is not the one named. Blocking: call it in a thread. The key signs
these transactions and is neither kept nor shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from eth_abi.abi import decode, encode
from eth_account import Account as Signer
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from core.payments.artifact import load_artifact
from core.payments.chain_values import ChainUnavailable, TransactionRefused, WrongChain, WrongContract
from core.payments.devnet_deploy import DECIMALS, SYMBOL
from core.payments.json_rpc import JsonRpc
from core.payments.voucher import address_of

DAY_S = 86_400
PLAY_CHAINS = frozenset({1_337, 31_337})
EXIT_DELAY_S = (DAY_S, 2 * DAY_S)
PLAY_EXIT_DELAY_S = (5, 60)
GAS_MARGIN_PERCENT = 115
MAX_FEE_WEI = 500 * 10**9
MINED_WITHIN_S = 900.0
POLL_S = 1.0
MAX_SYMBOL_CHARS = 12


class DeployPlan(msgspec.Struct, frozen=True):
    """What to deploy where. token: an ERC-20 that is there already; empty deploys a play token that anyone can mint."""

    chain_id: int
    exit_delay_s: int
    token: str = ""


class Estimate(msgspec.Struct, frozen=True):
    """What it costs at most, and what the key's address has, in wei."""

    sender: str
    most_wei: int
    balance_wei: int


class Deployed(msgspec.Struct, frozen=True):
    """Where the contracts are; block: the escrow's."""

    escrow: str
    token: str
    symbol: str
    decimals: int
    block: int


class Progress(Protocol):
    """Keeps what was signed, by contract, over a crash."""

    def signed(self, contract: str) -> bytes | None:
        """The signed transaction that creates this contract, if one was written down."""

    def keep(self, contract: str, raw: bytes) -> None:
        """Write it down, durably."""


class Deploying:
    """One deployment on one chain. Every method raises ChainError."""

    def __init__(self, rpc: str, plan: DeployPlan, *, tell: Callable[[str], None] = lambda _: None) -> None:
        self._node = JsonRpc(rpc)
        self._plan = plan
        self._tell = tell

    def check(self) -> None:
        """The chain is the one that was named, by two questions, and the plan is sound for it."""
        found = {self._node.number("eth_chainId"), int(str(self._node.ask("net_version")), 0)}
        if wrong := found - {self._plan.chain_id}:
            raise WrongChain(self._plan.chain_id, wrong.pop())
        least, most = PLAY_EXIT_DELAY_S if self._plan.chain_id in PLAY_CHAINS else EXIT_DELAY_S
        if not least <= self._plan.exit_delay_s <= most:
            raise TransactionRefused(f"On this chain the exit delay is {least:,} to {most:,} seconds.")
        if self._plan.token and self._node.ask("eth_getCode", self._plan.token, "latest") in ("0x", "", None):
            raise WrongContract(f"There is no token at {self._plan.token}.")

    def estimate(self, key: bytes) -> Estimate:
        """What all of it costs, at twice today's base fee."""
        sender, fee = address_of(key), self._fees()[0]
        codes = [self._code("ComputeEscrow", self._plan.token or sender)]
        codes += [] if self._plan.token else [self._code("TestToken", "")]
        gas = sum(self._gas(sender, code) for code in codes)
        return Estimate(sender, gas * fee, self._node.number("eth_getBalance", sender, "latest"))

    def run(self, key: bytes, progress: Progress) -> Deployed:
        """Deploy, or go on where an earlier run was cut."""
        token = self._plan.token or self._create("TestToken", "", key=key, progress=progress)["contractAddress"]
        made = self._create("ComputeEscrow", token, key=key, progress=progress)
        symbol, decimals = (DECIMALS, SYMBOL)[::-1] if not self._plan.token else self._named(token)
        escrow = str(made["contractAddress"]).lower()
        return Deployed(escrow, str(token).lower(), symbol, decimals, int(made["blockNumber"], 16))

    def _create(self, contract: str, token: str, *, key: bytes, progress: Progress) -> dict[str, Any]:
        raw = progress.signed(contract)
        if raw is None:
            raw = self._signed(self._code(contract, token), key)
            progress.keep(contract, raw)
        self._tell(f"Creating {contract}…")
        return self._mined(contract, raw)

    def _signed(self, code: str, key: bytes) -> bytes:
        sender = address_of(key)
        gas = self._gas(sender, code)
        fee, tip = self._fees()
        if self._node.number("eth_getBalance", sender, "latest") < gas * fee:
            raise TransactionRefused(f"{sender} needs {gas * fee} wei for the network fee and has less.")
        fields = {
            "type": 2,
            "chainId": self._plan.chain_id,
            "nonce": self._node.number("eth_getTransactionCount", sender, "pending"),
            "data": code,
            "value": 0,
            "gas": gas,
            "maxFeePerGas": fee,
            "maxPriorityFeePerGas": tip,
        }
        return bytes(Signer.sign_transaction(fields, key).raw_transaction)

    def _mined(self, contract: str, raw: bytes) -> dict[str, Any]:
        """Its receipt. A node that knows the transaction already refuses it, which is no fault: the receipt tells."""
        transaction, deadline = "0x" + keccak(raw).hex(), time.monotonic() + MINED_WITHIN_S
        refusal: TransactionRefused | None = None
        try:
            self._node.ask("eth_sendRawTransaction", "0x" + raw.hex())
        except TransactionRefused as error:
            refusal = error
        while (receipt := self._node.ask("eth_getTransactionReceipt", transaction)) is None:
            if refusal is not None and self._node.ask("eth_getTransactionByHash", transaction) is None:
                raise refusal
            if time.monotonic() > deadline:
                raise ChainUnavailable(f"{transaction} is not mined yet. Run the same command again to go on waiting.")
            time.sleep(POLL_S)
        if receipt.get("status") != "0x1":
            raise TransactionRefused(f"The chain reverted the creation of {contract}.")
        return dict(receipt)

    def _code(self, contract: str, token: str) -> str:
        code = load_artifact(contract).bytecode
        return code + encode(["address", "uint40"], [token, self._plan.exit_delay_s]).hex() if token else code

    def _gas(self, sender: str, code: str) -> int:
        return self._node.number("eth_estimateGas", {"from": sender, "data": code}) * GAS_MARGIN_PERCENT // 100

    def _fees(self) -> tuple[int, int]:
        """The most a gas, and the tip within it, in wei."""
        tip = self._node.number("eth_maxPriorityFeePerGas")
        block = self._node.ask("eth_getBlockByNumber", "latest", False)
        fee = 2 * int(block["baseFeePerGas"], 16) + tip
        if fee > MAX_FEE_WEI:
            raise TransactionRefused(f"The network fee is {fee // 10**9} gwei a gas, which is over our limit.")
        return fee, tip

    def _named(self, token: str) -> tuple[str, int]:
        """What the token calls itself."""
        try:
            (symbol,) = decode(["string"], self._view(token, "symbol()"))
            (decimals,) = decode(["uint8"], self._view(token, "decimals()"))
        except Exception as error:  # noqa: BLE001  eth_abi raises many kinds; each means that it is no common token
            raise WrongContract(f"{token} does not say its symbol and decimals as tokens do.") from error
        return str(symbol)[:MAX_SYMBOL_CHARS], int(decimals)

    def _view(self, contract: str, question: str) -> bytes:
        asked = {"to": to_checksum_address(contract), "data": "0x" + keccak(question.encode())[:4].hex()}
        return bytes.fromhex(str(self._node.ask("eth_call", asked, "latest"))[2:])
