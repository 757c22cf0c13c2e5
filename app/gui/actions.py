"""Where in the window each command is: the object name of the button, menu or menu entry that gives it.

A test holds this table against core.commands and against the window, so that no command is out of the owner's reach.
"""

from __future__ import annotations

from core import commands as c

ACTIONS: dict[type, str] = {
    c.JoinNetwork: "join_network",
    c.LeaveNetwork: "leave_network",
    c.PauseWork: "pause_work",
    c.ResumeWork: "resume_work",
    c.MeasureMachine: "measure_machine",
    c.AddModel: "add_model",
    c.InstallModel: "install_model",
    c.QuantizeModel: "quantize_model",
    c.VerifyModels: "verify_models",
    c.RemoveModel: "remove_model",
    c.StopModelWork: "stop_model_work",
    c.ServeModel: "serve_model",
    c.PinPlan: "pin_plan",
    c.UnpinPlan: "pin_plan",
    c.CancelJob: "cancel_job",
    c.RedeemVouchers: "redeem_vouchers",
    c.WithdrawEarnings: "withdraw",
    c.QuitEngine: "quit_engine",
}
