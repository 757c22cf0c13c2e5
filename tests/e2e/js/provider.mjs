// Serves one made-up model as the document asks of a provider: tells an offer, quotes, takes vouchers, streams, finishes.
// It knows its answer beforehand, and counts a word as a token. Prints a JSON line for whatever happens.
//   provider.mjs '{"tell": ADDRESS of a peer that keeps offers, "swarm", "network": {"chain_id", "escrow"},
//                  "worker": {"owner", "hot"}, "model", "words": [...]}'
import {createHash} from "node:crypto";
import {Line, ProtocolFault, ask} from "./frames.mjs";
import {greet, serveHello} from "./greeting.mjs";
import {endWithStdin, openPeer, openStream, say} from "./peer.mjs";
import * as protocol from "./protocol.mjs";
import {isJobProven, isVoucherSigned, offerBytes, partyId, quoteBytes, sign} from "./signing.mjs";

const PRICE = {input_per_mtok: 500_000, output_per_mtok: 500_000, tip_bp: 0};
const WINDOW_TOKENS = 16;
const FIRST_FRAME_MS = 5_000;
const PAYMENT_MS = 12_000;
const SETTLE_MS = 10_000;

const given = JSON.parse(process.argv[2]);
const {node, key} = await openPeer({listen: ["/ip4/127.0.0.1/tcp/0"]});
const peerId = node.peerId.toString();
const now = () => Date.now() / 1000;
const paidBefore = new Map(); // by payer: what its vouchers were good for when its last job was over

async function ownOffer() {
    const offer = {
        peer_id: peerId, model: given.model, source_sha256: "", quantization: "none", price: PRICE,
        prefill_tokens_per_s: 1000, decode_tokens_per_s: 100, slots: 1, context_tokens: 4096,
        worker_owner: given.worker.owner, worker_hot: given.worker.hot,
        issued_at: now(), expires_at: now() + 600, sequence: Math.floor(now()),
    };
    return {offer, signature: await sign(key, offerBytes(offer)), addresses: node.getMultiaddrs().map(String)};
}

async function answerQuery(stream) {
    const line = new Line(stream, protocol.MAX_QUERY_FRAME, protocol.QUERY_SAYS);
    const query = await line.receive(FIRST_FRAME_MS);
    if (query === null)
        return;
    const isOfOurs = query.type === "get_offers" && (query.model ?? given.model) === given.model;
    const answer = query.type === "get_offers"
        ? {type: "offers", offers: isOfOurs ? [await ownOffer()] : []}
        : {type: "pong", number: query.number ?? 0, models: [given.model]};
    await line.send(answer);
    await line.close();
}

class Sale {
    constructor(line) {
        this.line = line;
        this.request = null;
        this.payer = null;
        this.quote = null;
        this.paid = 0n;
    }

    async run() {
        const propose = await this.line.receive(FIRST_FRAME_MS);
        if (propose?.type === "resume")
            await this.reject(propose.job_id, "This peer holds no jobs whose line broke.");
        if (propose?.type !== "propose")
            return;
        const {job_id: jobId, model} = propose.request.terms;
        const claim = {payer: propose.payer, job: jobId, provider: peerId};
        const isProven = propose.proof !== undefined && isJobProven(given.network, claim, propose.proof);
        if (model !== given.model || !isProven || propose.proof.expires < now()) {
            await this.reject(jobId, isProven ? "This peer serves another model." : "The job is not signed for by its payer.");
            return;
        }
        this.request = propose.request;
        this.payer = propose.payer;
        await this.offerPrice(jobId);
        const keep = setInterval(() => this.line.send({type: "keep"}), protocol.KEEP_EVERY_MS);
        try {
            await this.answer();
        } finally {
            clearInterval(keep);
        }
    }

    async reject(jobId, reason) {
        await this.line.send({type: "rejected", reject: {job_id: jobId, reason, retry_after_s: 0}});
    }

