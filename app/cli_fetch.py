"""`starling models fetch`: a model from peers, by its name or hash: found, agreed to, fetched, taken into the store.

A swarm peer of its own, beside any engine of the same home. Never takes a file in whose hash is not the one asked for,
and fetches nothing before its licence and size were shown and agreed to.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import trio

from app.cli_models import carry_out, held_by_engine, home_settings
from app.cli_progress import ProgressLine
from app.lockfile import HomeLocked, try_lock
from app.node import EngineWords, read_network
from app.own_swarm import own_swarm
from core import commands as c
from core.home import Home
from core.model_card import ModelCard
from core.model_download.downloads import DOWNLOADS
from core.model_files import delete
from core.model_folder import slug
from core.model_giving import is_free
from core.model_shards import shard_name
from core.model_shelf import shelf_rules
from core.model_store import ModelStore
from core.model_trouble import ModelStoreError
from core.network import NetworkError
from core.piece_file import PieceFile
from core.settings import SettingsError
from core.trouble import Trouble, innermost, trouble_of
from p2p.model_fetch import Fetched, FileFetch, NoSources
from p2p.model_messages import ModelHere, OneFile
from p2p.model_search import FoundSource, ModelSearch
from p2p.offer_exchange import OfferExchange
from p2p.swarm import Swarm

KNOWN = (NetworkError, ModelStoreError, SettingsError, HomeLocked, NoSources, OSError)
INTERRUPTED = 130
NAME_S = 5.0
LOOK_S = 10.0
LOOKS = 2
SHA256 = re.compile(r"[0-9a-f]{64}")


class Outcome(msgspec.Struct, frozen=True):
    """What came: the first file, what its sources said of it, and who sent how many pieces."""

    path: Path
    sha256: str
    here: ModelHere
    pieces_of: dict[str, int]
    wrong: tuple[str, ...] = ()


def run_fetch(arguments: argparse.Namespace, home: Home) -> int:
    """0 when the model is in the store, 130 when it was stopped, else 1 with one sentence."""
    line = ProgressLine()
    try:
        outcome = trio.run(partial(_fetch, arguments, home, line=line))
        line.end()
        return _take_in(outcome, arguments, home=home) if outcome is not None else 0
    except (KeyboardInterrupt, Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - the process edge
        line.end()
        if isinstance(innermost(error), KeyboardInterrupt):
            print("Stopped. What was fetched is kept; the same words go on from there.", file=sys.stderr)
            return INTERRUPTED
        print(trouble_of(error, known=KNOWN), file=sys.stderr)
        return 1


async def _fetch(arguments: argparse.Namespace, home: Home, *, line: ProgressLine) -> Outcome | None:
    """None: it was there already, or it was not agreed to. Raises Trouble and KNOWN, in groups too."""
    network = read_network(EngineWords(home=home, network=arguments.network))
    async with own_swarm(network) as (swarm, offers):
        sha256 = await _resolve(arguments.model, offers)
        if (known := _known(home, sha256)) is not None:
            print(f"{known.title} is in the store already, as {known.model}.", file=sys.stderr)
            return None
        search = ModelSearch(swarm, sha256)
        sources = await _look(search)
        here = _agreed_on(sources)
        size = sum(file.file_bytes for file in here.files)
        if not (arguments.yes or await _consents(here, sources=len(sources), size=size)):
            print("Nothing was fetched.", file=sys.stderr)
            return None
        rules = shelf_rules(home_settings(home))
        held = held_by_engine(home)
        ModelStore(home.models, rules=rules, held=lambda: held).require_room(size)
        return await _fetch_files(swarm, search, here=here, home=home, line=line)


async def _resolve(wanted: str, offers: OfferExchange) -> str:
    """The hash that a name stands for, by what peers offer now. Raises Trouble."""
    if SHA256.fullmatch(wanted.lower()):
        return wanted.lower()
    found = await offers.find(wanted, deadline_s=NAME_S)
    hashes = Counter(signed.offer.source_sha256 for signed in found)
    if not hashes:
        raise Trouble(f"No peer offers a model called {wanted} now. Give its sha256 to look for the file itself.")
    if len(hashes) > 1:
        listed = "; ".join(f"{sha256} ({count} peers)" for sha256, count in hashes.most_common(5))
        raise Trouble(f"Peers call different files {wanted}. Fetch one by its sha256: {listed}.")
    return next(iter(hashes))


def _known(home: Home, sha256: str) -> ModelCard | None:
    cards = ModelStore(home.models).cards()
    return next((card for card in cards if any(v.sha256 == sha256 and not v.damaged for v in card.variants)), None)


async def _look(search: ModelSearch) -> tuple[FoundSource, ...]:
    for _ in range(LOOKS):
        if found := await search.look(deadline_s=LOOK_S):
            return found
        await trio.sleep(1.0)
    raise Trouble("No peer gives this model away now. Peers that serve it may not share its file; try again later.")


def _agreed_on(sources: tuple[FoundSource, ...]) -> ModelHere:
    """What most sources say; the files themselves are proven by the hash."""
    return Counter(source.model for source in sources).most_common(1)[0][0]


async def _consents(here: ModelHere, *, sources: int, size: int) -> bool:
    """Whether the owner, who was shown what it is, wants it. Raises Trouble when nobody can be asked."""
    print(consent_text(here, sources=sources, size=size), file=sys.stderr)
    if not sys.stdin.isatty():
        raise Trouble("Nobody is here to agree. Add --yes to fetch it without being asked.")
    print("Fetch it? [y/N] ", end="", file=sys.stderr, flush=True)
    said = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    return said.strip().lower() in ("y", "yes")


def consent_text(here: ModelHere, *, sources: int, size: int) -> str:
    """What is shown before anything is fetched. What peers say is shown as such: letters of theirs, no more."""
    what = " ".join(filter(None, (_plain(here.title) or "A model without a title", _plain(here.quantization))))
    peers = "1 peer" if sources == 1 else f"{sources} peers"
    license_name = _plain(here.license)
    if not license_name:
        terms = "They name no licence, so you may not be allowed to use it."
    elif is_free(license_name):
        terms = f"Licence, as they say: {license_name}."
    else:
        terms = f"Licence, as they say: {license_name}. It may bind you to terms; read them first."
    return f"{what}, {size / 1e6:,.1f} MB from {peers}. {terms}"


async def _fetch_files(
    swarm: Swarm, search: ModelSearch, *, here: ModelHere, home: Home, line: ProgressLine
) -> Outcome:
    """Every file of the model, one after another, into a folder that waits for the next time if this is cut short."""
    folder = home.models / DOWNLOADS / f"peers-{search.sha256[:24]}"
    folder.mkdir(parents=True, exist_ok=True)
    total, before = sum(file.file_bytes for file in here.files), 0
    name = slug(here.model) or f"model-{search.sha256[:8]}"
    paths = [folder / shard_name(name, index, count=len(here.files)) for index in range(len(here.files))]
    pieces: Counter[str] = Counter()
    wrong: set[str] = set()

    def tell(done_bytes: int) -> None:
        line.tell((before + done_bytes) / total, f"Fetching {name}")

    with (folder / "lock").open("a+", encoding="utf-8") as lock:
        if not try_lock(lock):
            raise HomeLocked("This model is being fetched already, by another `starling models fetch`.")
        for path, file in zip(paths, here.files, strict=True):
            fetched = await _fetch_one(swarm, search, file=file, path=path, tell=tell)
            pieces.update(fetched.pieces_of)
            wrong |= fetched.wrong
            before += file.file_bytes
    return Outcome(paths[0], search.sha256, here, dict(pieces), tuple(sorted(wrong)))


async def _fetch_one(
    swarm: Swarm, search: ModelSearch, *, file: OneFile, path: Path, tell: Callable[[int], None]
) -> Fetched:
    sink = PieceFile(path, file.sha256)
    if sink.is_finished():
        return Fetched(file.file_bytes, file.file_bytes, {}, frozenset())
    try:
        fetch = FileFetch(swarm, file, sink=sink, on_progress=lambda now: tell(now.done_bytes))
        return await fetch.run(partial(search.look, deadline_s=LOOK_S))
    finally:
        sink.close()


def _take_in(outcome: Outcome, arguments: argparse.Namespace, *, home: Home) -> int:
    """Into the store, through the running engine or without one."""
    line = ProgressLine()
    try:
        reply = carry_out(c.AddModel(str(outcome.path), arguments.name), home, line=line)
    finally:
        line.end()
    is_done = isinstance(reply, c.Done)
    said = reply.text if isinstance(reply, c.Done) else reply.reason
    card = _known(home, outcome.sha256)
    if is_done and card is not None:
        delete(outcome.path.parent)
        if card.license.lower() != outcome.here.license.lower():
            said += f" Its own header names the licence {card.license or 'not at all'}, unlike the peers."
    print(said, file=sys.stderr)
    if arguments.json:
        print(json.dumps(_object(outcome, said, card=card)))
    return 0 if is_done else 1


def _object(outcome: Outcome, said: str, *, card: ModelCard | None) -> dict[str, object]:
    return {
        "done": card is not None,
        "text": said,
        "model": card.model if card is not None else "",
        "sha256": outcome.sha256,
        "bytes": sum(file.file_bytes for file in outcome.here.files),
        "license": card.license if card is not None else outcome.here.license,
        "pieces_by_peer": outcome.pieces_of,
        "wrong_peers": outcome.wrong,
    }


def _plain(text: str) -> str:
    """A stranger's text without control characters, which could rewrite a terminal."""
    return "".join(letter for letter in text if letter.isprintable()).strip()
