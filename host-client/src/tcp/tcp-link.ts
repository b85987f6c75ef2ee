import { connect, type Socket } from 'node:net';
import { IioError } from '@iio-bridge/protocol';
import { deferred } from '../core/deferred.js';
import { Fifo } from '../core/fifo.js';
import type { Link, ReadSink, ReadTransfer } from '../core/link.js';

/** What is received before a read asks for it, or for a small read. Bytes. */
const SCRATCH_BYTES = 64 * 1024;
/** From this many missing bytes on, the kernel fills the read's own memory, and that of a small read before it. Bytes. */
const DIRECT_BYTES = 32 * 1024;
const SMALL_COPY_BYTES = 64;
/** As iiod's own sockets: a dead peer is noticed while nothing is asked. Milliseconds. */
const KEEP_ALIVE_DELAY_MS = 10_000;

/** A read in flight; reused. */
class PostedRead implements ReadTransfer {
  buffer: Uint8Array = NO_BYTES;
  minimum = 0;
  sink: ReadSink | undefined;
  filled = 0;
  cancelled = false;
  readonly #onCancel: (read: PostedRead) => void;

  constructor(onCancel: (read: PostedRead) => void) {
    this.#onCancel = onCancel;
  }

  cancel(): void {
    this.#onCancel(this);
  }
}

const NO_BYTES = new Uint8Array();

/**
 * One TCP connection. Owns the socket.
 *
 * Node hands the memory of the next read to the kernel before bytes come, and cannot take it back. So memory that was lent
 * (`#lent`) is given back to its reader only with the bytes that land there, or when the socket is closed.
 */
