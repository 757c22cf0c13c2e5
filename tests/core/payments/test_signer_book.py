"""Laws of the signer's book: nothing falls, nothing is forgotten, whichever process asks and whenever it is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from core.payments.signer_book import LowerCumulative, SignerBook, SignerBookUnusable
from core.payments.voucher import EscrowDomain

DOMAIN = EscrowDomain(31_337, "0x" + "aB" * 20)
WORKER = "0x" + "33" * 32
ROOT = Path(__file__).resolve().parents[3]
HUGE = (1 << 96) - 1
RISES = """
import sys
from pathlib import Path
from core.payments.signer_book import LowerCumulative, SignerBook
from core.payments.voucher import EscrowDomain
book = SignerBook(Path(sys.argv[1]))
domain = EscrowDomain(31_337, "0x" + "ab" * 20)
worker = "0x" + "33" * 32
for _ in range(int(sys.argv[2])):
    while True:
        wanted = book.cumulative(domain, worker) + 1
        try:
            book.raise_to(domain, worker, cumulative=wanted)
        except LowerCumulative:
            continue
        print(wanted, flush=True)
        break
"""


def rising(path: Path, times: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RISES, str(path), str(times)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


def test_a_cumulative_never_falls_and_is_there_after_a_restart(tmp_path: Path) -> None:
    book = SignerBook(tmp_path / "b.db")
    assert book.cumulative(DOMAIN, WORKER) == 0
    book.raise_to(DOMAIN, WORKER, cumulative=HUGE - 1)
    book.raise_to(DOMAIN, WORKER, cumulative=HUGE - 1)
    with pytest.raises(LowerCumulative):
        book.raise_to(DOMAIN, WORKER, cumulative=9)
    book.close()
    again = SignerBook(tmp_path / "b.db")
    assert again.cumulative(EscrowDomain(31_337, DOMAIN.contract.lower()), WORKER) == HUGE - 1
    assert again.cumulative(EscrowDomain(1, DOMAIN.contract), WORKER) == 0


def test_two_processes_never_go_below_each_other(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    processes = [rising(path, 60) for _ in range(2)]
    said = [[int(line) for line in process.communicate(timeout=60)[0].split()] for process in processes]
    assert all(numbers == sorted(set(numbers)) for numbers in said)
    assert all(len(numbers) == 60 for numbers in said)
    assert SignerBook(path).cumulative(DOMAIN, WORKER) == max(map(max, said))


def test_what_was_said_before_a_kill_is_known_after_it(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    process = rising(path, 100_000)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    process.kill()
    rest = process.communicate(timeout=30)[0].split("\n")[:-1]
    assert SignerBook(path).cumulative(DOMAIN, WORKER) >= max([20, *map(int, rest)])


def test_an_older_wallets_journal_is_taken_in_once(tmp_path: Path) -> None:
    journal = tmp_path / "signed.jsonl"
    line = '{"domain":{"chain_id":31337,"contract":"0x%s"},"worker":"%s","cumulative":%d}\n'
    lines = [line % ("ab" * 20, WORKER, cumulative) for cumulative in (5, 12, 7)]
    journal.write_text("".join(lines) + '{"domain":{"chain')
    book = SignerBook(tmp_path / "b.db", journal=journal)
    assert book.cumulative(DOMAIN, WORKER) == 12
    assert not journal.exists()
    journal.write_text(lines[0])
    assert SignerBook(tmp_path / "b.db", journal=journal).cumulative(DOMAIN, WORKER) == 12


def test_a_damaged_book_or_journal_signs_nothing_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "b.db").write_bytes(b"no database at all, but long enough to be looked at" * 40)
    with pytest.raises(SignerBookUnusable, match="nothing is signed"):
        SignerBook(tmp_path / "b.db")
    (tmp_path / "signed.jsonl").write_text("{}\n")
    with pytest.raises(SignerBookUnusable, match="damaged"):
        SignerBook(tmp_path / "c.db", journal=tmp_path / "signed.jsonl")
    assert (tmp_path / "signed.jsonl").exists()
