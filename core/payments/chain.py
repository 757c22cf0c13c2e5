"""The escrow contract over JSON-RPC: the only module that knows web3. Blocking: call it from a thread.

Every call has the deadline given to `connect`, and fails with a ChainError and nothing else. A transaction is
simulated, signed, handed to `record`, and only then sent: whoever keeps that record can broadcast it again after a
crash, and twice is once. Decides nothing: redemption.py does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import msgspec
from eth_account import Account as Signer
from eth_account.typed_transactions import TypedTransaction
from eth_utils.address import to_checksum_address
from hexbytes import HexBytes
from requests.exceptions import RequestException
from web3 import HTTPProvider, Web3
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3Exception, Web3RPCError
from web3.logs import DISCARD

from core.payments.artifact import load_artifact
from core.payments.chain_values import (
    Account,
    ChainUnavailable,
    ExitStartedEvent,
    Lane,
    Receipt,
    RedeemedEvent,
    TransactionRefused,
    WrongChain,
    WrongContract,
)
from core.payments.voucher import EscrowDomain, Party, Voucher, domain_separator

MAX_FEE_PER_GAS = 500 * 10**9  # wei; dearer than this, a redemption waits
MAX_CLAIMS = 100
BUMP_PERCENT = 113  # nodes ask for 112.5 % of the old fee to replace a transaction
_GAS_MARGIN_PERCENT = 115

Record = Callable[[str, bytes], None]  # called before the broadcast with the transaction's hash and its signed bytes

_TOKEN_ABI: list[dict[str, Any]] = [
    {
        "type": "function",
        "name": name,
        "stateMutability": "view" if output == "uint256" else "nonpayable",
        "inputs": [{"name": f"a{n}", "type": kind} for n, kind in enumerate(inputs)],
        "outputs": [{"name": "", "type": output}],
    }
    for name, inputs, output in (
        ("balanceOf", ("address",), "uint256"),
        ("allowance", ("address", "address"), "uint256"),
        ("approve", ("address", "uint256"), "bool"),
    )
]


class _Call(msgspec.Struct, frozen=True):
    contract: str
    payload: str


class EscrowChain:
    """One escrow on one chain. Safe to call from several threads; transactions are sent one after another."""

    def __init__(self, web3: Web3, domain: EscrowDomain, *, token: str) -> None:
        self.domain = domain
        abi = load_artifact("ComputeEscrow").abi
        self._web3 = web3
        self._escrow = web3.eth.contract(address=to_checksum_address(domain.contract), abi=abi)
        self._token = web3.eth.contract(address=to_checksum_address(token), abi=_TOKEN_ABI)
        self._errors = {_selector(entry): str(entry["name"]) for entry in abi if entry["type"] == "error"}
        self._sending = Lock()

    @classmethod
    def connect(cls, rpc_url: str, *, chain_id: int, escrow: str, token: str, timeout_s: float) -> EscrowChain:
        """Make sure of node, contract and token. Raises ChainUnavailable, WrongChain or WrongContract."""
        provider = HTTPProvider(
            rpc_url, request_kwargs={"timeout": timeout_s}, exception_retry_configuration=None
        )
        chain = cls(Web3(provider), EscrowDomain(chain_id, escrow), token=token)
        chain._verify()
        return chain

    # ---- asking ----------------------------------------------------------------------------------------------

    def account(self, party: Party) -> Account:
        """The party's account in the newest block."""
        question = self._escrow.functions.accounts(HexBytes(party.id))
        with _answers():
            return Account(*question.call())

    def lane(self, payer_id: str, worker_id: str) -> Lane:
        """The lane between two parties (ids) in the newest block."""
        question = self._escrow.functions.lanes(HexBytes(payer_id), HexBytes(worker_id))
        with _answers():
            reserved, redeemed, exit_at = question.call()
        return Lane(reserved, redeemed, exit_at or None)

    def token_balance(self, address: str) -> int:
        """Tokens (smallest units) that this address holds outside the escrow."""
        question = self._token.functions.balanceOf(to_checksum_address(address))
        with _answers():
            return int(question.call())

    def gas_balance(self, address: str) -> int:
        """Wei that this address has for fees."""
        account = to_checksum_address(address)
        with _answers():
            return int(self._web3.eth.get_balance(account))

    def gas_price(self) -> int:
        """Wei a gas that a transaction costs now: the newest base fee and the node's advised tip."""
        with _answers():
            return int(self._web3.eth.gas_price)

    def block_number(self) -> int:
        """The newest block."""
        with _answers():
            return int(self._web3.eth.block_number)

    def receipt(self, transaction: str) -> Receipt | None:
        """What a transaction did; None while it is not mined (or was dropped, or undone by a reorganisation)."""
        with _answers():
            try:
                found = self._web3.eth.get_transaction_receipt(HexBytes(transaction))
            except TransactionNotFound:
                return None
            return self._receipt(found, self._web3.eth.block_number)

    def redeemed_events(self, worker_id: str, from_block: int) -> list[RedeemedEvent]:
        """Everything redeemed for this worker since a block, by us or by anyone else, oldest first."""
        with _answers():
            logs = self._escrow.events.Redeemed.get_logs(
                from_block=from_block, argument_filters={"worker": HexBytes(worker_id)}
            )
        return [_redeemed(log) for log in logs]

    def exit_events(self, worker_id: str, from_block: int) -> list[ExitStartedEvent]:
        """Payers who have asked for this worker's collateral back since a block: redeem theirs at once."""
        with _answers():
            logs = self._escrow.events.ExitStarted.get_logs(
                from_block=from_block, argument_filters={"worker": HexBytes(worker_id)}
            )
        return [_exit_started(log) for log in logs]

    # ---- sending; each returns the transaction's hash ----------------------------------------------------------
    # Raises TransactionRefused if it would revert or costs too much (then nothing was recorded), or ChainUnavailable:
    # if the transaction was recorded by then, it may have arrived; broadcast it again.

    def redeem(self, key: bytes, worker: Party, *, vouchers: Sequence[Voucher], record: Record) -> str:
        """Cash vouchers into the worker's account; the key only pays the fee. Raises ValueError over MAX_CLAIMS."""
        return self._send(key, self._redemption(worker, vouchers), record=record)

    def redeem_and_pay_out(self, key: bytes, worker: Party, *, vouchers: Sequence[Voucher], record: Record) -> str:
        """The same, and everything earned goes on to the owner in the same transaction."""
        calls = [self._redemption(worker, vouchers), self._on_escrow("payOut", _pair(worker))]
        return self._send(key, self._on_escrow("multicall", [HexBytes(call.payload) for call in calls]), record=record)

    def pay_out(self, key: bytes, party: Party, *, record: Record) -> str:
        """Send what the party has earned to its owner."""
        return self._send(key, self._on_escrow("payOut", _pair(party)), record=record)

    def approve(self, key: bytes, amount: int, *, record: Record) -> str:
        """Let the escrow take up to this much of the key's own tokens."""
        payload = self._token.encode_abi("approve", args=[self._escrow.address, amount])
        return self._send(key, _Call(self._token.address, payload), record=record)

    def deposit(self, key: bytes, party: Party, *, amount: int, record: Record) -> str:
        """Move the key's own tokens to a party's free balance; approve them first."""
        return self._send(key, self._on_escrow("deposit", _pair(party), amount), record=record)

    def reserve(self, key: bytes, lane: tuple[Party, str], *, amount: int, record: Record) -> str:
        """Set aside free balance of lane[0], whose hot key this is, for the worker lane[1] (an id); undoes an exit."""
        return self._send(key, self._on_escrow("reserve", _pair(lane[0]), HexBytes(lane[1]), amount), record=record)

    def start_exit(self, key: bytes, lane: tuple[Party, str], *, record: Record) -> str:
        """Ask for the lane's collateral back."""
        return self._send(key, self._on_escrow("startExit", _pair(lane[0]), HexBytes(lane[1])), record=record)

    def finish_exit(self, key: bytes, lane: tuple[Party, str], *, record: Record) -> str:
        """Take it, once the exit delay is over."""
        call = self._on_escrow("finishExit", HexBytes(lane[0].id), HexBytes(lane[1]))
        return self._send(key, call, record=record)

    def withdraw(self, key: bytes, party: Party, *, amount: int, record: Record) -> str:
        """Send free balance to the party's owner."""
        return self._send(key, self._on_escrow("withdraw", _pair(party), amount), record=record)

    def broadcast(self, raw: bytes) -> str:
        """Send a recorded transaction, for the first time or again.

        Raises TransactionRefused only if it can never be mined: another transaction took its nonce. Whatever else the
        node has against it may pass, and is ChainUnavailable.
        """
        transaction = str(Web3.to_hex(Web3.keccak(raw)))
        with _answers():
            try:
                self._web3.eth.send_raw_transaction(raw)
            except Web3RPCError as error:
                if not self._is_known(transaction):
                    raise self._refusal(raw, error) from error
        return transaction

    def speed_up(self, key: bytes, raw: bytes, *, record: Record) -> str:
        """Replace a stuck transaction by itself at a higher fee, same nonce: only one of the two is ever mined."""
        fields = dict(_fields(raw))
        fields["maxFeePerGas"] = fields["maxFeePerGas"] * BUMP_PERCENT // 100 + 1
        fields["maxPriorityFeePerGas"] = fields["maxPriorityFeePerGas"] * BUMP_PERCENT // 100 + 1
        _check_fee(fields["maxFeePerGas"])
        return self._sign_and_send(key, fields, record=record)

    # ---- private ---------------------------------------------------------------------------------------------

    def _verify(self) -> None:
        with _answers():
            found = self._web3.eth.chain_id
            if found != self.domain.chain_id:
                raise WrongChain(self.domain.chain_id, found)
            code = bytes(self._web3.eth.get_code(self._escrow.address))
            if not load_artifact("ComputeEscrow").is_code_of(code):
                raise WrongContract("The contract at the escrow's address isn't the one that this version knows.")
            separator = bytes(self._escrow.functions.domainSeparator().call())
            token = str(self._escrow.functions.token().call())
        if separator != domain_separator(self.domain):
            raise WrongContract("The escrow signs for another chain or address.")
        if token.lower() != self._token.address.lower():
            raise WrongContract("The escrow holds another token than this network names.")

    def _redemption(self, worker: Party, vouchers: Sequence[Voucher]) -> _Call:
        if len(vouchers) > MAX_CLAIMS:
            raise ValueError(f"at most {MAX_CLAIMS} vouchers in one transaction")
        return self._on_escrow("redeem", HexBytes(worker.id), [_claim(voucher) for voucher in vouchers])

    def _on_escrow(self, function: str, *arguments: Any) -> _Call:
        return _Call(self._escrow.address, self._escrow.encode_abi(function, args=arguments))

    def _send(self, key: bytes, call: _Call, *, record: Record) -> str:
        sender = Signer.from_key(key).address
        with self._sending:
            with _answers():
                fields = self._prepare(call, sender)
            return self._sign_and_send(key, fields, record=record)

    def _prepare(self, call: _Call, sender: str) -> dict[str, Any]:
        gas = self._simulate(call, sender) * _GAS_MARGIN_PERCENT // 100
        tip = self._web3.eth.max_priority_fee
        fee = 2 * self._web3.eth.get_block("latest")["baseFeePerGas"] + tip
        _check_fee(fee)
        if self._web3.eth.get_balance(sender) < gas * fee:
            raise TransactionRefused(f"{sender} needs {gas * fee} wei for the network fee and has less.")
        return {
            "type": 2,
            "chainId": self.domain.chain_id,
            "nonce": self._web3.eth.get_transaction_count(sender, "pending"),
            "to": call.contract,
            "data": call.payload,
            "value": 0,
            "gas": gas,
            "maxFeePerGas": fee,
            "maxPriorityFeePerGas": tip,
        }

    def _simulate(self, call: _Call, sender: str) -> int:
        try:
            return int(self._web3.eth.estimate_gas({"from": sender, "to": call.contract, "data": call.payload}))
        except ContractLogicError as error:
            raise TransactionRefused(f"The escrow would refuse this: {self._reason(error)}.") from error
        except Web3RPCError as error:
            raise TransactionRefused(f"The chain would refuse this: {_words(error)}.") from error

    def _sign_and_send(self, key: bytes, fields: dict[str, Any], *, record: Record) -> str:
        signed = Signer.sign_transaction(fields, key)
        raw = bytes(signed.raw_transaction)
        record(str(Web3.to_hex(signed.hash)), raw)
        return self.broadcast(raw)

    def _is_known(self, transaction: str) -> bool:
        try:
            self._web3.eth.get_transaction(HexBytes(transaction))
        except TransactionNotFound:
            return False
        return True

    def _refusal(self, raw: bytes, error: Web3RPCError) -> ChainUnavailable | TransactionRefused:
        mined = self._web3.eth.get_transaction_count(Signer.recover_transaction(raw))
        if mined > nonce_of(raw):
            return TransactionRefused("Another transaction took this one's place on the chain.")
        return ChainUnavailable(f"The chain's node does not take the transaction now ({_words(error)}).")

    def _reason(self, error: ContractLogicError) -> str:
        """Custom errors arrive as bare selectors."""
        text = error.data if isinstance(error.data, str) else ""
        return self._errors.get(text[:10].lower(), _words(error))

    def _receipt(self, found: Any, newest: int) -> Receipt:
        redeemed = [_redeemed(log) for log in self._escrow.events.Redeemed().process_receipt(found, DISCARD)]
        payouts = self._escrow.events.PaidOut().process_receipt(found, DISCARD)
        return Receipt(
            transaction=Web3.to_hex(found["transactionHash"]),
            block=found["blockNumber"],
            block_hash=Web3.to_hex(found["blockHash"]),
            confirmations=max(1, newest - found["blockNumber"] + 1),
            is_success=found["status"] == 1,
            gas_used=found["gasUsed"],
            fee_wei=found["gasUsed"] * found["effectiveGasPrice"],
            paid=sum(event.paid for event in redeemed),
            redeemed={event.payer: event.total for event in redeemed},
            paid_out=sum(log["args"]["amount"] for log in payouts),
        )


