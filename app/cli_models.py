"""`starling models`: what is in the store, and what is done to it, through the running engine, or without one here.

Never runs beside an engine in the same home: the home's lock decides. Ctrl-C stops the work, wherever it runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from typing import Any, assert_never

import msgspec
import trio

from app.cli import reach
from app.cli_progress import ProgressLine, follow_engine, tell_progress
from app.cli_text import table
from app.cli_words import command_of
from app.control_client import ControlClient, ControlLinkLost, EngineNotRunning
from app.lockfile import EngineLock, HomeLocked
from core import commands as c
from core.home import Home
from core.journal import Journal
from core.model_card import ModelCard, ModelVariant
from core.model_shelf import GIGABYTE, Dropped, Held, ShelfRules, drop_order, shelf_rules, total_bytes
from core.model_store import ModelStore
from core.model_trouble import ModelStoreError
from core.model_work import STOPPED, ModelWork, in_use
from core.settings import Settings, SettingsError, load_settings
from core.store import Store, StoreError
from core.trouble import innermost, trouble_of

KNOWN = (HomeLocked, ModelStoreError, SettingsError, StoreError, ControlLinkLost)
LONGEST_WORK_S = 7 * 86_400.0
STOP_S = 30.0


def run_models_word(arguments: argparse.Namespace, home: Home) -> int:
    """One deed; 0 when it was done."""
    try:
        if arguments.deed == "list":
            return _list(home, is_json=arguments.json)
        if arguments.deed == "fetch":
            from app.cli_fetch import run_fetch

            return run_fetch(arguments, home)
        return _do(arguments, home)
    except OSError as error:
        print(f"The system refused it: {error.strerror or type(error).__name__}.", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - the process edge
        if isinstance(innermost(error), KeyboardInterrupt):
            print(STOPPED, file=sys.stderr)
            raise KeyboardInterrupt from None
        print(trouble_of(error, known=KNOWN), file=sys.stderr)
        return 1


def _do(arguments: argparse.Namespace, home: Home) -> int:
    line = ProgressLine()
    try:
        reply = carry_out(command_of(arguments), home, line=line)
    finally:
        line.end()
    match reply:
        case c.Done(text=said) | c.Refused(reason=said):
            print(said, file=sys.stderr)
        case _:
            assert_never(reply)
    is_done = isinstance(reply, c.Done)
    if arguments.json:
        cards = [card for card in _cards(home) if getattr(arguments, "model", "") in ("", card.model)]
        print(json.dumps({"done": is_done, "text": said, "models": [_card_object(card) for card in cards]}))
    return 0 if is_done else 1


def carry_out(command: c.ModelCommand | c.ServeModel, home: Home, *, line: ProgressLine) -> c.Reply:
    """Through the running engine, or here where none runs. Raises KNOWN."""
    try:
        with reach(home) as client:
            return _through_engine(client, command, line=line)
    except EngineNotRunning:
        with EngineLock(home):
            return trio.run(partial(_alone, command, home=home, line=line))


def _through_engine(client: ControlClient, command: c.Command, *, line: ProgressLine) -> c.Reply:
    """Ctrl-C is for the work as much as for this process: the engine would else go on with it."""
    follow_engine(client, line)
    try:
        return client.execute(command, timeout_s=LONGEST_WORK_S)
    except KeyboardInterrupt:
        client.execute(c.StopModelWork(), timeout_s=STOP_S)
        raise


async def _alone(command: c.ModelCommand | c.ServeModel, *, home: Home, line: ProgressLine) -> c.Reply:
    if isinstance(command, c.ServeModel):
        return c.Refused(f"No engine runs in {home.folder}. Start it with `starling --model {command.model}`.")
    store = Store(home.database)
    try:
        journal = Journal(store)
        settings = home_settings(home)
        models = ModelStore(home.models, rules=shelf_rules(settings), endpoint=settings.hub_endpoint)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_progress, journal, line)
            reply = await ModelWork(journal, models).execute(command)
            nursery.cancel_scope.cancel()
        return reply
    finally:
        store.close()


def home_settings(home: Home) -> Settings:
    """The home's settings, or the defaults where it has none. Raises SettingsError."""
    return load_settings(home.settings.read_bytes()) if home.settings.exists() else Settings()


def _list(home: Home, *, is_json: bool) -> int:
    cards, rules, held = _cards(home), shelf_rules(home_settings(home)), held_by_engine(home)
    order = drop_order(cards, rules, held=held)
    unfinished = ModelStore(home.models).unfinished_bytes()
    if is_json:
        print(json.dumps({**_shelf_object(cards, rules, order=order), "unfinished_bytes": unfinished}))
    elif cards:
        print(shelf_text(cards, rules, order=order, held=held))
        if unfinished:
            print(f"{unfinished / GIGABYTE:.2f} GB more are of downloads that `models install` can go on with.")
    else:
        print("No models yet. Add one with `starling models add FILE`; the demo model comes with the first start.")
    return 0


def _cards(home: Home) -> tuple[ModelCard, ...]:
    return ModelStore(home.models).cards()


def held_by_engine(home: Home) -> Held:
    """What a running engine serves."""
    try:
        with reach(home) as client:
            return in_use(client.snapshot())
    except (EngineNotRunning, ControlLinkLost):
        return frozenset()


def shelf_text(cards: tuple[ModelCard, ...], rules: ShelfRules, *, order: tuple[Dropped, ...], held: Held) -> str:
    """The store for people: a row a variant, then the sum against the cap."""
    places = {(drop.model, drop.quantization): str(place + 1) for place, drop in enumerate(order)}
    rows = [("MODEL", "TYPE", "SIZE", "LAST USED", "GOES", "STATE")]
    for card in cards:
        for variant in card.variants:
            is_source = variant.quantization == card.source_quantization
            goes = places.get((card.model, "" if is_source else variant.quantization), "never")
            state = _state(variant, is_source=is_source, is_held=(card.model, variant.quantization) in held)
            size = f"{variant.file_bytes / 1e6:.1f} MB"
            rows.append((card.model, variant.quantization, size, _day(variant.used_at), goes, state))
    total = total_bytes(cards) / GIGABYTE
    cap = "no cap is set" if rules.cap_bytes is None else f"the cap is {rules.cap_bytes / GIGABYTE:g} GB"
    return f"{table(rows)}\n{total:.2f} GB in all; {cap}. GOES: in which order files go when the cap asks for room."


def _shelf_object(cards: tuple[ModelCard, ...], rules: ShelfRules, *, order: tuple[Dropped, ...]) -> dict[str, Any]:
    return {
        "models": [_card_object(card) for card in cards],
        "total_bytes": total_bytes(cards),
        "cap_bytes": rules.cap_bytes,
        "drop_order": [msgspec.to_builtins(drop) for drop in order],
    }


def _card_object(card: ModelCard) -> dict[str, Any]:
    """A card with the files of each variant spelled out."""
    files = {variant.quantization: [msgspec.to_builtins(file) for file in variant.files] for variant in card.variants}
    plain: dict[str, Any] = msgspec.to_builtins(card)
    for variant in plain["variants"]:
        variant["files"] = files[variant["quantization"]]
    return plain


def _state(variant: ModelVariant, *, is_source: bool, is_held: bool) -> str:
    words = ["served"] if is_held else []
    words += ["source"] if is_source else []
    words += [f"{len(variant.shards)} shards"] if variant.shards else []
    words += ["damaged"] if variant.damaged else []
    return ", ".join(words)


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at else "never"
