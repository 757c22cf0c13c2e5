"""The composition root: builds one engine from a home and a network, hands everyone what they need, and runs it.

The only place where rooms meet. Holds no rule: what cannot work is one sentence, and the process ends.
"""

from __future__ import annotations

import secrets
import signal
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec
import trio

from app.control_server import ControlServer, open_listener
from app.lockfile import EngineLock, control_address
from app.money import Money, open_money
from app.narration import Tell, narrate, ready_line
from app.peer_keeper import PeerKeeper
from app.prior_keeper import PriorKeeper
from app.shared_models import SharedModels
from app.shared_rows import SharedRows
from app.swarm_port import LibP2PSwarm, Shared
from app.trust_keeper import TrustKeeper
from assets import asset_path
from core import commands as c
from core import events as e
from core.engine import Engine
from core.home import Home
from core.journal import Journal
from core.lane_book import Terms
from core.membership import MembershipParts
from core.model_shelf import shelf_rules
from core.model_store import ModelStore
from core.model_work import ModelWork, in_use
from core.network import Network, load_network
from core.payments.redemption import RedemptionPolicy
from core.payments.settlement import Purse, Settlement
from core.payments.voucher import EscrowDomain
from core.preparation import Preparation
from core.private_file import write_private
from core.settings import Settings, dump_settings, load_settings
from core.still_heap import keep_heap
from core.store import Store
from core.trouble import Trouble

GAS_MULTIPLE = 100
QUIT_TIMEOUT_S = 20.0


class Built(msgspec.Struct, frozen=True):
    """An engine, and what works beside it."""

    engine: Engine
    preparation: Preparation
    prior: PriorKeeper


class EngineWords(msgspec.Struct, frozen=True):
    """What the command line adds to a home's settings for one run."""

    home: Home
    network: Path | None = None
    port: int | None = None
    model: str = ""
    join: bool = False


def read_settings(words: EngineWords) -> Settings:
    """The home's settings with this run's words on top; a home without a file gets one. Raises SettingsError."""
    path = words.home.settings
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dump_settings(Settings()))
    settings = load_settings(path.read_bytes())
    return msgspec.structs.replace(
        settings,
        listen_port=settings.listen_port if words.port is None else words.port,
        model=words.model or settings.model,
        join_at_start=settings.join_at_start or words.join,
    )


def read_network(words: EngineWords) -> Network:
    """The network of this home; a file given by hand becomes the home's. Raises NetworkError or Trouble."""
    source = words.network or words.home.network
    try:
        text = source.read_bytes()
    except FileNotFoundError:
        if words.network is not None:
            raise Trouble(f"There is no network file {words.network}. Give the path of one.") from None
        raise Trouble(
            "This computer belongs to no network yet. Give --network FILE, "
            "or start a network of your own with `starling devnet`."
        ) from None
    network = load_network(text, source=str(source))
    if words.network is not None:
        words.home.network.parent.mkdir(parents=True, exist_ok=True)
        words.home.network.write_bytes(text)
    return network


async def run_node(words: EngineWords, tell: Tell) -> None:
    """Run one engine until it is told to quit, telling its owner what happens. Raises Trouble with the one sentence
    when it cannot."""
    home = words.home
    with ExitStack() as stack:
        lock = stack.enter_context(EngineLock(home))
        settings = read_settings(words)
        network = read_network(words)
        store = Store(home.database)
        stack.callback(store.close)
        journal = Journal(store)
        _check_same_network(journal, network, home=home)
        money = await trio.to_thread.run_sync(open_money, home, network)
        await _name_network(journal, money)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(narrate, journal, tell)
            built = await _build(journal, store, home=home, money=money, settings=settings)
            nursery.start_soon(built.prior.run, built.preparation.use_prior)
            tell(ready_line(is_join_wanted=settings.join_at_start or journal.state.is_join_wanted))
            await _serve(built.engine, journal, lock=lock, home=home)
            nursery.cancel_scope.cancel()


