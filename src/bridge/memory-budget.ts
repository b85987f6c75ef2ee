import { LimitError } from './limit-error.js';

/** The bytes that all clients' blocks together may take. */
export class MemoryBudget {
  readonly #limit: number;
  #used = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get usedBytes(): number {
    return this.#used;
  }

  /** @throws {LimitError} `ENOMEM` over the limit. */
  take(bytes: number): void {
    if (this.#used + bytes > this.#limit) {
      throw new LimitError(
        'ENOMEM',
        `${bytes} bytes more for blocks would exceed the limit of ${this.#limit}: ${this.#used} are in use`,
      );
    }
    this.#used += bytes;
  }

  give(bytes: number): void {
    this.#used -= bytes;
  }
}
