// Runs a packed model under Node: node web.mjs web.wasm MODEL IMAGE A B C D
//
// IMAGE holds the A x B x C x D floats of the input. The outputs go to the standard output, one a line; a failure goes to
// the standard error, with exit code 1.

import { readFileSync } from "node:fs";

const [wasm, model, image, ...shape] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(readFileSync(wasm), {});
const { memory, reserve, open, run, output, output_length, failure, failure_length } = instance.exports;

function given(bytes) {
  const start = reserve(bytes.length);
  new Uint8Array(memory.buffer, start, bytes.length).set(bytes);
  return [start, bytes.length];
}

function must(done) {
  if (!done) {
    console.error(new TextDecoder().decode(new Uint8Array(memory.buffer, failure(), failure_length())));
    process.exit(1);
  }
}

must(open(...given(readFileSync(model)), ...shape.map(Number)));
must(run(...given(readFileSync(image))));
for (const value of new Float32Array(memory.buffer, output(), output_length())) console.log(value);
