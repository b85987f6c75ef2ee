import type { Writable } from 'node:stream';

interface Queued {
  rest: Buffer;
  readonly done: () => void;
}

/**
 * Writes to a stream whose reader confirms what it has taken, and never has more than `window` bytes unconfirmed.
 *
 * UML's serial line needs it: once its tty throttles (4096 bytes unread, N_TTY_BUF_SIZE, less 128), `line_throttle()`
 * takes the descriptor out of the interrupt loop and `line_unthrottle()` does not put it back, so input stops for good.
 */
export class WindowedWriter {
  readonly #stream: Writable;
  readonly #window: number;
  readonly #queue: Queued[] = [];
  #unconfirmed = 0;

  constructor(stream: Writable, window: number) {
    this.#stream = stream;
    this.#window = window;
  }

  /** Resolves when the stream has been given the last byte. */
  write(bytes: Buffer): Promise<void> {
    return new Promise((resolve) => {
      this.#queue.push({ rest: bytes, done: resolve });
      this.#pump();
    });
  }

  /** The reader has taken `bytes` more bytes. */
  confirm(bytes: number): void {
    this.#unconfirmed -= bytes;
    this.#pump();
  }

  /** Forgets what is queued: the reader is gone. */
  abandon(): void {
    for (const { done } of this.#queue.splice(0)) {
      done();
    }
  }

  #pump(): void {
    for (let first = this.#queue[0]; first !== undefined && this.#unconfirmed < this.#window; first = this.#queue[0]) {
      const slice = first.rest.subarray(0, this.#window - this.#unconfirmed);
      first.rest = first.rest.subarray(slice.length);
      this.#unconfirmed += slice.length;
      this.#stream.write(slice);
      if (first.rest.length === 0) {
        this.#queue.shift();
        first.done();
      }
    }
  }
}
