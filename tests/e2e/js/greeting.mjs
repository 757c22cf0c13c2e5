// Hello: which swarm a peer is of, and what its clock says. Whoever dialled says it first.
import {Line, ProtocolFault, ask} from "./frames.mjs";
import {openStream} from "./peer.mjs";
import * as protocol from "./protocol.mjs";

const HELLO_MS = 5_000;
const BOUNDS = {most: protocol.MAX_HELLO_FRAME, tags: ["hello"]};
const hello = (swarm) => ({type: "hello", swarm, at: Date.now() / 1000, record: null, version: protocol.VERSION});

export async function greet(node, address, swarm) {
    const theirs = await ask(await openStream(node, address, protocol.HELLO), hello(swarm), BOUNDS);
    if (theirs.swarm !== swarm)
        throw new ProtocolFault("the peer belongs to another network");
    return theirs;
}

export async function serveHello(node, swarm) {
    await node.handle(protocol.HELLO, async (stream) => {
        const line = new Line(stream, BOUNDS.most, BOUNDS.tags);
        if (await line.receive(HELLO_MS) !== null)
            await line.send(hello(swarm));
        await line.close();
    });
}