    async offerPrice(jobId) {
        const promptTokens = this.request.messages.reduce((sum, turn) => sum + turn.content.split(" ").length, 0);
        this.quote = {
            job_id: jobId, price: PRICE, prompt_tokens: promptTokens, ttft_p90_s: 0.5, tpot_s: 0.01,
            window_tokens: WINDOW_TOKENS, worker_owner: given.worker.owner, worker_hot: given.worker.hot,
            model: given.model, quantization: "none", expires_at: now() + 10,
        };
        await this.line.send({type: "quoted", quote: this.quote, signature: await sign(key, quoteBytes(this.quote))});
    }

    // Words go out as long as no more than one window of them is unpaid.
    async answer() {
        await this.untilPaid(this.owed(0), PAYMENT_MS);
        const words = given.words.slice(0, this.request.sampling.max_tokens);
        let text = "";
        for (let seq = 0; seq < words.length; seq++) {
            const piece = (seq ? " " : "") + words[seq];
            text += piece;
            await this.line.send({type: "chunk", seq, text: piece, completion_tokens: seq + 1});
            if ((seq + 1) % WINDOW_TOKENS === 0) {
                await this.line.send({type: "amount_due", amount: this.owed(seq + 1)});
                await this.untilPaid(this.owed(seq + 1), PAYMENT_MS);
            }
        }
        const usage = {prompt_tokens: this.quote.prompt_tokens, completion_tokens: words.length};
        const digest = createHash("sha256").update(text).digest("hex");
        const amount = this.owed(words.length);
        const reason = words.length < given.words.length ? "length" : "stop";
        await this.line.send({type: "finished", usage, reason, amount, digest});
        await this.untilPaid(amount, SETTLE_MS);
        paidBefore.set(partyId(this.payer), this.cumulative);
        say({event: "sold", job_id: this.quote.job_id, amount: String(amount), paid: String(this.paid), usage});
    }

    owed(tokens) {
        return protocol.charge(PRICE, this.quote.prompt_tokens, tokens);
    }

    async untilPaid(amount, withinMs) {
        while (this.paid < amount) {
            const message = await this.line.receive(withinMs);
            if (message?.type === "cancel")
                await this.line.send({type: "failed", state: "cancelled", reason: "", usage: {}, amount: 0});
            if (message === null || message.type === "cancel")
                throw new ProtocolFault("the requester left");
            if (message.type === "pay")
                this.credit(message.voucher);
        }
    }

    // A voucher says all that its payer ever owed us: the difference to what was known is for this job.
    credit(voucher) {
        const isOurs = voucher.worker === partyId(given.worker) && partyId(voucher.payer) === partyId(this.payer);
        if (!isOurs || !isVoucherSigned(given.network, voucher))
            throw new ProtocolFault("the voucher is no good");
        this.cumulative = BigInt(voucher.cumulative);
        this.paid = this.cumulative - (paidBefore.get(partyId(this.payer)) ?? 0n);
        say({event: "paid", cumulative: String(voucher.cumulative)});
    }
}

async function sell(stream) {
    const line = new Line(stream, protocol.MAX_REQUESTER_FRAME, protocol.REQUESTER_SAYS);
    try {
        await new Sale(line).run();
        await line.close();
        while (await line.receive(2_000) !== null)
            continue;
    } catch (error) {
        say({event: "dropped", reason: String(error)});
        line.reset();
    }
}

await node.handle(protocol.JOB, sell);
await node.handle(protocol.QUERY, answerQuery);
await serveHello(node, given.swarm);
await greet(node, given.tell, given.swarm);
const told = await ask(
    await openStream(node, given.tell, protocol.QUERY),
    {type: "tell", offers: [await ownOffer()]},
    {most: protocol.MAX_ANSWER_FRAME, tags: protocol.ANSWER_SAYS},
);
say({event: "ready", peer_id: peerId, addresses: node.getMultiaddrs().map(String), told: told.type});
endWithStdin();
