import { readSync } from 'node:fs';
import { type ConnectOpts, Socket, type SocketConstructorOpts } from 'node:net';
import { errorCode } from '../../sys/errors.js';
import { FileDescriptor } from '../../sys/file-descriptor.js';
import { socketPair } from '../../sys/libc.js';
import { ByteFifo } from './byte-fifo.js';
import { Wakeup } from './wakeup.js';

/** Bytes taken from the kernel at once. */
const READ_BYTES = 64 * 1024;

/**
 * The two ends of an emulated buffer: a descriptor for whoever streams, and promises for the converter behind it. Owns both
 * ends. A sample set must fit into {@link READ_BYTES} several times.
 */
export class SamplePort {
  readonly #far: FileDescriptor;
  readonly #nearFd: number;
  readonly #near: Socket;
  readonly #closed: Promise<void>;
  /** What has come from the descriptor and is not consumed. */
  readonly #received: ByteFifo;
  readonly #arrival = new Wakeup();
  #full = false;

  /**
   * `direction` as the device's: `in` is read from the descriptor. `setBytes`: size of a sample set.
   *
   * @throws {IioError} `EMFILE`, `ENFILE`
   */
  constructor(direction: 'in' | 'out', setBytes: number, name: string) {
    const [far, near] = socketPair(name);
    this.#far = new FileDescriptor(far, name);
    this.#nearFd = near;
    this.#received = new ByteFifo(direction === 'in' ? 0 : 2 * (READ_BYTES + setBytes));
    const options: SocketConstructorOpts & ConnectOpts = {
      fd: near,
      readable: direction === 'out',
      writable: direction === 'in',
      ...(direction === 'out' && {
        onread: {
          buffer: new Uint8Array(READ_BYTES),
          callback: (count: number, buffer: Uint8Array) => this.#receive(buffer.subarray(0, count)),
        },
      }),
    };
    this.#near = new Socket(options);
    this.#closed = new Promise((resolve) => {
      this.#near.once('close', () => resolve());
    });
    // The pending call hears of it, too.
    this.#near.on('error', () => this.#near.destroy());
  }

  /** Non-blocking, lent. */
  get fd(): number {
    return this.#far.fd;
  }

  /**
   * Waits until the kernel has taken all of `bytes`. Resolves with whether it had to wait for the reader. Not to be called
   * again before that.
   */
  write(bytes: Uint8Array): Promise<boolean> {
    return new Promise((resolve, reject) => {
      let waits = false;
      this.#near.write(bytes, (error) => (error ? reject(error) : resolve(waits)));
      waits = this.#near.writableLength > 0;
    });
  }

  /** Bytes that can be consumed without waiting. */
  get available(): number {
    return this.#received.length;
  }

  /** Waits until there are `bytes` to consume. Rejects when `signal` aborts. */
  async arrival(bytes: number, signal: AbortSignal): Promise<void> {
    while (this.#received.length < bytes) {
      await this.#arrival.wait(signal);
    }
  }

  /** What has arrived, at most `bytes`. */
  consume(bytes: number): Uint8Array {
    const taken = this.#received.shift(bytes);
    this.#resume();
    return taken;
  }

  /** Throws away what is under way, in the descriptor and behind it. A pending {@link write} goes on afterwards. */
  discard(): void {
    empty(this.#far.fd);
    if (!this.#near.destroyed) {
      empty(this.#nearFd);
    }
    this.#received.clear();
    this.#resume();
  }

  /** Closes the converter's end: readers of the descriptor come to its end, writers get `EPIPE`. */
  async hangUp(): Promise<void> {
    this.#near.destroy();
    await this.#closed;
  }

  async close(): Promise<void> {
    this.#far.close();
    await this.hangUp();
  }

  /** Returns whether there is room for more. */
  #receive(bytes: Uint8Array): boolean {
    this.#received.push(bytes);
    this.#arrival.wake();
    this.#full = this.#received.free < READ_BYTES;
    return !this.#full;
  }

  #resume(): void {
    if (this.#full && this.#received.free >= READ_BYTES) {
      this.#full = false;
      this.#near.resume();
    }
  }
}

/** Reads what a non-blocking descriptor has. An end that has hung up counts as empty. */
function empty(fd: number): void {
  const scrap = new Uint8Array(READ_BYTES);
  try {
    while (readSync(fd, scrap) > 0) {
      // Until it would block.
    }
  } catch (error) {
    const code = errorCode(error);
    if (code !== 'EAGAIN' && code !== 'ECONNRESET') {
      throw error;
    }
  }
}
