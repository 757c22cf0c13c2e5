"""How py-evm's blocks, transactions, receipts and logs look in JSON-RPC (execution-apis of Ethereum). Pure.

Never reads the chain: takes objects, gives plain dicts with 0x hex.
"""

from __future__ import annotations

from typing import Any

from app.devnet_store import Block, Json


def quantity(number: int) -> str:
    """A number as JSON-RPC writes it: 0x hex without leading zeros."""
    return hex(number)


def octets(raw: bytes) -> str:
    """Bytes as JSON-RPC writes them."""
    return "0x" + raw.hex()


def block_of(block: Any, receipts: tuple[Any, ...], *, contracts: tuple[bytes | None, ...]) -> Block:
    """A mined block. contracts names the address that each transaction created, if any."""
    entries: list[tuple[Json, Json]] = []
    gas_before = 0
    first_log = 0
    for index, (transaction, receipt) in enumerate(zip(block.transactions, receipts, strict=True)):
        place = _place(block.header, transaction, index=index)
        shown = {**place, **_receipt(transaction, receipt, header=block.header)}
        shown["gasUsed"] = quantity(receipt.gas_used - gas_before)
        created = contracts[index]
        shown["contractAddress"] = octets(created) if created else None
        shown["logs"] = [_log(log, place, index=first_log + at) for at, log in enumerate(receipt.logs)]
        entries.append(({**_transaction(transaction, block.header), **_in_block(place)}, shown))
        gas_before = receipt.gas_used
        first_log += len(receipt.logs)
    return Block(block.header.block_number, _header(block), tuple(entries))


def pending_of(transaction: Any) -> Json:
    """A transaction that waits for an earlier one of its sender."""
    return {**_transaction(transaction, None), "blockHash": None, "blockNumber": None, "transactionIndex": None}


def _header(block: Any) -> Json:
    header = block.header
    return {
        "number": quantity(header.block_number),
        "hash": octets(header.hash),
        "parentHash": octets(header.parent_hash),
        "nonce": octets(header.nonce),
        "sha3Uncles": octets(header.uncles_hash),
        "logsBloom": octets(header.bloom.to_bytes(256)),
        "transactionsRoot": octets(header.transaction_root),
        "stateRoot": octets(header.state_root),
        "receiptsRoot": octets(header.receipt_root),
        "miner": octets(header.coinbase),
        "difficulty": quantity(header.difficulty),
        "totalDifficulty": quantity(header.difficulty),
        "mixHash": octets(header.mix_hash),
        "extraData": octets(header.extra_data),
        "size": quantity(1000),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "baseFeePerGas": quantity(header.base_fee_per_gas),
        "transactions": [octets(transaction.hash) for transaction in block.transactions],
        "uncles": [],
        "withdrawals": [],
        "withdrawalsRoot": octets(header.withdrawals_root),
    }


def _place(header: Any, transaction: Any, *, index: int) -> Json:
    return {
        "transactionHash": octets(transaction.hash),
        "transactionIndex": quantity(index),
        "blockHash": octets(header.hash),
        "blockNumber": quantity(header.block_number),
    }


def _in_block(place: Json) -> Json:
    return {name: value for name, value in place.items() if name != "transactionHash"}


def _receipt(transaction: Any, receipt: Any, *, header: Any) -> Json:
    return {
        "from": octets(transaction.sender),
        "to": octets(transaction.to) if transaction.to else None,
        "cumulativeGasUsed": quantity(receipt.gas_used),
        "effectiveGasPrice": quantity(_gas_price(transaction, header)),
        "logsBloom": octets(receipt.bloom.to_bytes(256)),
        "status": quantity(int.from_bytes(receipt.state_root)),
        "type": quantity(_type(transaction)),
    }


def _log(log: Any, place: Json, *, index: int) -> Json:
    return {
        **place,
        "address": octets(log.address),
        "topics": [octets(topic.to_bytes(32)) for topic in log.topics],
        "data": octets(log.data),
        "logIndex": quantity(index),
        "removed": False,
    }


def _transaction(transaction: Any, header: Any | None) -> Json:
    shown: Json = {
        "hash": octets(transaction.hash),
        "type": quantity(_type(transaction)),
        "from": octets(transaction.sender),
        "to": octets(transaction.to) if transaction.to else None,
        "nonce": quantity(transaction.nonce),
        "gas": quantity(transaction.gas),
        "value": quantity(transaction.value),
        "input": octets(transaction.data),
        "r": quantity(transaction.r),
        "s": quantity(transaction.s),
        "gasPrice": quantity(_gas_price(transaction, header)),
    }
    if _type(transaction) == 0:
        return {**shown, "v": quantity(transaction.v)}
    shown |= {"v": quantity(transaction.y_parity), "yParity": quantity(transaction.y_parity)}
    shown |= {"chainId": quantity(transaction.chain_id), "accessList": []}
    if _type(transaction) >= 2:
        shown["maxFeePerGas"] = quantity(transaction.max_fee_per_gas)
        shown["maxPriorityFeePerGas"] = quantity(transaction.max_priority_fee_per_gas)
    return shown


def _type(transaction: Any) -> int:
    return int(getattr(transaction, "type_id", 0) or 0)


def _gas_price(transaction: Any, header: Any | None) -> int:
    if _type(transaction) < 2:
        return int(transaction.gas_price)
    if header is None:
        return int(transaction.max_fee_per_gas)
    tip: int = transaction.max_priority_fee_per_gas + header.base_fee_per_gas
    return min(int(transaction.max_fee_per_gas), tip)
