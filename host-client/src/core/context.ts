import {
  type ContextDescription,
  compareByteOrder,
  contextFromXml,
  type Generation,
  IioError,
  isTrigger,
} from '@iio-bridge/protocol';
import { Connection, type ConnectionOptions } from './connection.js';
import { Device } from './device.js';
import type { Protocol } from './handshake.js';
import type { Transport } from './link.js';
import { type Logger, silentLogger } from './logger.js';
import { offlineSession } from './offline-session.js';

/** Milliseconds. What libiio uses on USB and network. */
export const DEFAULT_TIMEOUT_MS = 5000;

export interface ContextOptions {
  /** Milliseconds that a request, or the wait for a block, may take; `Infinity` waits for ever. Default 5000. */
  readonly timeoutMs?: number;
  readonly logger?: Logger;
  /** Aborts the opening; later aborts have no effect. */
  readonly signal?: AbortSignal;
  /**
   * Looks for the same context again after it was lost: the same serial number on USB, the same address on a network.
   * What was pending ends with `DISCONNECTED`; what is asked afterwards waits for it, and so do streams, which go on in a
   * new {@link RxBlock.epoch | epoch}. Default false.
   */
  readonly reconnect?:
    | boolean
    | { /** How long to look, in milliseconds; default for ever. */ readonly timeoutMs: number };
  /** `auto` asks for the binary protocol, and takes text if that is refused. Default `auto`. */
  readonly protocol?: Protocol | 'auto';
  /** Numbering of the binary protocol's operations, for servers that are mistaken for others. Default: by the document. */
  readonly generation?: Generation;
}

/** What streams and events have in common for the context that closes them. */
export interface Closable {
  close(): Promise<void>;
}

/**
 * An IIO context on the other end of a transport. Owns the transport, the main link and every stream opened through it;
 * `close()` ends them all. After an unplug every operation rejects with `DISCONNECTED`, unless it was opened with
 * `reconnect`.
 */
export class Context implements AsyncDisposable {
  readonly description: ContextDescription;
  readonly devices: readonly Device[];
  /** The server's context attributes, and those that the transport adds (`uri`, `usb,serial`...). */
  readonly attributes: ReadonlyMap<string, string>;
  readonly #connection: Connection;
  readonly #streams = new Set<Closable>();
  #closing: Promise<void> | undefined;

  private constructor(connection: Connection) {
    const { description } = connection;
    this.#connection = connection;
    this.description = description;
    this.attributes = new Map([...description.attributes, ['uri', connection.uri], ...connection.transportAttributes]);
    const environment = { connection, streams: this.#streams, devices: () => this.devices };
    this.devices = description.devices
      .toSorted((a, b) => compareByteOrder(a.id, b.id))
      .map((device, index) => new Device(environment, index, device));
  }

  /**
   * Opens the main link and reads the context document; reads no attribute. Closes the transport if that fails.
   * @throws IioError `TEXT_ONLY` (with `protocol: 'binary'`), `BAD_XML`, `ETIMEDOUT`, `DISCONNECTED`, `ECANCELED` (the
   *   signal)
   */
  static async connect(transport: Transport, options: ContextOptions = {}): Promise<Context> {
    return new Context(await Connection.open(transport, connectionOptions(options), options.signal));
  }

  /**
   * A context without a server, from its document: what there is, but no values and no samples (`OFFLINE`).
   * @param uri for messages
   * @throws IioError `BAD_XML`
   */
  static fromXml(xml: string, uri = 'xml:'): Context {
    const server = { session: offlineSession(uri), description: contextFromXml(xml) };
    return new Context(new Connection(undefined, uri, server, connectionOptions({})));
  }

  /** The URI that finds this very context again. */
  get uri(): string {
    return this.#connection.uri;
  }

  /** What the server speaks; `none` of a context from a document. */
  get protocol(): Protocol | 'none' {
    return this.#connection.protocol;
  }

  /** Which of iio-bridge's extensions the server has, for example `stream-options`; none of another iiod. */
  get extensions(): ReadonlySet<string> {
    return this.#connection.extensions;
  }

  /** The devices that others can be triggered by. */
  get triggers(): readonly Device[] {
    return this.devices.filter(({ description }) => isTrigger(description));
  }

  /**
   * By id, name or label.
   * @throws IioError `NO_DEVICE` listing what there is
   */
  device(key: string): Device {
    const found =
      this.devices.find((device) => device.id === key) ??
      this.devices.find((device) => device.name === key) ??
      this.devices.find((device) => device.label === key);
    if (found === undefined) {
      const known = this.devices.map(({ id, name }) => (name === undefined ? id : `${id} (${name})`)).join(', ');
      throw new IioError('NO_DEVICE', `${this.uri} has no device '${key}' (devices: ${known || 'none'})`);
    }
    return found;
  }

  /** Closes the streams, the links and the transport. Never rejects because the other end is gone. */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      await Promise.all([...this.#streams].map((stream) => stream.close()));
      await this.#connection.close();
    })();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function connectionOptions(options: ContextOptions): ConnectionOptions {
  const { timeoutMs = DEFAULT_TIMEOUT_MS, logger = silentLogger, protocol = 'auto', generation, reconnect } = options;
  const reconnectMs =
    reconnect === true ? Number.POSITIVE_INFINITY : typeof reconnect === 'object' ? reconnect.timeoutMs : undefined;
  return { timeoutMs, logger, protocol, generation, reconnectMs };
}
