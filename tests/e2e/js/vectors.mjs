// Holds this implementation to the golden vectors: vectors.mjs FOLDER prints {"checked": number, "failed": [...]}.
import {createHash} from "node:crypto";
import {readFileSync} from "node:fs";
import {join} from "node:path";
import {isDeepStrictEqual} from "node:util";
import {generateKeyPairFromSeed} from "@libp2p/crypto/keys";
import {peerIdFromPrivateKey} from "@libp2p/peer-id";
import {TypedDataEncoder} from "ethers";
import {FrameDecoder, encodeFrame, float, fromJson, toJson} from "./frames.mjs";
import {say} from "./peer.mjs";
import * as protocol from "./protocol.mjs";
import * as signing from "./signing.mjs";

const folder = process.argv[2];
const PROTOCOLS = ["hello", "query", "job", "peers", "reach", "model", "rows"];
// Faults that need no list of every message's keys: a stranger who only reads what it expects finds the others later.
const FRAME_FAULTS = ["not_a_varint", "too_long", "not_json", "unknown_type"];
const OURS = {
    hello: [protocol.HELLO, protocol.MAX_HELLO_FRAME, protocol.MAX_HELLO_FRAME],
    query: [protocol.QUERY, protocol.MAX_QUERY_FRAME, protocol.MAX_ANSWER_FRAME],
    job: [protocol.JOB, protocol.MAX_REQUESTER_FRAME, protocol.MAX_PROVIDER_FRAME],
};
const BYTES_OF = {
    offer: signing.offerBytes, quote: signing.quoteBytes, record: signing.recordBytes, rows: signing.rowsBytes,
};
const failed = [];
let checked = 0;

const read = (name) => fromJson(readFileSync(join(folder, `${name}.json`), "utf-8"));
const bytes = (text) => new Uint8Array(Buffer.from(text.replace(/^0x/, ""), "hex"));
const hex = (raw) => Buffer.from(raw).toString("hex");

function check(what, isRight) {
    checked += 1;
    if (!isRight)
        failed.push(what);
}

function throws(act) {
    try {
        act();
        return false;
    } catch {
        return true;
    }
}

function checkProtocol(name) {
    const {protocol: id, good, bad, longest_frame: longest} = read(name);
    const ours = OURS[name];
    if (ours !== undefined)
        check(`${name}: its name and limits`, isDeepStrictEqual(ours, [id, longest.asks, longest.answers]));
    const tags = Object.groupBy(good, (one) => one.says);
    const decoderOf = (says) => new FrameDecoder(longest[says], tags[says].map((one) => one.value.type));
    for (const {says, value, frame} of good) {
        check(`${name}: ${value.type} is read`, isDeepStrictEqual(decoderOf(says).feed(bytes(frame)), [value]));
        const halves = decoderOf(says);
        const raw = bytes(frame);
        const parts = [...halves.feed(raw.subarray(0, 3)), ...halves.feed(raw.subarray(3))];
        check(`${name}: ${value.type} is read in parts`, isDeepStrictEqual(parts, [value]));
        const ours = decoderOf(says).feed(encodeFrame(value));
        check(`${name}: ${value.type} is written`, isDeepStrictEqual(ours, [value]));
    }
    for (const {says, fault, frame} of bad) {
        if (FRAME_FAULTS.includes(fault))
            check(`${name}: ${fault} ${frame.slice(0, 40)} is refused`, throws(() => decoderOf(says).feed(bytes(frame))));
    }
}

async function checkSigned() {
    const {seed, peer_id: peerId, good, bad, floats} = read("signed");
    const key = await generateKeyPairFromSeed("Ed25519", bytes(seed));
    check("the seed's peer id", peerIdFromPrivateKey(key).toString() === peerId);
    for (const {kind, value, bytes: golden, signature} of good) {
        const ours = BYTES_OF[kind](value);
        check(`${kind}: the bytes that are signed`, hex(ours) === golden);
        check(`${kind}: the signature is made`, await signing.sign(key, ours) === signature);
        check(`${kind}: the signature is believed`, await signing.isSignedBy(peerId, ours, signature));
    }
    for (const {kind, value, signature, why} of bad)
        check(`${kind}: ${why}`, !await signing.isSignedBy(peerId, BYTES_OF[kind](value), signature));
    for (const {number} of floats)
        check(`a float ${number}`, toJson(float(Number(number))) === number);
}

async function checkPayments() {
    const {hot_key: hotKey, payer, worker, domain, domain_separator: separator, vouchers, claim, bad} = read("payments");
    const network = {chain_id: domain.chain_id, escrow: domain.contract};
    check("the payer's id", signing.partyId(payer) === payer.id);
    check("the worker's id", signing.partyId(worker) === worker.id);
    check("the domain", TypedDataEncoder.hashDomain(signing.domain(network)) === separator);
    for (const {voucher} of vouchers) {
        const ours = await signing.signVoucher(hotKey, network, {...voucher, payer: voucher.payer});
        check(`a voucher of ${voucher.cumulative} is signed`, ours.signature === voucher.signature);
        check(`a voucher of ${voucher.cumulative} is believed`, signing.isVoucherSigned(network, voucher));
    }
    const named = {payer, job: claim.claim.job, provider: claim.claim.provider};
    const proof = await signing.proveJob(hotKey, network, {...named, expires: claim.claim.expires});
    check("the proof of who pays is signed", isDeepStrictEqual(proof, claim.proof));
    check("the proof of who pays is believed", signing.isJobProven(network, named, claim.proof));
    for (const {why, voucher} of bad)
        check(`no voucher: ${why}`, !signing.isVoucherSigned(network, voucher));
}

function checkFraming() {
    const {lengths, bad} = read("framing");
    for (const {length, varint} of lengths) {
        const decoder = new FrameDecoder(2 ** 28, []);
        const head = bytes(varint);
        check(`a length of ${length}`, length === 0 || decoder.feed(head).length === 0);
        if (length < 2 ** 20)
            check(`a frame of ${length}`, hex(encodeFrame("x".repeat(Math.max(0, length - 2)))).startsWith(length < 2 ? "" : varint));
    }
    for (const {why, bytes: given} of bad)
        check(why, throws(() => new FrameDecoder(2 ** 28, []).feed(bytes(given))));
}

function checkNames() {
    const {swarm_ids: swarms, provider_keys: keys} = read("names");
    const digest = (text) => createHash("sha256").update(text).digest("hex");
    for (const {name, chain_id: chain, escrow, swarm_id: id} of swarms)
        check(`the swarm id of ${name}`, digest(`starling-swarm-1:${name}:${chain}:${escrow.toLowerCase()}`).slice(0, 32) === id);
    for (const {swarm, model, key} of keys)
        check(`the key of ${model}`, `1220${digest(`starling/${swarm}/${model}`)}` === key);
}

PROTOCOLS.forEach(checkProtocol);
checkNames();
await checkSigned();
await checkPayments();
checkFraming();
say({checked, failed});
process.exit(0);
