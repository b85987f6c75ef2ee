import type { IioError } from '@iio-bridge/protocol';
import { Fifo } from './fifo.js';

interface Waiter<T> {
  readonly resolve: (value: T) => void;
  readonly reject: (error: IioError) => void;
  readonly until: number;
}

/**
 * Those who wait for something, in the order in which they came, each no longer than the time-out. One timer serves them
 * all, because a timer per block would be most of the garbage of a stream.
 */
export class Waiters<T> {
  readonly #timeoutMs: number;
  readonly #onTimeout: () => IioError;
  readonly #waiting = new Fifo<Waiter<T>>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(timeoutMs: number, onTimeout: () => IioError) {
    this.#timeoutMs = timeoutMs;
    this.#onTimeout = onTimeout;
  }

  get hasWaiters(): boolean {
    return this.#waiting.length > 0;
  }

  wait(): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject, until: performance.now() + this.#timeoutMs });
      this.#arm();
    });
  }

  /** @returns false if nobody waits */
  resolveOne(value: T): boolean {
    const waiter = this.#waiting.shift();
    waiter?.resolve(value);
    return waiter !== undefined;
  }

  resolveAll(value: T): void {
    this.#disarm();
    for (const { resolve } of this.#waiting.drain()) {
      resolve(value);
    }
  }

  rejectAll(error: IioError): void {
    this.#disarm();
    for (const { reject } of this.#waiting.drain()) {
      reject(error);
    }
  }

  #arm(): void {
    const { first } = this.#waiting;
    if (this.#timer === undefined && first !== undefined && first.until !== Number.POSITIVE_INFINITY) {
      this.#timer = setTimeout(() => this.#expire(), Math.max(1, Math.ceil(first.until - performance.now())));
    }
  }

  #disarm(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #expire(): void {
    this.#timer = undefined;
    const now = performance.now();
    while (this.#waiting.first !== undefined && this.#waiting.first.until <= now) {
      this.#waiting.shift()?.reject(this.#onTimeout());
    }
    this.#arm();
  }
}
