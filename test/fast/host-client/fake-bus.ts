import { IioError } from '@iio-bridge/protocol';
import type { Link, LinkRole, ReadSink, ReadTransfer, Transport } from '../../../host-client/src/core/link.js';

/** Small, seeded, good enough to vary timings (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const DEFAULT_PACKET_BYTES = 512;

interface PostedRead {
  readonly buffer: Uint8Array;
  readonly sink: ReadSink;
  filled: number;
  cancelRequested: boolean;
}

/** The device's end of a link: gets the host's transfers, and sends transfers to the host. */
export interface LinkServer {
  onTransfer(bytes: Uint8Array): void;
  onClosed(): void;
}

/**
 * A USB pipe moved packet by packet: a read ends when it is full or by a short packet, and a packet that does not fit
 * breaks the link, as on the bus. How many packets move per turn, and how long a cancellation takes, comes from the seed.
 */
export class FakeLink implements Link {
  readonly packetSize: number;
  /** Reads longer than this in all are refused with ENOMEM. Bytes. */
  memoryLimit = Number.POSITIVE_INFINITY;
  /** Sees each transfer before it is queued, and may cut it. */
  onSend: (bytes: Uint8Array) => Uint8Array = (bytes) => bytes;
  server: LinkServer = { onTransfer: () => {}, onClosed: () => {} };
  bytesPosted = 0;
  mostBytesPosted = 0;
  readonly hostTransfers: Uint8Array[] = [];
  readonly #random: () => number;
  readonly #reads: PostedRead[] = [];
  readonly #packets: Uint8Array[] = [];
  #ticking = false;
  #failure: IioError | undefined;
  #closed = false;

