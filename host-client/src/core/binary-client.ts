import {
  BINARY_HANDSHAKE,
  encodeFrameHeader,
  encodeU64,
  type FrameHeader,
  type Generation,
  IioError,
  LATEST_GENERATION,
  type Operation,
  opcodeOf,
  packCode,
} from '@iio-bridge/protocol';
import { BufferPool } from './buffer-pool.js';
import { withDeadline } from './deadline.js';
import { deferred } from './deferred.js';
import {
  type ExpectedPayload,
  type FrameHandler,
  FrameReader,
  type ReaderStatistics,
  type ReceivedPayload,
} from './frame-reader.js';
import type { Link } from './link.js';
import type { Logger } from './logger.js';

/** No answer but samples is larger: attribute values end at 64 KiB, the largest known context document at 100 KiB. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
/** A line of the text protocol; what is longer is left over from somebody else's session. Bytes. */
const MAX_LINE_BYTES = 16;

export interface ClientOptions {
  readonly logger: Logger;
  /** Milliseconds to wait for an answer; `Infinity` waits for ever. The server is told half of it. */
  readonly timeoutMs: number;
  readonly generation?: Generation;
  /** Limit on the bytes of reads in flight. */
  readonly windowBytes?: number;
  /** The server takes a TRANSFER_BLOCK header and its length in one transfer. */
  readonly coalesce?: boolean;
}

export interface Request {
  readonly operation: Operation;
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

/** What came back for a block: its samples, or a negative code. */
export interface BlockAnswer {
  readonly code: number;
  readonly payload: ReceivedPayload | undefined;
}

/** A block that exists on the server. One request for it may be outstanding at a time. */
export interface BlockHandle {
  readonly deviceIndex: number;
  readonly bufferIndex: number;
  readonly blockIndex: number;
  readonly bytes: number;
  readonly pool: BufferPool;
  /** Exactly one call per request, unless the link fails first. */
  readonly onAnswer: (answer: BlockAnswer) => void;
}

interface Conversation {
  readonly what: string;
  readonly expect: (code: number) => ExpectedPayload | undefined;
  readonly finish: (header: FrameHeader, payload: ReceivedPayload | undefined) => void;
  readonly fail: (error: IioError) => void;
  readonly block: BlockHandle | undefined;
  /** Nobody waits any more, but the answer will come. */
  abandoned: boolean;
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
  readonly #conversations = new Map<number, Conversation>();
  readonly #drainWaiters: (() => void)[] = [];
  readonly #onFailure: ((error: IioError) => void)[] = [];
  #generation: Generation;
  #failure: IioError | undefined;
  /** Tail of the queue of requests on the default conversation. */
  #queue: Promise<void> = Promise.resolve();
  #streaming: BlockHandle | undefined;
  #blocksAwaited = 0;
  #othersAwaited = 0;

  private constructor(link: Link, options: ClientOptions) {
    this.#link = link;
    this.#options = options;
    this.#generation = options.generation ?? LATEST_GENERATION;
    const handler: FrameHandler = {
      onHeader: (header) => this.#onHeader(header),
      onFrame: (header, payload) => this.#onFrame(header, payload),
      onFailure: (error) => this.#fail(error),
    };
    this.#reader = new FrameReader(link, handler, options.windowBytes);
  }

