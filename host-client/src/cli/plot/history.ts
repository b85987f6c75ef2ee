/** The latest values of some channels, raw. Owns its memory. */
export class History {
  readonly capacity: number;
  readonly #rings: readonly Float64Array[];
  #end = 0;
  #length = 0;

  constructor(channels: number, capacity: number) {
    this.capacity = capacity;
    this.#rings = Array.from({ length: channels }, () => new Float64Array(capacity));
  }

  /** Values per channel. */
  get length(): number {
    return this.#length;
  }

  /** Forgets everything: what comes next does not follow what is here. */
  clear(): void {
    this.#length = 0;
  }

  /** One array per channel, all of one length. */
  append(channels: readonly ArrayLike<number | bigint>[]): void {
    const count = channels[0]?.length ?? 0;
    const skipped = Math.max(0, count - this.capacity);
    this.#rings.forEach((ring, index) => {
      const values = channels[index];
      for (let i = skipped; values !== undefined && i < count; i++) {
        ring[(this.#end + i - skipped) % this.capacity] = Number(values[i] ?? 0);
      }
    });
    this.#end = (this.#end + count - skipped) % this.capacity;
    this.#length = Math.min(this.capacity, this.#length + count);
  }

  /** The values from place `from` on, the oldest being 0; a copy. */
  values(channel: number, from = 0, to = this.#length): Float64Array {
    const ring = this.#rings[channel];
    const oldest = this.#end - this.#length + this.capacity;
    return Float64Array.from(
      { length: Math.max(0, to - from) },
      (_, i) => ring?.[(oldest + from + i) % this.capacity] ?? 0,
    );
  }
}
