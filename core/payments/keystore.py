"""Key files of one peer: the hot key as an Ethereum keystore v3, and the owner as an address.

Only reads and writes files, all of them 0600 and written whole or not at all. Never signs, logs or prints anything.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
from eth_keyfile.keyfile import create_keyfile_json, decode_keyfile_json

from core.payments.voucher import address_of
from core.private_file import write_private

STRONG_SCRYPT_N = 1 << 18
CHEAP_SCRYPT_N = 1 << 12
KEY_BYTES = 32

KEYSTORE = "hot.json"
PASSPHRASE = "hot.passphrase"
OWNER = "owner.address"
OWNER_KEY = "owner.key"

_ADDRESS = re.compile("0x[0-9a-fA-F]{40}")


class WalletLocked(Exception):
    """The key can't be opened: no passphrase, a wrong one, or a damaged file. The message is for the owner."""


def load_hot_key(folder: Path, *, passphrase: str | None, scrypt_n: int) -> bytes:
    """The 32-byte hot key of this folder, made on first use. Blocks for as long as scrypt takes. Raises WalletLocked.

    Without a passphrase one is made up and kept in a file beside the key: as safe as the file's permissions are.
    """
    path = folder / KEYSTORE
    if path.exists():
        return _opened(path, _known_passphrase(folder, passphrase))
    key = _new_key()
    secret = passphrase if passphrase is not None else _kept_passphrase(folder)
    sealed = create_keyfile_json(key, secret.encode(), kdf="scrypt", iterations=scrypt_n)
    write_private(path, msgspec.json.encode(sealed))
    return key


def load_owner(folder: Path, owner: str | None) -> str:
    """The owner's address: the given one (kept from then on), else the kept one, else that of a new key.

    The new key goes to its own file and is never read again: whoever runs the peer moves it to a wallet of theirs.
    Raises ValueError if `owner` is no address.
    """
    path = folder / OWNER
    if owner is not None:
        if not _ADDRESS.fullmatch(owner):
            raise ValueError("The owner's address must be 0x and 40 hex digits.")
        write_private(path, owner.encode())
        return owner
    if path.exists():
        return path.read_text().strip()
    key = _new_key()
    write_private(folder / OWNER_KEY, b"0x" + key.hex().encode())
    write_private(path, address_of(key).encode())
    return address_of(key)


def read_key_file(path: Path, ask: Callable[[], str]) -> bytes:
    """The 32-byte key in a file of the operator's: hex, or a keystore v3 whose passphrase ask gives. Raises
    WalletLocked, also for a file that others may read."""
    try:
        text = path.read_text().strip()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise WalletLocked(f"{path} cannot be read as a key file.") from error
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise WalletLocked(f"Others may read {path}. Take that away first: chmod 600 {path}")
    if text.startswith("{"):
        return _opened(path, ask())
    try:
        key = bytes.fromhex(text.removeprefix("0x"))
        address_of(key)  # a key off the curve is none
        if len(key) != KEY_BYTES:
            raise ValueError
    except ValueError:
        raise WalletLocked(f"{path} holds neither 64 hex digits of a key nor a keystore.") from None
    return key


def _new_key() -> bytes:
    while True:
        key = secrets.token_bytes(32)
        try:
            address_of(key)
        except ValueError:  # zero, or beyond the curve's order
            continue
        return key


def _kept_passphrase(folder: Path) -> str:
    secret = secrets.token_urlsafe(32)
    write_private(folder / PASSPHRASE, secret.encode())
    return secret


def _known_passphrase(folder: Path, passphrase: str | None) -> str:
    if passphrase is not None:
        return passphrase
    path = folder / PASSPHRASE
    if not path.exists():
        raise WalletLocked("The wallet needs its passphrase, and none was given.")
    return path.read_text().strip()


def _opened(path: Path, passphrase: str) -> bytes:
    try:
        sealed = msgspec.json.decode(path.read_bytes())
        return bytes(decode_keyfile_json(sealed, passphrase.encode()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WalletLocked("The wallet's passphrase is wrong, or its key file is damaged.") from error
