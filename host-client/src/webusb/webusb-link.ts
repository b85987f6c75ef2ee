import { BINARY_HANDSHAKE, IioError } from '@iio-bridge/protocol';
import { Fifo } from '../core/fifo.js';
import type { Link, ReadSink, ReadTransfer } from '../core/link.js';
import type { WebUsbDevice, WebUsbInResult } from './webusb-api.js';

interface PostedRead extends ReadTransfer {
  readonly buffer: Uint8Array;
  readonly sink: ReadSink;
  filled: number;
}

interface Arrived {
  readonly bytes: Uint8Array;
  readonly wanted: number;
}

/** How long a pipe's left-over reads may take to be used up. Milliseconds. */
const DRAIN_MS = 1000;

/**
 * The IN endpoint of a pipe, over all its links. WebUSB gives each transfer memory of its own, which is copied from here,
 * and cannot take a transfer back: those that a link leaves behind end with bytes of the next one, which then come first.
 */
export class WebUsbInput {
  readonly packetSize: number;
  readonly #device: WebUsbDevice;
  readonly #endpoint: number;
  readonly #reads = new Fifo<PostedRead>();
  readonly #arrived = new Fifo<Arrived>();
  readonly #drained: (() => void)[] = [];
  #inFlight = 0;
  #failure: IioError | undefined;
  #dropping = false;

  constructor(device: WebUsbDevice, endpoint: number, packetSize: number) {
    this.#device = device;
    this.#endpoint = endpoint;
    this.packetSize = packetSize;
  }

  /** Transfers that nobody waits for any more, but which will end. */
  get leftOver(): number {
    return this.#inFlight;
  }

  read(name: string, buffer: Uint8Array, sink: ReadSink): ReadTransfer {
    const read: PostedRead = { buffer, sink, filled: 0, cancel: () => this.#cancel(read) };
    this.#reads.push(read);
    if (this.#inFlight < this.#reads.length) {
      this.#inFlight++;
      this.#device.transferIn(this.#endpoint, buffer.length).then(
        (result) => this.#ended(name, buffer.length, result),
        (error: unknown) => this.#failed(transferError(name, error)),
      );
    }
    if (this.#arrived.length > 0) {
      queueMicrotask(() => this.#deliver());
    }
    return read;
  }

  /** Ends the reads of a link that is closed. */
  abandon(): void {
    for (const read of this.#reads.drain()) {
      read.sink.onRead(read.filled, true);
    }
    this.#arrived.drain();
  }

  /** From now on what arrives is dropped; resolves when nothing is in flight any more. */
  async drop(): Promise<void> {
    this.#dropping = true;
    let timer: ReturnType<typeof setTimeout> | undefined;
    await Promise.race([
      this.#inFlight === 0 ? undefined : new Promise<void>((resolve) => this.#drained.push(resolve)),
      new Promise<void>((resolve) => {
        timer = setTimeout(resolve, DRAIN_MS);
      }),
    ]);
    clearTimeout(timer);
    this.#dropping = false;
  }

  #cancel(read: PostedRead): void {
    if (this.#reads.remove(read)) {
      queueMicrotask(() => read.sink.onRead(read.filled, true));
    }
  }

  #ended(name: string, wanted: number, { status, data }: WebUsbInResult): void {
    this.#leave();
    if (status !== undefined && status !== 'ok') {
      this.#failed(
        status === 'babble'
          ? new IioError('EOVERFLOW', `${name}: the device sent more than a packet may hold`)
          : new IioError('EPIPE', `${name}: read stalled by the device`),
      );
    } else if (!this.#dropping && data !== undefined) {
      this.#arrived.push({ bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength), wanted });
      this.#deliver();
    }
  }

  #failed(error: IioError): void {
    if (this.#failure === undefined) {
      this.#failure = error;
      for (const { sink } of this.#reads.drain()) {
        sink.onReadFailed(error);
      }
    }
    this.#leave();
  }

  #leave(): void {
    this.#inFlight = Math.max(0, this.#inFlight - 1);
    if (this.#inFlight === 0) {
      for (const wake of this.#drained.splice(0)) {
        wake();
      }
    }
  }

  /** A read ends when it is full, or with the transfer that fell short of its length. */
  #deliver(): void {
    for (let head = this.#reads.first; head !== undefined; head = this.#reads.first) {
      const chunk = this.#arrived.shift();
      if (chunk === undefined) {
        return;
      }
      const taken = Math.min(chunk.bytes.length, head.buffer.length - head.filled);
      head.buffer.set(chunk.bytes.subarray(0, taken), head.filled);
      head.filled += taken;
      const left = chunk.bytes.subarray(taken);
      const ended = chunk.bytes.length < chunk.wanted && left.length === 0;
      if (left.length > 0) {
        const rest = [{ bytes: left, wanted: chunk.wanted - taken }, ...this.#arrived.drain()];
        for (const piece of rest) {
          this.#arrived.push(piece);
        }
      }
      if (ended || head.filled === head.buffer.length) {
        this.#reads.shift();
        head.sink.onRead(head.filled, false);
      }
    }
  }
}

