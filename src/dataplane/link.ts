import { errnoName, FRAME_HEADER_BYTES, IioError } from '@iio-bridge/protocol';
import type { Call } from './data-plane.js';
import { type NativeDataPlane, Want } from './native.js';

/** Why a link ended: `closed` by us, or the errno name of what ended it (`ESHUTDOWN`: the bus is gone). */
export type LinkEnd = 'closed' | string;

/**
 * A byte stream with one client: one USB pipe, or one TCP connection. The data plane owns its files; `close()` gives them
 * up.
 *
 * At most one of `readLine`, `read` and `readFrame` may be pending. Each rejects with `ESHUTDOWN` (or what ended the
 * link) once the link is down.
 */
export class Link {
  /** For the data plane. */
  readonly id: number;
  readonly #native: NativeDataPlane;
  readonly #call: Call;
  readonly #whenEnded: Promise<LinkEnd>;
  #settleEnd: (end: LinkEnd) => void = () => undefined;

  /** Made by {@link DataPlane.openUsbLink} and {@link DataPlane.openSocketLink}, and for a connection that came in. */
  constructor(id: number, native: NativeDataPlane, call: Call) {
    this.id = id;
    this.#native = native;
    this.#call = call;
    this.#whenEnded = new Promise((resolve) => {
      this.#settleEnd = resolve;
    });
  }

  /** Settles when nothing is left of the link: its files are closed, and endpoints can be opened anew. */
  get whenEnded(): Promise<LinkEnd> {
    return this.#whenEnded;
  }

  /**
   * The next line, with its newline.
   *
   * @throws {IioError} `E2BIG` if `limit` bytes hold no newline; those bytes are consumed.
   */
  readLine(limit: number): Promise<Uint8Array> {
    return this.#pull('read a line', Want.line, limit);
  }

  /** Exactly `bytes` bytes. */
  async read(bytes: number): Promise<Uint8Array> {
    return bytes === 0 ? new Uint8Array(0) : this.#pull(`read ${bytes} bytes`, Want.bytes, bytes);
  }

  /**
   * The next frame's header. Block requests of this link's readers that arrive before it are executed by the data plane
   * and do not show up here.
   */
  readFrame(): Promise<Uint8Array> {
    return this.#pull('read a frame', Want.frame, FRAME_HEADER_BYTES);
  }

  /**
   * Queues transfers, which are copied at once: each is a USB transfer of its own, with nothing in between. A client that
   * leaves more than 1 MiB of them unread is not served further: what is read of it waits.
   */
  send(...transfers: readonly Uint8Array[]): void {
    this.#native.send(this.id, transfers);
  }

  /**
   * Waits until at most `unsentBytes` bytes of {@link send} are still queued: before sending more of an answer of any
   * length, and with 0, when blocks count as well, before closing a link whose last answer is to arrive.
   *
   * @throws {IioError} `ESHUTDOWN` (or what ended the link) once the link is down.
   */
  async drained(unsentBytes = 0): Promise<void> {
    await this.#call('wait for the client to read', (native, token) => native.drain(this.id, unsentBytes, token));
  }

  /** Ends the link: what is under way is cancelled, not waited for. Resolves when it is gone. */
  async close(): Promise<void> {
    this.#native.closeLink(this.id);
    await this.#whenEnded;
  }

  /** For {@link DataPlane}: nothing is left of the link. */
  ended(status: number): void {
    this.#settleEnd(status < 0 ? errnoName(status) : 'closed');
  }

  async #pull(operation: string, want: Want, limit: number): Promise<Uint8Array> {
    const bytes = await this.#call(operation, (native, token) => native.pull(this.id, want, limit, token));
    if (!(bytes instanceof Uint8Array)) {
      throw new IioError('EPROTO', `${operation}: the data plane answered without bytes`);
    }
    return bytes;
  }
}
