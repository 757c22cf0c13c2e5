"""Linux's seccomp by prctl: system calls that serving a model never needs are refused for good, with "not permitted".

A deny list: sockets, programs, other processes, mounts, keys, and the interfaces that kernel exploits like. Never stops
a call by killing: libraries try things and go on without them. Source: the kernel's userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

import msgspec

_PR_SET_SECCOMP = 22
_MODE_FILTER = 2
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_X32 = 0x40000000
_CLONE_THREAD = 0x10000
_TIOCSTI = 0x5412
# Where struct seccomp_data keeps them; of an argument the lower half, on a little-endian machine.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24
# BPF: load a word, jump if equal, if greater or equal, if bits are set, return.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06

# One number on every processor.
_NEWER = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_open": 434, "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443,
    "process_mrelease": 448,
}  # fmt: skip
_X86_64 = {
    "socket": 41, "connect": 42, "accept": 43, "bind": 49, "listen": 50, "socketpair": 53, "fork": 57, "vfork": 58,
    "execve": 59, "ptrace": 101, "syslog": 103, "rt_sigqueueinfo": 129, "personality": 135, "pivot_root": 155,
    "adjtimex": 159, "chroot": 161, "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167,
    "swapoff": 168, "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173,
    "init_module": 175, "delete_module": 176, "quotactl": 179, "tkill": 200, "clock_settime": 227, "kexec_load": 246,
    "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272, "accept4": 288, "rt_tgsigqueueinfo": 297,
    "perf_event_open": 298, "fanotify_init": 300, "name_to_handle_at": 303, "open_by_handle_at": 304,
    "clock_adjtime": 305, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
    "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "execveat": 322, "userfaultfd": 323,
}  # fmt: skip
_AARCH64 = {
    "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51, "quotactl": 60, "acct": 89, "personality": 92,
    "unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106, "clock_settime": 112, "syslog": 116,
    "ptrace": 117, "tkill": 130, "rt_sigqueueinfo": 138, "reboot": 142, "sethostname": 161, "setdomainname": 162,
    "settimeofday": 170, "adjtimex": 171, "socket": 198, "socketpair": 199, "bind": 200, "listen": 201, "accept": 202,
    "connect": 203, "add_key": 217, "request_key": 218, "keyctl": 219, "execve": 221, "swapon": 224, "swapoff": 225,
    "rt_tgsigqueueinfo": 240, "perf_event_open": 241, "accept4": 242, "fanotify_init": 262, "name_to_handle_at": 264,
    "open_by_handle_at": 265, "clock_adjtime": 266, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271,
    "kcmp": 272, "finit_module": 273, "bpf": 280, "execveat": 281, "userfaultfd": 282, "kexec_file_load": 294,
}  # fmt: skip
_CLONE3 = 435


class Architecture(msgspec.Struct, frozen=True):
    """What a filter must know of a processor: its AUDIT_ARCH, what is refused, and the calls that are looked into."""

    audit_number: int
    refused: dict[str, int]
    clone: int
    kill: int
    tgkill: int
    prlimit64: int
    ioctl: int


ARCHITECTURES = {
    "x86_64": Architecture(0xC000003E, _X86_64 | _NEWER, clone=56, kill=62, tgkill=234, prlimit64=302, ioctl=16),
    "aarch64": Architecture(0xC00000B7, _AARCH64 | _NEWER, clone=220, kill=129, tgkill=131, prlimit64=261, ioctl=29),
}


def refuse_calls() -> None:
    """Enter the filter; threads that start later inherit it. Needs no_new_privs, before any thread. Raises OSError."""
    processor = ARCHITECTURES.get(platform.machine())
    if processor is None:
        raise OSError(errno.ENOSYS, f"there is no filter for {platform.machine()}")
    steps = program(processor, pid=os.getpid())
    code = ctypes.create_string_buffer(b"".join(steps))
    filter_program = struct.pack("@HP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, filter_program, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def program(processor: Architecture, *, pid: int) -> list[bytes]:
    """The filter in BPF for the process of this id. Each question is followed by its answer: no jump is long."""
    steps = [_step(_LOAD, _ARCHITECTURE), _step(_EQUAL, processor.audit_number, yes=1), _refusal(errno.EPERM)]
    steps += [_step(_LOAD, _NUMBER), _step(_AT_LEAST, _X32, no=1), _refusal(errno.EPERM)]
    for number in sorted(processor.refused.values()):
        steps += [_step(_EQUAL, number, no=1), _refusal(errno.EPERM)]
    # glibc falls back from clone3, whose flags cannot be seen from here, to clone.
    steps += [_step(_EQUAL, _CLONE3, no=1), _refusal(errno.ENOSYS)]
    steps += _looked_into(processor.clone, _step(_ANY_BIT, _CLONE_THREAD, no=1))
    for number in (processor.kill, processor.tgkill):
        steps += _looked_into(number, _step(_EQUAL, pid, no=1))
    steps += _looked_into(processor.prlimit64, _step(_EQUAL, 0, no=1))
    steps += [_step(_EQUAL, processor.ioctl, no=4), _step(_LOAD, _SECOND_ARGUMENT)]
    steps += [_step(_EQUAL, _TIOCSTI, no=1), _refusal(errno.EPERM), _step(_RETURN, _ALLOW)]
    return [*steps, _step(_RETURN, _ALLOW)]


def _looked_into(number: int, question: bytes) -> list[bytes]:
    """For one system call: allowed if its first argument passes the question, else refused."""
    inner = [_step(_LOAD, _FIRST_ARGUMENT), question, _step(_RETURN, _ALLOW), _refusal(errno.EPERM)]
    return [_step(_EQUAL, number, no=len(inner)), *inner]


def _refusal(number: int) -> bytes:
    return _step(_RETURN, _ERRNO | number)


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """struct sock_filter: yes and no are how many steps to pass over."""
    return struct.pack("=HBBI", code, yes, no, value)
