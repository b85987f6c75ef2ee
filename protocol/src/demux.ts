import { IioError } from './errors.js';
import type { SampleLayout } from './layout.js';

/** Takes the sample sets that `source` starts with, as many as fit it whole, and returns the chosen channels of each. */
export type Demux = (source: Uint8Array) => Uint8Array;

interface Piece {
  readonly from: number;
  readonly to: number;
  bytes: number;
}

/**
 * Makes the function that picks the channels of `to` out of sample sets laid out as `from`. Padding comes out as zeros.
 *
 * @throws IioError `EINVAL` if `from` lacks a channel of `to`
 */
export function demux(from: SampleLayout, to: SampleLayout): Demux {
  const pieces = piecesOf(from, to);
  return (source) => {
    const samples = from.bytes === 0 ? 0 : Math.floor(source.byteLength / from.bytes);
    const [only] = pieces;
    if (pieces.length === 1 && only?.bytes === from.bytes && from.bytes === to.bytes) {
      return source.slice(0, samples * from.bytes);
    }
    const target = new Uint8Array(samples * to.bytes);
    for (const { from: offset, to: place, bytes } of pieces) {
      for (let sample = 0; sample < samples; sample++) {
        const read = sample * from.bytes + offset;
        const write = sample * to.bytes + place;
        for (let i = 0; i < bytes; i++) {
          target[write + i] = source[read + i] ?? 0;
        }
      }
    }
    return target;
  };
}

/** Neighbours on both sides are one piece; channels that share storage are copied once. */
function piecesOf(from: SampleLayout, to: SampleLayout): Piece[] {
  const sources = new Map(from.channels.map((channel) => [channel.position, channel]));
  const pieces: Piece[] = [];
  let end = 0;
  for (const { position, channel, offset, bytes } of to.channels) {
    const source = sources.get(position);
    if (source === undefined || source.bytes !== bytes) {
      throw new IioError('EINVAL', `demux: channel ${channel.id} is not among the samples`);
    }
    const last = pieces.at(-1);
    if (last !== undefined && offset < end) {
      continue;
    }
    if (last !== undefined && last.to + last.bytes === offset && last.from + last.bytes === source.offset) {
      last.bytes += bytes;
    } else {
      pieces.push({ from: source.offset, to: offset, bytes });
    }
    end = offset + bytes;
  }
  return pieces;
}
