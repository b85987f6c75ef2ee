import {
  BLOCK_ANSWER_OP,
  EXPLAIN_OP,
  encodeFrameHeader,
  encodeU32,
  type FrameHeader,
  type Generation,
  IioError,
  LATEST_GENERATION,
  type Operation,
  opcodeOf,
  RESPONSE_OP,
  STREAM_OPTIONS_OP,
  type StreamOptions,
} from '@iio-bridge/protocol';
import { BufferPool, type PayloadBuffer } from './buffer-pool.js';
import { withDeadline } from './deadline.js';
import { deferred } from './deferred.js';
import { type ExpectedPayload, type FrameHandler, FrameReader, type ReaderStatistics } from './frame-reader.js';
import type { Link } from './link.js';
import type { Logger } from './logger.js';

/** No answer but samples is larger: attribute values end at 64 KiB, the largest known context document at 100 KiB. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
/** An explanation is a sentence. Bytes. */
const MAX_EXPLANATION_BYTES = 4096;
const EXPLAIN_TIMEOUT_MS = 1000;

export interface ClientOptions {
  readonly logger: Logger;
  /** Milliseconds to wait for an answer; `Infinity` waits for ever. The server is told half of it. */
  readonly timeoutMs: number;
  readonly generation?: Generation;
  /** Limit on the bytes of reads in flight. */
  readonly windowBytes?: number;
  /** The server has the extension `explain`: refusals get its sentence. */
  readonly explain?: boolean;
}

/** Beside libiio's operations those of iio-bridge, for servers that say that they have them. */
export type RequestOperation = Operation | 'STREAM_OPTIONS' | 'EXPLAIN';

export interface Request {
  readonly operation: RequestOperation;
  readonly clientId?: number;
  readonly device?: number;
  readonly code?: number;
  /** Follows the header; each element is a transfer of its own. */
  readonly payload?: readonly Uint8Array[];
  /** Whether a positive code in the answer counts payload bytes. */
  readonly answer: 'status' | 'payload';
  /** For messages: `read attribute raw of iio:device0`. */
  readonly what: string;
  readonly timeoutMs?: number;
}

export interface Answer {
  /** >= 0. */
  readonly code: number;
  /** Empty unless the answer has a payload. */
  readonly payload: Uint8Array<ArrayBuffer>;
}

/**
 * A block that exists on the server. One request for it may be outstanding at a time. Lives as long as its buffer, so that
 * a transfer needs no objects of its own.
 */
export interface BlockHandle {
  readonly what: string;
  /** Id of the conversation: block index + 1. */
  readonly clientId: number;
  /** Most bytes that an answer may bring; 0 of an output. */
  readonly blockBytes: number;
  readonly pool: BufferPool;
  /** Whether answers carry block records. */
  readonly records: boolean;
  /**
   * Exactly one call per request, unless the link fails first.
   * @param payload belongs to the handle, who gives it back to its pool
   * @param record reused: holds until the call returns
   */
  onAnswer(
    code: number,
    payload: PayloadBuffer | undefined,
    length: number,
    record: Uint8Array<ArrayBuffer> | undefined,
  ): void;
}

interface Conversation {
  readonly what: string;
  readonly isBlock: boolean;
  /** What a positive code means. @throws IioError `EPROTO` */
  expect(code: number, op: number): ExpectedPayload | undefined;
}

interface RequestConversation extends Conversation {
  finish(code: number, payload: PayloadBuffer | undefined, length: number): void;
  fail(error: IioError): void;
  /** Nobody waits any more, but the answer will come. */
  abandoned: boolean;
}

/** The conversation of a block, for all its transfers. */
class BlockConversation implements Conversation {
  readonly isBlock = true;
  readonly handle: BlockHandle;
  readonly #link: string;
  readonly #expected: { length: number; readonly pool: BufferPool };
  /** A request is under way. */
  awaited = false;

  constructor(link: string, handle: BlockHandle) {
    this.#link = link;
    this.handle = handle;
    this.#expected = { length: 0, pool: handle.pool };
  }

  get what(): string {
    return this.handle.what;
  }

  expect(code: number, op: number): ExpectedPayload | undefined {
    const { blockBytes, records, what } = this.handle;
    if (op === BLOCK_ANSWER_OP && !records) {
      throw new IioError('EPROTO', `${this.#link}: ${what} was answered with a record that was not asked for`);
    }
    if (blockBytes === 0 || code <= 0) {
      return undefined;
    }
    if (code > blockBytes) {
      throw new IioError('EPROTO', `${this.#link}: ${code} bytes announced for a block of ${blockBytes}`);
    }
    this.#expected.length = code;
    return this.#expected;
  }

