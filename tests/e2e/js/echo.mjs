// Sends every byte back, or measures how long that takes.
//   echo.mjs serve [LISTEN_ADDRESS]          one line {"peer_id", "addresses"}, then serves until its stdin ends
//   echo.mjs measure ADDRESS COUNT BYTES     one line {"count", "bytes", "p50_ms", "p90_ms", "p99_ms", "mean_ms"}
import {lpStream} from "@libp2p/utils";
import {endWithStdin, openPeer, openStream, say} from "./peer.mjs";

const PROTOCOL = "/starling/echo/1.0.0";
const WARM_UP = 50;

async function serve(listen = "/ip4/127.0.0.1/tcp/0") {
    const {node} = await openPeer({listen: [listen]});
    await node.handle(PROTOCOL, (stream) => {
        stream.addEventListener("message", (event) => stream.send(event.data));
        stream.addEventListener("remoteCloseWrite", () => stream.close());
    });
    say({peer_id: node.peerId.toString(), addresses: node.getMultiaddrs().map(String)});
    endWithStdin();
}

// One message after another, each a frame (a varint and BYTES of body) that must come back whole.
async function measure(address, count, bytes) {
    const {node} = await openPeer();
    const stream = lpStream(await openStream(node, address, PROTOCOL));
    const body = new Uint8Array(bytes).fill(0x2a);
    const took = [];
    for (let number = 0; number < WARM_UP + count; number++) {
        const began = performance.now();
        await stream.write(body);
        const answer = await stream.read();
        if (number >= WARM_UP)
            took.push(performance.now() - began);
        if (answer.byteLength !== bytes)
            throw new Error(`sent ${bytes} bytes and got ${answer.byteLength} back`);
    }
    took.sort((a, b) => a - b);
    const at = (share) => took[Math.min(took.length - 1, Math.floor(share * took.length))];
    const mean = took.reduce((sum, one) => sum + one, 0) / took.length;
    say({count, bytes, p50_ms: at(0.5), p90_ms: at(0.9), p99_ms: at(0.99), mean_ms: mean});
    process.exit(0);
}

const [word, ...words] = process.argv.slice(2);
if (word === "serve")
    await serve(...words);
else if (word === "measure")
    await measure(words[0], Number(words[1]), Number(words[2]));
else
    throw new Error("write: echo.mjs serve [LISTEN_ADDRESS] | measure ADDRESS COUNT BYTES");
