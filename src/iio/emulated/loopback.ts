import { decodeSample, encodeSample, type SampleLayout, type ScanFormat } from '@iio-bridge/protocol';
import { ByteFifo } from './byte-fifo.js';
import { CHUNK_BYTES, type SampleSource } from './sample-source.js';
import { Wakeup } from './wakeup.js';

/** What the wire holds between the two converters, in chunks. */
const CAPACITY_CHUNKS = 4;

interface Element {
  readonly offset: number;
  readonly format: ScanFormat;
}

/**
 * A wire from an output's converter to an input's: the first channel of the one to the first of the other, and so on, by
 * value. Sample sets that are played while the input is off are lost; while it is on, the output waits for it.
 */
export class Loopback {
  #input: LoopbackSource | undefined;

  /** The input is being enabled. `channels`: the input's channel numbers, by scan index, of the layout's channels. */
  connect(layout: SampleLayout, channels: readonly number[]): LoopbackSource {
    const input = new LoopbackSource(layout, channels, () => {
      if (this.#input === input) {
        this.#input = undefined;
      }
    });
    this.#input = input;
    return input;
  }

  /** Plays whole sample sets; waits while the input has no room. Rejects when `signal` aborts. */
  async play(bytes: Uint8Array, layout: SampleLayout, channels: readonly number[], signal: AbortSignal): Promise<void> {
    await this.#input?.accept(bytes, layout, channels, signal);
  }
}

export class LoopbackSource implements SampleSource {
  readonly followsAnother = true;
  readonly #layout: SampleLayout;
  readonly #channels: readonly number[];
  readonly #disconnect: () => void;
  readonly #fifo: ByteFifo;
  readonly #arrival = new Wakeup();
  readonly #room = new Wakeup();
  #closed = false;

  constructor(layout: SampleLayout, channels: readonly number[], disconnect: () => void) {
    this.#layout = layout;
    this.#channels = channels;
    this.#disconnect = disconnect;
    this.#fifo = new ByteFifo(CAPACITY_CHUNKS * Math.max(CHUNK_BYTES, layout.bytes));
  }

  async next(sets: number, signal: AbortSignal): Promise<Uint8Array> {
    while (this.#fifo.length === 0) {
      await this.#arrival.wait(signal);
    }
    const bytes = this.#fifo.shift(sets * this.#layout.bytes);
    this.#room.wake();
    return bytes;
  }

  async accept(
    played: Uint8Array,
    layout: SampleLayout,
    channels: readonly number[],
    signal: AbortSignal,
  ): Promise<void> {
    const bytes = this.#convert(played, layout, channels);
    for (let done = 0; done < bytes.byteLength && !this.#closed; ) {
      const room = Math.floor(this.#fifo.free / this.#layout.bytes) * this.#layout.bytes;
      if (room === 0) {
        await this.#room.wait(signal);
        continue;
      }
      const part = bytes.subarray(done, done + room);
      this.#fifo.push(part);
      this.#arrival.wake();
      done += part.byteLength;
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#disconnect();
    this.#room.wake();
  }

  #convert(played: Uint8Array, from: SampleLayout, channels: readonly number[]): Uint8Array {
    const pairs = this.#layout.channels.flatMap((channel, index) => {
      const source = from.channels[channels.indexOf(this.#channels[index] ?? -1)];
      const target = channel.channel.scanElement?.format;
      const format = source?.channel.scanElement?.format;
      return source === undefined || format === undefined || target === undefined
        ? []
        : [{ from: { offset: source.offset, format }, to: { offset: channel.offset, format: target } }];
    });
    const same =
      from.bytes === this.#layout.bytes &&
      pairs.length === this.#layout.channels.length &&
      pairs.length === from.channels.length &&
      pairs.every((pair) => sameElement(pair.from, pair.to));
    if (same) {
      return played;
    }
    const sets = played.byteLength / from.bytes;
    const made = new Uint8Array(sets * this.#layout.bytes);
    const input = new DataView(played.buffer, played.byteOffset, played.byteLength);
    const output = new DataView(made.buffer);
    for (let set = 0; set < sets; set++) {
      for (const pair of pairs) {
        const value = decodeSample(input, set * from.bytes + pair.from.offset, pair.from.format);
        encodeSample(output, set * this.#layout.bytes + pair.to.offset, pair.to.format, value);
      }
    }
    return made;
  }
}

function sameElement(a: Element, b: Element): boolean {
  return (
    a.offset === b.offset &&
    a.format.endianness === b.format.endianness &&
    a.format.signed === b.format.signed &&
    a.format.bits === b.format.bits &&
    a.format.storageBits === b.format.storageBits &&
    a.format.repeat === b.format.repeat &&
    a.format.shift === b.format.shift
  );
}
