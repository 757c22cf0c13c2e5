"""What each key of each struct on the wire means: units, bounds and who checks them. Bounds come from the code.

A test holds every struct of the protocols to having exactly these keys.
"""

from __future__ import annotations

from core.job import MAX_JOB_TOKENS
from core.metamodel.federation import _BOUNDS, MAX_ROWS
from core.model_card import MAX_NAME_CHARACTERS
from core.offer import MAX_WINDOW_TOKENS
from core.payments.voucher import MAX_AMOUNT, MAX_CLAIM_LIFE_S
from core.runtimes import request_limits as r
from p2p import messages as m
from p2p import offer_book, peer_messages, peer_record, row_messages
from p2p.job_answer import MAX_BYTES_PER_TOKEN
from p2p.job_request import TEMPLATE_TOKENS_A_TURN
from p2p.model_messages import MAX_ASKED_PIECES
from p2p.peer_address import MAX_ADDRESSES

PEER_ID = "A peer id: base58btc, 52 characters."
EPOCH = "seconds since the epoch"
SIGNED = "Ed25519 by the peer's identity key, 128 hex digits, over the bytes of section 6."
VERSION = "The version of this protocol that the speaker means; other ones are refused in words, or ignored."
MONEY = f"Smallest units of the token, 0 to 2^96-1 ({MAX_AMOUNT})."
JOB_ID = "1 to 64 of `A-Za-z0-9_-`, chosen by the requester, unused at this provider."
TOTAL = "Total so far, 0 and up, never less than before."

