import { type ChannelLayout, decodeSample, IioError, type SampleLayout, type ScanFormat } from '@iio-bridge/protocol';
import type { Channel } from './device.js';

type NumberArray =
  | Int8Array<ArrayBuffer>
  | Uint8Array<ArrayBuffer>
  | Int16Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>;

type BigIntArray = BigInt64Array<ArrayBuffer> | BigUint64Array<ArrayBuffer>;

export type SampleArray = NumberArray | BigIntArray;

const HOST_IS_LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/**
 * Samples of one block. Owns its memory until {@link release}, which hands it back to the stream: a stream has a fixed
 * number of blocks, and captures nothing into those that its user holds.
 */
export class RxBlock implements Disposable {
  /** Counts the stream's blocks from 0. */
  readonly sequence: number;
  readonly layout: SampleLayout;
  /** Sample sets in the block. */
  readonly samples: number;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  #release: (() => void) | undefined;

  constructor(sequence: number, layout: SampleLayout, bytes: Uint8Array<ArrayBuffer>, release: () => void) {
    this.sequence = sequence;
    this.layout = layout;
    this.samples = Math.floor(bytes.length / layout.bytes);
    this.#bytes = bytes;
    this.#release = release;
  }

  /**
   * The raw sample sets, `samples * layout.bytes` long, as the device stored them; no copy. Views taken from here show
   * later samples after the release.
   * @throws IioError `RELEASED`
   */
  get bytes(): Uint8Array<ArrayBuffer> {
    if (this.#release === undefined) {
      throw new IioError('RELEASED', `block ${this.sequence} was used after release(): its memory holds other samples`);
    }
    return this.#bytes;
  }

  /**
   * All channels as one typed array, sample set by sample set; no copy. `undefined` unless every enabled channel has the
   * same plain format (little endian, no shift, all bits significant) and the sample set has no padding.
   * @throws IioError `RELEASED`
   */
  interleaved(): SampleArray | undefined {
    const { channels, bytes } = this.layout;
    const format = channels[0]?.channel.scanElement?.format;
    const samples = this.bytes;
    if (format === undefined || !isPlain(format)) {
      return undefined;
    }
    let end = 0;
    for (const { channel, offset, bytes: size } of channels) {
      const other = channel.scanElement?.format;
      const same = other?.storageBits === format.storageBits && other.signed === format.signed && isPlain(other);
      if (!same || offset !== end) {
        return undefined;
      }
      end += size;
    }
    return end === bytes ? viewOf(samples, format) : undefined;
  }

  /**
   * One channel's values, `samples` (times the format's repeat) long. A view without a copy if the sample set consists
   * of just this channel in a plain format, otherwise a converted copy: `number`s up to 32 bits, `bigint`s above.
   * @throws IioError `RELEASED`; `NO_CHANNEL` if the stream does not carry the channel
   */
  channel(which: Channel | string): SampleArray {
    const samples = this.bytes;
    const placed = this.layout.channels.find(({ channel, position }) =>
      typeof which === 'string' ? channel.id === which : position === which.position,
    );
    const format = placed?.channel.scanElement?.format;
    if (placed === undefined || format === undefined) {
      const known = this.layout.channels.map(({ channel }) => channel.id).join(', ');
      const id = typeof which === 'string' ? which : which.id;
      throw new IioError('NO_CHANNEL', `the stream does not carry channel '${id}' (channels: ${known})`);
    }
    if (!isPlain(format)) {
      return this.#decode(samples, placed, format);
    }
    const whole = viewOf(samples, format);
    return placed.bytes === this.layout.bytes ? whole : this.#pick(whole, placed, format);
  }

  /** Gives the memory back, so that the server is asked for more samples. Further calls do nothing. */
  release(): void {
    const release = this.#release;
    this.#release = undefined;
    release?.();
  }

  [Symbol.dispose](): void {
    this.release();
  }

  #pick(whole: SampleArray, { offset }: ChannelLayout, format: ScanFormat): SampleArray {
    const size = format.storageBits / 8;
    const from = { start: offset / size, stride: this.layout.bytes / size, repeat: format.repeat };
    const picked = arrayFor(format, this.samples * format.repeat);
    if (isBig(picked)) {
      return isBig(whole) ? pick(whole, picked, from) : picked;
    }
    return isBig(whole) ? picked : pick(whole, picked, from);
  }

  #decode(samples: Uint8Array<ArrayBuffer>, { offset }: ChannelLayout, format: ScanFormat): SampleArray {
    const view = new DataView(samples.buffer, samples.byteOffset, samples.length);
    const decoded = arrayFor(format, this.samples * format.repeat);
    const store = isBig(decoded)
      ? (index: number, value: number | bigint) => {
          decoded[index] = BigInt(value);
        }
      : (index: number, value: number | bigint) => {
          decoded[index] = Number(value);
        };
    for (let sample = 0, to = 0; sample < this.samples; sample++) {
      for (let element = 0; element < format.repeat; element++) {
        store(to++, decodeSample(view, sample * this.layout.bytes + offset, format, element));
      }
    }
    return decoded;
  }
}

function pick<V, T extends { [index: number]: V; readonly length: number }>(
  whole: T,
  picked: T,
  { start, stride, repeat }: { readonly start: number; readonly stride: number; readonly repeat: number },
): T {
  for (let from = start, to = 0; to < picked.length; from += stride) {
    for (let element = 0; element < repeat; element++) {
      const value = whole[from + element];
      if (value !== undefined) {
        picked[to] = value;
      }
      to++;
    }
  }
  return picked;
}

function isBig(array: SampleArray): array is BigIntArray {
  return array instanceof BigInt64Array || array instanceof BigUint64Array;
}

/** Whether a value is just the bytes in memory, read as the host reads them. */
function isPlain({ endianness, shift, bits, storageBits }: ScanFormat): boolean {
  const widthFits = storageBits === 8 || storageBits === 16 || storageBits === 32 || storageBits === 64;
  return HOST_IS_LITTLE_ENDIAN && endianness === 'le' && shift === 0 && bits === storageBits && widthFits;
}

function viewOf(bytes: Uint8Array<ArrayBuffer>, format: ScanFormat): SampleArray {
  const Type = typeFor(format.signed, format.storageBits);
  return new Type(bytes.buffer, bytes.byteOffset, Math.floor(bytes.length / Type.BYTES_PER_ELEMENT));
}

function arrayFor(format: ScanFormat, length: number): SampleArray {
  // decodeSample gives a bigint exactly for more than 32 significant bits.
  const { signed, fullyDefined, bits, storageBits } = format;
  const Type = typeFor(signed, bits > 32 ? 64 : fullyDefined ? Math.min(storageBits, 32) : bits);
  return new Type(length);
}

function typeFor(signed: boolean, bits: number) {
  if (bits <= 8) {
    return signed ? Int8Array : Uint8Array;
  }
  if (bits <= 16) {
    return signed ? Int16Array : Uint16Array;
  }
  if (bits <= 32) {
    return signed ? Int32Array : Uint32Array;
  }
  return signed ? BigInt64Array : BigUint64Array;
}
