import type { SampleLayout } from '@iio-bridge/protocol';
import type { SampleClock } from './sample-clock.js';
import type { SampleSource } from './sample-source.js';
import type { Destination, SignalChannel, Waveform } from './waveform.js';

/** What fills an element: a signal, or the clock of the device. */
export type ElementSignal = SignalChannel | 'time-stamp';

export interface GeneratedSourceOptions {
  readonly layout: SampleLayout;
  /** For the channels of the layout, in its order. */
  readonly signals: readonly ElementSignal[];
  readonly waveform: Waveform;
  readonly clock: SampleClock;
  /** The most sets that will be asked for. */
  readonly maxSets: number;
}

/** The element of a sample set, filled for many sets at once: by column, so that the inner loops have one type each. */
interface Column {
  readonly offset: number;
  /** Of one element. */
  readonly storageBytes: number;
  readonly repeat: number;
  readonly littleEndian: boolean;
  /** More than one if channels share the element. */
  readonly parts: readonly { readonly signal: ElementSignal }[];
}

/** Calculated samples. Padding, and what lies beside the bits of a value, is zero. */
export class GeneratedSource implements SampleSource {
  readonly followsAnother = false;
  readonly #waveform: Waveform;
  readonly #clock: SampleClock;
  readonly #setBytes: number;
  readonly #columns: readonly Column[];
  readonly #bytes: ArrayBuffer;
  readonly #view: DataView;
  readonly #values: Int32Array;
  readonly #words: Int32Array;
  readonly #wideWords: BigUint64Array;
  readonly #timeStamps: BigInt64Array;
  #set = 0;

  constructor({ layout, signals, waveform, clock, maxSets }: GeneratedSourceOptions) {
    this.#waveform = waveform;
    this.#clock = clock;
    this.#setBytes = layout.bytes;
    this.#columns = columnsOf(layout, signals);
    // Whole 32-bit words, so that it can be seen as such.
    this.#bytes = new ArrayBuffer(Math.ceil((maxSets * layout.bytes) / 4) * 4);
    this.#view = new DataView(this.#bytes);
    this.#values = new Int32Array(maxSets);
    this.#words = new Int32Array(maxSets);
    this.#wideWords = new BigUint64Array(maxSets);
    this.#timeStamps = new BigInt64Array(maxSets);
  }

