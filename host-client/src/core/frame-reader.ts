import { decodeFrameHeader, FRAME_HEADER_BYTES, type FrameHeader, IioError } from '@iio-bridge/protocol';
import type { BufferPool, PayloadBuffer } from './buffer-pool.js';
import type { Link, ReadCompletion, ReadTransfer } from './link.js';

/** Servers cut what they send at 1 MiB, and a longer read is no faster. Bytes. */
const MAX_CHUNK_BYTES = 1024 * 1024;
/** The smallest piece of a payload worth asking for when memory is short. Bytes. */
const MIN_CHUNK_BYTES = 16 * 1024;
/** Linux lets all processes together have 16 MiB of USB transfers in flight; half of that leaves room. Bytes. */
export const DEFAULT_WINDOW_BYTES = 8 * 1024 * 1024;
/** After a shortage of memory: how many payload reads must succeed before more are tried in parallel. */
const READS_BEFORE_WIDENING = 64;

/** What follows a header. Only the request that a response belongs to tells whether its code counts bytes. */
export interface ExpectedPayload {
  /** Bytes, > 0 and at most the pool's capacity. */
  readonly length: number;
  readonly pool: BufferPool;
}

export interface ReceivedPayload {
  /** Belongs to the receiver, who gives it back to its pool. */
  readonly buffer: PayloadBuffer;
  /** Valid bytes at the start of the buffer. */
  readonly length: number;
}

/** The reader's owner. An error thrown from these fails the link. */
export interface FrameHandler {
  onHeader(header: FrameHeader): ExpectedPayload | undefined;
  onFrame(header: FrameHeader, payload: ReceivedPayload | undefined): void;
  /** Called once; nothing else is called after it. */
  onFailure(error: IioError): void;
}

/** Responses that will come with payloads of one size: lets the reader post their reads before their headers arrive. */
export interface Prediction {
  /** How many headers of such responses are still to come, if all goes well. */
  readonly count: number;
  /** Payload bytes of each. */
  readonly bytes: number;
  readonly pool: BufferPool;
}

export interface ReaderStatistics {
  /** Payload bytes that had to be copied because they landed in a read meant for something else. */
  readonly bytesCopied: number;
  /** Times that the reads in flight had to be taken back and posted anew. */
  readonly realignments: number;
  /** Current limit on bytes in flight; below its initial value after a shortage of memory. */
  readonly windowBytes: number;
}

interface HeaderSlot {
  readonly kind: 'header';
  readonly bytes: Uint8Array;
  readonly transfer: ReadTransfer;
  outcome?: ReadCompletion | IioError;
}

interface PayloadSlot {
  readonly kind: 'payload';
  readonly bytes: Uint8Array;
  readonly transfer: ReadTransfer;
  readonly buffer: PayloadBuffer;
  readonly offset: number;
  /** Where in the buffer the plan's reads for this payload end. */
  readonly end: number;
  outcome?: ReadCompletion | IioError;
}

type Slot = HeaderSlot | PayloadSlot;

/** What the next read is for. `predicted`: the payload of a header that has not arrived. */
type Cursor =
  | { readonly kind: 'header' | 'predicted' }
  | { readonly kind: 'payload'; readonly buffer: PayloadBuffer; readonly offset: number; readonly end: number };

interface PayloadInProgress {
  readonly header: FrameHeader;
  readonly expected: ExpectedPayload;
  buffer: PayloadBuffer | undefined;
  received: number;
}

/**
 * Reads a link's responses. Owns the reads in flight, and the payload buffers until they are handed to the handler.
 *
 * One header read is always posted, so that a lost device is noticed at once. With a {@link Prediction}, reads for whole
 * responses (header, payload, header, payload...) are posted ahead, as many as fit the window. The bytes are parsed as
 * one stream in the order in which the reads were posted, so a read may turn out to hold something else than planned;
 * then the payload is copied together, the remaining reads are cancelled (what they got is parsed too) and posted anew.
 *
 * Invariants: a buffer is handed out only when no read in flight points into it; in a buffer being filled, received
 * bytes never lie behind the read that carried them, so a late read cannot overwrite them.
 */
