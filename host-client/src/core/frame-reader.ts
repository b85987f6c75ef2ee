import {
  BLOCK_ANSWER_OP,
  BLOCK_RECORD_BYTES,
  FRAME_HEADER_BYTES,
  type FrameHeader,
  IioError,
} from '@iio-bridge/protocol';
import { type BufferPool, type PayloadBuffer, viewOf } from './buffer-pool.js';
import { Fifo } from './fifo.js';
import type { Link, ReadSink, ReadTransfer } from './link.js';

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
  /** Bytes, > 0 and at most the pool's capacity. Read when the header is there, and not later. */
  readonly length: number;
  readonly pool: BufferPool;
}

/** The reader's owner. An error thrown from these fails the link. Headers are reused: they hold until the call returns. */
export interface FrameHandler {
  onHeader(header: FrameHeader): ExpectedPayload | undefined;
  /**
   * @param payload belongs to the receiver, who gives it back to its pool; `length` bytes at its start are valid
   * @param record of a {@link BLOCK_ANSWER_OP}; reused, like the header
   */
  onFrame(
    header: FrameHeader,
    payload: PayloadBuffer | undefined,
    length: number,
    record: Uint8Array<ArrayBuffer> | undefined,
  ): void;
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
  /** Whether block records follow the headers. */
  readonly records: boolean;
}

export interface ReaderStatistics {
  /** Payload bytes that had to be copied because they landed in a read meant for something else. */
  readonly bytesCopied: number;
  /** Times that the reads in flight had to be taken back and posted anew. */
  readonly realignments: number;
  /** Current limit on bytes in flight; below its initial value after a shortage of memory. */
  readonly windowBytes: number;
}

/** A read in flight and what it is for. Reused. */
class Slot implements ReadSink {
  bytes: Uint8Array = NO_BYTES;
  transfer: ReadTransfer | undefined;
  /** Of a payload's read; headers are read into memory of the reader. */
  buffer: PayloadBuffer | undefined;
  offset = 0;
  /** Where in the buffer the plan's reads for this payload end. */
  end = 0;
  done = false;
  length = 0;
  cancelled = false;
  failure: IioError | undefined;
  readonly #onDone: () => void;

  constructor(onDone: () => void) {
    this.#onDone = onDone;
  }

  reset(): void {
    this.bytes = NO_BYTES;
    this.transfer = undefined;
    this.buffer = undefined;
    this.done = false;
    this.failure = undefined;
  }

  onRead(length: number, cancelled: boolean): void {
    this.done = true;
    this.length = length;
    this.cancelled = cancelled;
    this.#onDone();
  }

  onReadFailed(error: IioError): void {
    this.done = true;
    this.failure = error;
    this.#onDone();
  }
}

const NO_BYTES = new Uint8Array();

/** What the next read is for. `predicted`: the payload of a header that has not arrived. */
const HEADER = { kind: 'header' } as const;
const PREDICTED = { kind: 'predicted' } as const;
type Cursor = { readonly kind: 'header' | 'predicted' } | PayloadCursor;

/** Reused. */
interface PayloadCursor {
  readonly kind: 'payload';
  buffer: PayloadBuffer;
  offset: number;
  end: number;
}

/** Reused. */
interface PayloadInProgress {
  length: number;
  pool: BufferPool;
  buffer: PayloadBuffer | undefined;
  received: number;
}