export class TcpLink implements Link {
  readonly name: string;
  readonly packetSize = 1;
  readonly #socket: Socket;
  readonly #reads = new Fifo<PostedRead>();
  readonly #idle = new Fifo<PostedRead>();
  readonly #onCancel = (read: PostedRead): void => this.#cancel(read);
  readonly #scratch = new Uint8Array(SCRATCH_BYTES);
  readonly #buffers = new WeakMap<Uint8Array, Buffer>();
  readonly #closed = deferred<void>();
  readonly #deliverLeft = (): void => {
    this.#leftStart = this.#distribute(this.#scratch, this.#leftStart, this.#leftEnd);
    if (this.#leftStart === this.#leftEnd) {
      this.#socket.resume();
    }
  };
  /** What came before it was asked for: nothing more is received until it is gone. */
  #leftStart = 0;
  #leftEnd = 0;
  /** Somebody is about to distribute that, or just doing it. */
  #willDeliver = false;
  #lent: PostedRead | undefined;
  #failure: IioError | undefined;
  #closing = false;

  private constructor(name: string, host: string, port: number) {
    this.name = name;
    this.#socket = connect({
      host,
      port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_DELAY_MS,
      onread: { buffer: () => this.#lend(), callback: (bytes) => this.#received(bytes) },
    });
  }

  /** @throws IioError `NO_CONTEXT` (unknown host, or nobody listens there), `ETIMEDOUT` */
  static async open(name: string, host: string, port: number, timeoutMs: number): Promise<TcpLink> {
    const link = new TcpLink(name, host, port);
    await link.#connected(host, port, timeoutMs);
    return link;
  }

  /** The address that the name was resolved to. */
  get remoteAddress(): string | undefined {
    return this.#socket.remoteAddress;
  }

  read(buffer: Uint8Array, sink: ReadSink, minimum = buffer.length): ReadTransfer {
    this.#requireOpen();
    const read = this.#idle.shift() ?? new PostedRead(this.#onCancel);
    read.buffer = buffer;
    read.minimum = minimum;
    read.sink = sink;
    read.filled = 0;
    read.cancelled = false;
    this.#reads.push(read);
    if (this.#leftEnd === this.#leftStart) {
      this.#socket.resume();
    } else if (!this.#willDeliver) {
      this.#willDeliver = true;
      queueMicrotask(this.#deliverLeft);
    }
    return read;
  }

  write(...transfers: readonly Uint8Array[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#requireOpen();
      const last = transfers.length - 1;
      this.#socket.cork();
      transfers.forEach((bytes, i) => {
        this.#socket.write(bytes, (error) => {
          if (error !== undefined && error !== null) {
            reject(this.#failure ?? this.#lost(error));
          } else if (i === last) {
            resolve();
          }
        });
      });
      this.#socket.uncork();
    });
  }

  post(transfer: Uint8Array, onFailed: (error: IioError) => void): void {
    if (this.#closing || this.#failure !== undefined) {
      onFailed(this.#failure ?? new IioError('ECANCELED', `${this.name}: closed`));
    } else {
      // The connection's failure ends what waits for an answer; nobody needs this write's.
      this.#socket.write(this.#bufferOf(transfer));
    }
  }

  close(): Promise<void> {
    this.#closing = true;
    this.#socket.destroy();
    return this.#closed.promise;
  }

  /** Node makes one of any other array, and streams post the same few again and again. */
  #bufferOf(transfer: Uint8Array): Buffer {
    let buffer = this.#buffers.get(transfer);
    if (buffer === undefined) {
      buffer = Buffer.from(transfer.buffer, transfer.byteOffset, transfer.byteLength);
      this.#buffers.set(transfer, buffer);
    }
    return buffer;
  }

  async #connected(host: string, port: number, timeoutMs: number): Promise<void> {
    const socket = this.#socket;
    const { promise, resolve, reject } = deferred<void>();
    const timer =
      timeoutMs === Number.POSITIVE_INFINITY
        ? undefined
        : setTimeout(() => {
            reject(new IioError('ETIMEDOUT', `${this.name}: ${host}, port ${port}, did not answer in ${timeoutMs} ms`));
            socket.destroy();
          }, timeoutMs);
    socket.once('connect', resolve);
    socket.on('error', (error) => {
      reject(unreachable(this.name, host, port, error));
      this.#end(this.#lost(error));
    });
    // The end of the other side's bytes is the end of the conversation.
    socket.once('end', () => socket.destroy());
    socket.once('close', () => {
      this.#end(this.#lost());
      this.#closed.resolve();
    });
    try {
      await promise;
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Where the kernel puts what comes next. What is in front of a large read (a header) gets just its own bytes, so that the
   * large one needs no copy.
   */
  #lend(): Uint8Array {
    const head = this.#reads.first;
    if (head === undefined || !(isLarge(head) || isLarge(this.#reads.second))) {
      this.#lent = undefined;
      return this.#scratch;
    }
    this.#lent = head;
    return head.filled === 0 ? head.buffer : head.buffer.subarray(head.filled);
  }

  /** @returns whether to go on receiving */
  #received(bytes: number): boolean {
    const lent = this.#lent;
    if (lent !== undefined) {
      this.#lent = undefined;
      this.#fill(lent, bytes);
      return true;
    }
    this.#leftStart = 0;
    this.#leftEnd = bytes;
    this.#leftStart = this.#distribute(this.#scratch, 0, bytes);
    return this.#leftStart === this.#leftEnd;
  }

  #distribute(source: Uint8Array, from: number, to: number): number {
    // Reads that are posted meanwhile are served by this loop.
    this.#willDeliver = true;
    let at = from;
    while (at < to) {
      const head = this.#reads.first;
      if (head === undefined) {
        break;
      }
      const taken = Math.min(to - at, head.buffer.length - head.filled);
      copy(source, at, head.buffer, head.filled, taken);
      at += taken;
      this.#fill(head, taken);
    }
    this.#willDeliver = false;
    return at;
  }

  /** @param head the oldest read, which has got these bytes */
  #fill(head: PostedRead, bytes: number): void {
    head.filled += bytes;
    if (head.filled >= head.minimum || head.cancelled) {
      this.#reads.shift();
      this.#finish(head, head.filled < head.minimum);
    }
  }

  #cancel(read: PostedRead): void {
    read.cancelled = true;
    if (read !== this.#lent && this.#reads.remove(read)) {
      queueMicrotask(() => this.#finish(read, true));
    }
  }

  #finish(read: PostedRead, cancelled: boolean): void {
    const { sink, filled } = read;
    read.sink = undefined;
    read.buffer = NO_BYTES;
    this.#idle.push(read);
    sink?.onRead(filled, cancelled);
  }

  #end(failure: IioError): void {
    this.#failure ??= failure;
    this.#lent = undefined;
    for (const read of this.#reads.drain()) {
      if (this.#closing || read.cancelled) {
        this.#finish(read, true);
      } else {
        read.sink?.onReadFailed(this.#failure);
      }
    }
  }

  #requireOpen(): void {
    if (this.#closing) {
      throw new IioError('ECANCELED', `${this.name}: closed`);
    }
    if (this.#failure !== undefined) {
      throw this.#failure;
    }
  }

  #lost(cause?: unknown): IioError {
    const why = cause === undefined ? 'the server closed the connection' : String(cause);
    return new IioError('DISCONNECTED', `${this.name}: ${why}`, { cause });
  }
}

function isLarge(read: PostedRead | undefined): boolean {
  return read !== undefined && read.buffer.length - read.filled >= DIRECT_BYTES;
}

/** Without a view for a few bytes, of which there is one per block. */
function copy(source: Uint8Array, from: number, target: Uint8Array, to: number, bytes: number): void {
  if (bytes > SMALL_COPY_BYTES) {
    target.set(source.subarray(from, from + bytes), to);
    return;
  }
  for (let i = 0; i < bytes; i++) {
    target[to + i] = source[from + i] ?? 0;
  }
}

function unreachable(name: string, host: string, port: number, cause: Error): IioError {
  const code = 'code' in cause ? cause.code : undefined;
  const why =
    code === 'ENOTFOUND' || code === 'EAI_AGAIN'
      ? `the name '${host}' is not known`
      : code === 'ECONNREFUSED'
        ? `nobody listens on port ${port} of ${host}; is the server running, and is this its address?`
        : `${host}, port ${port}, cannot be reached: ${cause.message}`;
  return new IioError('NO_CONTEXT', `${name}: ${why}`, { cause });
}