def nonce_of(raw: bytes) -> int:
    """The nonce of a signed transaction of ours."""
    return int(_fields(raw)["nonce"])


@contextmanager
def _answers() -> Iterator[None]:
    try:
        yield
    except RequestException as error:
        raise ChainUnavailable(f"The chain's node does not answer ({type(error).__name__}).") from error
    except (Web3Exception, ValueError, KeyError, TypeError) as error:  # the last three: web3 reading nonsense
        raise ChainUnavailable(f"The chain's node gave no sensible answer ({_words(error)}).") from error


def _pair(party: Party) -> tuple[str, str]:
    return to_checksum_address(party.owner), to_checksum_address(party.hot)


def _claim(voucher: Voucher) -> tuple[str, str, int, bytes, bytes]:
    signature = bytes.fromhex(voucher.signature[2:])
    return (*_pair(voucher.payer), voucher.cumulative, signature[:32], signature[32:])


def _redeemed(log: Any) -> RedeemedEvent:
    return RedeemedEvent(
        transaction=Web3.to_hex(log["transactionHash"]),
        block=log["blockNumber"],
        block_hash=Web3.to_hex(log["blockHash"]),
        payer=Web3.to_hex(log["args"]["payer"]),
        worker=Web3.to_hex(log["args"]["worker"]),
        paid=log["args"]["paid"],
        total=log["args"]["redeemedTotal"],
    )


def _exit_started(log: Any) -> ExitStartedEvent:
    names = log["args"]
    payer, worker = Web3.to_hex(names["payer"]), Web3.to_hex(names["worker"])
    return ExitStartedEvent(log["blockNumber"], payer, worker, names["exitAt"])


def _check_fee(fee: int) -> None:
    if fee > MAX_FEE_PER_GAS:
        raise TransactionRefused(f"The network fee is {fee // 10**9} gwei a gas, which is over our limit.")


def _fields(raw: bytes) -> dict[str, Any]:
    unsigned = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
    return {name: value for name, value in unsigned.items() if name not in ("v", "r", "s")}


def _selector(entry: dict[str, Any]) -> str:
    types = ",".join(one["type"] for one in entry["inputs"])
    return str(Web3.to_hex(Web3.keccak(text=f"{entry['name']}({types})"))[:10])


def _words(error: Exception) -> str:
    text = getattr(error, "message", None) or type(error).__name__
    return str(text)[:200].rstrip(".")
