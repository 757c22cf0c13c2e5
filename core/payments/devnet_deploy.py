"""Put the escrow and its play token onto a development chain, and give parties something to spend.

Uses the node's own unlocked account over plain JSON-RPC, so it works on no chain that holds real money. Blocking: call
it from a thread. Never touches a key of ours.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from eth_abi.abi import encode
from eth_hash.auto import keccak

from core.payments.artifact import load_artifact
from core.payments.chain_values import ChainUnavailable, TransactionRefused
from core.payments.json_rpc import TIMEOUT_S, JsonRpc
from core.payments.voucher import Party

SYMBOL = "tUSD"
DECIMALS = 6
EXIT_DELAY_S = 30
_POLL_S = 0.05


class Deployment(msgspec.Struct, frozen=True):
    """A development network's contracts; escrow and token are addresses."""

    chain_id: int
    escrow: str
    token: str
    decimals: int
    symbol: str


def deploy(rpc_url: str, *, exit_delay_s: int = EXIT_DELAY_S) -> Deployment:
    """Deploy both contracts anew. Raises ChainUnavailable, or TransactionRefused."""
    node = _Node(rpc_url)
    token = node.create(load_artifact("TestToken").bytecode)
    words = encode(["address", "uint40"], [token, exit_delay_s])
    escrow = node.create(load_artifact("ComputeEscrow").bytecode + words.hex())
    return Deployment(int(node.ask("eth_chainId"), 16), escrow, token, DECIMALS, SYMBOL)


def fund(rpc_url: str, deployment: Deployment, *, party: Party, amount: int, gas_wei: int) -> None:
    """Give a party `amount` of free balance in the escrow, and its hot key ether for fees. Zero gives nothing."""
    node = _Node(rpc_url)
    if gas_wei:
        node.send({"to": party.hot, "value": hex(gas_wei)})
    if amount:
        node.send(_call(deployment.token, "mint(address,uint256)", node.account, amount))
        node.send(_call(deployment.token, "approve(address,uint256)", deployment.escrow, amount))
        pair = (party.owner, party.hot)
        node.send(_call(deployment.escrow, "deposit((address,address),uint96)", pair, amount))


def mine(rpc_url: str, blocks: int = 1) -> None:
    """Add empty blocks, so that transactions gain confirmations."""
    node = _Node(rpc_url)
    for _ in range(blocks):
        node.ask("evm_mine")


class _Node:
    """A development chain's node and its first unlocked account."""

    def __init__(self, rpc_url: str) -> None:
        self._node = JsonRpc(rpc_url, what="The development chain")
        accounts = self.ask("eth_accounts")
        if not accounts:
            raise TransactionRefused("The node has no unlocked account: this is no development chain.")
        self.account = str(accounts[0])

    def ask(self, method: str, *params: Any) -> Any:
        """One JSON-RPC call. Raises ChainUnavailable, or TransactionRefused with the node's words."""
        return self._node.ask(method, *params)

    def send(self, fields: dict[str, str]) -> dict[str, Any]:
        """The receipt of a transaction of the unlocked account. Raises TransactionRefused if it reverted."""
        transaction = self.ask("eth_sendTransaction", {"from": self.account, **fields})
        deadline = time.monotonic() + TIMEOUT_S
        while (receipt := self.ask("eth_getTransactionReceipt", transaction)) is None:
            if time.monotonic() > deadline:
                raise ChainUnavailable("The development chain did not mine a transaction in time.")
            time.sleep(_POLL_S)
        if receipt["status"] != "0x1":
            raise TransactionRefused("A transaction of the development network was reverted.")
        return dict(receipt)

    def create(self, bytecode: str) -> str:
        """The address (lower case) of a new contract."""
        return str(self.send({"data": bytecode})["contractAddress"]).lower()


def _call(contract: str, signature: str, *values: Any) -> dict[str, str]:
    start = signature.index("(")
    kinds = _split(signature[start + 1 : -1])
    return {"to": contract, "data": "0x" + (keccak(signature.encode())[:4] + encode(kinds, values)).hex()}


def _split(kinds: str) -> list[str]:
    """Types between commas, tuples kept whole."""
    parts, depth = [""], 0
    for letter in kinds:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
