// Exact bytes of signed values (identity keys, Ed25519), and the EIP-712 signatures of payers (secp256k1).
import {peerIdFromString} from "@libp2p/peer-id";
import {AbiCoder, Signature, TypedDataEncoder, Wallet, keccak256, recoverAddress} from "ethers";
import {float, toJson} from "./frames.mjs";

const encoder = new TextEncoder();
const hex = (bytes) => Buffer.from(bytes).toString("hex");

// A signed value's keys in their order: "" as it is, "float" spelled as a float, the keys of an object within,
// or those of each object in an array.
const PRICE = {input_per_mtok: "", output_per_mtok: "", tip_bp: ""};
const OFFER = {
    peer_id: "", model: "", source_sha256: "", quantization: "", price: PRICE,
    prefill_tokens_per_s: "float", decode_tokens_per_s: "float", slots: "", context_tokens: "",
    worker_owner: "", worker_hot: "", issued_at: "float", expires_at: "float", sequence: "",
};
const QUOTE = {
    job_id: "", price: PRICE, prompt_tokens: "", ttft_p90_s: "float", tpot_s: "float", window_tokens: "",
    worker_owner: "", worker_hot: "", model: "", quantization: "", expires_at: "float",
};
const SHARED_ROW = {
    backend: "", kind: "", memory_gib: "float", bandwidth_gbs: "float", matrix_tflops: "float", runtime: "",
    quantization: "", kv_type: "", parameters: "float", layers: "float", hidden: "float", kv_width: "float",
    file_bytes: "float", gpu_share: "float", chunk_tokens: "float", batch: "float", depth: "float",
    prompt_tokens: "float", prefill_tokens_per_s: "float", decode_tokens_per_s: "float",
};
const ROWS = {peer_id: "", day: "", rows: [SHARED_ROW], signature: ""};
const RECORD = {peer_id: "", swarm: "", addresses: "", issued_at: "float", expires_at: "float", sequence: ""};

function inOrder(keys, value) {
    if (keys === "float")
        return float(value);
    if (keys === "")
        return value;
    if (Array.isArray(keys))
        return value.map((one) => inOrder(keys[0], one));
    return Object.fromEntries(Object.entries(keys).map(([key, inner]) => [key, inOrder(inner, value[key])]));
}

const signedBytes = (prefix, keys, value) => encoder.encode(prefix + toJson(inOrder(keys, value)));
export const offerBytes = (offer) => signedBytes("starling-offer-1:", OFFER, offer);
export const quoteBytes = (quote) => signedBytes("starling-quote-1:", QUOTE, quote);
export const recordBytes = (record) => signedBytes("starling-peer-1:", RECORD, record);
export const rowsBytes = (rows) => signedBytes("starling-rows-1:", ROWS, {...rows, signature: ""});

export async function sign(key, bytes) {
    return hex(await key.sign(bytes));
}

export async function isSignedBy(peerId, bytes, signature) {
    if (!/^[0-9a-f]{128}$/i.test(signature))
        return false;
    return peerIdFromString(peerId).publicKey.verify(bytes, Buffer.from(signature, "hex"));
}

// Who pays or is paid: keccak256(abi.encode(owner, hot)). Addresses come in any case, whatever EIP-55 says of it.
export function partyId({owner, hot}) {
    return keccak256(AbiCoder.defaultAbiCoder().encode(["address", "address"], [owner.toLowerCase(), hot.toLowerCase()]));
}

export const domain = (network) =>
    ({name: "ComputeEscrow", version: "1", chainId: network.chain_id, verifyingContract: network.escrow.toLowerCase()});
const VOUCHER = {
    Voucher: [
        {name: "payer", type: "bytes32"},
        {name: "worker", type: "bytes32"},
        {name: "cumulative", type: "uint96"},
    ],
};
const JOB_CLAIM = {
    JobClaim: [
        {name: "payer", type: "bytes32"},
        {name: "job", type: "string"},
        {name: "provider", type: "string"},
        {name: "expires", type: "uint40"},
    ],
};

// r || vs (EIP-2098).
async function compact(wallet, network, types, value) {
    return Signature.from(await wallet.signTypedData(domain(network), types, value)).compactSerialized;
}

function signerOf(network, types, value, signature) {
    return recoverAddress(TypedDataEncoder.hash(domain(network), types, value), Signature.from(signature));
}

export async function signVoucher(hotKey, network, {payer, worker, cumulative}) {
    const signed = {payer: partyId(payer), worker, cumulative};
    return {payer, worker, cumulative, signature: await compact(new Wallet(hotKey), network, VOUCHER, signed)};
}

export function isVoucherSigned(network, voucher) {
    const signed = {payer: partyId(voucher.payer), worker: voucher.worker, cumulative: voucher.cumulative};
    return isFrom(voucher.payer.hot, () => signerOf(network, VOUCHER, signed, voucher.signature));
}

export async function proveJob(hotKey, network, {payer, job, provider, expires}) {
    const claim = {payer: partyId(payer), job, provider, expires};
    return {expires, signature: await compact(new Wallet(hotKey), network, JOB_CLAIM, claim)};
}

export function isJobProven(network, {payer, job, provider}, proof) {
    const claim = {payer: partyId(payer), job, provider, expires: proof.expires};
    return isFrom(payer.hot, () => signerOf(network, JOB_CLAIM, claim, proof.signature));
}

// False for what is no signature at all: a high s, or a point that is not on the curve.
function isFrom(hot, signer) {
    try {
        return signer().toLowerCase() === hot.toLowerCase();
    } catch {
        return false;
    }
}
