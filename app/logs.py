"""Log files of a home: warnings and worse, rotating. Never a key, a token, a prompt or an answer."""

from __future__ import annotations

import logging
import logging.handlers

from core.home import Home
from core.trouble import Trouble

# Loggers that keep their lines from the root, and would print them on stderr.
DETACHED = ("libp2p",)
LOG_BYTES = 4 << 20
LOG_FILES = 3


def log_to(home: Home, name: str) -> None:
    """Send this process's log to logs/NAME.log and nowhere else. Raises Trouble when the home cannot be written."""
    try:
        home.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        handler = logging.handlers.RotatingFileHandler(
            home.logs / f"{name}.log", maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8"
        )
    except OSError as error:
        raise Trouble(f"{home.folder} cannot be used: {error.strerror}.") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for library in DETACHED:
        logging.getLogger(library).addHandler(handler)
