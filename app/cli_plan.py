"""`starling plan`: which plan serves a model best on this computer or a described one, why, and what would change it.

Plans in this process, from what the engine or the home knows; only keeping a plan is a command. Never loads a model.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import time
from pathlib import Path

import msgspec
import trio

from app.cli import reach, send
from app.cli_models import home_settings
from app.cli_plan_table import Telling
from app.cli_plan_text import outlook_object, outlook_text, reason_words, warning_words, whole_words
from app.cli_words import SIZES
from app.control_client import ControlLinkLost, EngineNotRunning
from app.lockfile import EngineLock, HomeLocked
from app.prior_keeper import PriorKeeper
from assets import asset_path
from core import commands as c
from core.demand import job_mix
from core.home import Home
from core.job import QualityClass
from core.journal import Journal
from core.metamodel.described import Described, DescriptionError, described
from core.metamodel.evidence import Experience
from core.metamodel.fit import Fit
from core.metamodel.goal import goal_of
from core.metamodel.meta_model import MetaModel
from core.metamodel.outlook import Outlook, Question, outlook
from core.metamodel.shapes import shape_card
from core.model_card import ModelCard
from core.model_store import ModelStore
from core.model_trouble import ModelStoreError
from core.node_state import NodeState
from core.plan import NoPlan
from core.preparation import CannotServe, Preparation
from core.probe import find_machine
from core.settings import SettingsError
from core.store import Store, StoreError
from core.trials import freed
from core.trouble import Trouble, trouble_of

PRIOR = "metamodel/prior.json"
EXAMPLES = "metamodel/devices"
UNKNOWN_COLUMNS, FEWEST_COLUMNS, MOST_COLUMNS = 100, 60, 120
KNOWN = (
    HomeLocked, ModelStoreError, SettingsError, StoreError, ControlLinkLost, CannotServe, OSError,
)  # fmt: skip


def run_plan_word(arguments: argparse.Namespace, home: Home) -> int:
    """One look, or one plan kept or let go; 0 when it was done."""
    if arguments.model and arguments.shape:
        print("Give a model or --shape, not both.", file=sys.stderr)
        return 2
    try:
        _check_keeping(arguments)
        if arguments.unpin:
            return _command(c.UnpinPlan(_card(arguments, home).model), home)
        return _look(arguments, home)
    except BrokenPipeError:
        raise
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - the process edge
        print(trouble_of(error, known=KNOWN), file=sys.stderr)
        return 1


def _check_keeping(arguments: argparse.Namespace) -> None:
    """Only a model of this home can have a plan that is kept. Raises Trouble."""
    if not (arguments.pin or arguments.unpin):
        return
    what = "size" if arguments.shape else "card" if arguments.model.endswith(".json") else ""
    if what:
        add = "add a model with `starling models add FILE`, then keep its plan."
        raise Trouble(f"A {what} is not a model: {add}")
    if arguments.device:
        raise Trouble("A described computer serves nothing. Leave --device out to keep a plan on this one.")


def _asked(arguments: argparse.Namespace, card: ModelCard) -> str:
    """The command that asks the same again."""
    meant = ["--shape", arguments.shape] if arguments.shape else [arguments.model or card.model]
    words = ["starling", "plan", *meant]
    words += ["--device", arguments.device] if arguments.device else []
    words += ["--quality", arguments.quality] if arguments.quality else []
    return shlex.join(words)


def _look(arguments: argparse.Namespace, home: Home) -> int:
    if arguments.picture:
        from app.cli_plan_picture import check_place

        check_place(arguments.picture)
    card = _card(arguments, home)
    state = _state(home)
    shown = _described(arguments.device) if arguments.device else None
    prior = PriorKeeper(asset_path(PRIOR), home.priors, heard=tuple).best
    model = MetaModel.open(prior, fit=Fit(state.memory))
    if shown is not None:
        model.nominal = shown.nominal
    question = _question(arguments, home, card=card, state=state, shown=shown)
    model.experience = Experience(state.speeds, question.machine.runtime)
    look = outlook(model, question)
    if arguments.pin:
        return _pin(look, arguments, home=home)
    asked = _asked(arguments, card)
    is_keepable = shown is None and not arguments.shape and not arguments.model.endswith(".json")
    telling = Telling(asked, is_all=arguments.all, is_keepable=is_keepable, width=_width())
    is_all = arguments.all
    print(json.dumps(outlook_object(look, is_all=is_all)) if arguments.json else outlook_text(look, telling))
    if arguments.picture:
        from app.cli_plan_picture import write_picture

        write_picture(arguments.picture, look, model=model, state=state)
        print(f"The picture is in {arguments.picture}.", file=sys.stderr)
    return 1 if isinstance(look.choice, NoPlan) else 0


def _question(
    arguments: argparse.Namespace, home: Home, *, card: ModelCard, state: NodeState, shown: Described | None
) -> Question:
    goal = goal_of(home_settings(home), job_mix(state.demand, now=time.time()))
    if arguments.quality:
        goal = msgspec.structs.replace(goal, quality=QualityClass(arguments.quality))
    if shown is not None:
        return Question(card, shown.machine, goal)
    loaded = state.worker.device_bytes if state.worker is not None else {}
    machine = freed(trio.run(find_machine), loaded)
    return Question(card, machine, goal, state.benchmark, state.measured, state.pins.get(card.model))


def _card(arguments: argparse.Namespace, home: Home) -> ModelCard:
    """The model that is meant: by its size, by a card's file, by its name in the store, or the first there is."""
    if arguments.shape:
        return shape_card(arguments.shape)
    if arguments.model.endswith(".json"):
        return _card_of(Path(arguments.model))
    cards = {card.model: card for card in ModelStore(home.models).cards()} if home.models.exists() else {}
    if arguments.model in cards:
        return cards[arguments.model]
    sizes = f"Plan for one by its size with `starling plan --shape {SIZES[2]}`"
    if arguments.model:
        raise Trouble(f"There is no model {arguments.model} here. {sizes}, or add it with `starling models add FILE`.")
    if not cards:
        raise Trouble(f"There is no model here yet. {sizes}, or add one with `starling models add FILE`.")
    return next(iter(cards.values()))


