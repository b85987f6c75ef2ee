import {
  type ContextDescription,
  contextFromXml,
  EXTENSIONS_ATTRIBUTE,
  type Generation,
  generationFromXml,
  IioError,
} from '@iio-bridge/protocol';
import { BinarySession } from './binary-session.js';
import { ControlLink } from './control-link.js';
import { withDeadline } from './deadline.js';
import { decodeDocument, MAX_DOCUMENT_BYTES } from './document.js';
import { negotiate, type Protocol } from './handshake.js';
import type { Link, Transport } from './link.js';
import type { Logger } from './logger.js';
import type { Session } from './session.js';
import { TextSession } from './text-session.js';

/** Between attempts to find a lost context again: the first, and the longest. Milliseconds. */
const FIRST_RETRY_MS = 100;
const LONGEST_RETRY_MS = 2000;
/** How often in a row a stream is opened again before it is given up. */
const MAX_RESUMPTIONS = 5;

export interface ConnectionOptions {
  readonly timeoutMs: number;
  readonly logger: Logger;
  readonly protocol: Protocol | 'auto';
  readonly generation: Generation | undefined;
  /** Milliseconds for which a lost context is looked for; `undefined` if it is not. */
  readonly reconnectMs: number | undefined;
}

interface Server {
  readonly session: Session;
  readonly description: ContextDescription;
}

/**
 * The way to a context's server, over its losses. Owns the transport and the session; with `reconnectMs`, a lost session
 * is replaced by one with the same context, found again by the transport, before the next request.
 */
export class Connection {
  readonly uri: string;
  readonly description: ContextDescription;
  /** The extensions of iio-bridge that the server has. */
  readonly extensions: ReadonlySet<string>;
  readonly options: ConnectionOptions;
  #transport: Transport | undefined;
  #session: Session;
  #reconnecting: Promise<Session> | undefined;
  readonly #closed = new AbortController();

  constructor(transport: Transport | undefined, uri: string, server: Server, options: ConnectionOptions) {
    this.#transport = transport;
    this.uri = uri;
    this.#session = server.session;
    this.description = server.description;
    this.options = options;
    const names = server.description.attributes.get(EXTENSIONS_ATTRIBUTE) ?? '';
    this.extensions = new Set(names.split(' ').filter((name) => name !== ''));
  }

  /** Closes the transport if that fails. @throws IioError see `Context.connect` */
  static async open(transport: Transport, options: ConnectionOptions, signal?: AbortSignal): Promise<Connection> {
    let link: Link | undefined;
    const opening = (async () => {
      link = await transport.openLink('main');
      return await openServer(transport, link, options);
    })();
    try {
      const server = await withDeadline(opening, { signal, what: `open ${transport.uri}` });
      return new Connection(transport, transport.uri, server, options);
    } catch (error) {
      await link?.close();
      await transport.close();
      throw error;
    }
  }

  get transportAttributes(): ReadonlyMap<string, string> {
    return this.#transport?.attributes ?? new Map();
  }

  get protocol(): Session['protocol'] {
    return this.#session.protocol;
  }

  get reconnects(): boolean {
    return this.options.reconnectMs !== undefined && this.#transport?.reopen !== undefined;
  }

  /** @throws IioError `DISCONNECTED` if the server is lost and not found again, as far as it is looked for */
  async perform<T>(work: (session: Session) => Promise<T>): Promise<T> {
    return await work(await this.session());
  }

