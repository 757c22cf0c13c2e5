// Frames of the document: an unsigned varint length, then that many bytes of JSON. Integers may be larger than 2^53
// (money has 96 bits), so they are read as BigInt where a Number would lose digits.

const MAX_VARINT_BYTES = 5;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", {fatal: true});

// What the peer said is not what the document allows.
export class ProtocolFault extends Error {}

export function toJson(value) {
    return JSON.stringify(value, (_, one) => typeof one === "bigint" ? JSON.rawJSON(one.toString()) : one);
}

export function fromJson(text) {
    return JSON.parse(text, (_, one, context) => {
        const isInteger = typeof one === "number" && /^-?\d+$/.test(context.source);
        return isInteger && !Number.isSafeInteger(one) ? BigInt(context.source) : one;
    });
}

// A number that the document calls a float, as it is spelled in bytes that get signed.
export function float(number) {
    const size = Math.abs(number);
    if (size === 0)
        return JSON.rawJSON(Object.is(number, -0) ? "-0.0" : "0.0");
    if (size >= 1e-5 && size < 1e16) {
        const plain = size < 1e-6 ? number.toFixed(20) : String(number);
        return JSON.rawJSON(plain.includes(".") ? plain : `${plain}.0`);
    }
    const [digits, exponent] = number.toExponential().split("e");
    return JSON.rawJSON(`${digits}e${Number(exponent)}`);
}

export function encodeFrame(message) {
    const body = encoder.encode(toJson(message));
    const head = [];
    let length = body.length;
    for (; length > 0x7f; length >>>= 7)
        head.push(length & 0x7f | 0x80);
    return new Uint8Array([...head, length, ...body]);
}

// Cuts bytes into messages. tags: the message types that may come.
export class FrameDecoder {
    #buffer = new Uint8Array(0);

    constructor(maxFrameBytes, tags) {
        this.maxFrameBytes = maxFrameBytes;
        this.tags = new Set(tags);
    }

    feed(received) {
        const joined = new Uint8Array(this.#buffer.length + received.length);
        joined.set(this.#buffer);
        joined.set(received, this.#buffer.length);
        this.#buffer = joined;
        const messages = [];
        for (let head = this.#head(); head !== null; head = this.#head()) {
            const [length, start] = head;
            if (this.#buffer.length < start + length)
                break;
            messages.push(this.#decode(this.#buffer.subarray(start, start + length)));
            this.#buffer = this.#buffer.slice(start + length);
        }
        return messages;
    }

    #head() {
        let length = 0;
        for (let index = 0; index < Math.min(this.#buffer.length, MAX_VARINT_BYTES); index++) {
            const byte = this.#buffer[index];
            length += (byte & 0x7f) * 2 ** (7 * index);
            if (byte < 0x80) {
                if (length > this.maxFrameBytes)
                    throw new ProtocolFault("the frame is too long");
                return [length, index + 1];
            }
        }
        if (this.#buffer.length >= MAX_VARINT_BYTES)
            throw new ProtocolFault("the frame's length is no varint");
        return null;
    }

    #decode(body) {
        let message;
        try {
            message = fromJson(decoder.decode(body));
        } catch {
            throw new ProtocolFault("the frame is no JSON");
        }
        if (message === null || typeof message !== "object" || !this.tags.has(message.type))
            throw new ProtocolFault("the message is of no type that may come here");
        return message;
    }
}

// Both directions of one stream: send(message), and receive(within ms) for the next message, or null at the end.
export class Line {
    #waiting = [];
    #wake = null;
    #fault = null;
    #isAtEnd = false;

    constructor(stream, maxFrameBytes, tags) {
        this.stream = stream;
        const frames = new FrameDecoder(maxFrameBytes, tags);
        this.#read(frames);
    }

    async #read(frames) {
        try {
            for await (const received of this.stream)
                this.#take(frames.feed(received.subarray()));
        } catch (error) {
            this.#fault = error;
        }
        this.#isAtEnd = true;
        this.#wake?.();
    }

    #take(messages) {
        this.#waiting.push(...messages);
        this.#wake?.();
    }

    async receive(withinMs = 15_000) {
        const deadline = Date.now() + withinMs;
        while (this.#waiting.length === 0) {
            if (this.#fault !== null)
                throw this.#fault;
            if (this.#isAtEnd)
                return null;
            if (Date.now() >= deadline)
                throw new ProtocolFault(`nothing was said for ${withinMs} ms`);
            await new Promise((resolve) => {
                this.#wake = resolve;
                setTimeout(resolve, deadline - Date.now()).unref();
            });
        }
        return this.#waiting.shift();
    }

    send(message) {
        if (!this.stream.send(encodeFrame(message)))
            return this.stream.onDrain();
    }

    // We will say no more.
    async close() {
        await this.stream.close();
    }

    reset() {
        this.stream.abort(new Error("done"));
    }
}

// One question, one answer.
export async function ask(stream, question, {most, tags}) {
    const line = new Line(stream, most, tags);
    try {
        await line.send(question);
        await line.close();
        const answer = await line.receive(10_000);
        if (answer === null)
            throw new ProtocolFault("the peer hung up");
        return answer;
    } finally {
        line.reset();
    }
}
