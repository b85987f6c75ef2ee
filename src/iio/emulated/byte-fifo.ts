/** Bytes in a row, up to a capacity. Owns its memory. */
export class ByteFifo {
  readonly #memory: Uint8Array;
  #start = 0;
  #end = 0;

  constructor(capacity: number) {
    this.#memory = new Uint8Array(capacity);
  }

  get length(): number {
    return this.#end - this.#start;
  }

  get free(): number {
    return this.#memory.byteLength - this.length;
  }

  /** Copies `bytes`, of which there must be at most {@link free}. */
  push(bytes: Uint8Array): void {
    if (this.#end + bytes.byteLength > this.#memory.byteLength) {
      this.#memory.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    this.#memory.set(bytes, this.#end);
    this.#end += bytes.byteLength;
  }

  /** A copy of the oldest bytes, at most `count` of them. */
  shift(count: number): Uint8Array {
    const bytes = this.#memory.slice(this.#start, Math.min(this.#start + count, this.#end));
    this.#start += bytes.byteLength;
    return bytes;
  }

  clear(): void {
    this.#start = 0;
    this.#end = 0;
  }
}
