// A js-libp2p peer with what the document asks of a transport: TCP (or WebSocket), Noise, Yamux; identify and ping.
import {noise} from "@libp2p/noise";
import {yamux} from "@libp2p/yamux";
import {identify} from "@libp2p/identify";
import {ping} from "@libp2p/ping";
import {tcp} from "@libp2p/tcp";
import {webSockets} from "@libp2p/websockets";
import {generateKeyPairFromSeed} from "@libp2p/crypto/keys";
import {multiaddr} from "@multiformats/multiaddr";
import {createLibp2p} from "libp2p";

export async function openPeer({listen = [], seed = crypto.getRandomValues(new Uint8Array(32))} = {}) {
    const key = await generateKeyPairFromSeed("Ed25519", seed);
    const node = await createLibp2p({
        privateKey: key,
        addresses: {listen},
        transports: [tcp(), webSockets()],
        connectionEncrypters: [noise()],
        streamMuxers: [yamux()],
        services: {identify: identify(), ping: ping()},
        connectionMonitor: {enabled: false},
    });
    return {node, key};
}

// A stream of this protocol to the peer at an address that ends in /p2p/ID.
export async function openStream(node, address, protocol, signal = AbortSignal.timeout(10_000)) {
    const connection = await node.dial(multiaddr(address), {signal});
    return connection.newStream(protocol, {signal});
}

export function say(object) {
    process.stdout.write(JSON.stringify(object) + "\n");
}

// Whoever started this program closes its stdin to end it.
export function endWithStdin() {
    process.stdin.resume();
    process.stdin.on("end", () => process.exit(0));
}
