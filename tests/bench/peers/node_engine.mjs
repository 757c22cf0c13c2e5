// Answers prompts with node-llama-cpp: one JSON line in (prompts, answer_tokens), one out. The first line out says it
// is ready. Arguments: the package's entry file, and the setup as JSON. Greedy, streamed token by token as an app would.
import {createInterface} from "node:readline";
import {pathToFileURL} from "node:url";

const {getLlama, LlamaLogLevel} = await import(pathToFileURL(process.argv[2]).href);
const setup = JSON.parse(process.argv[3]);
const llama = await getLlama({
    gpu: setup.gpu_layers > 0 ? "auto" : false,
    build: "never",
    maxThreads: 0,
    logLevel: LlamaLogLevel.error,
});
const model = await llama.loadModel({modelPath: setup.model, gpuLayers: setup.gpu_layers, defaultContextFlashAttention: true});
const context = await model.createContext({
    sequences: setup.slots,
    contextSize: setup.slot_context_tokens,
    threads: setup.threads,
    batchSize: 512,
});
const sequences = Array.from({length: setup.slots}, () => context.getSequence());

async function answer(sequence, prompt, count) {
    await sequence.clearHistory();
    const tokens = model.tokenize(prompt, true);
    let answered = 0;
    let text = "";
    for await (const token of sequence.evaluate(tokens, {temperature: 0, yieldEogToken: true})) {
        text += model.detokenize([token]);
        answered += 1;
        if (answered >= count)
            break;
    }
    return [tokens.length, answered, text.length];
}

function say(object) {
    process.stdout.write(JSON.stringify(object) + "\n");
}

say({release: llama.llamaCppRelease?.release ?? "unknown", threads: context.currentThreads});
for await (const line of createInterface({input: process.stdin})) {
    const asked = JSON.parse(line);
    const waiting = [...asked.prompts];
    const answers = [];
    await Promise.all(sequences.map(async (sequence) => {
        while (waiting.length > 0)
            answers.push(await answer(sequence, waiting.shift(), asked.answer_tokens));
    }));
    say({
        prompt_tokens: answers.reduce((sum, one) => sum + one[0], 0),
        answer_tokens: answers.reduce((sum, one) => sum + one[1], 0),
    });
}
process.exit(0);
