"""Everything a user can do, as plain values: the window, the command line and the tests all send these.

Never says how. Each is answered by exactly one Reply: Done, or Refused with its reason.
"""

from __future__ import annotations

import msgspec

from core.job import JobId
from core.plan import Plan


class JoinNetwork(msgspec.Struct, frozen=True, tag="join_network"):
    """Benchmark if needed, choose the plan, load the model, join the swarm and take jobs."""


class LeaveNetwork(msgspec.Struct, frozen=True, tag="leave_network"):
    """Finish what runs (unless now), withdraw the offer, free the memory. The engine stays up."""

    now: bool = False


class PauseWork(msgspec.Struct, frozen=True, tag="pause_work"):
    """Take no new job for this long, or until ResumeWork; running jobs finish unless now."""

    for_s: float | None = None
    now: bool = False


class ResumeWork(msgspec.Struct, frozen=True, tag="resume_work"):
    """End a pause."""


class MeasureMachine(msgspec.Struct, frozen=True, tag="measure_machine"):
    """Run the benchmark again and choose the plan anew."""


class AddModel(msgspec.Struct, frozen=True, tag="add_model"):
    """Take a GGUF on disk into the store, so that it can be served."""

    path: str
    name: str = ""


class InstallModel(msgspec.Struct, frozen=True, tag="install_model"):
    """Fetch a model from the hub into the store: OWNER/NAME, OWNER/NAME:TYPE or OWNER/NAME:FILE."""

    source: str
    name: str = ""


class QuantizeModel(msgspec.Struct, frozen=True, tag="quantize_model"):
    """Make another quantization of a model, by llama.cpp's name for it, from the file that it was added as."""

    model: str
    quantization: str


class VerifyModels(msgspec.Struct, frozen=True, tag="verify_models"):
    """Read a model's files (empty: all models') again: are they what they were? Refused names those that are not."""

    model: str = ""


class RemoveModel(msgspec.Struct, frozen=True, tag="remove_model"):
    """Delete a model's files from the store, or those of one quantization; the file it was added from is left alone."""

    model: str
    quantization: str = ""


class StopModelWork(msgspec.Struct, frozen=True, tag="stop_model_work"):
    """Stop whatever is being added, installed, quantized or verified; nothing half done is left."""


class ServeModel(msgspec.Struct, frozen=True, tag="serve_model"):
    """Serve this model from now on."""

    model: str


class PinPlan(msgspec.Struct, frozen=True, tag="pin_plan"):
    """Keep this plan for its model, whatever would be chosen: over restarts, until UnpinPlan, or while it fits."""

    plan: Plan


class UnpinPlan(msgspec.Struct, frozen=True, tag="unpin_plan"):
    """Let the plan of this model be chosen again."""

    model: str


class CancelJob(msgspec.Struct, frozen=True, tag="cancel_job"):
    """Stop one job; what was delivered is billed."""

    job_id: JobId


class RedeemVouchers(msgspec.Struct, frozen=True, tag="redeem_vouchers"):
    """Cash every voucher held, now, whatever the threshold."""


class WithdrawEarnings(msgspec.Struct, frozen=True, tag="withdraw_earnings"):
    """Pay what the escrow holds for us out to the owner's address."""


class QuitEngine(msgspec.Struct, frozen=True, tag="quit_engine"):
    """Leave the network, finish or hand back what runs, then stop the engine."""

    now: bool = False


ModelCommand = AddModel | InstallModel | QuantizeModel | VerifyModels | RemoveModel | StopModelWork
Command = (
    JoinNetwork
    | LeaveNetwork
    | PauseWork
    | ResumeWork
    | MeasureMachine
    | AddModel
    | InstallModel
    | QuantizeModel
    | VerifyModels
    | RemoveModel
    | StopModelWork
    | ServeModel
    | PinPlan
    | UnpinPlan
    | CancelJob
    | RedeemVouchers
    | WithdrawEarnings
    | QuitEngine
)


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The command was carried out or is under way; text says what happens next."""

    text: str = ""


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The command cannot be carried out, and why."""

    reason: str


Reply = Done | Refused