_HELLO = {
    "Hello": {
        "swarm": "The network's swarm id (section 4). Whoever hears another one closes the connection.",
        "at": f"The speaker's clock, {EPOCH}. It shows how far two clocks differ; nothing is refused for it.",
        "record": "Where the speaker may be dialled, or null: a peer that only dials has nothing to say.",
        "version": VERSION,
    },
    "SignedRecord": {"record": "What is signed.", "signature": SIGNED},
    "PeerRecord": {
        "peer_id": PEER_ID,
        "swarm": "The network's swarm id.",
        "addresses": f"Multiaddrs, at most {MAX_ADDRESSES}, each of an IP and a TCP port; hints: a dial proves the id.",
        "issued_at": f"{EPOCH}; at most {peer_record.MAX_SKEW_S:.0f} s ahead of the reader's clock.",
        "expires_at": f"{EPOCH}; at most {peer_record.LIFE_S + peer_record.MAX_SKEW_S:.0f} s ahead. Void after.",
        "sequence": "A record with a higher one replaces this.",
    },
    "GetPeers": {"most": f"How many records at most; never more than {peer_messages.MAX_RECORDS}.", "version": VERSION},
    "Peers": {"records": f"At most {peer_messages.MAX_RECORDS}."},
}
_QUERY = {
    "GetOffers": {"model": "The model's name, or null for any.", "version": VERSION},
    "Tell": {"offers": f"The speaker's own, at most {m.MAX_OFFERS_A_PEER}; others' are ignored."},
    "Ping": {"number": "Any; it comes back."},
    "Offers": {"offers": f"At most {m.MAX_OFFERS}, the answerer's own first."},
    "Pong": {"number": "The one that was asked with; 0 after a tell.", "models": "Names of the models served now."},
    "SignedOffer": {
        "offer": "What is signed.",
        "signature": SIGNED,
        "addresses": f"Multiaddrs where its peer may be dialled, at most {m.MAX_ADDRESSES} of at most "
        f"{m.MAX_ADDRESS_CHARS} characters: not signed, since a dial proves the id.",
    },
    "Offer": {
        "peer_id": PEER_ID + " The signer.",
        "model": f"The model's name, at most {offer_book.MAX_NAME_CHARS} characters.",
        "source_sha256": "Hex SHA-256 of the model's file, or of its shards' hashes; may be empty.",
        "quantization": "Its quantization, as its file's header names it.",
        "price": "What is asked at least.",
        "prefill_tokens_per_s": "Promised reading speed, tokens per second.",
        "decode_tokens_per_s": "Promised writing speed of one answer, tokens per second.",
        "slots": "Answers at once.",
        "context_tokens": "Longest prompt and answer together, in tokens.",
        "worker_owner": "Escrow party that is paid: its owner's address.",
        "worker_hot": "Escrow party that is paid: the address of its signing key.",
        "issued_at": f"{EPOCH}; at most {offer_book.MAX_SKEW_S:.0f} s ahead of the reader's clock.",
        "expires_at": f"{EPOCH}; at most {offer_book.MAX_LIFE_S + offer_book.MAX_SKEW_S:.0f} s ahead. Ignored after.",
        "sequence": "A higher one replaces this offer of the same peer and model.",
    },
    "Price": {
        "input_per_mtok": "Smallest units per 1,000,000 prompt tokens, 0 and up.",
        "output_per_mtok": "Smallest units per 1,000,000 answer tokens, 0 and up.",
        "tip_bp": "The requester's tip in hundredths of a percent of the whole.",
    },
}
_JOB = {
    "Propose": {"request": "The job.", "payer": "Who pays.", "proof": "That the payer means it.", "version": VERSION},
    "PayerProof": {
        "expires": f"{EPOCH}, an integer: after now, and at most {MAX_CLAIM_LIFE_S} s ahead.",
        "signature": "`0x`, r and vs (EIP-2098) by the payer's hot key over the JobClaim of section 7.",
    },
    "Resume": {
        "job_id": "The job, proposed by the same peer id.",
        "seq": "The first chunk that is wanted: how many chunks were received.",
        "version": VERSION,
    },
    "Pay": {"voucher": "All that the payer owes this worker."},
    "Quoted": {"quote": "The price.", "signature": SIGNED},
    "Rejected": {"reject": "The refusal."},
    "Resumed": {"seq": "The one that was asked for; the next chunk has it."},
    "AmountDue": {
        "amount": "What the job has cost so far, smallest units; at most the price of the prompt, of what was "
        "delivered and of one window."
    },
    "Chunk": {
        "seq": "0, 1, 2, ... without a gap.",
        "text": f"Whole characters. All chunks have at most {MAX_BYTES_PER_TOKEN:,} bytes for each of max_tokens.",
        "completion_tokens": f"{TOTAL} At most the job's max_tokens, and the bytes of all text so far and one window.",
    },
    "Finished": {
        "usage": "What is billed.",
        "reason": '`"stop"`: the model ended, or a stop string came; `"length"`: the token limit.',
        "amount": "What the whole job costs: at most the price of the usage.",
        "digest": "Hex SHA-256 of the UTF-8 bytes of all chunks' text.",
    },
    "Failed": {
        "state": '`"failed"` or `"cancelled"`; no other one.',
        "reason": "For people.",
        "usage": "What was delivered until then, and is billed.",
        "amount": "What that costs.",
    },
    "JobRequest": {
        "terms": "All but the words.",
        "messages": f"The conversation, 1 to {m.MAX_TURNS:,} turns, of at most {m.MAX_PROMPT_BYTES:,} bytes together.",
        "sampling": "How tokens are drawn.",
    },
    "JobTerms": {
        "job_id": JOB_ID,
        "model": f"The model's name, 1 to {MAX_NAME_CHARACTERS} characters.",
        "priority": "How urgent it is.",
        "quality": "How far quantization may change the answer.",
        "deadline_s": f"Seconds in which the answer is wanted, above 0, at most {m.MAX_DEADLINE_S:,.0f}.",
        "bid_per_mtok": "The most that is paid, smallest units per 1,000,000 answer tokens; 0: any price.",
        "max_tokens": f"Longest answer, 1 to {MAX_JOB_TOKENS:,}.",
        "max_total": "The most that the whole job may cost, smallest units; 0: no limit.",
        "prompt_bytes": f"Bytes of all turns' content, 0 to {m.MAX_PROMPT_BYTES:,}.",
        "fan_out": f"How many providers are asked at once, 1 to {m.MAX_FAN_OUT}.",
    },
    "ChatMessage": {"role": '`"system"`, `"user"` or `"assistant"`.', "content": "The words."},
    "Sampling": {
        "max_tokens": "1 to the terms' max_tokens.",
        "temperature": f"0 (greedy) to {r.MAX_TEMPERATURE:.0f}.",
        "top_k": "0 (off) to 2^31-1.",
        "top_p": "0 to 1 (off).",
        "min_p": "0 (off) to 1.",
        "seed": "0 to 2^32-1.",
        "stop": f"Strings that end the answer, at most {m.MAX_STOPS} of 1 to {m.MAX_STOP_CHARS} characters.",
        "repeat_penalty": f"{1 / r.MAX_REPEAT_PENALTY:.1f} to {r.MAX_REPEAT_PENALTY:.0f}; 1 is off.",
        "frequency_penalty": f"-{r.MAX_PENALTY:.0f} to {r.MAX_PENALTY:.0f}; 0 is off.",
        "presence_penalty": f"-{r.MAX_PENALTY:.0f} to {r.MAX_PENALTY:.0f}; 0 is off.",
        "penalty_tokens": f"How many of the last tokens count for the penalties, 0 to {r.MAX_PENALTY_TOKENS:,}.",
        "logit_bias": f"Token id and what is added to its logit (-{r.MAX_BIAS:.0f} to {r.MAX_BIAS:.0f}), "
        f"at most {r.MAX_BIASES:,} pairs.",
        "json_schema": "A JSON Schema that the answer obeys, as text; empty: none.",
        "grammar": "A GBNF grammar that the answer obeys; empty: none. Not together with a schema.",
        "top_logprobs": f"0 to {r.MAX_TOP_LOGPROBS}, or null.",
        "ignore_eos": "Go on after the model's own end.",
    },
    "Party": {
        "owner": "The address that money goes to.",
        "hot": "The address of the key that signs. Any case.",
    },
    "Voucher": {
        "payer": "Who owes.",
        "worker": "Party id (section 7) of who is owed: of the quote's worker_owner and worker_hot.",
        "cumulative": f"Owed in all since the beginning. {MONEY}",
        "signature": "`0x`, r and vs (EIP-2098) by the payer's hot key over the Voucher of section 7.",
    },
    "Quote": {
        "job_id": "The proposal's.",
        "price": "What is charged, for good.",
        "prompt_tokens": "The prompt as the provider counts it; no more than it has bytes, and "
        f"{TEMPLATE_TOKENS_A_TURN} for each turn and one more.",
        "ttft_p90_s": "The first token comes within so many seconds, nine times in ten.",
        "tpot_s": "Seconds a token after that.",
        "window_tokens": f"How many tokens are delivered ahead of payment, 0 to {MAX_WINDOW_TOKENS}.",
        "worker_owner": "Escrow party that is paid: its owner's address.",
        "worker_hot": "Escrow party that is paid: the address of its signing key.",
        "model": "The proposal's.",
        "quantization": "What the answer comes from.",
        "expires_at": f"{EPOCH}: the first Pay must come before.",
    },
    "Reject": {
        "job_id": "The proposal's.",
        "reason": "For people.",
        "retry_after_s": "Seconds after which asking again may help; 0: it is no use.",
    },
    "Usage": {
        "prompt_tokens": "The quote's, or 0 while nothing was read.",
        "completion_tokens": "Tokens of the answer: at most the last chunk's total and one window.",
    },
}
_REACH = {
    "CheckReach": {
        "nonce": "Random, new each time.",
        "ports": "TCP ports where the asker listens, the likeliest first.",
        "version": VERSION,
    },
    "DialBack": {
        "peer_id": PEER_ID + " Whom to dial.",
        "addresses": "Multiaddrs of one IP: where the helper sees the asker.",
        "nonce": "What to say there.",
    },
    "Reached": {"nonce": "As it was given.", "address": "The multiaddr that led here."},
    "Checked": {
        "ip": "Where the helper sees the asker.",
        "port": "The port that it sees there.",
        "was_tried": "Whether a third peer has dialled.",
    },
    "Dialled": {
        "was_tried": "Whether the peer was dialled at all.",
        "address": "The multiaddr that led to it, or empty.",
        "fault": "Why it was not reached, for people.",
    },
}
_MODEL = {
    "GetModel": {"sha256": "Of the model's one file, or the joint one of its shards."},
    "GetManifest": {"sha256": "Of a file."},
    "GetPieces": {"sha256": "Of a file.", "pieces": f"Numbers of pieces, from 0, 1 to {MAX_ASKED_PIECES} at a time."},
    "ModelHere": {
        "files": "Its files, first shard first.",
        "model": "Its name.",
        "title": "What its source calls it.",
        "quantization": "As its file's header names it.",
        "license": "As its file's header names it; empty: unknown.",
    },
    "ManifestHere": {
        "file_bytes": "Length of the file.",
        "piece_bytes": "Length of all pieces but the last.",
        "hash_bytes": "How many raw bytes follow: 32 a piece.",
    },
    "PieceHere": {"index": "Which piece.", "length": "How many raw bytes follow."},
    "NotHere": {"reason": "For people.", "retry_after_s": "Seconds until asking again may help; 0: it is no use soon."},
    "OneFile": {"sha256": "Of the file.", "file_bytes": "Its length."},
}


