// The smallest adapter: a backend that paints its pictures itself, with no network and no config.
//
// A picture is a gradient between two colours that follow from prompt and seed, so the same request gives the same bytes.
// What can be imported here is the contract, file by file: `easel:plugin/…`.

import { BlobWriter } from 'easel:plugin/blobs@0.3.0';
import { ImageResult } from 'easel:plugin/images@0.3.0';

import { encode } from './png.js';

const DEFAULT_SIZE = [256, 256];

/** The most bytes that go into the host at once. */
const PIECE = 64 * 1024;

// The interface `backend` of the world `adapter`.
export const backend = {
  /** The models, as the contract's `schema/models.json` says. */
  models() {
    const range = { least_side: 8, most_side: 512, multiple: 8, max_pixels: 512 * 512, default: DEFAULT_SIZE.join('x') };
    const model = {
      id: 'hello-gradient',
      name: 'Hello, gradients',
      family: 'hello',
      tasks: ['text-to-image'],
      sizes: { range },
      max_count: 4,
      formats: ['png'],
      negative_prompt: 'ignored',
      seed: 'honoured',
      steps: 'ignored',
      guidance: 'ignored',
      samplers: 'ignored',
      options: [],
      determinism: 'exact',
      price: null,
    };
    return JSON.stringify({ models: [model] });
  },

  /** Makes the pictures of a request that fits one of the models. What is thrown here is the answer's error. */
  generate(context, request, progress) {
    const size = request.size() ?? DEFAULT_SIZE;
    const prompt = request.prompt();
    const first = request.seed() ?? 0n;
    const result = new ImageResult();
    for (let index = 0; index < request.count(); index += 1) {
      if (!progress.step(index, 0, 1)) throw { kind: 'cancelled', message: 'the client has gone' };
      const seed = first + BigInt(index);
      const [from, to] = [0, 1].map((number) => colour(prompt, seed, number));
      const file = encode(size, (x, y) => gradient(from, to, size, x, y));
      result.addImage(blob('image/png', file), { seed, revisedPrompt: undefined });
    }
    return result;
  },
};

/** Copies bytes into the host. */
function blob(mediaType, bytes) {
  const writer = new BlobWriter(mediaType);
  for (let at = 0; at < bytes.length; at += PIECE) writer.write(bytes.subarray(at, at + PIECE));
  return BlobWriter.finish(writer);
}

/** The colour of one pixel: a blend of two colours along the diagonal. */
function gradient(from, to, [width, height], x, y) {
  const [way, whole] = [x + y, Math.max(width + height - 2, 1)];
  return from.map((channel, index) => Math.floor((channel * (whole - way) + to[index] * way) / whole));
}

/** A colour that follows from prompt, seed and its number, by the hash FNV-1a. */
function colour(prompt, seed, number) {
  let hash = 0xcbf29ce484222325n;
  const add = (byte) => {
    hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn;
  };
  add(number);
  new TextEncoder().encode(prompt).forEach(add);
  for (let at = 0n; at < 64n; at += 8n) add((seed >> at) & 0xffn);
  return [56n, 48n, 40n].map((shift) => Number((hash >> shift) & 0xffn));
}
