import { type Generation, IioError } from '@iio-bridge/protocol';
import { type Answer, BinaryClient, type ClientOptions, type Request } from './binary-client.js';
import { withDeadline } from './deadline.js';
import { requireProtocol } from './handshake.js';
import type { Link, Transport } from './link.js';

/** How long a late answer may hold up other requests before the link is opened anew. Milliseconds. */
const LATE_ANSWER_GRACE_MS = 500;

/**
 * The main link of a context: attributes, and the orders that buffers get from outside. Owns the link and replaces it
 * when the server owes an answer for too long or the stream of bytes is broken; only a lost device is final.
 */
export class ControlLink {
  readonly #transport: Transport;
  #options: ClientOptions;
  #client: BinaryClient;
  #queue: Promise<unknown> = Promise.resolve();
  #closed = false;
  #lost: IioError | undefined;
  #nextEventId = 0xffff;

  private constructor(transport: Transport, options: ClientOptions, client: BinaryClient) {
    this.#transport = transport;
    this.#options = options;
    this.#client = client;
  }

  /** @param link speaks the binary protocol already @throws IioError as {@link BinaryClient.start} */
  static async start(transport: Transport, link: Link, options: ClientOptions): Promise<ControlLink> {
    return new ControlLink(transport, options, await BinaryClient.start(link, options));
  }

  /** What the context document told about the server. */
  adapt(changes: { readonly generation: Generation; readonly explain: boolean }): void {
    this.#options = { ...this.#options, ...changes };
    this.#client.adapt(changes);
  }

  /** The server cannot be reached any more. */
  get lost(): IioError | undefined {
    const { failure } = this.#client;
    return this.#lost ?? (failure?.code === 'DISCONNECTED' ? failure : undefined);
  }

  /** The conversation of now, for event streams: they end with it. */
  get client(): BinaryClient {
    return this.#client;
  }

  /** An id for an event stream: they count down, as libiio's. */
  takeEventId(): number {
    return this.#nextEventId--;
  }

  /** One request at a time; callers queue. @throws IioError as {@link BinaryClient.request} */
  async request(request: Request): Promise<Answer> {
    const turn = this.#queue.then(async () => {
      await this.#repair();
      return this.#client.request(request);
    });
    this.#queue = turn.catch((error: unknown) => {
      if (error instanceof IioError && error.code === 'DISCONNECTED') {
        this.#lost ??= error;
      }
    });
    return await turn;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#client.close();
  }

  async #repair(): Promise<void> {
    const { failure, stale } = this.#client;
    if (this.#closed || failure?.code === 'DISCONNECTED' || (failure === undefined && stale === undefined)) {
      return;
    }
    const { logger } = this.#options;
    if (failure === undefined && (await this.#lateAnswerArrived())) {
      return;
    }
    logger.debug(() => `${this.#client.link.name}: opening it anew, ${failure?.message ?? `no answer to '${stale}'`}`);
    await this.#client.close();
    const link = await this.#transport.openLink('main');
    await requireProtocol('binary', link, this.#options);
    this.#client = await BinaryClient.start(link, this.#options);
  }

  async #lateAnswerArrived(): Promise<boolean> {
    try {
      await withDeadline(this.#client.drained(), { timeoutMs: LATE_ANSWER_GRACE_MS, what: 'late answer' });
      return this.#client.failure === undefined;
    } catch {
      return false;
    }
  }
}