def _card_of(path: Path) -> ModelCard:
    try:
        return msgspec.json.decode(path.read_bytes(), type=ModelCard)
    except msgspec.MsgspecError as error:
        raise Trouble(f"{path.name} is not a model card: {error}.") from error


def _described(name: str) -> Described:
    """A file, or one of the examples by its bare name. Raises Trouble."""
    path = Path(name)
    example = asset_path(f"{EXAMPLES}/{name.lower()}.json")
    if not path.exists() and path.name == name and example.exists():
        path = example
    if not path.exists():
        known = ", ".join(sorted(found.stem for found in asset_path(EXAMPLES).glob("*.json")))
        raise Trouble(f"There is no file {name} that describes a device. The examples are {known}.")
    try:
        return described(path.read_bytes())
    except DescriptionError as error:
        raise Trouble(f"{name} describes no device. {error}") from error
    except IsADirectoryError as error:
        raise Trouble(f"{name} is a folder. Give the JSON file that describes the device.") from error
    except OSError as error:
        raise Trouble(f"{name} cannot be read: {str(error.strerror).lower()}.") from error


def _state(home: Home) -> NodeState:
    """What the engine says, or the home without one; a home that is not there knows nothing."""
    try:
        with reach(home) as client:
            return client.snapshot()
    except EngineNotRunning:
        if not home.database.exists():
            return NodeState()
        with EngineLock(home):
            return trio.run(_stored, home)


async def _stored(home: Home) -> NodeState:
    """As the last engine left it; nothing is loaded now."""
    store = Store(home.database)
    try:
        return msgspec.structs.replace(Journal(store).state, worker=None)
    finally:
        store.close()


def _width() -> int:
    """Of a line: the terminal's less one letter, within what can be read."""
    columns = shutil.get_terminal_size((UNKNOWN_COLUMNS, 24)).columns
    return min(max(columns, FEWEST_COLUMNS), MOST_COLUMNS) - 1


def _pin(look: Outlook, arguments: argparse.Namespace, *, home: Home) -> int:
    """Keep the plan of this number, and say which one that is."""
    number, model = arguments.pin, look.question.card.model
    if isinstance(look.choice, NoPlan):
        raise Trouble(reason_words(look))
    if number > len(look.ranked):
        raise Trouble(f"There are {len(look.ranked)} plans; `starling plan {model} --all` lists them.")
    row = look.ranked[number - 1]
    code = _command(c.PinPlan(row.plan), home)
    if code:
        return code
    whole, warning = whole_words(row.plan, look.question), warning_words(row, look.question)
    undo = f"starling plan {model} --unpin"
    if arguments.json:
        print(json.dumps({"number": number, "pinned": msgspec.to_builtins(row.plan), "warning": warning, "undo": undo}))
        return 0
    said = f"Number {number}: {whole}.", f"Warning: {warning}" if warning else "", f"`{undo}` ends that."
    print("\n".join(filter(None, said)), file=sys.stderr)
    return 0


def _command(command: c.PinPlan | c.UnpinPlan, home: Home) -> int:
    """Through the engine where one runs, else written into the home."""
    try:
        with reach(home) as client:
            return send(client, command)
    except EngineNotRunning:
        with EngineLock(home):
            print(trio.run(_alone, command, home), file=sys.stderr)
            return 0


async def _alone(command: c.PinPlan | c.UnpinPlan, home: Home) -> str:
    store = Store(home.database)
    try:
        models = ModelStore(home.models)
        preparation = Preparation(
            Journal(store), models, prior=asset_path(PRIOR), settings=home_settings(home)
        )
        if isinstance(command, c.PinPlan):
            return await preparation.pin(command.plan)
        return await preparation.unpin(command.model)
    finally:
        store.close()
