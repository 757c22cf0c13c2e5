"""The earnings page as values: the five states of money, days, models, transactions, and their export.

Pure: no Qt. Every figure comes from core.state.earnings or the day sums; nothing is estimated or converted.
"""

from __future__ import annotations

from typing import assert_never

from app.gui.figures import (
    DAY_S,
    MONTHS,
    NONE,
    Money,
    Now,
    count,
    day_label,
    duration,
    moment,
    money,
    percent,
    plural,
    short_hex,
)
from app.gui.served import model_title
from app.gui.views import Bar, BarRow, Bars, EarningsPage, PillView, Sum, Tone, TransactionRow
from core.job_history import day_of
from core.node_state import NodeState, Served
from core.payments.ledger import Earnings, Transaction, TransactionKind, TransactionState
from core.state import earnings

RANGES = {"7 days": 7, "30 days": 30, "12 months": 365}
SHOWN_MODELS = 4
OTHERS = "Others"


def earnings_page(state: NodeState, now: Now) -> EarningsPage:
    """Everything on the earnings page."""
    sums, coin = earnings(state), money(state)
    can_withdraw, reason = _withdraw(state, sums, coin=coin)
    models = _models(state)
    return EarningsPage(
        withdrawable=Sum("wallet", "Ready to withdraw", coin.text(sums.withdrawable), coin.symbol, reason),
        sums=_sums(state, sums, coin=coin),
        can_withdraw=can_withdraw,
        withdraw_reason=reason,
        bars={name: _bars(state, days, models=models, now=now) for name, days in RANGES.items()},
        by_model=_by_model(state, models, coin=coin),
        by_model_note=_work_note(state),
        transactions=tuple(_row(entry, state, now=now) for entry in state.ledger.transactions),
        payout=f"Payout {short_hex(state.network.owner)}" if state.network is not None and state.network.owner else "",
    )


def transactions_csv(state: NodeState) -> str:
    """Every remembered transaction, oldest first; times in seconds since the epoch, amounts in whole tokens."""
    coin = money(state)
    lines = ["time,kind,state,amount,token,transaction"]
    lines += [
        f"{entry.at:.0f},{entry.kind.value},{entry.state.value},{coin.exact(entry.amount)},{coin.symbol},"
        f"{entry.transaction}"
        for entry in reversed(state.ledger.transactions)
    ]
    return "\n".join(lines) + "\n"


def _withdraw(state: NodeState, sums: Earnings, *, coin: Money) -> tuple[bool, str]:
    pending = [
        entry
        for entry in state.ledger.transactions
        if entry.kind is TransactionKind.PAYOUT and entry.state is TransactionState.SUBMITTED
    ]
    if pending:
        return False, f"{coin.full(pending[0].amount)} is on its way to you"
    if sums.withdrawable == 0:
        return False, "Settled payments gather here"
    owner = short_hex(state.network.owner) if state.network is not None else "your address"
    return True, f"goes to {owner}"


def _sums(state: NodeState, sums: Earnings, *, coin: Money) -> tuple[Sum, ...]:
    running = f"{coin.text(sums.accruing)} still accruing" if sums.accruing else "signed for, not yet cashed"
    settling = "confirmed by the chain soon" if sums.settling else "nothing on its way"
    paid = f"{coin.text(sums.paid)} withdrawn" if sums.paid else "nothing withdrawn yet"
    return (
        Sum("layers", "Earned", coin.text(sums.earned + sums.accruing), coin.symbol, running),
        Sum("hourglass", "Settling", coin.text(sums.settling), coin.symbol, settling),
        Sum("coins", "In total", coin.text(sums.total), coin.symbol, paid),
    )


def _models(state: NodeState) -> tuple[str, ...]:
    """The models that earned most, the rest together as one."""
    ranked = [model for model, amount in sorted(state.total.by_model.items(), key=lambda e: -e[1]) if amount]
    return (*ranked[:SHOWN_MODELS], OTHERS) if len(ranked) > SHOWN_MODELS else tuple(ranked)


def _bars(state: NodeState, days: int, *, models: tuple[str, ...], now: Now) -> Bars:
    today = day_of(now.at)
    span = range(today - days + 1, today + 1)
    if days > 31:
        bars = _months(state, span, models=models)
    else:
        bars = tuple(_day_bar(state, day, models=models, today=today) for day in span)
    coin = money(state)
    with_work = [bar for bar in bars if bar.total]
    note = ""
    if with_work:
        best = max(with_work, key=lambda bar: bar.total)
        average = sum(bar.total for bar in with_work) // len(with_work)
        note = f"average {coin.text(average)}  ·  best {coin.text(best.total)} on {best.label}"
        note = note.replace("on Today", "today") if days <= 31 else note.replace(" on ", " in ")
    titles = tuple(model_title(state, model) for model in models)
    return Bars(bars, titles, 10**coin.decimals, note)