  finish(
    code: number,
    payload: PayloadBuffer | undefined,
    length: number,
    record: Uint8Array<ArrayBuffer> | undefined,
  ): void {
    this.handle.onAnswer(code, payload, length, record);
  }
}

/**
 * The binary protocol on one link. Owns the link: `close()`, or a failure, ends both.
 *
 * A request that times out stays registered until its late answer has been read, and the next request with the same id
 * waits for that; so an answer can never be taken for another one's. See {@link stale} and {@link drained}.
 */
export class BinaryClient {
  readonly #link: Link;
  readonly #options: ClientOptions;
  readonly #reader: FrameReader;
  readonly #conversations = new Map<number, RequestConversation>();
  readonly #blocks = new Map<number, BlockConversation>();
  readonly #drainWaiters: (() => void)[] = [];
  readonly #onFailure: ((error: IioError) => void)[] = [];
  #generation: Generation;
  #explain: boolean;
  #failure: IioError | undefined;
  /** Tail of the queue of requests on the default conversation. */
  #queue: Promise<void> = Promise.resolve();
  #streaming:
    | { count: number; readonly bytes: number; readonly pool: BufferPool; readonly records: boolean }
    | undefined;
  #blocksAwaited = 0;
  #othersAwaited = 0;

  private constructor(link: Link, options: ClientOptions) {
    this.#link = link;
    this.#options = options;
    this.#generation = options.generation ?? LATEST_GENERATION;
    this.#explain = options.explain === true;
    const handler: FrameHandler = {
      onHeader: (header) => this.#onHeader(header),
      onFrame: (header, payload, length, record) => this.#onFrame(header, payload, length, record),
      onFailure: (error) => this.#fail(error),
    };
    this.#reader = new FrameReader(link, handler, options.windowBytes);
  }

  /**
   * Takes over a link that speaks the binary protocol, and tells the server the time-out. Closes the link if that fails.
   * @throws IioError `ETIMEDOUT`, `DISCONNECTED`
   */
  static async start(link: Link, options: ClientOptions): Promise<BinaryClient> {
    try {
      const client = new BinaryClient(link, options);
      client.#reader.start();
      const code = options.timeoutMs === Number.POSITIVE_INFINITY ? -1 : Math.max(1, Math.floor(options.timeoutMs / 2));
      await client.request({ operation: 'TIMEOUT', code, answer: 'status', what: 'set the time-out' });
      return client;
    } catch (error) {
      await link.close();
      throw error;
    }
  }

  get link(): Link {
    return this.#link;
  }

  get logger(): Logger {
    return this.#options.logger;
  }

  get statistics(): ReaderStatistics {
    return this.#reader.statistics;
  }

  /** Set once the link is of no use any more. */
  get failure(): IioError | undefined {
    return this.#failure;
  }

  /** What the server has not answered in time, if so; later requests on the default conversation have to wait for it. */
  get stale(): string | undefined {
    const conversation = this.#conversations.get(0);
    return conversation?.abandoned === true ? conversation.what : undefined;
  }

  /** What the context document told about the server. */
  adapt({ generation, explain }: { readonly generation: Generation; readonly explain: boolean }): void {
    this.#generation = generation;
    this.#explain = explain;
  }

