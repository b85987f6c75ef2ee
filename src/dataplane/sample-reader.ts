import { type BlockPath, numbersIn } from './block-path.js';
import { type ReaderStatistics, readerStatistics } from './block-reader.js';
import type { Call } from './data-plane.js';

/**
 * A client of a capture that takes samples in pieces of any length, one request at a time. Keeps what it has not fetched, as
 * far as the capture's blocks allow. Time-outs are in ms, 0 stands for "none".
 *
 * Requests reject with `ETIMEDOUT`, after which nothing is lost; `EBADF` once the reader is closed; what the device fails
 * with.
 */
export class SampleReader {
  /** How samples leave by {@link send}. */
  readonly path: BlockPath;
  readonly #id: number;
  readonly #call: Call;

  /** Made by {@link Capture.openSampleReader}. */
  constructor(id: number, call: Call, path: BlockPath) {
    this.#id = id;
    this.#call = call;
    this.path = path;
  }

  /** A copy of at most `maxBytes` bytes and one block; empty where that is less than a sample set. */
  async take(maxBytes: number, timeoutMs: number): Promise<Uint8Array> {
    const answer = await this.#call(`take ${maxBytes} bytes of samples`, (native, token) =>
      native.takeSamples(this.#id, maxBytes, timeoutMs, token),
    );
    return answer instanceof Uint8Array ? answer : new Uint8Array(0);
  }

  /**
   * Sends at most `maxBytes` bytes and one block to the link: their number and a newline, then `line` if there is any, then
   * the samples, each a transfer of its own; nothing where that is less than a sample set.
   *
   * @returns how many bytes are on their way. What waits for the client to read is bounded: the next call waits for it.
   */
  async send(maxBytes: number, line: string, timeoutMs: number): Promise<number> {
    const operation = `send ${maxBytes} bytes of samples`;
    const answer = await this.#call(operation, (native, token) =>
      native.sendSamples(this.#id, maxBytes, line, timeoutMs, token),
    );
    return numbersIn(answer, operation)[0] ?? 0;
  }

  async statistics(): Promise<ReaderStatistics> {
    return await readerStatistics(this.#id, this.#call);
  }

  async close(): Promise<void> {
    await this.#call('close a reader', (native, token) => native.removeReader(this.#id, token));
  }
}
