// Asks the library that the installed npm itself uses. Lines `c A B` and `s VERSION RANGE`, apart by tabs; one answer each.
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const root = execFileSync("npm", ["root", "-g"]).toString().trim();
const semver = createRequire(import.meta.url)(`${root}/npm/node_modules/semver`);

function answer(kind, left, right) {
  try {
    if (kind === "c") {
      return ["<", "=", ">"][semver.compare(left, right) + 1];
    }
    const version = new semver.SemVer(left);
    return String(new semver.Range(right).test(version));
  } catch {
    return "invalid";
  }
}

const lines = [];
for await (const line of createInterface({ input: process.stdin })) {
  lines.push(answer(...line.split("\t")));
}
process.stdout.write(lines.join("\n") + "\n");