def _range(name: str) -> str:
    low, high = _BOUNDS[name]
    return f"{low:g} to {high:g}."


_ROWS = {
    "GetRows": {"version": VERSION},
    "Rows": {"sets": f"At most {row_messages.MAX_SETS}, one a peer."},
    "SignedRows": {
        "peer_id": PEER_ID + " The signer.",
        "day": f"Days since the epoch (UTC), at most {row_messages.MAX_AGE_DAYS} ago.",
        "rows": f"1 to {MAX_ROWS}; one bad row spoils all.",
        "signature": SIGNED,
    },
    "SharedRow": {
        "backend": "`cuda`, `rocm`, `vulkan`, `metal`, `sycl` or `cpu`.",
        "kind": "What computes.",
        "memory_gib": f"Its memory. {_range('memory_gib')}",
        "bandwidth_gbs": f"Measured, 10^9 bytes per second. {_range('bandwidth_gbs')}",
        "matrix_tflops": f"Measured, 10^12 operations per second. {_range('matrix_tflops')}",
        "runtime": "`llama.cpp` or `torch`.",
        "quantization": "Of the weights.",
        "kv_type": "Of the keys and values.",
        "parameters": f"Of the model. {_range('parameters')}",
        "layers": _range("layers"),
        "hidden": f"Width. {_range('hidden')}",
        "kv_width": _range("kv_width"),
        "file_bytes": _range("file_bytes"),
        "gpu_share": f"How much of the weights is on the GPU. {_range('gpu_share')}",
        "chunk_tokens": f"Prompt tokens read at once. {_range('chunk_tokens')}",
        "batch": f"Answers at once. {_range('batch')}",
        "depth": f"Tokens already read, when decoding. {_range('depth')}",
        "prompt_tokens": _range("prompt_tokens"),
        "prefill_tokens_per_s": f"0: not measured. {_range('prefill_tokens_per_s')}",
        "decode_tokens_per_s": f"Over the whole batch; 0: not measured. {_range('decode_tokens_per_s')}",
    },
}
_BARE: dict[str, dict[str, str]] = {"Cancel": {}, "Keep": {}}
MEANINGS = {**_HELLO, **_QUERY, **_JOB, **_REACH, **_MODEL, **_ROWS, **_BARE}