def _day_bar(state: NodeState, day: int, *, models: tuple[str, ...], today: int) -> Bar:
    label = "Today" if day == today else day_label(day)
    return _bar(state, label, served=state.days.get(day, Served()), models=models)


def _months(state: NodeState, span: range, *, models: tuple[str, ...]) -> tuple[Bar, ...]:
    months: dict[str, list[Served]] = {}
    for day in span:
        months.setdefault(day_label(day).split()[1] + f" {_year(day)}", []).append(state.days.get(day, Served()))
    named = list(months.items())[-len(MONTHS) :]
    return tuple(_bar(state, name.split()[0], served=_together(served), models=models) for name, served in named)


def _year(day: int) -> int:
    return Now(0.0).local(day * DAY_S).year


def _together(parts: list[Served]) -> Served:
    by_model: dict[str, int] = {}
    for part in parts:
        for model, amount in part.by_model.items():
            by_model[model] = by_model.get(model, 0) + amount
    return Served(
        finished=sum(part.finished for part in parts),
        amount=sum(part.amount for part in parts),
        busy_s=sum(part.busy_s for part in parts),
        by_model=by_model,
    )


def _bar(state: NodeState, label: str, *, served: Served, models: tuple[str, ...]) -> Bar:
    named = [served.by_model.get(model, 0) for model in models if model != OTHERS]
    parts = (*named, served.amount - sum(named)) if OTHERS in models else tuple(named)
    busy = f" · busy {duration(served.busy_s)}" if served.busy_s >= 1 else ""
    note = f"{label} · {plural(served.finished, 'job')}{busy}"
    return Bar(label, parts, money(state).full(served.amount), note)


def _by_model(state: NodeState, models: tuple[str, ...], *, coin: Money) -> tuple[BarRow, ...]:
    total = state.total.amount
    rows = []
    for model in models:
        amount = state.total.by_model.get(model, 0)
        if model == OTHERS:
            amount = total - sum(state.total.by_model.get(known, 0) for known in models if known != OTHERS)
        note = f"{percent(amount, total)} of all that was earned"
        rows.append(BarRow(model_title(state, model), amount / max(1, total), coin.text(amount), note))
    return tuple(rows)


def _work_note(state: NodeState) -> str:
    total = state.total
    if not total.finished:
        return "Nothing earned yet"
    return f"{count(total.completion_tokens)} tokens written in {duration(total.busy_s)} of work"


def _row(entry: Transaction, state: NodeState, *, now: Now) -> TransactionRow:
    coin = money(state)
    is_payout = entry.kind is TransactionKind.PAYOUT
    is_failed = entry.state is TransactionState.FAILED
    amount = f"{'−' if is_payout else '+'}{coin.text(entry.amount)}"
    tone = Tone.ACCENT if not is_payout and entry.state is TransactionState.CONFIRMED else Tone.NEUTRAL
    return TransactionRow(
        when=moment(entry.at, now),
        icon="arrow-up-right" if is_payout else "layers",
        what=_what(entry, state),
        pill=_pill(entry.state),
        transaction=entry.transaction,
        short=short_hex(entry.transaction) if entry.transaction else NONE,
        amount=NONE if is_failed else amount,
        amount_tone=tone,
    )


def _what(entry: Transaction, state: NodeState) -> str:
    match entry.kind:
        case TransactionKind.PAYOUT:
            owner = short_hex(state.network.owner) if state.network is not None else "your address"
            what = f"Withdrawal to {owner}"
        case TransactionKind.REDEMPTION:
            what = f"Payment from {plural(len(entry.claims), 'requester')}"
        case _:
            assert_never(entry.kind)
    return f"{what}: {entry.reason}" if entry.state is TransactionState.FAILED and entry.reason else what


def _pill(state: TransactionState) -> PillView:
    match state:
        case TransactionState.SUBMITTED:
            return PillView("Settling", Tone.INFO)
        case TransactionState.CONFIRMED:
            return PillView("Confirmed", Tone.NEUTRAL, "check")
        case TransactionState.FAILED:
            return PillView("Failed", Tone.DANGER)
        case _:
            assert_never(state)
