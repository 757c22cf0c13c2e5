"""What a request's bias, a model's forbidden tokens and ignore_eos add to which logit; alike for every runtime.

Never leaves a sequence without a token to choose: such a request is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from core.job import Sampling
from core.runtimes.runtime import RuntimeFault
from core.worker.messages import FaultKind

NOTHING_LEFT = "The grammar, schema or logit bias leaves no token to choose from."


def bias_of(sampling: Sampling, *, size: int, ends: Iterable[int], suppressed: Iterable[int]) -> dict[int, float]:
    """What is added to which token's logit, of a vocabulary of this size; never to all of them minus infinity.

    suppressed is what the model never says, ends what ends its turn. Raises RuntimeFault (BAD_REQUEST).
    """
    bias = dict.fromkeys(suppressed, -math.inf)
    for token, added in sampling.logit_bias:
        if not 0 <= token < size:
            raise RuntimeFault(FaultKind.BAD_REQUEST, f"The model has no token {token}, which the logit bias names.")
        bias[token] = bias.get(token, 0.0) + added
    if sampling.ignore_eos:
        bias |= dict.fromkeys(ends, -math.inf)
    if sum(added == -math.inf for added in bias.values()) >= size:
        raise RuntimeFault(FaultKind.BAD_REQUEST, NOTHING_LEFT)
    return bias
