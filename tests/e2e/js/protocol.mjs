// Names and limits of the document.
export const JOB = "/starling/job/1.0.0";
export const QUERY = "/starling/query/1.0.0";
export const HELLO = "/starling/hello/1.0.0";
export const REQUESTER_SAYS = ["propose", "resume", "pay", "cancel", "keep"];
export const PROVIDER_SAYS = ["quoted", "rejected", "resumed", "amount_due", "chunk", "finished", "failed", "keep"];
export const QUERY_SAYS = ["get_offers", "tell", "ping"];
export const ANSWER_SAYS = ["offers", "pong"];
export const MAX_REQUESTER_FRAME = 4 * 2 ** 20;
export const MAX_PROVIDER_FRAME = 256 * 2 ** 10;
export const MAX_QUERY_FRAME = 64 * 2 ** 10;
export const MAX_ANSWER_FRAME = 2 ** 20;
export const MAX_HELLO_FRAME = 8 * 2 ** 10;
export const KEEP_EVERY_MS = 5_000;
export const VERSION = 1;

// What so many tokens cost: rounded up once over the whole job.
export function charge(price, promptTokens, completionTokens) {
    const parts = BigInt(price.input_per_mtok) * BigInt(promptTokens)
        + BigInt(price.output_per_mtok) * BigInt(completionTokens);
    const whole = 10_000n * 1_000_000n;
    return (parts * (10_000n + BigInt(price.tip_bp)) + whole - 1n) / whole;
}