async def _build(
    journal: Journal, store: Store, *, home: Home, money: Money, settings: Settings
) -> Built:
    models = ModelStore(
        home.models,
        rules=shelf_rules(settings),
        held=lambda: in_use(journal.state),
        endpoint=settings.hub_endpoint,
    )
    await trio.to_thread.run_sync(models.clean)
    shared = SharedRows(journal, store, settings=settings)
    await trio.to_thread.run_sync(shared.load)
    prior = PriorKeeper(asset_path("metamodel/prior.json"), home.priors, heard=shared.heard)
    preparation = Preparation(journal, models, prior=prior.best, settings=settings, heard=shared.heard)
    if not models.cards():
        demo = str(asset_path("demo_model/starling-demo-f16.gguf"))
        await ModelWork(journal, models).execute(c.AddModel(demo, "starling-demo"))
    party = money.wallet.party
    domain = EscrowDomain(money.network.chain_id, money.network.escrow)
    policy = RedemptionPolicy(gas_multiple=GAS_MULTIPLE, unsecured_cap=settings.unsecured_credit)
    purse = Purse(
        wallet=money.wallet,
        worker=party,
        confirmations=money.network.confirmations,
        gas_cost=max(1, settings.redeem_at // GAS_MULTIPLE),
        policy=policy,
    )
    keeper = PeerKeeper(journal, store, settings=settings, network=money.network)
    given = SharedModels(journal, models, settings=settings)
    with_swarm = Shared(shared, given, keeper, TrustKeeper(store))
    settlement = Settlement(journal, store, chain=money.chain, purse=purse)
    parts = MembershipParts(
        journal=journal,
        preparation=preparation,
        swarm=LibP2PSwarm(home, money.network, settings=settings, shared=with_swarm),
        terms=Terms(worker=party, domain=domain, settings=settings),
        settlement=settlement,
        log=home.logs / "worker.log",
    )
    return Built(Engine(parts, models=models, settings=settings), preparation, prior)


async def _serve(engine: Engine, journal: Journal, *, lock: EngineLock, home: Home) -> None:
    token = secrets.token_urlsafe(32)
    write_private(home.control_token, token.encode())
    listener, address = await open_listener(control_address(home))
    server = ControlServer(journal, engine.execute, token=token)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run, listener)
        nursery.start_soon(partial(_quit_on_signals, engine))
        lock.publish(address)
        keep_heap()
        await engine.run()
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()


async def _quit_on_signals(engine: Engine) -> None:
    """SIGTERM and Ctrl-C stop politely, within a bound; a second one stops at once."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            break
    with trio.move_on_after(QUIT_TIMEOUT_S):
        reply = await engine.execute(c.QuitEngine(now=True))
        if isinstance(reply, c.Refused):
            raise Trouble(reply.reason)
        return
    raise Trouble("Stopping took too long, so running work was cut off.")


def _check_same_network(journal: Journal, network: Network, *, home: Home) -> None:
    known = journal.state.network
    if known is not None and (known.chain_id, known.escrow.lower()) != (network.chain_id, network.escrow.lower()):
        raise Trouble(
            f"{home.folder} belongs to the network {known.network} (chain {known.chain_id}), not to {network.name} "
            f"(chain {network.chain_id}). Use another --home, so that no voucher is lost."
        )


async def _name_network(journal: Journal, money: Money) -> None:
    network, party = money.network, money.wallet.party
    named = e.NetworkNamed(
        at=time.time(),
        network=network.name,
        chain_id=network.chain_id,
        escrow=network.escrow,
        token=network.token,
        symbol=network.symbol,
        decimals=network.decimals,
        owner=party.owner,
        hot=party.hot,
    )
    known = journal.state.network
    if known is None or msgspec.structs.replace(known, at=named.at) != named:
        await journal.record(named)
