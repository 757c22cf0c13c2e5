#!/usr/bin/env node
// Runs `forge test` and ends with its exit code: npm's own forge command ends with 0 even when tests fail.
"use strict";
const { spawnSync } = require("child_process");
const path = require("path");

const suffix = process.platform === "win32" ? ".exe" : "";
const name = `forge-${process.platform}-${process.arch === "x64" ? "amd64" : process.arch}`;
const binary = path.join(__dirname, "node_modules", "@foundry-rs", name, "bin", `forge${suffix}`);
const run = spawnSync(binary, ["test", ...process.argv.slice(2)], { cwd: __dirname, stdio: "inherit" });
if (run.error) console.error(`forge could not be started: ${run.error.message}`);
process.exit(run.status === null ? 1 : run.status);