  async next(sets: number): Promise<Uint8Array> {
    for (const column of this.#columns) {
      const plain = this.#plainDestination(column);
      if (plain !== undefined) {
        this.#waveform.fill(plain.signal, this.#set, plain.destination, sets);
      } else if (isNarrow(column)) {
        this.#fillNarrow(column, sets);
      } else {
        this.#fillWide(column, sets);
      }
    }
    this.#set += sets;
    return new Uint8Array(this.#bytes, 0, sets * this.#setBytes);
  }

  async close(): Promise<void> {}

  /** If an element is stored as the signal has it: little-endian, not shifted, and in all of its bits. */
  #plainDestination(column: Column): { signal: SignalChannel; destination: Destination } | undefined {
    const { offset, storageBytes, repeat, littleEndian, parts } = column;
    const [part, ...others] = parts;
    const stride = this.#setBytes / storageBytes;
    if (part === undefined || part.signal === 'time-stamp' || others.length > 0 || repeat > 1 || !littleEndian) {
      return undefined;
    }
    const { signal } = part;
    if (signal.format.shift > 0 || storedBits(signal) < 8 * storageBytes || !isNarrow(column) || stride % 1 !== 0) {
      return undefined;
    }
    return { signal, destination: { values: this.#elements(storageBytes), start: offset / storageBytes, stride } };
  }

  #elements(bytes: number): Int8Array | Int16Array | Int32Array {
    return bytes === 1
      ? new Int8Array(this.#bytes)
      : bytes === 2
        ? new Int16Array(this.#bytes)
        : new Int32Array(this.#bytes);
  }

  #fillNarrow(column: Column, sets: number): void {
    const words = this.#words;
    const values = this.#values;
    words.fill(0, 0, sets);
    for (const { signal } of column.parts) {
      if (signal === 'time-stamp') continue;
      this.#waveform.fill(signal, this.#set, { values, start: 0, stride: 1 }, sets);
      const { shift } = signal.format;
      const mask = lowBits(storedBits(signal));
      for (let i = 0; i < sets; i++) {
        words[i] = (words[i] ?? 0) | (((values[i] ?? 0) & mask) << shift);
      }
    }
    for (let element = 0; element < column.repeat; element++) {
      storeWords(this.#view, column.offset + element * column.storageBytes, this.#setBytes, column, words, sets);
    }
  }

  #fillWide(column: Column, sets: number): void {
    const words = this.#wideWords;
    words.fill(0n, 0, sets);
    for (const { signal } of column.parts) {
      if (signal === 'time-stamp') {
        this.#clock.timeStamps(this.#set, this.#timeStamps, sets);
        for (let i = 0; i < sets; i++) {
          words[i] = BigInt.asUintN(64, this.#timeStamps[i] ?? 0n);
        }
        continue;
      }
      const bits = storedBits(signal);
      const shift = BigInt(signal.format.shift);
      if (signal.format.bits <= 32) {
        this.#waveform.fill(signal, this.#set, { values: this.#values, start: 0, stride: 1 }, sets);
      }
      for (let i = 0; i < sets; i++) {
        const value =
          signal.format.bits <= 32 ? BigInt(this.#values[i] ?? 0) : this.#waveform.wideValue(signal, this.#set + i);
        words[i] = (words[i] ?? 0n) | BigInt.asUintN(64, BigInt.asUintN(bits, value) << shift);
      }
    }
    for (let element = 0; element < column.repeat; element++) {
      storeWideWords(this.#view, column.offset + element * column.storageBytes, this.#setBytes, column, words, sets);
    }
  }
}

function columnsOf(layout: SampleLayout, signals: readonly ElementSignal[]): Column[] {
  const columns = new Map<number, Column & { readonly parts: { readonly signal: ElementSignal }[] }>();
  layout.channels.forEach(({ offset, channel }, index) => {
    const signal = signals[index];
    const format = channel.scanElement?.format;
    if (signal === undefined || format === undefined) return;
    const column = columns.get(offset) ?? {
      offset,
      storageBytes: format.storageBits / 8,
      repeat: format.repeat,
      littleEndian: format.endianness === 'le',
      parts: [],
    };
    column.parts.push({ signal });
    columns.set(offset, column);
  });
  return [...columns.values()];
}

/** Fits the view's 32-bit accesses, and needs no more than 32 bits of a signal. */
function isNarrow({ storageBytes, parts }: Column): boolean {
  return (
    (storageBytes === 1 || storageBytes === 2 || storageBytes === 4) &&
    parts.every(({ signal }) => signal !== 'time-stamp')
  );
}

/** A fully defined value fills its storage up to the shift, so that its sign reaches the top bit. */
function storedBits({ format }: SignalChannel): number {
  return format.fullyDefined ? format.storageBits - format.shift : format.bits;
}

function lowBits(bits: number): number {
  return bits >= 32 ? -1 : 2 ** bits - 1;
}

function storeWords(
  view: DataView,
  offset: number,
  stride: number,
  { storageBytes, littleEndian }: Column,
  words: Int32Array,
  sets: number,
): void {
  let at = offset;
  switch (storageBytes) {
    case 1:
      for (let i = 0; i < sets; i++, at += stride) view.setUint8(at, words[i] ?? 0);
      break;
    case 2:
      for (let i = 0; i < sets; i++, at += stride) view.setUint16(at, words[i] ?? 0, littleEndian);
      break;
    default:
      for (let i = 0; i < sets; i++, at += stride) view.setInt32(at, words[i] ?? 0, littleEndian);
  }
}

/** Of elements wider than 64 bits the lowest 64 are written. */
function storeWideWords(
  view: DataView,
  offset: number,
  stride: number,
  { storageBytes, littleEndian }: Column,
  words: BigUint64Array,
  sets: number,
): void {
  let at = offset;
  for (let i = 0; i < sets; i++, at += stride) {
    const word = words[i] ?? 0n;
    if (storageBytes === 8) {
      view.setBigUint64(at, word, littleEndian);
      continue;
    }
    for (let byte = 0; byte < Math.min(storageBytes, 8); byte++) {
      const place = littleEndian ? byte : storageBytes - 1 - byte;
      view.setUint8(at + place, Number((word >> BigInt(8 * byte)) & 0xffn));
    }
  }
}