  /** Calls back when the link fails; at once if it has. */
  whenFailed(callback: (error: IioError) => void): void {
    if (this.#failure === undefined) {
      this.#onFailure.push(callback);
    } else {
      callback(this.#failure);
    }
  }

  /** Resolves once no late answer is outstanding on the default conversation, or the link failed. */
  drained(): Promise<void> {
    return this.stale === undefined || this.#failure !== undefined
      ? Promise.resolve()
      : new Promise((resolve) => this.#drainWaiters.push(resolve));
  }

  /**
   * Sends a request and waits for its answer. Requests on the default conversation (id 0) queue for each other.
   * @throws IioError with the server's errno, `ETIMEDOUT`, or why the link failed
   */
  async request(request: Request): Promise<Answer> {
    if ((request.clientId ?? 0) !== 0) {
      return this.#exchange(request);
    }
    const before = this.#queue;
    const turn = deferred<void>();
    this.#queue = turn.promise;
    await before;
    try {
      if (this.stale !== undefined) {
        const waitingFor = this.stale;
        const timeoutMs = request.timeoutMs ?? this.#options.timeoutMs;
        await withDeadline(this.drained(), { timeoutMs, what: request.what }, () => {
          const message = `${request.what}: the server still has not answered '${waitingFor}'`;
          return new IioError('ETIMEDOUT', message);
        });
      }
      return await this.#exchange(request);
    } finally {
      turn.resolve();
    }
  }

  /** What the next OPEN_BUFFER of this buffer is to do beyond libiio's. @throws IioError as {@link request} */
  async streamOptions(device: number, bufferIndex: number, options: StreamOptions, what: string): Promise<void> {
    const text = new TextEncoder().encode(JSON.stringify(options));
    const payload = [encodeU32(text.length), text];
    await this.request({ operation: 'STREAM_OPTIONS', device, code: bufferIndex, payload, answer: 'status', what });
  }

  /** The header of a request, for requests that are sent again and again. @throws IioError `ENOSYS` */
  encode({ operation, clientId = 0, device = 0, code = 0 }: Omit<Request, 'answer' | 'what'>): Uint8Array {
    const op =
      operation === 'STREAM_OPTIONS'
        ? STREAM_OPTIONS_OP
        : operation === 'EXPLAIN'
          ? EXPLAIN_OP
          : opcodeOf(this.#generation, operation);
    if (op === undefined) {
      throw new IioError('ENOSYS', `the server's protocol generation ${this.#generation} has no ${operation}`);
    }
    return encodeFrameHeader({ clientId, op, dev: device, code });
  }

  /**
   * Sends a request for a block. The answer goes to the handle; after a failure of the link nothing happens.
   * @param transfers each goes out as a transfer of its own; they must stay untouched until the answer
   */
  requestBlock(handle: BlockHandle, transfers: readonly Uint8Array[]): void {
    if (this.#failure !== undefined) {
      return;
    }
    let conversation = this.#blocks.get(handle.clientId);
    if (conversation?.handle !== handle) {
      conversation = new BlockConversation(this.#link.name, handle);
      this.#blocks.set(handle.clientId, conversation);
    }
    if (conversation.awaited) {
      throw new IioError('EBUSY', `${handle.what} was requested twice`);
    }
    conversation.awaited = true;
    this.#blocksAwaited++;
    for (const transfer of transfers) {
      this.#link.post(transfer, this.#onWriteFailed);
    }
    this.#predict();
  }

  /**
   * From now on post the reads of blocks ahead of their headers, whenever nothing but blocks is awaited; `undefined`
   * goes back to one step at a time. Any of the buffer's blocks stands for all: they have one size and one pool.
   */
  streamBlocks(like: BlockHandle | undefined): void {
    this.#streaming =
      like === undefined ? undefined : { count: 0, bytes: like.blockBytes, pool: like.pool, records: like.records };
    this.#predict();
  }

  /** Ends the link. Everything that waits rejects with `ECANCELED`. */
  async close(): Promise<void> {
    this.#reader.stop();
    this.#fail(new IioError('ECANCELED', `${this.#link.name}: closed`));
    await this.#link.close();
  }

  async #exchange(request: Request): Promise<Answer> {
    if (this.#failure !== undefined) {
      throw this.#failureOf(request.what, this.#failure);
    }
    const header = this.encode(request);
    const clientId = request.clientId ?? 0;
    const timeoutMs = request.timeoutMs ?? this.#options.timeoutMs;
    const answer = new Promise<Answer>((resolve, reject) => {
      const conversation: RequestConversation = {
        what: request.what,
        isBlock: false,
        expect: (code, op) => {
          if (op !== RESPONSE_OP) {
            throw new IioError('EPROTO', `${this.#link.name}: op ${op} in answer to '${request.what}'`);
          }
          return request.answer === 'payload' && code > 0 ? this.#answerPayload(code, request.what) : undefined;
        },
        finish: (code, payload, length) => {
          if (code < 0) {
            reject(IioError.fromErrno(code, request.what));
          } else {
            resolve({ code, payload: payload?.bytes.subarray(0, length) ?? new Uint8Array() });
          }
        },
        fail: (error) => reject(this.#failureOf(request.what, error)),
        abandoned: false,
      };
      this.#register(clientId, conversation);
    });
    this.#predict();
    this.#write([header, ...(request.payload ?? [])]);
    try {
      return await withDeadline(answer, { timeoutMs, what: request.what }, () => {
        const conversation = this.#conversations.get(clientId);
        if (conversation !== undefined) {
          conversation.abandoned = true;
        }
        return new IioError('ETIMEDOUT', `${request.what}: the server did not answer in ${timeoutMs} ms`);
      });
    } catch (error) {
      throw this.#explain && clientId === 0 ? await this.#explained(request, error) : error;
    }
  }

  /** The server's own sentence behind a refusal, if it has one. */
  async #explained({ operation, what }: Request, error: unknown): Promise<unknown> {
    const refused = error instanceof IioError && error.errno !== undefined && error.code !== 'ETIMEDOUT';
    if (!refused || operation === 'EXPLAIN' || this.#failure !== undefined || this.stale !== undefined) {
      return error;
    }
    try {
      const { payload } = await this.#exchange({
        operation: 'EXPLAIN',
        answer: 'payload',
        what: `ask why '${what}' was refused`,
        timeoutMs: Math.min(EXPLAIN_TIMEOUT_MS, this.#options.timeoutMs),
      });
      const sentence = new TextDecoder().decode(payload.subarray(0, MAX_EXPLANATION_BYTES)).trim();
      return sentence === '' ? error : new IioError(error.code, `${what}: ${sentence}`, { cause: error });
    } catch {
      return error;
    }
  }

  #answerPayload(length: number, what: string): ExpectedPayload {
    if (length > MAX_ANSWER_BYTES) {
      throw new IioError('EPROTO', `${this.#link.name}: ${length} bytes announced in answer to '${what}'`);
    }
    return { length, pool: new BufferPool(this.#reader.capacityFor(length), 0) };
  }

  /** The capacity of buffers for payloads of `bytes`. */
  capacityFor(bytes: number): number {
    return this.#reader.capacityFor(bytes);
  }

  #register(clientId: number, conversation: RequestConversation): void {
    const other = this.#conversations.get(clientId);
    if (other !== undefined) {
      throw new IioError('EBUSY', `${conversation.what}: '${other.what}' is not answered yet`);
    }
    this.#conversations.set(clientId, conversation);
    this.#othersAwaited++;
  }

  /** A block's id may be another conversation's too: while the block is created, for example. */
  #conversationOf(clientId: number): Conversation | undefined {
    const block = this.#blocks.get(clientId);
    return block?.awaited === true ? block : this.#conversations.get(clientId);
  }

  #predict(): void {
    const streaming = this.#streaming;
    if (streaming === undefined || this.#othersAwaited > 0) {
      this.#reader.predict(undefined);
    } else {
      streaming.count = this.#blocksAwaited;
      this.#reader.predict(streaming);
    }
  }

