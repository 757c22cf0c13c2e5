"""`starling`: the window, the headless engine, and every other word of the command line.

Imports what a word needs only when the word is said: `starling status` must not load Qt, libp2p or web3.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from pathlib import Path

from core.home import Home

VERSION = "0.1.0"
MAX_PORT = 65_535
INTERRUPTED = 130
PIPE_CLOSED = 141
WORKER_WORD = "worker"


def main(words: list[str] | None = None) -> int:
    """Run one word; the exit code is 0 when it was done."""
    given = sys.argv[1:] if words is None else words
    if given == [WORKER_WORD]:
        return _work()
    arguments = _parser().parse_args(given)
    home = Home(arguments.home.expanduser().absolute())
    try:
        code = _run(arguments, home)
        print(end="", flush=True)
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _unread()


def default_home() -> Path:
    """Where a peer lives when --home is not given, by each system's custom."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", "~")) / "Starling"
    if sys.platform == "darwin":
        return Path("~/Library/Application Support/Starling")
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "starling"


def port(text: str) -> int:
    """A TCP port; 0 is any free one. Raises ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or int(text) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text} is not a port: 0 to {MAX_PORT}")
    return int(text)


def has_display() -> bool:
    """Whether a window can be shown; where it can't, that is said and the engine runs without one."""
    names = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if not sys.platform.startswith("linux") or any(os.environ.get(name) for name in names):
        return True
    print("There is no display here, so Starling runs without its window.", file=sys.stderr)
    return False


def _work() -> int:
    """Be a worker child: the frozen app has no other way to start one. Named, not imported: the runtimes are for that
    process alone."""
    import_module("core.worker.main").main()
    return 0


def _unread() -> int:
    """Whoever read our answers has gone, as `head` does: nothing more is written, and nothing is said of it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return PIPE_CLOSED


def _run(arguments: argparse.Namespace, home: Home) -> int:
    match arguments.word:
        case None if arguments.headless or not has_display():
            from app.headless import run_headless

            return run_headless(arguments, home)
        case None:
            from app.gui.main import run_window

            return run_window(home.folder, engine_words=tuple(_engine_words(arguments)))
        case "ask":
            from app.ask import run_ask

            return run_ask(arguments, home)
        case "demo":
            from app.demo import run_demo

            return run_demo(arguments, home if arguments.home != default_home() else None)
        case "devnet":
            from app.devnet import run_devnet

            return run_devnet(home.folder, chain_port=arguments.chain_port, bootstrap_port=arguments.bootstrap_port)
        case "relay":
            from app.relay import run_relay

            return run_relay(arguments, home)
        case _:
            return _run_words(arguments, home)


def _run_words(arguments: argparse.Namespace, home: Home) -> int:
    """Those that look, choose or give orders, and end."""
    match arguments.word:
        case "bench":
            from app.cli_machine import run_machine_word

            return run_machine_word(arguments, home)
        case "models":
            from app.cli_models import run_models_word

            return run_models_word(arguments, home)
        case "plan":
            from app.cli_plan import run_plan_word

            return run_plan_word(arguments, home)
        case "network":
            from app.cli_network import run_network_word

            return run_network_word(arguments, home)
        case _:
            from app.cli import run_control_word

            return run_control_word(arguments, home)


def _engine_words(arguments: argparse.Namespace) -> list[str]:
    words = []
    for name in ("network", "port", "model"):
        if (value := getattr(arguments, name)) not in (None, ""):
            words += [f"--{name}", str(value)]
    return words + (["--join"] if arguments.join else [])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="starling",
        description="Contribute this computer to a peer-to-peer LLM inference swarm, paid for every token.",
    )
    parser.add_argument("--version", action="version", version=f"starling {VERSION}")
    parser.add_argument("--headless", action="store_true", help="run the engine without the window")
    parser.add_argument("--join", action="store_true", help="join the network at once")
    parser.add_argument("--network", type=Path, metavar="FILE", help="the network file to belong to")
    parser.add_argument("--port", type=port, metavar="PORT", help="listen for peers here (default: any free port)")
    parser.add_argument("--model", default="", metavar="NAME", help="serve this model of `starling models list`")
    _add_home(parser, default=default_home())
    words = parser.add_subparsers(dest="word", metavar="WORD")
    _add_words(words)
    return parser


def _add_words(words: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from app.cli import control_words
    from app.cli_words import model_words, network_words, plan_word, relay_word

    control_words(words, _add_home)
    _add_ask(words)
    _add_demo(words)
    devnet = words.add_parser("devnet", help="a network of one's own: embedded chain, contracts, bootstrap peer")
    devnet.add_argument("--chain-port", type=port, default=0, metavar="PORT", help="of the chain (default: any)")
    devnet.add_argument("--bootstrap-port", type=port, default=0, metavar="PORT", help="of the bootstrap peer")
    relay_word(words, _add_home)
    bench = words.add_parser("bench", help="measure this computer")
    bench.add_argument("--json", action="store_true", help="print one JSON object")
    model_words(words, _add_home)
    plan_word(words, _add_home)
    network_words(words, _add_home)
    for parser in (devnet, bench):
        _add_home(parser)


def _add_ask(words: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    ask = words.add_parser("ask", help="ask the network and stream the answer")
    ask.add_argument("model", help="the model's name, as `starling models list` writes it")
    ask.add_argument("prompt", help="the question, one word to the shell: put it in quotes")
    ask.add_argument("--network", type=Path, metavar="FILE", help="the network file to belong to")
    classes = ("interactive", "standard", "batch")
    ask.add_argument("--priority", choices=classes, default="interactive", help="how soon the answer is needed")
    ask.add_argument("--max-tokens", type=int, default=256, metavar="N", help="the longest answer (default: 256)")
    ask.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0, the default: no chance")
    ask.add_argument("--seed", type=int, default=0, metavar="N", help="makes chance repeat itself")
    ask.add_argument("--deadline", type=float, default=60.0, metavar="S", help="seconds until it is given up (60)")
    ask.add_argument("--json", action="store_true", help="print one JSON object at the end instead of the text")
    _add_home(ask)


def _add_demo(words: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = words.add_parser("demo", help="chain, swarm, provider and requester on this computer")
    demo.add_argument("--headless", action="store_true", help="without the window")
    demo.add_argument("--jobs", type=int, default=0, metavar="N", help="serve N jobs, settle, end (with --headless)")
    demo.add_argument("--json", action="store_true", help="print one JSON object at the end (with --jobs), on one line")
    demo.add_argument("--hold", action="store_true", help="keep everything up until Ctrl-C")
    _add_home(demo)


def _add_home(parser: argparse.ArgumentParser, *, default: Path | str = argparse.SUPPRESS) -> None:
    parser.add_argument("--home", type=Path, default=default, metavar="DIR", help="where this peer keeps its state")


if __name__ == "__main__":
    sys.exit(main())
