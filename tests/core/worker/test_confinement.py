"""Laws of the sandbox, each tried from inside a process that has entered it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.worker import landlock
from core.worker import messages as w
from core.worker.confinement import confine
from core.worker.grants import Grants, cache_environment, grants_of, make_targets, scratch_environment
from core.worker.seccomp import ARCHITECTURES, Architecture, program

ROOT = Path(__file__).resolve().parents[3]
IS_LINUX = sys.platform == "linux"
HAS_LANDLOCK = IS_LINUX and landlock.version() > 0
X86_64, AARCH64 = ARCHITECTURES["x86_64"], ARCHITECTURES["aarch64"]
ALLOWED, EPERM, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026

INSIDE = """
import ctypes, json, mmap, os, resource, signal, socket, sys, threading, time
from pathlib import Path
from core.worker.confinement import confine
from core.worker.confinement import confine
from core.worker.grants import Grants

home, model, target, parent = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
listener = socket.socket()
began = time.perf_counter()
confined = confine(Grants((model,), (target,)), memory_bytes=1 << 30)
took_s = time.perf_counter() - began
libc = ctypes.CDLL(None, use_errno=True)

def tried(deed):
    try:
        result = deed()
    except BaseException as error:
        return type(error).__name__
    return result if isinstance(result, (int, str, list)) else "done"

def call(number, *arguments):
    ctypes.set_errno(0)
    return libc.syscall(number, *arguments) if not ctypes.get_errno() else ctypes.get_errno()

def errno_of(result):
    return ctypes.get_errno() if result < 0 else 0

def child():
    if os.fork() == 0:
        os._exit(0)

def in_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(tried(lambda: socket.socket())))
    thread.start()
    thread.join()
    return found

