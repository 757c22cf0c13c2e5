"""Opens the chain side of a home: the wallet, the escrow it trades in, and on a devnet the ether for fees.

Blocking; called in a thread. Never lends the key to anyone but the chain module.
"""

from __future__ import annotations

import msgspec

from app.payer import fund_devnet
from core.home import Home
from core.network import Network
from core.payments.chain import EscrowChain
from core.payments.keystore import CHEAP_SCRYPT_N
from core.payments.wallet import Wallet

CHAIN_TIMEOUT_S = 5.0
LEAST_GAS_WEI = 10**16


class Money(msgspec.Struct, frozen=True):
    """The chain side of a node."""

    network: Network
    wallet: Wallet
    chain: EscrowChain


def open_money(home: Home, network: Network) -> Money:
    """Wallet and chain, checked against each other. Raises ChainError, WalletLocked."""
    wallet = Wallet.open(home.keys, scrypt_n=CHEAP_SCRYPT_N) if network.is_devnet else Wallet.open(home.keys)
    chain = EscrowChain.connect(
        network.rpc,
        chain_id=network.chain_id,
        escrow=network.escrow,
        token=network.token,
        timeout_s=CHAIN_TIMEOUT_S,
    )
    if network.is_devnet and chain.gas_balance(wallet.party.hot) < LEAST_GAS_WEI:
        fund_devnet(network, wallet.party, amount=0)
    return Money(network, wallet, chain)
