import { IioError } from './errors.js';

const WORD_BITS = 32;
const WORD_BYTES = 4;
const WORD_HEX_DIGITS = 8;

/**
 * Which channels of a device are enabled. Bit n is the channel at **position** n of the device's channel list (not scan
 * index n), whether or not that channel can be streamed. Immutable; bits beyond the channel count are dropped.
 */
export class ChannelMask {
  readonly channelCount: number;
  readonly #words: Uint32Array;

  private constructor(channelCount: number, words: Uint32Array) {
    this.channelCount = channelCount;
    this.#words = words;
    const lastBits = channelCount % WORD_BITS;
    const last = words.length - 1;
    if (lastBits !== 0) words[last] = ((words[last] ?? 0) & (2 ** lastBits - 1)) >>> 0;
  }

  /** @throws IioError `EINVAL` for a position that the device lacks */
  static of(channelCount: number, positions: Iterable<number>): ChannelMask {
    const words = new Uint32Array(wordsFor(channelCount));
    for (const position of positions) {
      if (!Number.isInteger(position) || position < 0 || position >= channelCount) {
        throw new IioError('EINVAL', `channel mask: position ${position} is not one of the ${channelCount} channels`);
      }
      const word = Math.floor(position / WORD_BITS);
      words[word] = (words[word] ?? 0) | (1 << (position % WORD_BITS));
    }
    return new ChannelMask(channelCount, words);
  }

  static empty(channelCount: number): ChannelMask {
    return new ChannelMask(channelCount, new Uint32Array(wordsFor(channelCount)));
  }

  /**
   * Binary protocol: little-endian 32-bit words, word 0 (positions 0…31) first.
   *
   * @throws IioError `EINVAL` unless there is exactly one word per 32 channels
   */
  static fromBytes(channelCount: number, bytes: Uint8Array): ChannelMask {
    const words = new Uint32Array(wordsFor(channelCount));
    if (bytes.byteLength !== words.length * WORD_BYTES) {
      throw new IioError(
        'EINVAL',
        `channel mask of ${bytes.byteLength} bytes, but ${channelCount} channels take ${words.length * WORD_BYTES}`,
      );
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let i = 0; i < words.length; i++) words[i] = view.getUint32(i * WORD_BYTES, true);
    return new ChannelMask(channelCount, words);
  }

  /**
   * Text protocol: 8 hex digits per word, highest word first.
   *
   * @throws IioError `EINVAL` on anything else, including a word too few or too many
   */
  static fromText(channelCount: number, text: string): ChannelMask {
    const words = new Uint32Array(wordsFor(channelCount));
    if (text.length !== words.length * WORD_HEX_DIGITS || !/^[0-9a-f]*$/i.test(text)) {
      throw new IioError(
        'EINVAL',
        `channel mask '${text.slice(0, 80)}' is not ${words.length * WORD_HEX_DIGITS} hex digits (${channelCount} channels)`,
      );
    }
    for (let i = 0; i < words.length; i++) {
      const start = text.length - (i + 1) * WORD_HEX_DIGITS;
      words[i] = Number.parseInt(text.slice(start, start + WORD_HEX_DIGITS), 16);
    }
    return new ChannelMask(channelCount, words);
  }

  /** Number of 32-bit words: `ceil(channelCount / 32)`. */
  get wordCount(): number {
    return this.#words.length;
  }

  get isEmpty(): boolean {
    return this.#words.every((word) => word === 0);
  }

  has(position: number): boolean {
    const word = this.#words[Math.floor(position / WORD_BITS)];
    return word !== undefined && ((word >>> (position % WORD_BITS)) & 1) === 1;
  }

  /** Enabled positions, ascending. */
  positions(): number[] {
    return Array.from({ length: this.channelCount }, (_, position) => position).filter((position) =>
      this.has(position),
    );
  }

  toBytes(): Uint8Array {
    const bytes = new Uint8Array(this.#words.length * WORD_BYTES);
    const view = new DataView(bytes.buffer);
    this.#words.forEach((word, i) => {
      view.setUint32(i * WORD_BYTES, word, true);
    });
    return bytes;
  }

  toText(): string {
    return Array.from(this.#words, (word) => word.toString(16).padStart(WORD_HEX_DIGITS, '0'))
      .reverse()
      .join('');
  }

  /** @throws IioError `EINVAL` if the masks are of devices with different channel counts */
  union(other: ChannelMask): ChannelMask {
    if (other.channelCount !== this.channelCount) {
      throw new IioError(
        'EINVAL',
        `channel masks of ${this.channelCount} and ${other.channelCount} channels cannot be united`,
      );
    }
    return new ChannelMask(
      this.channelCount,
      this.#words.map((word, i) => (word | (other.#words[i] ?? 0)) >>> 0),
    );
  }

  equals(other: ChannelMask): boolean {
    return this.channelCount === other.channelCount && this.#words.every((word, i) => word === other.#words[i]);
  }
}

function wordsFor(channelCount: number): number {
  return Math.ceil(channelCount / WORD_BITS);
}
