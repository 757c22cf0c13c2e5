"""The words of `starling models`, `plan` and `network`, and the command that each deed on models stands for.

Light: every start of the command line reads it. Never carries a command out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from core import commands as c
from core.job import QualityClass

SIZES = ("1b", "3b", "8b", "14b", "32b", "70b")
DEVICE_HELP = (
    "plan for another computer: an example (gpu-8gb, gpu-24gb) or a JSON file such as "
    '{"name": "RTX 3060", "memory_gib": 12, "bandwidth_gbs": 360, "matrix_tflops": 51}'
)


def model_words(words: argparse._SubParsersAction[argparse.ArgumentParser], add_home: Callable[..., None]) -> None:
    """Add `models` and its deeds."""
    models = words.add_parser("models", help="models on this computer")
    add_home(models)
    names = "list|add|install|fetch|quantize|verify|remove|serve"
    deeds = models.add_subparsers(dest="deed", required=True, metavar=names)
    deeds.add_parser("list", help="what is there, how large, last used when, and what would go first")
    add = deeds.add_parser("add", help="take a GGUF file, with all its shards, into the store")
    add.add_argument("file", type=Path, metavar="FILE", help="a GGUF file; it is copied")
    install = deeds.add_parser("install", help="fetch a model from the hub; cut short, it goes on from there")
    install.add_argument("source", metavar="REPO[:TYPE|:FILE]", help="such as OWNER/NAME:Q8_0 or OWNER/NAME:FILE.gguf")
    fetch = deeds.add_parser("fetch", help="fetch a model from peers; cut short, it goes on from there")
    fetch.add_argument("model", metavar="NAME|SHA256", help="its name in the network, or the hash of its file")
    fetch.add_argument("--yes", action="store_true", help="agree to its licence and size without being asked")
    fetch.add_argument("--network", type=Path, metavar="FILE", help="the network file to belong to")
    for parser in (add, install, fetch):
        parser.add_argument("--name", default="", help="its name in the network")
    quantize = deeds.add_parser("quantize", help="make another quantization from the file that it was added as")
    quantize.add_argument("model", metavar="NAME")
    quantize.add_argument("quantization", metavar="TYPE", help="llama.cpp's name, such as Q4_K_M")
    verify = deeds.add_parser("verify", help="are all files what they were?")
    verify.add_argument("model", metavar="NAME", nargs="?", default="", help="only this model's")
    remove = deeds.add_parser("remove", help="delete a model's files from the store, or one type of it")
    remove.add_argument("model", metavar="NAME")
    remove.add_argument("quantization", metavar="TYPE", nargs="?", default="")
    deeds.add_parser("serve", help="serve this model").add_argument("model", metavar="NAME")
    for parser in deeds.choices.values():
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        add_home(parser)


def relay_word(words: argparse._SubParsersAction[argparse.ArgumentParser], add_home: Callable[..., None]) -> None:
    """Add `relay`."""
    relay = words.add_parser("relay", help="for operators: a bootstrap peer that carries connections for others")
    relay.add_argument("--network", type=Path, metavar="FILE", help="the network file to belong to")
    relay.add_argument("--port", type=int, metavar="PORT", help="listen here (default: 4001)")
    relay.add_argument("--listen-ip", default="0.0.0.0", metavar="IP", help="listen at this address only")  # noqa: S104
    relay.add_argument("--public-ip", action="append", default=[], metavar="IP", help="where others reach this machine")
    relay.add_argument("--ws-port", type=int, default=0, metavar="PORT", help="browsers may dial here, by WebSocket")
    relay.add_argument("--metrics", type=float, default=0.0, metavar="S", help="print figures every S seconds")
    add_home(relay)


def plan_word(words: argparse._SubParsersAction[argparse.ArgumentParser], add_home: Callable[..., None]) -> None:
    """Add `plan`."""
    plan = words.add_parser("plan", help="which way to serve a model is best here, why, and what would change it")
    plan.add_argument("model", nargs="?", default="", metavar="MODEL", help="its name, or a card's JSON file")
    shape = plan.add_argument("--shape", type=str.lower, choices=SIZES, default="")
    shape.help = "plan for a usual model of this size instead"
    plan.add_argument("--device", default="", metavar="FILE", help=DEVICE_HELP)
    classes = tuple(quality.value for quality in QualityClass)
    plan.add_argument("--quality", choices=classes, default="", help="what jobs ask for (default: your setting)")
    plan.add_argument("--all", action="store_true", help="list every plan that was weighed")
    keep = plan.add_mutually_exclusive_group()
    keep.add_argument("--pin", type=place, nargs="?", const=1, default=0, metavar="NUMBER", help="keep this plan (1)")
    keep.add_argument("--unpin", action="store_true", help="let the plan be chosen again")
    plan.add_argument("--picture", type=Path, metavar="FILE", help="draw predicted against measured (.svg or .png)")
    plan.add_argument("--json", action="store_true", help="print one JSON object")
    add_home(plan)


def network_words(words: argparse._SubParsersAction[argparse.ArgumentParser], add_home: Callable[..., None]) -> None:
    """Add `network` and its deeds."""
    network = words.add_parser("network", help="which network this computer belongs to, and files for others")
    add_home(network)
    deeds = network.add_subparsers(dest="deed", required=True, metavar="info|create|deploy|use")
    told = deeds.add_parser("info", help="what is in use: swarm id, chain, and whether each bootstrap peer answers")
    told.add_argument("name", nargs="?", default="", metavar="NAME|FILE", help="another network than this computer's")
    create = deeds.add_parser("create", help="write a network file")
    create.add_argument("name", metavar="NAME", help="small letters, digits and dashes")
    for word in ("rpc", "escrow", "token"):
        create.add_argument(f"--{word}", required=True, metavar="URL" if word == "rpc" else "ADDRESS")
    create.add_argument("--chain-id", type=int, required=True, metavar="N")
    create.add_argument("--symbol", required=True, help="the token's, such as USDC")
    create.add_argument("--decimals", type=int, default=6, metavar="N", help="of the token (default: 6)")
    create.add_argument("--confirmations", type=int, default=1, metavar="N", help="blocks to wait for (default: 1)")
    create.add_argument("--bootstrap", action="append", default=[], metavar="ADDRESS", help="of a bootstrap peer")
    _deploy_words(deeds.add_parser("deploy", help="put the escrow onto a chain, and write the network file"))
    use = deeds.add_parser("use", help="belong to this network from now on")
    use.add_argument("name", metavar="NAME|FILE")
    for parser in deeds.choices.values():
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        add_home(parser)


def _deploy_words(deploy: argparse.ArgumentParser) -> None:
    deploy.add_argument("name", metavar="NAME", help="small letters, digits and dashes")
    deploy.add_argument("--rpc", required=True, metavar="URL")
    deploy.add_argument("--chain-id", type=int, required=True, metavar="N", help="refused where the node is on another")
    deploy.add_argument("--key-file", type=Path, required=True, metavar="FILE", help="hex or keystore; pays the fees")
    deploy.add_argument("--token", default="", metavar="ADDRESS", help="an ERC-20 (default: a new one for play)")
    deploy.add_argument("--exit-delay", type=int, default=None, metavar="S", help="default: a day; 60 on a play chain")
    deploy.add_argument("--confirmations", type=int, default=12, metavar="N", help="blocks to wait for (default: 12)")
    deploy.add_argument("--bootstrap", action="append", default=[], metavar="ADDRESS", help="of a bootstrap peer")
    deploy.add_argument("--yes", action="store_true", help="do not ask before money is spent")


def place(text: str) -> int:
    """A number of the list, from 1. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of the list; give MODEL before --pin")
    return int(text)


def command_of(arguments: argparse.Namespace) -> c.ModelCommand | c.ServeModel:
    """The command that a deed stands for."""
    match arguments.deed:
        case "add":
            return c.AddModel(str(arguments.file.absolute()), arguments.name)
        case "install":
            return c.InstallModel(arguments.source, arguments.name)
        case "quantize":
            return c.QuantizeModel(arguments.model, arguments.quantization)
        case "verify":
            return c.VerifyModels(arguments.model)
        case "remove":
            return c.RemoveModel(arguments.model, arguments.quantization)
        case _:
            return c.ServeModel(arguments.model)
