"""Model files from strangers, each opened by a real child: whatever they hold, the engine gets one answer in time."""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import gguf
import pytest
import trio

from core.job import ChatMessage, JobId, Sampling
from core.plan import Plan
from core.worker import messages as w
from core.worker.process import Limits, WorkerDied, WorkerProcess, open_worker, run_once
from tests.models import write_tiny_gguf

pytestmark = pytest.mark.e2e
MUTATIONS = 300
SERVED = 40
ANSWER_S = 10.0
LIMITS = Limits(hang_s=ANSWER_S, memory_bytes=2 << 30)
PLAN = Plan(model="tiny", runtime="llama.cpp", quantization="F16", slots=1, slot_context_tokens=64, threads=1)
EXTREMES = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 32, 1 << 40, 1 << 62, 1 << 63, (1 << 64) - 1)


class Sample:
    """A whole model file, and where its sections begin."""

    def __init__(self, path: Path) -> None:
        write_tiny_gguf(path)
        self.bytes = path.read_bytes()
        reader = gguf.GGUFReader(path)
        self.tensors_at = min(int(tensor.field.offset) for tensor in reader.tensors)
        self.weights_at = int(reader.data_offset)
        self.fields = [int(field.offset) for field in reader.fields.values()]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    yield Sample(tmp_path_factory.mktemp("models") / "whole.gguf")


class Reader:
    """One child that opens one path again and again; a new one when it dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.deaths = 0
        self._stack = AsyncExitStack()
        self._worker: WorkerProcess | None = None

    async def open(self, content: bytes, *commands: w.WorkerCommand) -> w.WorkerReport | WorkerDied:
        """The first end that the commands come to with this content."""
        self.path.write_bytes(content)
        if self._worker is None:
            self._worker = await self._stack.enter_async_context(open_worker(limits=LIMITS))
        for command in commands:
            await self._worker.send(command)
        with trio.fail_after(2 * ANSWER_S):
            return await self._answer(self._worker)

    async def _answer(self, worker: WorkerProcess) -> w.WorkerReport | WorkerDied:
        while True:
            report = await worker.next_report()
            if isinstance(report, WorkerDied):
                self.deaths += 1
                await self.close()
                return report
            if isinstance(report, w.Inspected | w.Completed | w.JobFault | w.Fault):
                return report

    async def close(self) -> None:
        await self._stack.aclose()
        self._worker = None


def mutated(sample: Sample, chance: random.Random) -> bytes:
    """Some bytes of the header turned, a number made extreme, a piece cut out or doubled, or all of these."""
    content = bytearray(sample.bytes)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(sample.weights_at)
        match chance.randrange(5):
            case 0:
                content[place] ^= 1 << chance.randrange(8)
            case 1:
                content[place] = chance.randrange(256)
            case 2:
                struct.pack_into("<Q", content, min(place, sample.weights_at - 8), chance.choice(EXTREMES))
            case 3:
                near = chance.choice(sample.fields) + chance.randrange(24)
                struct.pack_into("<I", content, near, chance.choice(EXTREMES) & 0xFFFFFFFF)
            case _:
                piece = bytes(content[place : place + chance.randrange(1, 64)])
                content[place:place] = piece
    return bytes(content)


async def test_changed_headers_are_refused_or_opened_and_nothing_else(tmp_path: Path, sample: Sample) -> None:
    chance = random.Random(3)
    reader = Reader(tmp_path / "strange.gguf")
    found: Counter[str] = Counter()
    opened: list[bytes] = []
    for _ in range(MUTATIONS):
        content = mutated(sample, chance)
        report = await reader.open(content, w.Inspect(str(reader.path)))
        found[type(report).__name__] += 1
        if isinstance(report, w.Fault):
            assert report.message.isprintable() and 10 < len(report.message) < 2_000
        if isinstance(report, w.Inspected):
            opened.append(content)
    await reader.close()
    assert set(found) <= {"Inspected", "Fault", "WorkerDied"}
    assert found["Fault"] > MUTATIONS / 3
    assert reader.deaths <= MUTATIONS / 20
    await _serve(opened[:SERVED], tmp_path / "served.gguf")


async def _serve(opened: list[bytes], path: Path) -> None:
    """What can be opened may still be poison to serve: each ends in one answer or one death."""
    reader = Reader(path)
    for number, content in enumerate(opened):
        job = w.Generate(JobId(f"j{number}"), (ChatMessage("user", "hello"),), Sampling(max_tokens=3))
        report = await reader.open(content, w.Load(PLAN, str(path)), job)
        assert isinstance(report, w.Completed | w.JobFault | w.Fault | WorkerDied)
        await reader.close()


async def test_a_file_cut_off_anywhere_is_a_bad_file(tmp_path: Path, sample: Sample) -> None:
    reader = Reader(tmp_path / "short.gguf")
    middle = (sample.weights_at + len(sample.bytes)) // 2
    cuts = [0, 1, 4, 6, 8, 12, 16, 20, 24, *sample.fields, sample.tensors_at, sample.tensors_at + 9]
    cuts += [sample.weights_at - 1, sample.weights_at, middle, len(sample.bytes) - 1]
    for cut in cuts:
        report = await reader.open(sample.bytes[:cut], w.Inspect(str(reader.path)))
        assert isinstance(report, w.Fault) and report.kind is w.FaultKind.BAD_FILE, cut
    await reader.close()
    assert reader.deaths == 0


async def test_a_header_that_claims_the_moon_takes_no_memory_for_it(tmp_path: Path, sample: Sample) -> None:
    reader = Reader(tmp_path / "moon.gguf")
    for count in (1 << 31, 1 << 40, 1 << 62):
        for place in (8, 16):  # how many tensors, how many fields
            content = bytearray(sample.bytes)
            struct.pack_into("<Q", content, place, count)
            report = await reader.open(bytes(content), w.Inspect(str(reader.path)))
            assert isinstance(report, w.Fault) and report.kind is w.FaultKind.BAD_FILE
    await reader.close()
    assert reader.deaths == 0


@pytest.mark.parametrize("content", [b"", b"GGUF", b"\x7fELF" + bytes(4_096), bytes(1 << 20), b"GGUF" * 100_000])
async def test_what_is_no_model_is_a_bad_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.gguf"
    path.write_bytes(content)
    report = await run_once(w.Inspect(str(path)), deadline_s=30)
    assert isinstance(report, w.Fault) and report.kind is w.FaultKind.BAD_FILE


async def test_a_path_that_is_no_file_is_a_bad_file(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.gguf", tmp_path):
        report = await run_once(w.Inspect(str(path)), deadline_s=30)
        assert isinstance(report, w.Fault) and report.kind is w.FaultKind.BAD_FILE