  /**
   * Switches a fresh link to the binary protocol and tells the server the time-out. Closes the link if that fails.
   * @throws IioError `TEXT_ONLY` if the server refuses the binary protocol; `ETIMEDOUT`, `DISCONNECTED`
   */
  static async connect(link: Link, options: ClientOptions): Promise<BinaryClient> {
    try {
      await handshake(link, options);
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

  /** Opcode numbers to use from now on, once the context document told. */
  set generation(generation: Generation) {
    this.#generation = generation;
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

  /**
   * Asks for a block's samples (`transfer`), or again for those of a block that the server kept after a time-out
   * (`retry`). The answer goes to the handle; after a failure of the link nothing happens.
   */
  requestBlock(handle: BlockHandle, kind: 'transfer' | 'retry'): void {
    if (this.#failure !== undefined) {
      return;
    }
    const { deviceIndex, blockIndex, bufferIndex } = handle;
    const operation = kind === 'transfer' ? 'TRANSFER_BLOCK' : 'RETRY_DEQUEUE_BLOCK';
    const clientId = blockIndex + 1;
    const header = this.#encode({ operation, clientId, device: deviceIndex, code: packCode(blockIndex, bufferIndex) });
    this.#register(clientId, {
      what: `transfer of block ${handle.blockIndex}`,
      expect: (code) => {
        if (code > handle.bytes) {
          throw new IioError('EPROTO', `${this.#link.name}: ${code} bytes announced for a block of ${handle.bytes}`);
        }
        return code > 0 ? { length: code, pool: handle.pool } : undefined;
      },
      finish: (header, payload) => handle.onAnswer({ code: header.code, payload }),
      fail: () => {},
      block: handle,
      abandoned: false,
    });
    if (kind === 'retry') {
      this.#write([header]);
    } else if (this.#options.coalesce === true) {
      const both = new Uint8Array(header.length + 8);
      both.set(header);
      both.set(encodeU64(handle.bytes), header.length);
      this.#write([both]);
    } else {
      this.#write([header, encodeU64(handle.bytes)]);
    }
    this.#predict();
  }

  /**
   * From now on post the reads of blocks ahead of their headers, whenever nothing but blocks is awaited; `undefined`
   * goes back to one step at a time. Any of the buffer's blocks stands for all: they have one size and one pool.
   */
  streamBlocks(like: BlockHandle | undefined): void {
    this.#streaming = like;
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
    const header = this.#encode(request);
    const clientId = request.clientId ?? 0;
    const timeoutMs = request.timeoutMs ?? this.#options.timeoutMs;
    const answer = new Promise<Answer>((resolve, reject) => {
      const conversation: Conversation = {
        what: request.what,
        expect: (code) =>
          request.answer === 'payload' && code > 0 ? this.#answerPayload(code, request.what) : undefined,
        finish: ({ code }, payload) => {
          if (code < 0) {
            reject(IioError.fromErrno(code, request.what));
          } else {
            resolve({ code, payload: payload?.buffer.bytes.subarray(0, payload.length) ?? new Uint8Array() });
          }
        },
        fail: (error) => reject(this.#failureOf(request.what, error)),
        block: undefined,
        abandoned: false,
      };
      this.#register(clientId, conversation);
    });
    this.#predict();
    this.#write([header, ...(request.payload ?? [])]);
    return await withDeadline(answer, { timeoutMs, what: request.what }, () => {
      const conversation = this.#conversations.get(clientId);
      if (conversation !== undefined) {
        conversation.abandoned = true;
      }
      return new IioError('ETIMEDOUT', `${request.what}: the server did not answer in ${timeoutMs} ms`);
    });
  }

  #encode(request: Pick<Request, 'operation' | 'clientId' | 'device' | 'code'>): Uint8Array {
    const op = opcodeOf(this.#generation, request.operation);
    if (op === undefined) {
      throw new IioError('ENOSYS', `the server's protocol generation ${this.#generation} has no ${request.operation}`);
    }
    const { clientId = 0, device = 0, code = 0 } = request;
    return encodeFrameHeader({ clientId, op, dev: device, code });
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

  #register(clientId: number, conversation: Conversation): void {
    const other = this.#conversations.get(clientId);
    if (other !== undefined) {
      throw new IioError('EBUSY', `${conversation.what}: '${other.what}' is not answered yet`);
    }
    this.#conversations.set(clientId, conversation);
    this.#count(conversation, 1);
  }

  #count(conversation: Conversation, change: 1 | -1): void {
    if (conversation.block === undefined) {
      this.#othersAwaited += change;
    } else {
      this.#blocksAwaited += change;
    }
  }

  #predict(): void {
    const like = this.#streaming;
    this.#reader.predict(
      like === undefined || this.#othersAwaited > 0
        ? undefined
        : { count: this.#blocksAwaited, bytes: like.bytes, pool: like.pool },
    );
  }

  #write(transfers: readonly Uint8Array[]): void {
    this.#link.write(...transfers).catch((error: unknown) => {
      this.#reader.stop();
      this.#fail(error instanceof IioError ? error : new IioError('EIO', `${this.#link.name}: ${String(error)}`));
    });
  }

  #onHeader(header: FrameHeader): ExpectedPayload | undefined {
    const conversation = this.#conversations.get(header.clientId);
    if (header.op !== 0 || conversation === undefined) {
      throw new IioError(
        'EPROTO',
        `${this.#link.name}: the server sent op ${header.op}, id ${header.clientId}, code ${header.code}, ` +
          'which answers no request; the link is out of step',
      );
    }
    const expected = conversation.expect(header.code);
    this.#count(conversation, -1);
    this.#predict();
    return expected;
  }

  #onFrame(header: FrameHeader, payload: ReceivedPayload | undefined): void {
    const conversation = this.#conversations.get(header.clientId);
    this.#conversations.delete(header.clientId);
    if (conversation?.abandoned === true) {
      this.#options.logger.debug(() => `${this.#link.name}: dropped the late answer to '${conversation.what}'`);
      payload?.buffer.pool.give(payload.buffer);
      this.#wakeDrainWaiters();
    } else {
      conversation?.finish(header, payload);
    }
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

/** Sends the upgrade request and reads its one-line answer, a packet at a time. */
async function handshake(link: Link, { logger, timeoutMs }: ClientOptions): Promise<void> {
  const what = `${link.name}: switch to the binary protocol`;
  let line = '';
  let current: { cancel(): void } | undefined;
  const readLine = async (): Promise<string> => {
    for (;;) {
      const packet = new Uint8Array(link.packetSize);
      const transfer = link.read(packet);
      current = transfer;
      const { length, cancelled } = await transfer.done;
      if (cancelled) {
        throw new IioError('ECANCELED', what);
      }
      // Where there are packets, a line is one of its own; what is not is left over, and so is what came before it.
      line = (link.packetSize > 1 ? '' : line) + String.fromCharCode(...packet.subarray(0, length));
      const end = line.indexOf('\n');
      if (end >= 0 && /^-?\d+\r?$/.test(line.slice(0, end)) && end === line.length - 1) {
        return line;
      }
      if (link.packetSize > 1 || end >= 0 || line.length > MAX_LINE_BYTES) {
        const dropped = line.length;
        logger.debug(() => `${link.name}: dropped ${dropped} bytes left over from an earlier session`);
        line = '';
      }
    }
  };
  const answer = readLine();
  await withDeadline(Promise.all([answer, link.write(BINARY_HANDSHAKE)]), { timeoutMs, what }, () => {
    current?.cancel();
    return new IioError('ETIMEDOUT', `${what}: the server did not answer in ${timeoutMs} ms`);
  });
  const code = Number.parseInt(await answer, 10);
  if (code !== 0) {
    throw new IioError(
      'TEXT_ONLY',
      `${what}: refused (${code}); servers older than libiio 1.0 speak only the text protocol, which this client does not`,
    );
  }
}