  /** The session of now; a lost one is replaced if the options say so. Waits for that no longer than for an answer. */
  async session(): Promise<Session> {
    if (this.#session.lost === undefined || !this.reconnects || this.#closed.signal.aborted) {
      return this.#session;
    }
    const { timeoutMs } = this.options;
    return await withDeadline(this.#restored(), { timeoutMs, what: this.uri }, () => {
      return new IioError('DISCONNECTED', `${this.uri} was lost and is being looked for; plug it in again`);
    });
  }

  /**
   * Does again what a lost link has ended: with the session of now, and with a new one if that turns out to be lost too. The
   * main link may live on, or may only not know yet.
   * @throws IioError `DISCONNECTED` when the context is looked for no longer; what `work` throws otherwise
   */
  async resume(work: () => Promise<void>): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      const session = await this.#restored();
      try {
        await work();
        return;
      } catch (error) {
        const lostAgain = error instanceof IioError && error.code === 'DISCONNECTED';
        if (!lostAgain || attempt === MAX_RESUMPTIONS || this.#closed.signal.aborted) {
          throw error;
        }
        await this.#pause(FIRST_RETRY_MS * (attempt - 1));
        if (session === this.#session) {
          await this.#restored(true);
        }
      }
    }
  }

  /** As {@link session}, but waits as long as the context is looked for. */
  #restored(isLost: boolean = this.#session.lost !== undefined): Promise<Session> {
    if (!isLost || !this.reconnects || this.#closed.signal.aborted) {
      return Promise.resolve(this.#session);
    }
    if (this.#reconnecting === undefined) {
      this.#reconnecting = this.#reconnect().finally(() => {
        this.#reconnecting = undefined;
      });
      this.#reconnecting.catch(() => {});
    }
    return this.#reconnecting;
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await this.#reconnecting?.catch(() => {});
    await this.#session.close();
    await this.#transport?.close();
  }

  async #reconnect(): Promise<Session> {
    const { logger, reconnectMs = 0 } = this.options;
    const lost = this.#transport;
    logger.warn(() => `${this.uri} was lost; looking for it`);
    await this.#session.close();
    await lost?.close();
    const until = performance.now() + reconnectMs;
    for (let waitMs = FIRST_RETRY_MS; ; waitMs = Math.min(2 * waitMs, LONGEST_RETRY_MS)) {
      try {
        const session = await this.#reopen(lost);
        logger.warn(() => `${this.uri} is back`);
        return session;
      } catch (error) {
        const final = error instanceof IioError && error.code === 'CONTEXT_CHANGED';
        if (final || this.#closed.signal.aborted || performance.now() + waitMs > until) {
          throw final ? error : new IioError('DISCONNECTED', `${this.uri} was not found again`, { cause: error });
        }
        logger.debug(() => `${this.uri} is not back: ${String(error)}`);
      }
      await this.#pause(waitMs);
    }
  }

  async #reopen(lost: Transport | undefined): Promise<Session> {
    const transport = await lost?.reopen?.();
    if (transport === undefined) {
      throw new IioError('DISCONNECTED', `${this.uri} cannot be opened again`);
    }
    try {
      const { session, description } = await openServer(transport, await transport.openLink('main'), this.options);
      if (structureOf(description) !== structureOf(this.description)) {
        await session.close();
        const message = `${this.uri} came back with other devices or attributes; open the context anew`;
        throw new IioError('CONTEXT_CHANGED', message);
      }
      this.#transport = transport;
      this.#session = session;
      return session;
    } catch (error) {
      await transport.close();
      throw error;
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const { signal } = this.#closed;
      const timer = setTimeout(resolve, ms);
      const stop = (): void => {
        clearTimeout(timer);
        resolve();
      };
      signal.addEventListener('abort', stop, { once: true });
    });
  }
}

/** What numbers and names of a context are built on. Values may differ. */
function structureOf({ devices }: ContextDescription): string {
  return JSON.stringify(devices, (key, value: unknown) => (key === 'value' ? undefined : value));
}

async function openServer(transport: Transport, link: Link, options: ConnectionOptions): Promise<Server> {
  const { uri } = transport;
  const what = `read the description of ${uri}`;
  try {
    const protocol = options.protocol === 'text' ? 'text' : await negotiate(link, options);
    if (protocol === 'text') {
      if (options.protocol === 'binary') {
        throw new IioError('TEXT_ONLY', `${uri}: the server refuses the binary protocol; it is older than libiio 1.0`);
      }
      const session = await TextSession.start(transport, link, options);
      const xml = decodeDocument(await session.readDocument(what, MAX_DOCUMENT_BYTES), uri);
      return { session, description: contextFromXml(xml) };
    }
    const { timeoutMs, logger } = options;
    const control = await ControlLink.start(transport, link, { timeoutMs, logger });
    const { payload } = await control.request({ operation: 'PRINT', answer: 'payload', what });
    const xml = decodeDocument(payload, uri);
    const description = contextFromXml(xml);
    const extensions = (description.attributes.get(EXTENSIONS_ATTRIBUTE) ?? '').split(' ');
    const session = new BinarySession(
      transport,
      control,
      { timeoutMs, logger },
      {
        generation: options.generation ?? generationFromXml(xml),
        isBridge: description.attributes.has('iio-bridge'),
        explain: extensions.includes('explain'),
      },
    );
    return { session, description };
  } catch (error) {
    await link.close();
    throw error;
  }
}