  #write(transfers: readonly Uint8Array[]): void {
    this.#link.write(...transfers).catch(this.#onWriteFailed);
  }

  readonly #onWriteFailed = (error: unknown): void => {
    this.#reader.stop();
    this.#fail(error instanceof IioError ? error : new IioError('EIO', `${this.#link.name}: ${String(error)}`));
  };

  #onHeader(header: FrameHeader): ExpectedPayload | undefined {
    const conversation = this.#conversationOf(header.clientId);
    if ((header.op !== RESPONSE_OP && header.op !== BLOCK_ANSWER_OP) || conversation === undefined) {
      throw new IioError(
        'EPROTO',
        `${this.#link.name}: the server sent op ${header.op}, id ${header.clientId}, code ${header.code}, ` +
          'which answers no request; the link is out of step',
      );
    }
    const expected = conversation.expect(header.code, header.op);
    if (conversation.isBlock) {
      this.#blocksAwaited--;
    } else {
      this.#othersAwaited--;
    }
    this.#predict();
    return expected;
  }

  #onFrame(
    { clientId, code }: FrameHeader,
    payload: PayloadBuffer | undefined,
    length: number,
    record: Uint8Array<ArrayBuffer> | undefined,
  ): void {
    const block = this.#blocks.get(clientId);
    if (block?.awaited === true) {
      block.awaited = false;
      block.finish(code, payload, length, record);
      return;
    }
    const conversation = this.#conversations.get(clientId);
    this.#conversations.delete(clientId);
    if (conversation?.abandoned === true) {
      this.#dropLate(conversation.what);
      payload?.pool.give(payload);
      this.#wakeDrainWaiters();
    } else {
      conversation?.finish(code, payload, length);
    }
  }

  /** Not a part of the caller, where the closure would cost memory per block. */
  #dropLate(what: string): void {
    this.#options.logger.debug(() => `${this.#link.name}: dropped the late answer to '${what}'`);
  }

  #wakeDrainWaiters(): void {
    for (const wake of this.#drainWaiters.splice(0)) {
      wake();
    }
  }

  #fail(error: IioError): void {
    if (this.#failure !== undefined) {
      return;
    }
    this.#failure = error;
    for (const conversation of this.#conversations.values()) {
      conversation.fail(error);
    }
    this.#conversations.clear();
    this.#wakeDrainWaiters();
    for (const callback of this.#onFailure.splice(0)) {
      callback(error);
    }
  }

  #failureOf(what: string, error: IioError): IioError {
    return new IioError(error.code, `${what}: ${error.message}`, { cause: error });
  }
}