/** What a link tells the device and the transport. */
export interface PipeRequests {
  open(): Promise<void>;
  /** Never rejects. */
  close(): Promise<void>;
  /** The pipe can be used by another link. */
  onClosed(): void;
}

/** One use of a pipe. */
export class WebUsbLink implements Link {
  readonly name: string;
  readonly packetSize: number;
  readonly #device: WebUsbDevice;
  readonly #input: WebUsbInput;
  readonly #output: number;
  readonly #pipe: PipeRequests;
  #closing: Promise<void> | undefined;

  constructor(name: string, device: WebUsbDevice, input: WebUsbInput, output: number, pipe: PipeRequests) {
    this.name = name;
    this.#device = device;
    this.#input = input;
    this.#output = output;
    this.#pipe = pipe;
    this.packetSize = input.packetSize;
  }

  read(buffer: Uint8Array, sink: ReadSink): ReadTransfer {
    this.#requireOpen();
    return this.#input.read(this.name, buffer, sink);
  }

  async write(...transfers: readonly Uint8Array[]): Promise<void> {
    this.#requireOpen();
    await Promise.all(transfers.map((bytes) => this.#write(bytes)));
  }

  post(transfer: Uint8Array, onFailed: (error: IioError) => void): void {
    this.write(transfer).catch(onFailed);
  }

  close(): Promise<void> {
    this.#closing ??= this.#finish();
    return this.#closing;
  }

  async #write(bytes: Uint8Array): Promise<void> {
    const memory = bytes.buffer instanceof ArrayBuffer ? bytes.buffer : bytes.slice().buffer;
    const data = new Uint8Array(memory, bytes.buffer === memory ? bytes.byteOffset : 0, bytes.byteLength);
    const { status, bytesWritten } = await this.#device.transferOut(this.#output, data).catch((error: unknown) => {
      throw transferError(this.name, error);
    });
    if (status === 'stall') {
      throw new IioError('EPIPE', `${this.name}: write stalled by the device`);
    }
    if (bytesWritten < bytes.length) {
      throw new IioError('EIO', `${this.name}: ${bytesWritten} of ${bytes.length} bytes written`);
    }
  }

  /**
   * Each `BINARY` that a server gets is answered with one short line, in either protocol, and a short packet ends one read.
   * So a fresh session is made to use the left-over reads up; otherwise they would cut the next session's answers wrongly.
   */
  async #finish(): Promise<void> {
    this.#input.abandon();
    await this.#pipe.close();
    const { leftOver } = this.#input;
    if (leftOver > 0) {
      try {
        const dropped = this.#input.drop();
        await this.#pipe.open();
        for (let read = 0; read < leftOver; read++) {
          await this.#write(BINARY_HANDSHAKE);
        }
        await dropped;
      } catch {
        // Gone: closing the device ends the reads.
      }
      await this.#pipe.close();
    }
    this.#pipe.onClosed();
  }

  #requireOpen(): void {
    if (this.#closing !== undefined) {
      throw new IioError('ECANCELED', `${this.name}: closed`);
    }
  }
}

export function transferError(name: string, error: unknown): IioError {
  const kind = error instanceof Error ? error.name : '';
  // What WebUSB says of a device that is gone depends on when it notices.
  return kind === 'NotFoundError' || kind === 'NetworkError' || kind === 'InvalidStateError' || kind === 'AbortError'
    ? new IioError('DISCONNECTED', `${name}: the device was disconnected`, { cause: error })
    : new IioError('EIO', `${name}: ${String(error)}`, { cause: error });
}