kernel_text = Path("/proc/meminfo").read_text
deeds = {
    "socket": lambda: socket.socket(),
    "unix_socket": lambda: socket.socket(socket.AF_UNIX),
    "socketpair": lambda: socket.socketpair(),
    "bind": lambda: listener.bind(("127.0.0.1", 0)),
    "connect": lambda: listener.connect(("127.0.0.1", 9)),
    "socket_in_thread": in_thread,
    "read_wallet": lambda: Path(home, "wallet.json").read_text(),
    "list_home": lambda: os.listdir(home),
    "read_parents_memory": lambda: open(f"/proc/{parent}/mem", "rb"),
    "read_parents_environment": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
    "write_beside_target": lambda: Path(home, "new").write_text("x"),
    "write_model": lambda: open(model, "ab"),
    "write_tmp": lambda: Path("/tmp", f"starling-{os.getpid()}").write_text("x"),
    "remove_target": lambda: os.unlink(target),
    "rename_model": lambda: os.rename(model, model + "2"),
    "fork": child,
    "execute": lambda: os.execv("/bin/true", ["true"]),
    "spawn": lambda: __import__("subprocess").run(["/bin/true"]),
    "ptrace": lambda: errno_of(libc.ptrace(16, parent, None, None)),
    "signal_parent": lambda: os.kill(parent, 0),
    "signal_group": lambda: os.kill(0, 0),
    "limit_parent": lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE),
    "read_model": lambda: Path(model).read_text(),
    "write_target": lambda: Path(target).write_text("made"),
    "read_meminfo": lambda: len(kernel_text()) > 0,
    "read_library": lambda: len(Path(json.__file__).read_bytes()) > 0,
    "open_null": lambda: Path(os.devnull).write_text("x"),
    "thread": lambda: threading.Thread(target=len, args=("",)).start(),
    "signal_self": lambda: os.kill(os.getpid(), 0),
    "own_limits": lambda: resource.getrlimit(resource.RLIMIT_DATA)[0],
    "core_limit": lambda: resource.getrlimit(resource.RLIMIT_CORE)[0],
    "write_scratch": lambda: Path(os.environ["TMPDIR"], "new").write_text("x"),
    "execute_from_scratch": lambda: os.chmod(os.path.join(os.environ["TMPDIR"], "new"), 0o700)
        or os.execv(os.path.join(os.environ["TMPDIR"], "new"), ["new"]),
    "allocate": lambda: len(bytearray(2 << 30)),
}
print(json.dumps({
    "holds": confined.holds, "lacks": confined.lacks, "took_s": took_s,
    "found": {name: tried(deed) for name, deed in deeds.items()},
}))
"""


class Inside:
    """What a confined process said of what it tried."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.holds: list[str] = said["holds"]
        self.lacks: list[str] = said["lacks"]
        self.took_s: float = said["took_s"]
        self.found: dict[str, Any] = said["found"]


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Inside:
    if not IS_LINUX:
        pytest.skip("there is a sandbox on Linux only")
    home, store = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("store")
    (home / "wallet.json").write_text("key")
    (store / "model.gguf").write_text("model")
    make_targets(Grants(write=(str(store / "target.part"),)))
    scratch = tmp_path_factory.mktemp("scratch")
    words = [str(home), str(store / "model.gguf"), str(store / "target.part"), str(os.getpid())]
    done = subprocess.run(
        [sys.executable, "-c", INSIDE, *words],
        cwd=ROOT,
        env=os.environ | scratch_environment(str(scratch)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Inside(json.loads(done.stdout))


@pytest.mark.parametrize("deed", ["socket", "unix_socket", "socketpair", "bind", "connect"])
def test_there_is_no_network_inside(inside: Inside, deed: str) -> None:
    assert inside.found[deed] == "PermissionError"


def test_threads_are_confined_with_the_process(inside: Inside) -> None:
    assert inside.found["socket_in_thread"] == ["PermissionError"]


@pytest.mark.parametrize("deed", ["fork", "execute", "spawn", "execute_from_scratch"])
def test_no_program_is_started_inside(inside: Inside, deed: str) -> None:
    assert inside.found[deed] == "PermissionError"


@pytest.mark.parametrize("deed", ["signal_parent", "signal_group", "limit_parent"])
def test_other_processes_are_out_of_reach(inside: Inside, deed: str) -> None:
    assert inside.found[deed] == "PermissionError"


def test_no_process_can_be_traced_from_inside(inside: Inside) -> None:
    assert inside.found["ptrace"] == 1  # EPERM


@pytest.mark.skipif(not HAS_LANDLOCK, reason="this kernel has no Landlock")
@pytest.mark.parametrize(
    "deed",
    [
        "read_wallet", "list_home", "read_parents_memory", "read_parents_environment", "write_beside_target",
        "write_model", "write_tmp", "remove_target", "rename_model",
    ],
)  # fmt: skip
def test_files_that_were_not_granted_are_out_of_reach(inside: Inside, deed: str) -> None:
    assert inside.found[deed] == "PermissionError"


def test_what_serving_needs_is_there(inside: Inside) -> None:
    found = inside.found
    assert found["read_model"] == "model"
    assert found["write_target"] == 4
    assert found["write_scratch"] == 1
    assert found["read_meminfo"] and found["read_library"] and found["open_null"] == 1
    assert found["thread"] == found["signal_self"] == "done"


def test_memory_and_core_dumps_are_limited(inside: Inside) -> None:
    assert inside.found["own_limits"] == 1 << 30
    assert inside.found["allocate"] == "MemoryError"
    assert inside.found["core_limit"] <= 1  # 1 keeps even a crash reporter behind a pipe from getting one


def test_what_holds_is_told_and_entering_is_quick(inside: Inside) -> None:
    assert {"core dumps", "memory", "privileges"} <= set(inside.holds)
    assert all(": " in reason for reason in inside.lacks)
    assert inside.took_s < 0.2


def test_a_command_grants_its_own_files_only() -> None:
    inspect = w.Inspect("/models/a/big-00001-of-00002.gguf")
    shards = ("/models/a/big-00001-of-00002.gguf", "/models/a/big-00002-of-00002.gguf")
    assert grants_of(inspect) == Grants(shards)
    quantize = w.Quantize("/models/a/f16.gguf", "/models/a/q8.gguf.part", "Q8_0", 1)
    assert grants_of(quantize) == Grants(("/models/a/f16.gguf",), ("/models/a/q8.gguf.part",))
    assert grants_of(w.ListDevices()) == Grants()


def test_weights_that_are_a_folder_are_granted_with_it(tmp_path: Path) -> None:
    assert grants_of(w.Inspect(str(tmp_path))) == Grants((str(tmp_path),))
    assert grants_of(w.Inspect(str(tmp_path / "model.safetensors"))) == Grants((str(tmp_path),))


@pytest.mark.parametrize("processor", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_the_filter_refuses_each_call_of_its_list_and_allows_others(processor: Architecture) -> None:
    steps = program(processor, pid=77)
    for number in processor.refused.values():
        assert answer(steps, processor, number) == EPERM
    for number in {0, 1, 2, 3, 9, 57, 64, 98, 202} - set(processor.refused.values()):
        assert answer(steps, processor, number) == ALLOWED


@pytest.mark.parametrize("processor", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_the_filter_looks_into_some_calls(processor: Architecture) -> None:
    steps = program(processor, pid=77)
    assert answer(steps, processor, processor.clone, 0x3D0F00) == ALLOWED  # pthread_create
    assert answer(steps, processor, processor.clone, 17) == EPERM  # fork
    assert answer(steps, processor, 435) == ENOSYS  # clone3
    for number in (processor.kill, processor.tgkill):
        assert answer(steps, processor, number, 77) == ALLOWED
        assert answer(steps, processor, number, 78) == EPERM
    assert answer(steps, processor, processor.prlimit64, 0) == ALLOWED
    assert answer(steps, processor, processor.prlimit64, 78) == EPERM
    assert answer(steps, processor, processor.ioctl, 0, 0x5412) == EPERM  # TIOCSTI
    assert answer(steps, processor, processor.ioctl, 0, 0xC0104629) == ALLOWED


def test_calls_of_another_architecture_are_refused() -> None:
    assert answer(program(X86_64, pid=77), AARCH64, 0) == EPERM
    assert answer(program(X86_64, pid=77), X86_64, 0x40000000) == EPERM  # x32


@pytest.mark.parametrize(
    ("processor", "header"),
    [
        (X86_64, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        (AARCH64, "/usr/include/asm-generic/unistd.h"),
    ],
    ids=["x86_64", "aarch64"],
)
def test_the_numbers_are_those_of_the_kernels_headers(processor: Architecture, header: str) -> None:
    if not Path(header).exists():
        pytest.skip("the kernel's headers are not installed")
    found = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text()))
    ours = processor.refused | {name: getattr(processor, name) for name in ("clone", "kill", "tgkill", "prlimit64")}
    assert {name: str(number) for name, number in ours.items()} == {name: found.get(name) for name in ours}


def answer(steps: list[bytes], processor: Architecture, number: int, *arguments: int) -> int:
    """What the filter returns: a machine for the few instructions that it uses."""
    words = {0: number, 4: processor.audit_number, 16: 0, 24: 0} | {16 + 8 * i: a for i, a in enumerate(arguments)}
    place, loaded = 0, 0
    while True:
        raw = steps[place]
        code, value = int.from_bytes(raw[:2], "little"), int.from_bytes(raw[4:], "little")
        yes, no = raw[2], raw[3]
        place += 1
        match code:
            case 0x20:
                loaded = words[value]
            case 0x06:
                return value
            case _:
                is_so = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[code]
                place += yes if is_so else no


def said_by(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not HAS_LANDLOCK, reason="this kernel has no Landlock")
@pytest.mark.parametrize("abi", range(1, 8))
def test_each_version_of_landlock_that_the_kernel_speaks_closes_files(abi: int) -> None:
    if abi > landlock.version():
        pytest.skip("this kernel's Landlock is older")
    script = f"""
from pathlib import Path
from core.worker import landlock
from core.worker.confinement import _give_up_privileges
_give_up_privileges()
landlock.restrict([landlock.Rule(Path("/proc/self"), landlock.READ)], abi={abi})
Path("/proc/self/status").read_text()
try:
    Path("/etc/passwd").read_text()
except PermissionError:
    print("closed")
"""
    assert said_by(script) == "closed"


@pytest.mark.skipif(not IS_LINUX, reason="there is a sandbox on Linux only")
def test_a_kernel_without_landlock_leaves_the_rest_and_says_so() -> None:
    script = """
from core.worker import landlock
from core.worker.confinement import confine
from core.worker.confinement import confine
from core.worker.grants import Grants
landlock.version = lambda: 0
print(confine(Grants(), memory_bytes=None).sentence)
"""
    said = said_by(script)
    assert "privileges" in said.partition("Not confined")[0]
    assert "Not confined: files: this kernel has no Landlock, or it is switched off" in said


@pytest.mark.skipif(not IS_LINUX, reason="there is a sandbox on Linux only")
def test_an_owner_can_switch_the_sandbox_off_and_reads_so() -> None:
    script = """
import os
from core.worker.confinement import SANDBOX_VARIABLE, confine
from core.worker.grants import Grants
os.environ[SANDBOX_VARIABLE] = "off"
print(confine(Grants(), memory_bytes=None).sentence, open("/etc/passwd").read(1) != "")
"""
    said = said_by(script)
    assert "system calls: STARLING_WORKER_SANDBOX is off." in said and said.endswith("True")


@pytest.mark.skipif(not HAS_LANDLOCK, reason="this kernel has no Landlock")
def test_an_owner_can_grant_more_to_read(tmp_path: Path) -> None:
    (tmp_path / "driver").write_text("x")
    script = f"""
import os
from pathlib import Path
from core.worker.confinement import confine
from core.worker.grants import Grants
os.environ["STARLING_WORKER_READ"] = "/missing:{tmp_path}"
confine(Grants(), memory_bytes=None)
print(Path("{tmp_path}/driver").read_text())
"""
    assert said_by(script) == "x"


def test_drivers_have_a_cache_that_workers_share_with_nobody(tmp_path: Path) -> None:
    found = cache_environment({"XDG_CACHE_HOME": str(tmp_path), "HOME": "/nowhere"})
    assert set(found) == {"STARLING_WORKER_CACHE", "XDG_CACHE_HOME", "CUDA_CACHE_PATH"}
    assert set(found.values()) == {str(tmp_path / "starling-worker")}
    assert (tmp_path / "starling-worker").stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_text("x")
    assert cache_environment({"XDG_CACHE_HOME": str(tmp_path / "file")}) == {}


def test_a_system_without_a_sandbox_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert confine(Grants(), memory_bytes=1).sentence.endswith("there is no sandbox for darwin yet.")