export class FrameReader {
  readonly #link: Link;
  readonly #handler: FrameHandler;
  readonly #headerBytes = new Uint8Array(FRAME_HEADER_BYTES);
  readonly #idleHeaders: Uint8Array[] = [];
  /** Posted reads, oldest first. */
  readonly #slots: Slot[] = [];
  readonly #maxWindowBytes: number;
  #headerFilled = 0;
  #payload: PayloadInProgress | undefined;
  #prediction: Prediction | undefined;
  #cursor: Cursor = { kind: 'header' };
  #realigning = false;
  #parsing = false;
  #stopped = false;
  #bytesInFlight = 0;
  #headersInFlight = 0;
  #windowBytes: number;
  #chunkBytes: number;
  #readsSinceShortage = 0;
  #bytesCopied = 0;
  #realignments = 0;

  constructor(link: Link, handler: FrameHandler, windowBytes: number = DEFAULT_WINDOW_BYTES) {
    this.#link = link;
    this.#handler = handler;
    this.#maxWindowBytes = Math.max(windowBytes, link.packetSize);
    this.#windowBytes = this.#maxWindowBytes;
    this.#chunkBytes = this.#roundUp(Math.min(MAX_CHUNK_BYTES, this.#maxWindowBytes));
  }

  start(): void {
    this.#post();
  }

  /** Cancels all reads; their buffers are free once the link is closed. */
  stop(): void {
    this.#stopped = true;
    this.#cancelAll();
  }

  get statistics(): ReaderStatistics {
    return {
      bytesCopied: this.#bytesCopied,
      realignments: this.#realignments,
      windowBytes: this.#windowBytes,
    };
  }

  /** The capacity that a payload's buffer needs: reads are whole packets, and may start inside one. */
  capacityFor(bytes: number): number {
    return this.#roundUp(bytes) + this.#link.packetSize;
  }

  /** Must be called whenever the responses to come change; `undefined` while any other kind of response is awaited. */
  predict(prediction: Prediction | undefined): void {
    this.#prediction = prediction;
    if (!this.#parsing) {
      this.#post();
    }
  }

  #roundUp(bytes: number): number {
    return Math.ceil(bytes / this.#link.packetSize) * this.#link.packetSize;
  }

