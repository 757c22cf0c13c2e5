"""What went wrong with the hub, as one sentence that says what to do next.

Part of the child that talks to the hub. Never repeats what a server wrote, and never a header.
"""

from __future__ import annotations

import errno

import httpx2
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from core.model_download.messages import FetchFile, HubCommand, HubFault

KEPT = "Run the same line again to go on: what was fetched is kept."


def fault_of(error: Exception, command: HubCommand) -> HubFault:
    """The sentence for the owner."""
    repo, endpoint = command.repo, command.endpoint
    match error:
        case OfflineModeIsEnabled():
            return HubFault("HF_HUB_OFFLINE forbids to ask the hub. Unset it and try again.")
        case GatedRepoError():
            return HubFault(
                f"{repo} is gated: accept its terms at {endpoint}/{repo}, set HF_TOKEN to your access token, try again."
            )
        case RepositoryNotFoundError():
            return HubFault(
                f"There is no {repo} at {endpoint}, or it is private. Check its name; a private one needs HF_TOKEN."
            )
        case EntryNotFoundError() | RevisionNotFoundError():
            name = command.file.name if isinstance(command, FetchFile) else "what was asked"
            return HubFault(f"{repo} does not have {name} any more. Run the same line again to see what there is.")
        case DisabledRepoError():
            return HubFault(f"The hub has closed the access to {repo}.")
        case HfHubHTTPError(response=response):
            return HubFault(_of_status(response.status_code, repo))
        case httpx2.TimeoutException():
            return HubFault(f"{endpoint} did not answer in time. {KEPT}")
        case httpx2.HTTPError() | httpx2.InvalidURL():
            return HubFault(f"{endpoint} cannot be reached: is this computer online? {KEPT}")
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EFBIG):
            return HubFault(f"The disk became full while fetching from {repo}. Free some space. {KEPT}", is_full=True)
        case OSError(errno=None):
            return HubFault(f"The hub sent less or more of a file of {repo} than it had promised. {KEPT}")
        case OSError():
            return HubFault(f"A file of {repo} cannot be written: {error.strerror}.")
        case _:
            return HubFault(f"The hub's answer makes no sense, or a file of {repo} is too large to be fetched at once.")


def _of_status(status: int, repo: str) -> str:
    if status in (401, 403):
        return f"The hub does not let HF_TOKEN have {repo}: the token is wrong, too old or too weak."
    if status == 404:
        return f"There is no {repo} at the hub. Check its name."
    if status == 429:
        return f"The hub has had too many questions from here for now. Try again in some minutes. {KEPT}"
    return f"The hub has trouble of its own (status {status}). Try again later. {KEPT}"
