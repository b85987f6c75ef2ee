import { readSync } from 'node:fs';
import { Socket } from 'node:net';
import { errorCode } from '../../sys/errors.js';
import { FileDescriptor } from '../../sys/file-descriptor.js';
import { socketPair } from '../../sys/libc.js';
import { EVENT_BYTES } from '../events.js';

/** The writing end of a device's events: owns it, until the reader closes the other one. */
export class EventStream {
  readonly #fd: number;
  readonly #socket: Socket;
  readonly #ended: Promise<void>;

  private constructor(fd: number) {
    this.#fd = fd;
    this.#socket = new Socket({ fd, readable: true, writable: true });
    this.#ended = new Promise((resolve) => {
      this.#socket.once('close', () => resolve());
    });
    this.#socket.on('error', () => this.#socket.destroy());
    // Nothing comes but the end, upon which the socket closes itself.
    this.#socket.resume();
    this.#socket.unref();
  }

  /** Returns the descriptor to read from, which the caller owns. @throws {IioError} `EMFILE`, `ENFILE` */
  static open(name: string): { readonly stream: EventStream; readonly descriptor: FileDescriptor } {
    const [far, near] = socketPair(name);
    return { stream: new EventStream(near), descriptor: new FileDescriptor(far, name) };
  }

  /** False as soon as the reader has closed its end. */
  get isRead(): boolean {
    if (this.#socket.destroyed) {
      return false;
    }
    try {
      return readSync(this.#fd, new Uint8Array(1)) > 0;
    } catch (error) {
      return errorCode(error) === 'EAGAIN';
    }
  }

  /** Queues a record; like the kernel's FIFO, drops it if the reader is too far behind. */
  emit(id: bigint, timeNs: bigint): void {
    if (this.#socket.destroyed || this.#socket.writableLength > 0) {
      return;
    }
    const record = new DataView(new ArrayBuffer(EVENT_BYTES));
    record.setBigUint64(0, id, true);
    record.setBigInt64(8, timeNs, true);
    this.#socket.write(new Uint8Array(record.buffer));
  }

  async close(): Promise<void> {
    this.#socket.destroy();
    await this.#ended;
  }
}
