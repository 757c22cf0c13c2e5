"""Finding 10. Stock: a writer whose reader pauses for 5 s gets an error, and the stream is lost."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from tests.p2p.findings.fast_clock import run_on_a_clock
from tests.p2p.findings.stock import a_stock_host, info_of, stock_running
from tests.p2p.hosts import HOLD, a_host, joined, running

RATE = 20
PAUSE_S = 8.0


def test_stock_a_pause_of_five_seconds_ends_the_stream() -> None:
    async def law(clock: MockClock) -> None:
        one, other = a_stock_host(101), a_stock_host(102)
        async with stock_running(one, other, within_s=120):
            await one.connect(info_of(other))
            stream = await one.new_stream(other.get_id(), [HOLD])
            stream.muxed_stream.send_window = 100_000
            fault = ""
            clock.rate = RATE
            with trio.move_on_after(4 * PAUSE_S):
                try:
                    await stream.write(b"x" * 600_000)
                except Exception as error:  # noqa: BLE001
                    fault = type(error).__name__
            clock.rate = 1
        assert fault == "StreamReset"

    run_on_a_clock(law)


async def test_a_reader_that_pauses_does_not_stop_the_writer() -> None:
    """Whoever waits for our windows is drained into a bounded buffer: pausing is our own frames' work."""
    one, other = a_host(1), a_host(2)
    async with running(one, other):
        peer = await joined(one, other, 2)
        stream = await one.open_stream(peer, HOLD)
        with trio.fail_after(5):
            await stream.write(b"x" * 3_000_000)
        await stream.reset()
