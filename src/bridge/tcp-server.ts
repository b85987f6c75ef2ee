import { lookup } from 'node:dns/promises';
import { BlockList, isIP } from 'node:net';
import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { IioError } from '@iio-bridge/protocol';
import type { DataPlane } from '../dataplane/data-plane.js';
import type { Connection, TcpListener } from '../dataplane/tcp-listener.js';
import { errorCode, fromFsError } from '../sys/errors.js';
import type { BridgeState } from './bridge-state.js';
import type { Endpoint } from './config.js';
import type { Logger } from './logger.js';
import { Session } from './session.js';

/** What is made known in the local network. */
export interface ServiceRecord {
  /** The DNS-SD instance name. */
  readonly name: string;
  /** Without the underscore: `iio` for `_iio._tcp`. */
  readonly type: string;
  readonly port: number;
  /** The address that it listens on; `0.0.0.0` and `::` are every address of IPv4, or of both families. */
  readonly address: string;
}

/** Announces a service by DNS-SD until its {@link Announcement} is withdrawn. */
export interface Announcer {
  announce(service: ServiceRecord): Announcement;
}

export interface Announcement {
  withdraw(): Promise<void>;
}

export interface TcpServerOptions {
  readonly plane: DataPlane;
  readonly state: BridgeState;
  readonly log: Logger;
  /** Undefined: nothing is announced. */
  readonly announcer?: Announcer | undefined;
}

const SERVICE_TYPE = 'iio';

/** How long to wait before accepting again when the system is out of descriptors or memory. */
const RECOVERY_MS = 200;

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');
LOOPBACK.addSubnet('::ffff:127.0.0.0', 104, 'ipv6');

/** Whether a numeric address is reached by this machine only. */
export function isLoopback(address: string): boolean {
  const family = isIP(address);
  return family !== 0 && LOOPBACK.check(address, family === 6 ? 'ipv6' : 'ipv4');
}

/**
 * The TCP side: listens on one or more endpoints and owns a session for each connection, up to the limit of links.
 * The data plane and the state stay the caller's, and must outlive `close()`.
 */
export class TcpServer {
  /** Where it listens, with the ports that were chosen. */
  readonly endpoints: readonly Endpoint[];
  readonly #state: BridgeState;
  readonly #log: Logger;
  readonly #listeners: readonly TcpListener[];
  readonly #serving: readonly Promise<void>[];
  readonly #announcement: Announcement | undefined;
  readonly #sessions = new Set<Session>();
  readonly #closing = new AbortController();

  private constructor(bound: readonly BoundListener[], options: TcpServerOptions) {
    this.endpoints = bound.map(({ address, listener }) => ({ host: address, port: listener.port }));
    this.#state = options.state;
    this.#log = options.log;
    this.#listeners = bound.map(({ listener }) => listener);
    this.#serving = this.#listeners.map((listener) => this.#serve(listener));
    // A name stands for one port: the first that others can reach.
    const reachable = this.endpoints.find(({ host }) => !isLoopback(host));
    this.#announcement =
      reachable === undefined
        ? undefined
        : options.announcer?.announce({
            name: `iiod on ${hostname()}`,
            type: SERVICE_TYPE,
            port: reachable.port,
            address: reachable.host,
          });
  }

  /**
   * @throws {IioError} `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`, `ENOTFOUND` (no such host), naming the endpoint.
   */
  static async start(endpoints: readonly Endpoint[], options: TcpServerOptions): Promise<TcpServer> {
    const bound: BoundListener[] = [];
    try {
      for (const { host, port } of endpoints) {
        const address = await addressOf(host);
        bound.push({ address, listener: options.plane.listenTcp(address, port) });
      }
    } catch (error) {
      await Promise.all(bound.map(({ listener }) => listener.close()));
      throw error;
    }
    return new TcpServer(bound, options);
  }

  /** Connections that are being served. */
  get connections(): number {
    return this.#sessions.size;
  }

  /** Stops listening and ends every session. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#announcement?.withdraw();
    await Promise.all(this.#listeners.map((listener) => listener.close()));
    await Promise.all(this.#serving);
    await Promise.all([...this.#sessions].map((session) => session.close()));
  }

  async #serve(listener: TcpListener): Promise<void> {
    while (!this.#closing.signal.aborted) {
      try {
        this.#admit(await listener.accept());
      } catch (error) {
        if (this.#closing.signal.aborted || errorCode(error) === 'ESHUTDOWN') {
          return;
        }
        this.#log.error({ err: error }, 'a connection could not be accepted');
        await delay(RECOVERY_MS, undefined, { signal: this.#closing.signal }).catch(() => undefined);
      }
    }
  }

  #admit({ link, peer }: Connection): void {
    const limit = this.#state.limits.links;
    if (this.#closing.signal.aborted || this.#sessions.size >= limit) {
      this.#log.warn({ peer, limit }, 'connection refused: there are as many as the limit allows');
      link.close().catch((error: unknown) => this.#log.error({ err: error, peer }, 'connection did not close'));
      return;
    }
    const session = new Session(link, this.#state, hostOf(peer), this.#log.child({ peer }));
    this.#sessions.add(session);
    const forget = (): void => {
      this.#sessions.delete(session);
    };
    session.ended.then(forget, forget);
  }
}

interface BoundListener {
  readonly address: string;
  readonly listener: TcpListener;
}

/** A program has a port for each of its links, but one address. */
function hostOf(peer: string): string {
  return peer.slice(0, peer.lastIndexOf(':'));
}

async function addressOf(host: string): Promise<string> {
  if (isIP(host) !== 0) {
    return host;
  }
  try {
    return (await lookup(host)).address;
  } catch (error) {
    const failure = fromFsError(error, `listen on ${host}`);
    throw failure instanceof IioError
      ? failure
      : new IioError('ENOTFOUND', `listen on ${host}: no such host`, { cause: error });
  }
}
