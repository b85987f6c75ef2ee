/**
 * A queue that allocates nothing in the long run. An array that is pushed to and shifted from gets a new backing store
 * whenever it runs empty, which in a stream is once per block.
 */
export class Fifo<T> {
  #items: (T | undefined)[] = Array.from({ length: 8 }, () => undefined);
  #start = 0;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  get first(): T | undefined {
    return this.#items[this.#start];
  }

  /** What is behind the first. */
  get second(): T | undefined {
    return this.#items[(this.#start + 1) % this.#items.length];
  }

  push(item: T): void {
    if (this.#length === this.#items.length) {
      this.#items = [...this.toArray(), ...Array.from({ length: this.#length }, () => undefined)];
      this.#start = 0;
    }
    this.#items[(this.#start + this.#length) % this.#items.length] = item;
    this.#length++;
  }

  shift(): T | undefined {
    const item = this.#items[this.#start];
    if (this.#length > 0) {
      this.#items[this.#start] = undefined;
      this.#start = (this.#start + 1) % this.#items.length;
      this.#length--;
    }
    return item;
  }

  /** Oldest first. */
  toArray(): T[] {
    const items: T[] = [];
    for (let i = 0; i < this.#length; i++) {
      const item = this.#items[(this.#start + i) % this.#items.length];
      if (item !== undefined) {
        items.push(item);
      }
    }
    return items;
  }

  /** Empties the queue and gives what was in it, oldest first. */
  drain(): T[] {
    const items = this.toArray();
    this.#items.fill(undefined);
    this.#start = 0;
    this.#length = 0;
    return items;
  }

  /** @returns whether it was there */
  remove(item: T): boolean {
    const items = this.drain();
    const at = items.indexOf(item);
    items.splice(at, at < 0 ? 0 : 1);
    for (const left of items) {
      this.push(left);
    }
    return at >= 0;
  }
}
