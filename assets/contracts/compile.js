#!/usr/bin/env node
// Compiles src/*.sol with npm's solc and writes the artifacts that the application reads.
// Usage: node compile.js [--out FOLDER]    (default: this folder)
"use strict";
const fs = require("fs");
const path = require("path");
const solc = require("solc");

const HERE = __dirname;
const CONTRACTS = ["ComputeEscrow", "TestToken"];
const SETTINGS = {
  evmVersion: "cancun",
  optimizer: { enabled: true, runs: 20000 },
  metadata: { bytecodeHash: "none" }, // the same bytes whatever the folder is called
  remappings: [],
};

function compile() {
  const sources = {};
  for (const name of CONTRACTS) {
    sources[`src/${name}.sol`] = { content: fs.readFileSync(path.join(HERE, "src", `${name}.sol`), "utf8") };
  }
  const wanted = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "evm.deployedBytecode.immutableReferences"];
  const input = { language: "Solidity", sources, settings: { ...SETTINGS, outputSelection: { "*": { "*": wanted } } } };
  const read = (name) => ({ contents: fs.readFileSync(path.join(HERE, "node_modules", name), "utf8") });
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: read }));
  for (const problem of output.errors || []) {
    console.error(problem.formattedMessage);
    if (problem.severity === "error") process.exit(1);
  }
  return output.contracts;
}

function artifact(contract) {
  const deployed = contract.evm.deployedBytecode;
  // Places of the immutables: a client blanks them before it compares a deployed contract's code with this file.
  const immutables = Object.values(deployed.immutableReferences || {}).flat().sort((a, b) => a.start - b.start);
  return {
    abi: contract.abi,
    bytecode: "0x" + contract.evm.bytecode.object,
    deployedBytecode: "0x" + deployed.object,
    immutables,
    compiler: { version: solc.version(), ...SETTINGS },
  };
}

function main() {
  const at = process.argv.indexOf("--out");
  const folder = at === -1 ? HERE : process.argv[at + 1];
  const contracts = compile();
  for (const name of CONTRACTS) {
    const text = JSON.stringify(artifact(contracts[`src/${name}.sol`][name]), null, 1) + "\n";
    fs.writeFileSync(path.join(folder, `${name}.json`), text);
  }
}

main();
