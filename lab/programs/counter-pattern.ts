import { IioError } from '@iio-bridge/protocol';

/** A scan element of a simulated converter, from the tables of lab/kernel/README.md and from nowhere else. */
interface Element {
  readonly id: string;
  readonly bytes: 2 | 4;
  readonly endianness: 'le' | 'be';
  readonly signed: boolean;
  /** Significant bits, and how far they are shifted up in their storage. */
  readonly bits: number;
  readonly shift: number;
  /** The bit of the sample set's number at which the element's value begins. */
  readonly firstBit: number;
}

interface Timestamp {
  readonly id: 'timestamp';
  readonly bytes: 8;
}

const S16 = { bytes: 2, endianness: 'le', signed: true, bits: 16, shift: 0 } as const;

const DEVICES: Readonly<Record<string, readonly (Element | Timestamp)[]>> = {
  'iio-sim-adc': [0, 1, 2, 3].map((channel) => ({ id: `voltage${channel}`, ...S16, firstBit: 16 * channel })),
  'iio-sim-mixed': [
    { id: 'voltage0', ...S16, firstBit: 0 },
    { id: 'voltage1', bytes: 4, endianness: 'le', signed: true, bits: 24, shift: 8, firstBit: 0 },
    { id: 'voltage2', bytes: 4, endianness: 'le', signed: true, bits: 32, shift: 0, firstBit: 0 },
    { id: 'voltage3', bytes: 2, endianness: 'be', signed: false, bits: 12, shift: 4, firstBit: 0 },
    { id: 'timestamp', bytes: 8 },
  ],
};

interface Placed {
  readonly element: Element | Timestamp;
  readonly offset: number;
}

/** A value that is not what the documentation promises. */
export interface Mismatch {
  readonly set: number;
  readonly element: string;
  readonly expected: string;
  readonly found: string;
}

/**
 * Checks every byte of a counter signal, for any subset of a simulated converter's channels: sample sets are numbered
 * from 0 without a gap, elements are aligned to their size and sets to their largest element, padding is zero.
 */
export class PatternChecker {
  /** Bytes of a sample set. */
  readonly setBytes: number;
  readonly #placed: readonly Placed[];
  readonly #padding: readonly number[];
  readonly #samplingFrequency: number;
  #sets = 0;
  #mismatches = 0;
  #first: Mismatch | undefined;
  #startedAt: bigint | undefined;

  /** `samplingFrequency`: of the device, which the timestamps follow; in sample sets per second. */
  constructor(device: string, channels: readonly string[], samplingFrequency: number) {
    const elements = (DEVICES[device] ?? []).filter(({ id }) => channels.includes(id));
    if (elements.length === 0 || elements.length !== channels.length) {
      throw new IioError('USAGE', `no documented pattern for ${channels.join(', ')} of ${device}`);
    }
    let end = 0;
    this.#placed = elements.map((element) => {
      const offset = alignUp(end, element.bytes);
      end = offset + element.bytes;
      return { element, offset };
    });
    this.setBytes = alignUp(end, Math.max(...elements.map(({ bytes }) => bytes)));
    const used = new Set(
      this.#placed.flatMap(({ element, offset }) => Array.from({ length: element.bytes }, (_, i) => offset + i)),
    );
    this.#padding = Array.from({ length: this.setBytes }, (_, at) => at).filter((at) => !used.has(at));
    this.#samplingFrequency = samplingFrequency;
  }

  /** Sample sets that were checked. */
  get sets(): number {
    return this.#sets;
  }

  /** Elements and padding bytes that were wrong. */
  get mismatches(): number {
    return this.#mismatches;
  }

  get firstMismatch(): Mismatch | undefined {
    return this.#first;
  }

  /** The timestamp of sample set 0, in ns, if the stream has one. */
  get startedAt(): bigint | undefined {
    return this.#startedAt;
  }

  /** Takes the next whole sample sets of the stream. */
  check(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const sets = bytes.byteLength / this.setBytes;
    if (!Number.isInteger(sets)) {
      throw new IioError('EPROTO', `${bytes.byteLength} bytes are no whole sample sets of ${this.setBytes} bytes`);
    }
    for (const { element, offset } of this.#placed) {
      if (element.id === 'timestamp') {
        this.#checkTimestamps(view, sets, offset);
      } else if ('bits' in element) {
        this.#checkElement(view, sets, element, offset);
      }
    }
    for (const offset of this.#padding) {
      for (let set = 0; set < sets; set += 1) {
        const found = view.getUint8(set * this.setBytes + offset);
        if (found !== 0) {
          this.#note(this.#sets + set, 'padding', 0, found);
        }
      }
    }
    this.#sets += sets;
  }

  /** Checks a channel's decoded values, which begin at sample set 0. Call it beside {@link check}, not instead of it. */
  checkDecoded(channel: string, values: ArrayLike<number | bigint>): void {
    const element = this.#placed.find(({ element: { id } }) => id === channel)?.element;
    if (element === undefined || !('bits' in element)) {
      return;
    }
    for (let set = 0; set < values.length; set += 1) {
      const value = significant(element, set);
      const expected = element.signed && value >= 2 ** (element.bits - 1) ? value - 2 ** element.bits : value;
      const found = values[set] ?? Number.NaN;
      if (found !== expected) {
        this.#note(set, `${channel}, decoded`, expected, found);
      }
    }
  }

  #checkElement(view: DataView, sets: number, element: Element, offset: number): void {
    const littleEndian = element.endianness === 'le';
    const wide = element.bytes === 4;
    for (let set = 0, at = offset; set < sets; set += 1, at += this.setBytes) {
      const expected = significant(element, this.#sets + set) * 2 ** element.shift;
      const found = wide ? view.getUint32(at, littleEndian) : view.getUint16(at, littleEndian);
      if (found !== expected) {
        this.#note(this.#sets + set, element.id, expected, found);
      }
    }
  }

  #checkTimestamps(view: DataView, sets: number, offset: number): void {
    this.#startedAt ??= view.getBigInt64(offset, true);
    for (let set = 0; set < sets; set += 1) {
      const passed = Math.floor(((this.#sets + set) * 1e9) / this.#samplingFrequency);
      const expected = this.#startedAt + BigInt(passed);
      const found = view.getBigInt64(set * this.setBytes + offset, true);
      if (found !== expected) {
        this.#note(this.#sets + set, 'timestamp', expected, found);
      }
    }
  }

  #note(set: number, element: string, expected: number | bigint, found: number | bigint): void {
    this.#mismatches += 1;
    this.#first ??= { set, element, expected: String(expected), found: String(found) };
  }
}

/** The significant bits of an element in sample set `set`. */
function significant({ bits, firstBit }: Element, set: number): number {
  return Math.floor(set / 2 ** firstBit) % 2 ** bits;
}

function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}
