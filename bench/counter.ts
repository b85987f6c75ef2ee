/** Bytes of a sample set of the counter signal: its number, a little-endian u64 over four 16-bit channels. */
export const COUNTER_SET_BYTES = 8;

/** In its sparse mode the simulated converter writes one sample set at the start of each page only. Bytes. */
const SPARSE_STRIDE_BYTES = 4096;

const WORDS_PER_SET = 2;
const SETS_PER_PAGE = SPARSE_STRIDE_BYTES / COUNTER_SET_BYTES;
const TWO_TO_32 = 2 ** 32;

/**
 * Checks that blocks of the counter signal begin with sample set 0 and continue each other. A sample set that is not the expected one is either the
 * far side of a gap (its successor continues it) or damaged.
 */
export class CounterChecker {
  readonly #setsPerStep: number;
  /** Of the blocks: streams hand out the same memory again and again, and what is checked is also weighed. */
  readonly #words = new WeakMap<Uint8Array, Int32Array>();
  #next = 0;
  #checkedSets = 0;
  #gaps = 0;
  #lostSets = 0;
  #mismatches = 0;

  /** `every-set` needs the dense signal; `sparse` looks at the sample sets which the sparse mode writes. */
  constructor(coverage: 'every-set' | 'sparse') {
    this.#setsPerStep = coverage === 'sparse' ? SETS_PER_PAGE : 1;
  }

  /** Sample sets that were looked at. */
  get checkedSets(): number {
    return this.#checkedSets;
  }

  /** Places at which the counter jumps forward. */
  get gaps(): number {
    return this.#gaps;
  }

  /** Sample sets that are missing at the gaps. */
  get lostSets(): number {
    return this.#lostSets;
  }

  /** Sample sets that hold a wrong value. */
  get mismatches(): number {
    return this.#mismatches;
  }

  /** Takes the next block of the stream; its length is a multiple of {@link COUNTER_SET_BYTES}. */
  check(bytes: Uint8Array): void {
    const words = this.#wordsOf(bytes);
    const sets = words.length / WORDS_PER_SET;
    let first = this.#next;
    for (let set = 0; set < sets; ) {
      const wrong = this.#firstWrong(words, set, first);
      if (wrong === sets) {
        break;
      }
      const found = counterAt(words, wrong);
      if (found > first + wrong && this.#continues(words, wrong, found)) {
        this.#gaps += 1;
        this.#lostSets += found - (first + wrong);
        first = found - wrong;
      } else {
        this.#mismatches += 1;
      }
      set = wrong + this.#setsPerStep;
    }
    this.#checkedSets += Math.ceil(sets / this.#setsPerStep);
    this.#next = first + sets;
  }

  #wordsOf(bytes: Uint8Array): Int32Array {
    let words = this.#words.get(bytes);
    if (words === undefined) {
      words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / Int32Array.BYTES_PER_ELEMENT);
      this.#words.set(bytes, words);
    }
    return words;
  }

  /** The first sample set at or after `from` that is not number `first` plus its place, or the number of sets. */
  #firstWrong(words: Int32Array, from: number, first: number): number {
    const sets = words.length / WORDS_PER_SET;
    const step = this.#setsPerStep;
    for (let set = from; set < sets; ) {
      // Up to where the upper word changes, so that the loop has nothing but 32-bit integers.
      const low = (first + set) % TWO_TO_32;
      const high = Math.floor((first + set) / TWO_TO_32);
      const end = Math.min(sets, set + TWO_TO_32 - low);
      let expected = low | 0;
      for (; set < end; set += step) {
        if (words[set * WORDS_PER_SET] !== expected || words[set * WORDS_PER_SET + 1] !== high) {
          return set;
        }
        expected = (expected + step) | 0;
      }
    }
    return sets;
  }

  #continues(words: Int32Array, set: number, value: number): boolean {
    const next = set + this.#setsPerStep;
    return next * WORDS_PER_SET >= words.length || counterAt(words, next) === value + this.#setsPerStep;
  }
}

/** Writes what the simulated DAC checks in its sparse mode, from byte `start` of the stream on. */
export function fillSparse(bytes: Uint8Array, start: number): void {
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / Int32Array.BYTES_PER_ELEMENT);
  for (let set = 0; set * WORDS_PER_SET < words.length; set += SETS_PER_PAGE) {
    const counter = start / COUNTER_SET_BYTES + set;
    words[set * WORDS_PER_SET] = counter % TWO_TO_32;
    words[set * WORDS_PER_SET + 1] = Math.floor(counter / TWO_TO_32);
  }
}

/** Exact up to 2^53, which a stream at 1 GB/s reaches after two years. */
function counterAt(words: Int32Array, set: number): number {
  return ((words[set * WORDS_PER_SET + 1] ?? 0) >>> 0) * TWO_TO_32 + ((words[set * WORDS_PER_SET] ?? 0) >>> 0);
}
