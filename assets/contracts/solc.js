#!/usr/bin/env node
// Lets forge compile offline: npm's solc behind the two options of the native compiler that forge uses.
"use strict";
const fs = require("fs");
const solc = require("solc");

if (process.argv.includes("--standard-json")) {
  process.stdout.write(solc.compile(fs.readFileSync(0, "utf8")));
} else {
  process.stdout.write(`solc, the solidity compiler commandline interface\nVersion: ${solc.version()}\n`);
}
