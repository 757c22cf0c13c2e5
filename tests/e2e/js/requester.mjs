// Asks a Starling peer for its offers and a quote, pays for a job with vouchers, and prints what happens, a JSON line each.
//   requester.mjs '{"address", "swarm", "network": {"chain_id", "escrow", "rpc"}, "payer": {"owner", "hot"},
//                   "hot_key", "model", "prompt", "max_tokens", "collateral", "break_after": chunks or absent}'
// The payer must have signed nothing for this worker before. With break_after it loses its connection then, and resumes.
import {createHash, randomBytes} from "node:crypto";
import {peerIdFromString} from "@libp2p/peer-id";
import {Contract, JsonRpcProvider, Wallet} from "ethers";
import {Line, ProtocolFault, ask} from "./frames.mjs";
import {greet} from "./greeting.mjs";
import {openPeer, openStream, say} from "./peer.mjs";
import * as protocol from "./protocol.mjs";
import {isSignedBy, offerBytes, partyId, proveJob, quoteBytes, signVoucher} from "./signing.mjs";

const given = JSON.parse(process.argv[2]);
const peerId = given.address.slice(given.address.lastIndexOf("/") + 1);
const {node} = await openPeer();

async function findOffer() {
    const stream = await openStream(node, given.address, protocol.QUERY);
    const question = {type: "get_offers", model: given.model, version: protocol.VERSION};
    const answer = await ask(stream, question, {most: protocol.MAX_ANSWER_FRAME, tags: protocol.ANSWER_SAYS});
    const believed = [];
    for (const signed of answer.offers) {
        const isSigned = await isSignedBy(signed.offer.peer_id, offerBytes(signed.offer), signed.signature);
        if (isSigned && signed.offer.expires_at > Date.now() / 1000)
            believed.push(signed);
    }
    say({event: "offers", told: answer.offers.length, believed: believed.length, addresses: believed[0]?.addresses});
    const found = believed.find((signed) => signed.offer.peer_id === peerId);
    if (found === undefined)
        throw new ProtocolFault("the peer offers no such model");
    return found.offer;
}

// Money that only this worker can be paid from.
async function setCollateralAside(worker) {
    const chain = new JsonRpcProvider(given.network.rpc);
    const wallet = new Wallet(given.hot_key, chain);
    const abi = ["function reserve(tuple(address owner, address hot) payer, bytes32 worker, uint96 amount)"];
    const escrow = new Contract(given.network.escrow, abi, wallet);
    const sent = await escrow.reserve(given.payer, worker, given.collateral);
    await sent.wait();
    say({event: "reserved", transaction: sent.hash});
    chain.destroy();
}

function proposal(jobId, proof) {
    const content = given.prompt;
    const terms = {
        job_id: jobId, model: given.model, priority: "interactive", quality: "standard", deadline_s: 60,
        bid_per_mtok: 0, max_tokens: given.max_tokens, max_total: 0,
        prompt_bytes: new TextEncoder().encode(content).length, fan_out: 1,
    };
    const request = {terms, messages: [{role: "user", content}], sampling: {max_tokens: given.max_tokens}};
    return {type: "propose", request, payer: given.payer, proof, version: protocol.VERSION};
}

class Job {
    constructor(offer) {
        this.line = null;
        this.worker = partyId({owner: offer.worker_owner, hot: offer.worker_hot});
        this.quote = null;
        this.signed = 0n;
        this.chunks = 0;
        this.tokens = 0;
        this.text = "";
    }

    async run() {
        await this.open();
        const jobId = `js-${randomBytes(8).toString("hex")}`;
        const claim = {payer: given.payer, job: jobId, provider: peerId, expires: Math.floor(Date.now() / 1000) + 600};
        await this.line.send(proposal(jobId, await proveJob(given.hot_key, given.network, claim)));
        const keep = setInterval(() => this.line.send({type: "keep"}), protocol.KEEP_EVERY_MS);
        try {
            for (let last = null; last === null;)
                last = await this.heed(await this.line.receive());
        } finally {
            clearInterval(keep);
        }
        await this.line.close();
        while (await this.line.receive(5_000) !== null)
            continue;
    }

    async open() {
        const stream = await openStream(node, given.address, protocol.JOB);
        this.line = new Line(stream, protocol.MAX_PROVIDER_FRAME, protocol.PROVIDER_SAYS);
    }

    // The connection is gone; the job is not.
    async resume() {
        given.break_after = undefined;
        this.line.reset();
        await node.hangUp(peerIdFromString(peerId));
        await greet(node, given.address, given.swarm);
        await this.open();
        await this.line.send({type: "resume", job_id: this.quote.job_id, seq: this.chunks, version: protocol.VERSION});
    }

    async heed(message) {
        switch (message?.type) {
        case "quoted":
            await this.accept(message);
            return null;
        case "chunk":
            this.take(message);
            if (this.chunks === given.break_after)
                await this.resume();
            return null;
        case "resumed":
            say({event: "resumed", seq: message.seq});
            return null;
        case "amount_due":
            await this.pay(BigInt(message.amount));
            return null;
        case "keep":
            return null;
        case "finished":
            await this.finish(message);
            return message;
        default:
            say({event: "refused", message});
            return message ?? {};
        }
    }

    async accept({quote, signature}) {
        if (!await isSignedBy(peerId, quoteBytes(quote), signature))
            throw new ProtocolFault("the quote is not signed by the peer");
        this.quote = quote;
        say({event: "quoted", quote});
        await this.pay(protocol.charge(quote.price, quote.prompt_tokens, 0));
    }

    take(chunk) {
        if (chunk.seq !== this.chunks)
            throw new ProtocolFault("a chunk is missing");
        this.chunks += 1;
        this.tokens = chunk.completion_tokens;
        this.text += chunk.text;
    }

    // The job has cost this much so far: a voucher is about all that was ever owed to this worker.
    async pay(amount) {
        const most = protocol.charge(this.quote.price, this.quote.prompt_tokens, this.tokens + this.quote.window_tokens);
        if (amount > most)
            throw new ProtocolFault("more is asked than was delivered");
        this.signed = amount > this.signed ? amount : this.signed;
        const voucher = {payer: given.payer, worker: this.worker, cumulative: this.signed};
        await this.line.send({type: "pay", voucher: await signVoucher(given.hot_key, given.network, voucher)});
    }

    async finish({usage, reason, amount, digest}) {
        if (BigInt(amount) > protocol.charge(this.quote.price, usage.prompt_tokens, usage.completion_tokens))
            throw new ProtocolFault("the amount is more than the price");
        if (BigInt(amount) > this.signed)
            await this.pay(BigInt(amount));
        const isWhole = digest === createHash("sha256").update(this.text).digest("hex");
        say({
            event: "finished", reason, usage, amount: String(amount), paid: String(this.signed), chunks: this.chunks,
            text: this.text, is_whole: isWhole, job_id: this.quote.job_id,
        });
    }
}

say({event: "greeted", theirs: await greet(node, given.address, given.swarm)});
const offer = await findOffer();
await setCollateralAside(partyId({owner: offer.worker_owner, hot: offer.worker_hot}));
await new Job(offer).run();
await node.stop();
process.exit(0);
