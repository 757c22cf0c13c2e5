"""The child's end of its two pipes: commands in by a reader thread and a bounded queue, reports out by plain writes.

Takes stdout away from everyone else first: native libraries print there. The end of stdin ends the process at once.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections import deque

from core.framing import FrameDecoder, FramingError, encode_frame
from core.job import JobId
from core.worker.messages import MAX_FRAME_BYTES, FaultKind, JobFault, WorkerCommand, WorkerReport

# Full: the reader stops reading, the pipe fills, and the engine's send waits until its deadline.
MAX_QUEUED = 256
READ_BYTES = 1 << 16
EXIT_BAD_FRAME = 3


class Wire:
    """Owns the two file descriptors."""

    def __init__(self, *, read_fd: int, write_fd: int) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._commands: queue.Queue[WorkerCommand] = queue.Queue(MAX_QUEUED)
        self._decoder: FrameDecoder[WorkerCommand] = FrameDecoder(WorkerCommand, max_frame_bytes=MAX_FRAME_BYTES)
        self._early: deque[WorkerCommand] = deque()

    def first(self) -> WorkerCommand:
        """Wait for the first command; it stays the next to be received. Call before start: no thread runs yet."""
        while not self._early:
            self._early.extend(self._read_some())
        return self._early[0]

    def start(self) -> None:
        """Begin to read commands."""
        threading.Thread(target=self._read, name="commands", daemon=True).start()

    def receive(self, *, timeout_s: float | None) -> WorkerCommand | None:
        """The next command; None when there is none within the timeout (None: wait for one, 0: only look)."""
        try:
            return self._commands.get(block=timeout_s != 0, timeout=timeout_s or None)
        except queue.Empty:
            return None

    def send(self, *reports: WorkerReport) -> None:
        """Write reports in order, in one go; blocks while the engine does not read."""
        left = memoryview(b"".join(_framed(report) for report in reports))
        while left:
            left = left[os.write(self._write_fd, left) :]

    def _read(self) -> None:
        while self._early:
            self._commands.put(self._early.popleft())
        while True:
            for command in self._read_some():
                self._commands.put(command)

    def _read_some(self) -> list[WorkerCommand]:
        """The commands that one read completes. Ends the process when the engine is gone or done with us (whatever
        native call is under way has nobody to answer to), and when it sends what is no command."""
        received = os.read(self._read_fd, READ_BYTES)
        if not received:
            os._exit(0)
        try:
            return self._decoder.feed(received)
        except FramingError:
            os._exit(EXIT_BAD_FRAME)


def _framed(report: WorkerReport) -> bytes:
    """An answer that is larger than a frame may be would be taken for nonsense, and cost all jobs their worker."""
    frame = encode_frame(report)
    job_id: JobId | None = getattr(report, "job_id", None)
    if len(frame) <= MAX_FRAME_BYTES or job_id is None:
        return frame
    sentence = f"The answer has {len(frame)} bytes; a worker gives at most {MAX_FRAME_BYTES}. Ask for less at once."
    return encode_frame(JobFault(job_id, FaultKind.BAD_REQUEST, sentence))


def open_wire() -> Wire:
    """Keep the pipes for frames, and send whatever else prints to stdout to stderr instead."""
    sys.stdout.flush()
    wire = Wire(read_fd=os.dup(0), write_fd=os.dup(1))
    os.dup2(2, 1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return wire
