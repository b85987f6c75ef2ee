import { IioError } from '@iio-bridge/protocol';
import type { Link, LinkRole, Transport } from '../core/link.js';
import { TcpLink } from './tcp-link.js';

/** Of iiod. */
export const DEFAULT_PORT = 30431;

/** What an `ip:` URI names. */
export interface TcpTarget {
  readonly host: string;
  readonly port: number;
}

/**
 * `ip:host`, `ip:host:port`, `ip:v6address` or `ip:[v6address]:port`; `undefined` for `ip:`, the only server announced.
 * @throws IioError `BAD_URI`
 */
export function parseIpUri(uri: string): TcpTarget | undefined {
  const rest = /^ip:(.*)$/s.exec(uri)?.[1];
  if (rest === '') {
    return undefined;
  }
  const [, bracketed, plain, portText] = /^(?:\[([^[\]\s]+)\]|([^[\]\s:]+))(?::(\d{1,5}))?$/.exec(rest ?? '') ?? [];
  const bare = /^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(?:%[\w.-]+)?$/.exec(rest ?? '')?.[0];
  const host = bracketed ?? plain ?? bare;
  const port = portText === undefined ? DEFAULT_PORT : Number(portText);
  if (host === undefined || port < 1 || port > 65535) {
    throw new IioError('BAD_URI', `'${uri}' is not ip:, ip:HOST, ip:HOST:PORT, ip:V6ADDRESS or ip:[V6ADDRESS]:PORT`);
  }
  return { host, port };
}

/** The URI of a target; the port is left out where it is the usual one. */
export function ipUri({ host, port }: TcpTarget): string {
  if (port === DEFAULT_PORT) {
    return `ip:${host}`;
  }
  return `ip:${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** An IIO context at a network address. Each link is a connection of its own; the transport owns none itself. */
export class TcpTransport implements Transport {
  readonly uri: string;
  readonly description: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly #target: TcpTarget;
  readonly #timeoutMs: number;
  readonly #links = new Set<Link>();
  #first: TcpLink | undefined;

  private constructor(target: TcpTarget, timeoutMs: number, first: TcpLink) {
    this.uri = ipUri(target);
    this.#target = target;
    this.#timeoutMs = timeoutMs;
    this.#first = first;
    this.#links.add(first);
    this.description = first.remoteAddress ?? target.host;
    this.attributes = new Map([['ip,ip-addr', this.description]]);
  }

  /** Connects the first link. @throws IioError `NO_CONTEXT`, `ETIMEDOUT` */
  static async open(target: TcpTarget, timeoutMs: number): Promise<TcpTransport> {
    const first = await TcpLink.open(`connection to ${ipUri(target)}`, target.host, target.port, timeoutMs);
    return new TcpTransport(target, timeoutMs, first);
  }

  async openLink(_role: LinkRole): Promise<Link> {
    const first = this.#first;
    if (first !== undefined) {
      this.#first = undefined;
      return first;
    }
    const { host, port } = this.#target;
    const link = await TcpLink.open(`connection to ${this.uri}`, host, port, this.#timeoutMs).catch(
      (error: unknown) => {
        throw error instanceof IioError && error.code === 'NO_CONTEXT'
          ? new IioError('DISCONNECTED', error.message, { cause: error })
          : error;
      },
    );
    this.#links.add(link);
    return link;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#links].map((link) => link.close()));
  }

  reopen(): Promise<Transport> {
    return TcpTransport.open(this.#target, this.#timeoutMs);
  }
}
