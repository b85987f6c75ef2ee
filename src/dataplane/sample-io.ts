import { IioError } from '@iio-bridge/protocol';
import type { Call } from './data-plane.js';
import type { NativeDataPlane } from './native.js';

/**
 * Reads and writes samples, or event records, on a descriptor that the kernel or an emulation serves at its own pace.
 * The data plane waits, so nothing blocks. Owns a duplicate of the descriptor; `close()` gives it up.
 *
 * Reads are served in the order of their calls, and so are writes. On an IIO buffer, numbers of bytes must be whole
 * sample sets, and no dmabuf may be attached to it. Time-outs are in ms, 0 stands for "none".
 */
export class SampleIo implements Disposable {
  readonly #id: number;
  readonly #native: NativeDataPlane;
  readonly #call: Call;
  #closed = false;

  /** Made by {@link DataPlane.openSampleIo}. */
  constructor(id: number, native: NativeDataPlane, call: Call) {
    this.#id = id;
    this.#native = native;
    this.#call = call;
  }

  /**
   * Exactly `bytes` bytes.
   *
   * @throws {IioError} `ETIMEDOUT`, with what has arrived kept for the next read; `EPIPE` when the other end has gone;
   * `EBADF` after `close()`; what read() says.
   */
  read(bytes: number, timeoutMs: number): Promise<Uint8Array> {
    return this.#read(`read ${bytes} bytes of samples`, bytes, bytes, timeoutMs);
  }

  /** At least one byte and at most `maxBytes`. @throws {IioError} as {@link read}. */
  readSome(maxBytes: number, timeoutMs: number): Promise<Uint8Array> {
    return this.#read('read samples', 1, maxBytes, timeoutMs);
  }

  /**
   * Writes all of `bytes`, which are copied at once.
   *
   * @throws {IioError} `ETIMEDOUT`, with an unknown part of them written; `EBADF` after `close()`; what write() says.
   */
  async write(bytes: Uint8Array, timeoutMs: number): Promise<void> {
    const operation = `write ${bytes.byteLength} bytes of samples`;
    this.#assertOpen(operation);
    await this.#call(operation, (native, token) => native.writeSamples(this.#id, bytes, timeoutMs, token));
  }

  /** Ends every pending call with `EBADF` and closes the descriptor. */
  close(): void {
    if (!this.#closed) {
      this.#closed = true;
      this.#native.closeSampleIo(this.#id);
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #read(operation: string, least: number, most: number, timeoutMs: number): Promise<Uint8Array> {
    this.#assertOpen(operation);
    const bytes = await this.#call(operation, (native, token) =>
      native.readSamples(this.#id, least, most, timeoutMs, token),
    );
    return bytes instanceof Uint8Array ? bytes : new Uint8Array(0);
  }

  #assertOpen(operation: string): void {
    if (this.#closed) {
      throw new IioError('EBADF', `${operation}: the descriptor has been given up`);
    }
  }
}
