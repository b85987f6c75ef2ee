import { Zstd } from '@hpcc-js/wasm-zstd';

/** What iiod uses. */
const LEVEL = 3;

const frames = new WeakMap<Uint8Array, Promise<Uint8Array>>();

/**
 * A document as one zstd frame with the content size in its header, which clients need to make room for it. Compressed
 * once per document.
 */
export function compressed(document: Uint8Array): Promise<Uint8Array> {
  let frame = frames.get(document);
  if (frame === undefined) {
    frame = Zstd.load().then((zstd) => zstd.compress(document, LEVEL));
    frames.set(document, frame);
  }
  return frame;
}
