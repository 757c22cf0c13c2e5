"""One model in torch: a step's rows to logits, and texts to vectors.

Never knows a job: rows carry slots, tokens and positions. Lack of memory comes out as OutOfMemory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from core.plan import Plan
from core.runtimes.prefix_cache import Costs
from core.runtimes.runtime import RuntimeFault
from core.runtimes.torch_attention import Pass, Rows, Run
from core.runtimes.torch_files import folder_of, open_model
from core.runtimes.torch_int8 import shrink_linears
from core.runtimes.torch_kv import TorchKv
from core.runtimes.torch_place import device_of, memory_faults, release, type_of, used_bytes
from core.runtimes.torch_progress import Tell
from core.runtimes.torch_words import FolderWords, GgufWords, Words
from core.worker.messages import FaultKind

Vector = tuple[float, ...]


class TorchModel:
    """Owns weights and KV. words are its vocabulary. Raises RuntimeFault; close frees everything."""

    def __init__(self, plan: Plan, path: str, *, costs: Costs, tell: Tell) -> None:
        place, dtype = folder_of(path), type_of(plan)
        self.device = device_of(plan)
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(max(1, plan.threads))
        self.kv = TorchKv(slots=plan.slots, context=plan.slot_context_tokens, costs=costs)
        self._texts = TorchKv(slots=0, context=0, costs=costs)
        with memory_faults(self.device, doing="The model"):
            self._model = open_model(place, dtype, tell=tell)
            if plan.quantization == "INT8":
                shrink_linears(self._model, keep=self._model.get_output_embeddings())
            self._model.to(self.device)
        self.words: Words = GgufWords(place) if place.is_file() else FolderWords(place, ends=self._own_ends())
        self.device_id = plan.device_id if plan.gpu_layers > 0 else "CPU"
        self.description = f"{self._model.config.model_type} {plan.quantization} on {self.device}"
        try:
            self._warm_up(plan)
        except RuntimeFault:
            self.close()
            raise

    def close(self) -> None:
        """Free weights, KV and words."""
        self.words.close()
        self.kv = self._texts
        self._model = None
        release(self.device)
        torch.set_num_threads(self._threads_before)

    @property
    def memory_bytes(self) -> int:
        """What model, KV and buffers take: on a GPU by torch's own count, else the sum of the tensors."""
        tensors = [*self._model.parameters(), *self._model.buffers()]
        return used_bytes(self.device) or sum(tensor.nbytes for tensor in tensors) + self.kv.used_bytes

    @property
    def context_tokens(self) -> int:
        """The longest text that the model was trained for; 0 when it does not say."""
        return int(getattr(self._model.config, "max_position_embeddings", 0) or 0)

    def decode(self, tokens: list[int], rows: Rows, *, drawing: list[int]) -> torch.Tensor:
        """Run a step over these tokens, which lie as rows says, and write their KV; the logits of the rows in drawing,
        float32 [drawing, vocabulary]. Raises OutOfMemory: then nothing that was in the KV before has changed."""
        for slot, place in zip(rows.slots, rows.places, strict=True):
            self.kv.hold(slot, place + 1)
        for run in rows.runs:
            if run.slot is not None:
                self.kv.hold(run.slot, run.start + run.length)
        positions = [*rows.places, *(run.start + n for run in rows.runs for n in range(run.length))]
        with torch.inference_mode(), memory_faults(self.device, doing="The next step"):
            asked = {**self._inputs(tokens, positions), "step": Pass(self.kv, rows, device=self.device)}
            if not drawing:
                self._model.base_model(**asked)
                return torch.empty(0, 0)
            wanted = torch.tensor(drawing, dtype=torch.long, device=self.device)
            logits: torch.Tensor = self._model(**asked, logits_to_keep=wanted).logits[0].float()
        return logits

    def embed(self, texts: Sequence[list[int]]) -> list[Vector]:
        """The mean of the last layer over each text's tokens, scaled to length 1; all texts in one pass."""
        runs = [Run(None, 0, len(text)) for text in texts]
        tokens = [token for text in texts for token in text]
        positions = [n for text in texts for n in range(len(text))]
        with torch.inference_mode(), memory_faults(self.device, doing="Reading these texts"):
            step = Pass(self._texts, Rows([], [], runs), device=self.device)
            hidden = self._model.base_model(**self._inputs(tokens, positions), step=step).last_hidden_state[0].float()
            means = [part.mean(dim=0) for part in hidden.split([len(text) for text in texts])]
            return [tuple(torch.nn.functional.normalize(mean, dim=0).tolist()) for mean in means]

    def _inputs(self, tokens: list[int], positions: list[int]) -> dict[str, Any]:
        return {
            "input_ids": torch.tensor([tokens], dtype=torch.long, device=self.device),
            "position_ids": torch.tensor([positions], dtype=torch.long, device=self.device),
            "use_cache": False,
        }

    def _warm_up(self, plan: Plan) -> None:
        """The largest step that will come, so that its buffers are counted and a lack of memory shows now; and whether
        every layer keeps its past where this runtime looks for it."""
        read = max(1, min(plan.prefill_chunk or plan.slot_context_tokens, plan.slot_context_tokens - 1))
        with memory_faults(self.device, doing="The context of this plan"):
            last = list(range(1, plan.slots))
            rows = Rows(last, [plan.slot_context_tokens - 1] * len(last), [Run(0, 0, read)])
            tokens = [0] * (len(last) + read)
            self.decode(tokens, rows, drawing=[*range(len(last)), len(tokens) - 1])
            self.kv.clear()
        if self.kv.layer_count != self._model.config.num_hidden_layers:
            sentence = "The torch runtime cannot serve this model: not all of its layers are attention."
            raise RuntimeFault(FaultKind.BAD_FILE, sentence)

    def _own_ends(self) -> set[int]:
        found: set[int] = set()
        for config in (self._model.config, getattr(self._model, "generation_config", None)):
            given = getattr(config, "eos_token_id", None)
            found |= {given} if isinstance(given, int) else set(given or ())
        return found
