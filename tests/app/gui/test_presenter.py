"""Laws of what the owner reads, without Qt."""

from __future__ import annotations

import msgspec

from app.gui.earnings_presenter import earnings_page, transactions_csv
from app.gui.figures import Now
from app.gui.hero import hero, why_idle
from app.gui.jobs_presenter import details, jobs
from app.gui.presenter import frame, overview
from app.gui.views import HeroAction, Link, LinkPhase, Tone
from core import events as e
from core.device import Reading
from core.job import PriorityClass
from core.job_history import MAX_ENDED_JOBS
from core.node_state import NodeState
from core.state import earnings
from tests.app.gui import fabricated as node

NOW = Now(node.NOON)
CONNECTED = Link(LinkPhase.CONNECTED)


def title(*happened: e.Event) -> str:
    return hero(node.fold(list(happened)), CONNECTED, now=NOW).title


def test_before_the_engine_answers_nothing_is_claimed() -> None:
    page = overview(None, Link(), now=NOW)
    assert page.hero.title == "Starting Starling…"
    assert [tile.value for tile in page.tiles] == ["0.000", "–", "0", "–"]


def test_each_state_has_its_own_title() -> None:
    assert title(*node.found()) == "Let’s set up this computer"
    assert title(*node.measured()) == "Ready to join"
    assert title(*node.joining()) == "Joining the network…"
    assert title(*node.waiting()) == "You’re contributing"
    assert title(*node.waiting(), e.WorkPaused(node.NOON, "", None)) == "Paused"
    assert title(*node.waiting(), *node.live(), e.LeaveRequested(node.NOON)) == "Finishing 7 jobs…"
    assert title(*node.waiting(), e.TroubleFound(node.NOON, "swarm", "No route.")) == "You’re offline"


def test_a_lost_engine_is_told_before_anything_else() -> None:
    state = node.serving()
    assert hero(state, Link(LinkPhase.LOST), now=NOW).title == "Reconnecting…"
    failed = hero(state, Link(LinkPhase.FAILED, "The port is taken."), now=NOW)
    assert (failed.sentence, failed.actions) == ("The port is taken.", (HeroAction.RETRY,))


def test_join_is_offered_exactly_when_out_of_the_network() -> None:
    for happened in (node.found(), node.measured()):
        assert HeroAction.JOIN in hero(node.fold(happened), CONNECTED, now=NOW).actions
    for happened in (node.joining(), node.waiting()):
        assert HeroAction.JOIN not in hero(node.fold(happened), CONNECTED, now=NOW).actions


def test_a_pause_says_when_it_ends() -> None:
    state = node.fold([*node.waiting(), e.WorkPaused(node.NOON, "battery is low", node.NOON + 900)])
    assert hero(state, CONNECTED, now=NOW).sentence == "Battery is low. Resumes at 14:18."


def test_why_idle_names_the_cause() -> None:
    lonely = node.fold([*node.waiting(), e.PeersCounted(node.NOON, 0)])
    assert "No other peer" in why_idle(lonely, NOW)
    assert "no requester has asked yet" in why_idle(node.fold(node.waiting()), NOW)
    asked = node.terms("x", node.QWEN, PriorityClass.BATCH, deadline_s=1, max_tokens=1)
    declined = e.JobDeclined(node.NOON, asked, "too slow")
    assert "the last because: too slow." in why_idle(node.fold([*node.waiting(), declined]), NOW)


def test_a_device_that_does_not_say_gets_a_dash() -> None:
    state = node.fold([*node.waiting(), e.DeviceRead(Reading(node.NOON))])
    device = overview(state, CONNECTED, now=NOW).device
    assert device.load is None
    assert [meter.text for meter in device.meters] == ["–", "–", "–"]


def test_trouble_is_shown_once() -> None:
    chain = e.TroubleFound(node.NOON, "chain", "The chain does not answer. Payments wait; nothing is lost.")
    page = overview(node.fold([*node.waiting(), chain]), CONNECTED, now=NOW)
    assert [notice.text for notice in page.notices] == [chain.sentence]
    swarm = e.TroubleFound(node.NOON, "swarm", "No route.")
    assert overview(node.fold([*node.waiting(), swarm]), CONNECTED, now=NOW).notices == ()


def test_running_jobs_stand_before_waiting_ones_in_their_order() -> None:
    page = jobs(node.serving(), NOW)
    assert [row.pill.text for row in page.running] == ["Generating", "Generating", "Reading prompt"]
    assert [row.tokens for row in page.waiting] == ["Next up", "2nd in line", "3rd in line", "4th in line"]
    assert page.running[0].tokens == "634 / 1,024"
    assert page.running[0].deadline == "11 s left"
    assert page.running[2].deadline_tone is Tone.WARN


def test_details_say_why_a_job_waits_where_it_waits() -> None:
    state = node.serving()
    waiting = details(state, jobs(state, NOW).waiting[0].job_id, now=NOW)
    assert waiting is not None
    assert waiting.why == "Interactive jobs run first; the price breaks ties."
    assert waiting.can_cancel
    assert details(state, "unknown", now=NOW) is None


def test_the_earnings_page_says_what_the_ledger_says() -> None:
    state = node.serving()
    page, sums = earnings_page(state, NOW), earnings(state)
    assert page.withdrawable.value == f"{sums.withdrawable / 1e6:.3f}"
    assert page.sums[2].value.replace(",", "") == f"{sums.total // 1000 / 1000:.3f}"
    assert page.can_withdraw
    assert sum(bar.total for bar in page.bars["30 days"].bars) == state.total.amount
    assert len(page.bars["7 days"].bars) == 7
    assert len(page.bars["12 months"].bars) <= 12


def test_nothing_to_withdraw_says_so() -> None:
    page = earnings_page(node.fold(node.measured()), NOW)
    assert not page.can_withdraw
    assert page.withdraw_reason == "Settled payments gather here"
    assert page.transactions == ()


def test_export_has_a_line_for_every_transaction() -> None:
    lines = transactions_csv(node.serving()).splitlines()
    assert len(lines) == 1 + 4
    assert lines[2].endswith("payout,confirmed,20.000000,USDC,0xd02caa0011221b77")


def test_requests_beyond_what_is_remembered_are_counted_as_more() -> None:
    state = node.serving()
    job = next(iter(state.jobs.values()))
    full = msgspec.structs.replace(state, ended=(job,) * MAX_ENDED_JOBS)
    assert overview(state, CONNECTED, now=NOW).network.stats[1][0].isdigit()
    assert overview(full, CONNECTED, now=NOW).network.stats[1][0] == "500+"


def test_the_sidebar_counts_live_jobs() -> None:
    shown = frame(node.serving(), CONNECTED)
    assert (shown.network, shown.live_jobs, shown.status) == ("Test net", 7, "Contributing")
    assert shown.status_note == "RTX 4090 · 71 °C"
    assert frame(NodeState(), Link(LinkPhase.FAILED)).status == "Not running"