  /** Where a payload's reads end: whole packets from the first byte that has not arrived. */
  #end(received: number, length: number): number {
    return received + this.#roundUp(length - received);
  }

  // Posting

  #post(): void {
    while (!this.#stopped) {
      if (this.#slots.length === 0) {
        this.#realigning = false;
        this.#setCursor(this.#cursorFromParser());
      }
      const cursor = this.#realigning ? undefined : this.#allowedCursor();
      if (cursor === undefined || !this.#postOne(cursor)) {
        return;
      }
    }
  }

  /** What the parser waits for: the truth when nothing is in flight. */
  #cursorFromParser(): Cursor {
    const payload = this.#payload;
    if (payload === undefined) {
      return { kind: 'header' };
    }
    payload.buffer ??= payload.expected.pool.take();
    const end = this.#end(payload.received, payload.expected.length);
    return { kind: 'payload', buffer: payload.buffer, offset: payload.received, end };
  }

  #allowedCursor(): Cursor | undefined {
    const cursor = this.#cursor;
    if (cursor.kind === 'payload' || this.#slots.length === 0) {
      return cursor;
    }
    const prediction = this.#prediction;
    if (prediction === undefined || this.#headersInFlight > prediction.count) {
      return undefined;
    }
    if (cursor.kind === 'header') {
      return this.#headersInFlight < prediction.count ? cursor : undefined;
    }
    const end = this.#end(0, prediction.bytes);
    if (this.#bytesInFlight + Math.min(end, this.#chunkBytes) > this.#windowBytes) {
      return undefined;
    }
    const payload: Cursor = { kind: 'payload', buffer: prediction.pool.take(), offset: 0, end };
    this.#cursor = payload;
    return payload;
  }

  /** @returns whether another read may be tried right away */
  #postOne(cursor: Cursor): boolean {
    const bytes = this.#memoryFor(cursor);
    let transfer: ReadTransfer | undefined;
    let failure: unknown;
    if (this.#slots.length === 0 || this.#bytesInFlight + bytes.length <= this.#windowBytes) {
      try {
        transfer = this.#link.read(bytes);
      } catch (error) {
        failure = error;
      }
    }
    if (transfer === undefined) {
      if (cursor.kind !== 'payload') {
        this.#idleHeaders.push(bytes);
      }
      return failure !== undefined && this.#postFailed(failure);
    }
    let slot: Slot;
    if (cursor.kind === 'payload') {
      slot = { kind: 'payload', bytes, transfer, buffer: cursor.buffer, offset: cursor.offset, end: cursor.end };
      cursor.buffer.posted++;
      const offset = cursor.offset + bytes.length;
      this.#cursor = offset === cursor.end ? { kind: 'header' } : { ...cursor, offset };
    } else {
      slot = { kind: 'header', bytes, transfer };
      this.#headersInFlight++;
      this.#cursor = { kind: 'predicted' };
    }
    this.#slots.push(slot);
    this.#bytesInFlight += bytes.length;
    transfer.done.then(
      (completion) => this.#finished(slot, completion),
      (error: unknown) => this.#finished(slot, asIioError(error, this.#link.name)),
    );
    return true;
  }

  #memoryFor(cursor: Cursor): Uint8Array {
    if (cursor.kind === 'payload') {
      const length = Math.min(this.#chunkBytes, cursor.end - cursor.offset);
      return cursor.buffer.bytes.subarray(cursor.offset, cursor.offset + length);
    }
    return this.#idleHeaders.pop() ?? new Uint8Array(this.#roundUp(FRAME_HEADER_BYTES));
  }

  #postFailed(error: unknown): boolean {
    const failure = asIioError(error, this.#link.name);
    if (failure.code !== 'ENOMEM') {
      this.#fail(failure);
      return false;
    }
    this.#readsSinceShortage = 0;
    if (this.#slots.length > 0) {
      this.#windowBytes = Math.max(this.#bytesInFlight, this.#link.packetSize);
      return false;
    }
    if (this.#chunkBytes > this.#roundUp(MIN_CHUNK_BYTES)) {
      this.#chunkBytes = this.#roundUp(this.#chunkBytes / 2);
      return true;
    }
    this.#fail(
      new IioError(
        'ENOMEM',
        `${this.#link.name}: the system takes not even one USB transfer; on Linux raise ` +
          '/sys/module/usbcore/parameters/usbfs_memory_mb, which all USB programs share (default 16)',
        { cause: error },
      ),
    );
    return false;
  }

  #widenWindow(): void {
    if (this.#windowBytes >= this.#maxWindowBytes || ++this.#readsSinceShortage < READS_BEFORE_WIDENING) {
      return;
    }
    this.#readsSinceShortage = 0;
    this.#windowBytes = Math.min(this.#maxWindowBytes, this.#windowBytes * 2);
  }

  #setCursor(cursor: Cursor): void {
    const old = this.#cursor;
    this.#cursor = cursor;
    if (old.kind === 'payload') {
      this.#recycle(old.buffer);
    }
  }

  /** Gives a buffer back that neither a read, nor the payload in progress, nor the plan uses any more. */
  #recycle(buffer: PayloadBuffer): void {
    const planned = this.#cursor.kind === 'payload' && this.#cursor.buffer === buffer;
    if (buffer.owner === 'reader' && buffer.posted === 0 && buffer !== this.#payload?.buffer && !planned) {
      buffer.pool.give(buffer);
    }
  }

  // Parsing

  #finished(slot: Slot, outcome: ReadCompletion | IioError): void {
    slot.outcome = outcome;
    while (!this.#stopped) {
      const head = this.#slots[0];
      if (head?.outcome === undefined) {
        break;
      }
      this.#slots.shift();
      this.#bytesInFlight -= head.bytes.length;
      if (head.kind === 'header') {
        this.#headersInFlight--;
      } else {
        head.buffer.posted--;
      }
      if (head.outcome instanceof IioError) {
        this.#fail(head.outcome);
        return;
      }
      this.#parsing = true;
      try {
        this.#consume(head, head.outcome);
      } catch (error) {
        this.#fail(asIioError(error, this.#link.name));
        return;
      } finally {
        this.#parsing = false;
      }
      if (head.kind === 'header') {
        this.#idleHeaders.push(head.bytes);
      } else {
        this.#recycle(head.buffer);
        this.#widenWindow();
      }
      if (!this.#realigning && !this.#aligned()) {
        this.#realign();
      }
    }
    this.#post();
  }

  #consume(slot: Slot, { length, cancelled }: ReadCompletion): void {
    let at = 0;
    while (at < length) {
      at += this.#payload === undefined ? this.#takeHeader(slot, at, length) : this.#takePayload(slot, at, length);
    }
    const transferEnded = length % this.#link.packetSize !== 0 || (!cancelled && length < slot.bytes.length);
    if (transferEnded) {
      this.#requireItemEnd();
    }
  }

  #takeHeader(slot: Slot, at: number, end: number): number {
    const taken = Math.min(FRAME_HEADER_BYTES - this.#headerFilled, end - at);
    this.#headerBytes.set(slot.bytes.subarray(at, at + taken), this.#headerFilled);
    this.#headerFilled += taken;
    if (this.#headerFilled === FRAME_HEADER_BYTES) {
      this.#headerFilled = 0;
      const header = decodeFrameHeader(this.#headerBytes, 0);
      const expected = this.#handler.onHeader(header);
      if (expected === undefined) {
        this.#handler.onFrame(header, undefined);
      } else {
        this.#payload = { header, expected, buffer: undefined, received: 0 };
      }
    }
    return taken;
  }

  #takePayload(slot: Slot, at: number, end: number): number {
    const payload = this.#payload;
    if (payload === undefined) {
      return 0;
    }
    const taken = Math.min(payload.expected.length - payload.received, end - at);
    if (at === 0 && slot.kind === 'payload' && isPlanned(slot, payload)) {
      payload.buffer = slot.buffer;
    } else {
      payload.buffer ??= payload.expected.pool.take();
      payload.buffer.bytes.set(slot.bytes.subarray(at, at + taken), payload.received);
      this.#bytesCopied += taken;
    }
    payload.received += taken;
    if (payload.received === payload.expected.length) {
      this.#payload = undefined;
      this.#deliver(payload, payload.buffer);
    }
    return taken;
  }

  #deliver({ header, expected }: PayloadInProgress, filled: PayloadBuffer): void {
    let buffer = filled;
    if (filled.posted > 0) {
      // A shorter payload than planned: later reads still point into its buffer, so that must not leave.
      buffer = expected.pool.take();
      buffer.bytes.set(filled.bytes.subarray(0, expected.length));
      this.#bytesCopied += expected.length;
    }
    buffer.owner = 'consumer';
    this.#handler.onFrame(header, { buffer, length: expected.length });
  }

  /** A transfer that ends inside an item: the rest will never come, and the next bytes would be taken for it. */
  #requireItemEnd(): void {
    if (this.#headerFilled > 0) {
      throw new IioError(
        'TRUNCATED',
        `${this.#link.name}: a response ended after ${this.#headerFilled} of ${FRAME_HEADER_BYTES} header bytes`,
      );
    }
    if (this.#payload !== undefined && this.#payload.received > 0) {
      throw new IioError(
        'TRUNCATED',
        `${this.#link.name}: a response ended after ${this.#payload.received} of the ` +
          `${this.#payload.expected.length} payload bytes it announced`,
      );
    }
  }

  // Alignment

  /** Whether the oldest read in flight is for what the parser waits for. */
  #aligned(): boolean {
    const head = this.#slots[0];
    if (head === undefined) {
      return true;
    }
    const payload = this.#payload;
    if (payload === undefined) {
      return head.kind === 'header' && this.#headerFilled === 0;
    }
    return (
      head.kind === 'payload' &&
      isPlanned(head, payload) &&
      head.end === this.#end(payload.received, payload.expected.length)
    );
  }

  #realign(): void {
    this.#realigning = true;
    this.#realignments++;
    this.#setCursor({ kind: 'header' });
    this.#cancelAll();
  }

  #cancelAll(): void {
    // Newest first, so that data arriving meanwhile stays in the oldest reads.
    for (const slot of this.#slots.toReversed()) {
      slot.transfer.cancel();
    }
  }

  #fail(error: IioError): void {
    if (this.#stopped) {
      return;
    }
    this.stop();
    this.#handler.onFailure(error);
  }
}

function isPlanned(slot: PayloadSlot, payload: PayloadInProgress): boolean {
  if (slot.offset !== payload.received) {
    return false;
  }
  return payload.buffer === undefined
    ? payload.received === 0 && slot.buffer.pool === payload.expected.pool
    : payload.buffer === slot.buffer;
}

function asIioError(error: unknown, where: string): IioError {
  return error instanceof IioError ? error : new IioError('EIO', `${where}: ${String(error)}`, { cause: error });
}