  constructor(
    readonly name: string,
    packetSize: number,
    random: () => number,
  ) {
    this.packetSize = packetSize;
    this.#random = random;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  /** Queues one transfer to the host; a length that is a multiple of the packet size has no short packet. */
  send(whole: Uint8Array): void {
    const bytes = this.onSend(whole);
    for (let at = 0; at < bytes.length; at += this.packetSize) {
      this.#packets.push(bytes.slice(at, at + this.packetSize));
    }
    this.#wake();
  }

  disconnect(): void {
    this.#failure ??= new IioError('DISCONNECTED', `${this.name}: the device was disconnected`);
    this.#wake();
  }

  read(buffer: Uint8Array, sink: ReadSink): ReadTransfer {
    if (buffer.length === 0 || buffer.length % this.packetSize !== 0) {
      throw new IioError('EINVAL', `read of ${buffer.length} bytes`);
    }
    if (this.#closed || this.#failure !== undefined) {
      throw this.#failure ?? new IioError('ECANCELED', `${this.name}: closed`);
    }
    if (this.bytesPosted + buffer.length > this.memoryLimit) {
      throw new IioError('ENOMEM', `${this.name}: no memory`);
    }
    const read: PostedRead = { buffer, sink, filled: 0, cancelRequested: false };
    this.#reads.push(read);
    this.bytesPosted += buffer.length;
    this.mostBytesPosted = Math.max(this.mostBytesPosted, this.bytesPosted);
    this.#wake();
    return {
      cancel: () => {
        read.cancelRequested = true;
        this.#wake();
      },
    };
  }

  write(...transfers: readonly Uint8Array[]): Promise<void> {
    if (this.#closed || this.#failure !== undefined) {
      return Promise.reject(this.#failure ?? new IioError('ECANCELED', `${this.name}: closed`));
    }
    for (const bytes of transfers) {
      const copy = bytes.slice();
      this.hostTransfers.push(copy);
      setImmediate(() => this.#failure === undefined && !this.#closed && this.server.onTransfer(copy));
    }
    return Promise.resolve();
  }

  post(transfer: Uint8Array, onFailed: (error: IioError) => void): void {
    this.write(transfer).catch(onFailed);
  }

  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      for (const read of this.#reads.splice(0)) {
        this.bytesPosted -= read.buffer.length;
        read.sink.onRead(read.filled, true);
      }
      this.server.onClosed();
    }
  }

  #wake(): void {
    if (!this.#ticking) {
      this.#ticking = true;
      setImmediate(() => this.#tick());
    }
  }

  #tick(): void {
    this.#ticking = false;
    if (this.#failure !== undefined) {
      for (const read of this.#reads.splice(0)) {
        read.sink.onReadFailed(this.#failure);
      }
      return;
    }
    const burst = 1 + Math.floor(this.#random() * 64);
    for (let moved = 0; moved < burst && this.#packets.length > 0 && this.#reads.length > 0; moved++) {
      this.#movePacket();
    }
    // A cancellation takes its time: data may still land in a read that is being cancelled.
    for (const read of this.#reads.filter(({ cancelRequested }) => cancelRequested && this.#random() < 0.5)) {
      this.#end(read, true);
    }
    if (
      this.#reads.some(({ cancelRequested }) => cancelRequested) ||
      (this.#packets.length > 0 && this.#reads.length > 0)
    ) {
      this.#wake();
    }
  }

  #movePacket(): void {
    const [packet] = this.#packets.splice(0, 1);
    const read = this.#reads[0];
    if (packet === undefined || read === undefined) {
      return;
    }
    if (packet.length > read.buffer.length - read.filled) {
      this.#reads.splice(0, 1);
      read.sink.onReadFailed(new IioError('EOVERFLOW', `${this.name}: babble`));
      return;
    }
    read.buffer.set(packet, read.filled);
    read.filled += packet.length;
    if (packet.length < this.packetSize || read.filled === read.buffer.length) {
      this.#end(read, false);
    }
  }

  #end(read: PostedRead, cancelled: boolean): void {
    this.#reads.splice(this.#reads.indexOf(read), 1);
    this.bytesPosted -= read.buffer.length;
    read.sink.onRead(read.filled, cancelled);
  }
}

export interface FakeTransportOptions {
  readonly packetSize?: number;
  readonly seed?: number;
  readonly pipes?: number;
  /** Called for each link that is opened, to set its server up. */
  readonly serve: (link: FakeLink, role: LinkRole) => LinkServer;
}

export class FakeTransport implements Transport {
  readonly uri = 'usb:1.4.0';
  readonly description = '1d6b:0104 (Acme IIO), serial=007';
  readonly attributes = new Map([['usb,serial', '007']]);
  readonly links: FakeLink[] = [];
  closed = false;
  /** To the host, on all links. */
  bytesSent = 0;
  #cutAfter = Number.POSITIVE_INFINITY;
  #gone = false;
  readonly #options: FakeTransportOptions;
  readonly #random: () => number;

  constructor(options: FakeTransportOptions) {
    this.#options = options;
    this.#random = seededRandom(options.seed ?? 1);
  }

  async openLink(role: LinkRole): Promise<Link> {
    if (this.#gone) {
      throw new IioError('DISCONNECTED', 'the device was disconnected');
    }
    if (this.links.filter((link) => !link.isClosed).length >= (this.#options.pipes ?? 3)) {
      throw new IioError('EBUSY', 'all pipes are in use');
    }
    const link = new FakeLink(
      `${role} link ${this.links.length}`,
      this.#options.packetSize ?? DEFAULT_PACKET_BYTES,
      this.#random,
    );
    link.onSend = (bytes) => this.#count(bytes);
    link.server = this.#options.serve(link, role);
    this.links.push(link);
    return link;
  }

  /** Pulls the cable after that many bytes to the host. */
  cutAfter(bytes: number): void {
    this.#cutAfter = bytes;
  }

  #count(bytes: Uint8Array): Uint8Array {
    const room = Math.max(0, this.#cutAfter - this.bytesSent);
    this.bytesSent += bytes.length;
    if (bytes.length > room) {
      setImmediate(() => this.disconnect());
    }
    // Packets come whole or not at all.
    const { packetSize = DEFAULT_PACKET_BYTES } = this.#options;
    return bytes.length <= room ? bytes : bytes.subarray(0, room - (room % packetSize));
  }

  disconnect(): void {
    this.#gone = true;
    for (const link of this.links) {
      link.disconnect();
    }
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}
