"""What `starling ask` makes of its words before anyone is asked."""

from __future__ import annotations

from argparse import Namespace

import pytest

from app.ask import _request
from core.trouble import Trouble


def test_a_prompt_that_is_no_text_is_one_sentence() -> None:
    words = Namespace(prompt="caf\udce9", model="demo", priority="standard", deadline=1.0, max_tokens=1)
    with pytest.raises(Trouble, match="UTF-8"):
        _request(words)