interface ReusedHeader extends FrameHeader {
  clientId: number;
  op: number;
  dev: number;
  code: number;
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
  readonly #headerBytes = new Uint8Array(FRAME_HEADER_BYTES + BLOCK_RECORD_BYTES);
  readonly #headerView = new DataView(this.#headerBytes.buffer);
  readonly #record = this.#headerBytes.subarray(FRAME_HEADER_BYTES);
  readonly #header: ReusedHeader = { clientId: 0, op: 0, dev: 0, code: 0 };
  readonly #idleHeaders = new Fifo<Uint8Array>();
  readonly #idleSlots = new Fifo<Slot>();
  readonly #onSlotDone = (): void => this.#finished();
  /** Posted reads, oldest first. */
  readonly #slots = new Fifo<Slot>();
  readonly #maxWindowBytes: number;
  #headerFilled = 0;
  /** Length of the header that is being read, with its record if it has one. */
  #headerNeeded = FRAME_HEADER_BYTES;
  #payload: PayloadInProgress | undefined;
  #idlePayload: PayloadInProgress | undefined;
  #prediction: Prediction | undefined;
  #cursor: Cursor = HEADER;
  #idleCursor: PayloadCursor | undefined;
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
        this.#cursorToParser();
      }
      const cursor = this.#realigning ? undefined : this.#allowedCursor();
      if (cursor === undefined || !this.#postOne(cursor)) {
        return;
      }
    }
  }

  /** To what the parser waits for: the truth when nothing is in flight. */
  #cursorToParser(): void {
    this.#cursorToHeader();
    const payload = this.#payload;
    if (payload !== undefined) {
      payload.buffer ??= payload.pool.take();
      this.#cursorTo(payload.buffer, payload.received, this.#end(payload.received, payload.length));
    }
  }

  #cursorTo(buffer: PayloadBuffer, offset: number, end: number): PayloadCursor {
    this.#idleCursor ??= { kind: 'payload', buffer, offset, end };
    const cursor = this.#idleCursor;
    cursor.buffer = buffer;
    cursor.offset = offset;
    cursor.end = end;
    this.#cursor = cursor;
    return cursor;
  }

  #cursorToHeader(): void {
    const old = this.#cursor;
    this.#cursor = HEADER;
    if (old.kind === 'payload') {
      this.#recycle(old.buffer);
    }
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
    return this.#cursorTo(prediction.pool.take(), 0, end);
  }

  /** @returns whether another read may be tried right away */
  #postOne(cursor: Cursor): boolean {
    const slot = this.#idleSlots.shift() ?? new Slot(this.#onSlotDone);
    const bytes = this.#memoryFor(cursor);
    let failure: unknown;
    if (this.#slots.length === 0 || this.#bytesInFlight + bytes.length <= this.#windowBytes) {
      try {
        slot.transfer = this.#link.read(bytes, slot, cursor.kind === 'payload' ? bytes.length : FRAME_HEADER_BYTES);
      } catch (error) {
        failure = error;
      }
    }
    if (slot.transfer === undefined) {
      this.#idleSlots.push(slot);
      if (cursor.kind !== 'payload') {
        this.#idleHeaders.push(bytes);
      }
      return failure !== undefined && this.#postFailed(failure);
    }
    slot.bytes = bytes;
    if (cursor.kind === 'payload') {
      slot.buffer = cursor.buffer;
      slot.offset = cursor.offset;
      slot.end = cursor.end;
      cursor.buffer.posted++;
      const offset = cursor.offset + bytes.length;
      if (offset === cursor.end) {
        this.#cursor = HEADER;
      } else {
        cursor.offset = offset;
      }
    } else {
      this.#headersInFlight++;
      this.#cursor = PREDICTED;
    }
    this.#slots.push(slot);
    this.#bytesInFlight += bytes.length;
    return true;
  }

  #memoryFor(cursor: Cursor): Uint8Array {
    if (cursor.kind === 'payload') {
      const length = Math.min(this.#chunkBytes, cursor.end - cursor.offset);
      return viewOf(cursor.buffer, cursor.offset, length);
    }
    const records = this.#prediction?.records === true;
    const length = this.#roundUp(records ? this.#headerBytes.length : FRAME_HEADER_BYTES);
    while (this.#idleHeaders.length > 0) {
      const idle = this.#idleHeaders.shift();
      if (idle?.length === length) {
        return idle;
      }
    }
    return new Uint8Array(length);
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

  /** Gives a buffer back that neither a read, nor the payload in progress, nor the plan uses any more. */
  #recycle(buffer: PayloadBuffer): void {
    const planned = this.#cursor.kind === 'payload' && this.#cursor.buffer === buffer;
    if (buffer.owner === 'reader' && buffer.posted === 0 && buffer !== this.#payload?.buffer && !planned) {
      buffer.pool.give(buffer);
    }
  }

  // Parsing

  #finished(): void {
    while (!this.#stopped) {
      const head = this.#slots.first;
      if (head?.done !== true) {
        break;
      }
      this.#slots.shift();
      this.#bytesInFlight -= head.bytes.length;
      if (head.buffer === undefined) {
        this.#headersInFlight--;
      } else {
        head.buffer.posted--;
      }
      if (head.failure !== undefined) {
        this.#fail(head.failure);
        return;
      }
      this.#parsing = true;
      try {
        this.#consume(head);
      } catch (error) {
        this.#fail(asIioError(error, this.#link.name));
        return;
      } finally {
        this.#parsing = false;
      }
      if (head.buffer === undefined) {
        this.#idleHeaders.push(head.bytes);
      } else {
        this.#recycle(head.buffer);
        this.#widenWindow();
      }
      head.reset();
      this.#idleSlots.push(head);
      if (!this.#realigning && !this.#aligned()) {
        this.#realign();
      }
    }
    this.#post();
  }

  #consume(slot: Slot): void {
    const { length } = slot;
    let at = 0;
    while (at < length) {
      at += this.#payload === undefined ? this.#takeHeader(slot, at) : this.#takePayload(slot, at);
    }
    const { packetSize } = this.#link;
    if (packetSize > 1 && (length % packetSize !== 0 || (!slot.cancelled && length < slot.bytes.length))) {
      this.#requireItemEnd();
    }
  }

  #takeHeader(slot: Slot, at: number): number {
    const taken = Math.min(this.#headerNeeded - this.#headerFilled, slot.length - at);
    for (let i = 0; i < taken; i++) {
      this.#headerBytes[this.#headerFilled + i] = slot.bytes[at + i] ?? 0;
    }
    this.#headerFilled += taken;
    if (this.#headerFilled < this.#headerNeeded) {
      return taken;
    }
    const header = this.#header;
    if (this.#headerFilled === FRAME_HEADER_BYTES) {
      header.clientId = this.#headerView.getUint16(0, true);
      header.op = this.#headerView.getUint8(2);
      header.dev = this.#headerView.getUint8(3);
      header.code = this.#headerView.getInt32(4, true);
      if (header.op === BLOCK_ANSWER_OP) {
        this.#headerNeeded += BLOCK_RECORD_BYTES;
        return taken;
      }
    }
    this.#headerFilled = 0;
    this.#headerNeeded = FRAME_HEADER_BYTES;
    const expected = this.#handler.onHeader(header);
    if (expected === undefined) {
      this.#handler.onFrame(header, undefined, 0, this.#recordOf(header));
    } else {
      this.#begin(expected);
    }
    return taken;
  }

  #begin({ length, pool }: ExpectedPayload): void {
    this.#idlePayload ??= { length, pool, buffer: undefined, received: 0 };
    const payload = this.#idlePayload;
    payload.length = length;
    payload.pool = pool;
    payload.buffer = undefined;
    payload.received = 0;
    this.#payload = payload;
  }

  #recordOf(header: FrameHeader): Uint8Array<ArrayBuffer> | undefined {
    return header.op === BLOCK_ANSWER_OP ? this.#record : undefined;
  }

  #takePayload(slot: Slot, at: number): number {
    const payload = this.#payload;
    if (payload === undefined) {
      return 0;
    }
    const taken = Math.min(payload.length - payload.received, slot.length - at);
    if (at === 0 && isPlanned(slot, payload)) {
      payload.buffer = slot.buffer;
    } else {
      payload.buffer ??= payload.pool.take();
      payload.buffer.bytes.set(slot.bytes.subarray(at, at + taken), payload.received);
      this.#bytesCopied += taken;
    }
    payload.received += taken;
    if (payload.received === payload.length && payload.buffer !== undefined) {
      this.#payload = undefined;
      this.#deliver(payload, payload.buffer);
    }
    return taken;
  }

  #deliver({ length, pool }: PayloadInProgress, filled: PayloadBuffer): void {
    let buffer = filled;
    if (filled.posted > 0) {
      // A shorter payload than planned: later reads still point into its buffer, so that must not leave.
      buffer = pool.take();
      buffer.bytes.set(filled.bytes.subarray(0, length));
      this.#bytesCopied += length;
    }
    buffer.owner = 'consumer';
    this.#handler.onFrame(this.#header, buffer, length, this.#recordOf(this.#header));
  }

  /** A transfer that ends inside an item: the rest will never come, and the next bytes would be taken for it. */
  #requireItemEnd(): void {
    if (this.#headerFilled > 0) {
      throw new IioError(
        'TRUNCATED',
        `${this.#link.name}: a response ended after ${this.#headerFilled} of ${this.#headerNeeded} header bytes`,
      );
    }
    if (this.#payload !== undefined && this.#payload.received > 0) {
      throw new IioError(
        'TRUNCATED',
        `${this.#link.name}: a response ended after ${this.#payload.received} of the ` +
          `${this.#payload.length} payload bytes it announced`,
      );
    }
  }

  // Alignment

  /** Whether the oldest read in flight is for what the parser waits for. */
  #aligned(): boolean {
    const head = this.#slots.first;
    if (head === undefined) {
      return true;
    }
    const payload = this.#payload;
    if (payload === undefined) {
      return head.buffer === undefined && this.#headerFilled === 0;
    }
    return isPlanned(head, payload) && head.end === this.#end(payload.received, payload.length);
  }

  #realign(): void {
    this.#realigning = true;
    this.#realignments++;
    this.#cursorToHeader();
    this.#cancelAll();
  }

  #cancelAll(): void {
    // Newest first, so that data arriving meanwhile stays in the oldest reads.
    for (const slot of this.#slots.toArray().reverse()) {
      slot.transfer?.cancel();
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

function isPlanned({ buffer, offset }: Slot, payload: PayloadInProgress): boolean {
  if (buffer === undefined || offset !== payload.received) {
    return false;
  }
  return payload.buffer === undefined
    ? payload.received === 0 && buffer.pool === payload.pool
    : payload.buffer === buffer;
}

function asIioError(error: unknown, where: string): IioError {
  return error instanceof IioError ? error : new IioError('EIO', `${where}: ${String(error)}`, { cause: error });
}
