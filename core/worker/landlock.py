"""Linux's Landlock by system calls: from then on this process opens only the files that it was granted.

Never loosens anything: rules only add up. Source: the kernel's Documentation/userspace-api/landlock.rst (ABI 1 to 7).
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

import msgspec

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # one number on every processor
_ASK_VERSION = 1
_PATH_BENEATH = 1

WRITE_FILE, READ_FILE, READ_DIR = 1 << 1, 1 << 2, 1 << 3
TRUNCATE, IOCTL_DEVICE = 1 << 14, 1 << 15
READ = READ_FILE | READ_DIR
LIST = READ_DIR
WRITE = READ_FILE | WRITE_FILE | TRUNCATE
SCRATCH = WRITE | READ_DIR | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8  # and remove folders and files, and make them
DEVICE = READ | WRITE_FILE | IOCTL_DEVICE
_FOR_FILES = WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEVICE
_NO_TCP = 0b11
_SCOPED = 0b11


class Rule(msgspec.Struct, frozen=True):
    """This path, and all beneath it if it is a folder, may be used for what rights say (a mask, see above)."""

    path: Path
    rights: int


def version() -> int:
    """The kernel's Landlock ABI; 0 without one."""
    found: int = _libc().syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION))
    return max(0, found)


def restrict(rules: Iterable[Rule], *, abi: int) -> None:
    """Enter the ruleset: no program is ever executed, no TCP (ABI 4), no signal or abstract socket goes out (ABI 6).
    Paths that do not exist are passed over. Needs no_new_privs, before any thread. Raises OSError."""
    handled = _handled(abi)
    ruleset = _checked(_create(handled, abi))
    try:
        for rule in rules:
            _allow(ruleset, rule, handled=handled)
        _checked(_libc().syscall(RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)))
    finally:
        os.close(ruleset)


def _handled(abi: int) -> int:
    """Every right over files that this ABI knows."""
    known = {1: 13, 2: 14, 3: 15, 4: 15}
    return (1 << known.get(abi, 16)) - 1


def _create(handled: int, abi: int) -> int:
    """struct landlock_ruleset_attr: files, network, scopes; an older kernel takes only its first fields."""
    fields = [handled]
    if abi >= 4:
        fields.append(_NO_TCP)
    if abi >= 6:
        fields.append(_SCOPED)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    made: int = _libc().syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    return made


def _allow(ruleset: int, rule: Rule, *, handled: int) -> None:
    try:
        opened = os.open(rule.path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    # What procfs shows is made anew when nobody holds it, and a rule is for one inode: these stay open for good.
    is_kept = rule.path.is_relative_to("/proc")
    try:
        is_folder = stat.S_ISDIR(os.fstat(opened).st_mode)
        rights = rule.rights & handled & (-1 if is_folder else _FOR_FILES)
        beneath = struct.pack("=Qi", rights, opened)
        _checked(
            _libc().syscall(ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), beneath, ctypes.c_uint32(0))
        )
    finally:
        if not is_kept:
            os.close(opened)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
