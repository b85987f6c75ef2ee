import { Fifo } from './fifo.js';

/**
 * Memory for one payload. `owner` says who may touch it: nobody (`pool`), the reader and the transport (`reader`), or
 * the user of a block (`consumer`).
 */
export interface PayloadBuffer {
  readonly pool: BufferPool;
  readonly bytes: Uint8Array<ArrayBuffer>;
  owner: 'pool' | 'reader' | 'consumer';
  /** Parts of `bytes` that were asked for last, by their start. */
  readonly views: Map<number, Uint8Array<ArrayBuffer>>;
  /** Reads in flight that fill a part of `bytes`. Must be 0 before the buffer changes hands. */
  posted: number;
}

/** Equal buffers for one kind of payload, reused so that a running stream allocates nothing. Owns those given back. */
export class BufferPool {
  /** Bytes per buffer. */
  readonly capacity: number;
  readonly #limit: number;
  readonly #idle = new Fifo<PayloadBuffer>();

  /** @param limit how many idle buffers to keep; more are left to the garbage collector. */
  constructor(capacity: number, limit: number) {
    this.capacity = capacity;
    this.#limit = limit;
  }

  take(): PayloadBuffer {
    const buffer = this.#idle.shift() ?? {
      pool: this,
      bytes: new Uint8Array(new ArrayBuffer(this.capacity)),
      views: new Map(),
      owner: 'pool',
      posted: 0,
    };
    buffer.owner = 'reader';
    return buffer;
  }

  give(buffer: PayloadBuffer): void {
    if (buffer.owner === 'pool') {
      return;
    }
    buffer.owner = 'pool';
    if (this.#idle.length < this.#limit) {
      this.#idle.push(buffer);
    }
  }
}

/** A part of a buffer's memory; the same object as last time if nothing changed, because streams ask per block. */
export function viewOf({ bytes, views }: PayloadBuffer, start: number, length: number): Uint8Array<ArrayBuffer> {
  let view = views.get(start);
  if (view?.length !== length) {
    view = bytes.subarray(start, start + length);
    views.set(start, view);
  }
  return view;
}
