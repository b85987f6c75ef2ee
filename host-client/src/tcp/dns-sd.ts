import { IioError } from '@iio-bridge/protocol';
import { DEFAULT_PORT, ipUri } from './tcp-transport.js';

/** `_iio._tcp`, as iiod and iio-bridge announce themselves. */
const SERVICE_TYPE = 'iio';
/** How long answers are collected; responders wait up to 120 ms before they answer (RFC 6762, 6.). Milliseconds. */
export const DEFAULT_BROWSE_MS = 1000;

/** An IIO context on the network, as `scan()` finds it. */
export interface NetworkContextInfo {
  readonly kind: 'ip';
  /** `ip:<address>`, with the port where that is not the usual one. */
  readonly uri: string;
  /** `<service name> (<host>, <address>)`. */
  readonly description: string;
  /** The service's name, for example `iiod on pluto`. */
  readonly name: string;
  readonly host: string;
  readonly address: string;
  readonly port: number;
}

/** The part of `bonjour-service` that is used here. */
export interface ServiceBrowser {
  find(options: { type: string }, onUp: (service: FoundService) => void): { stop(): void };
  destroy(): void;
}

export interface FoundService {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly addresses?: readonly string[];
  readonly referer?: { readonly address: string };
}

/**
 * `bonjour-service` because it browses with the caching and the known-answer rules of RFC 6762 on every interface, in plain
 * JavaScript; the bridge's own responder library (`@homebridge/ciao`) only announces.
 */
async function loadBrowser(): Promise<ServiceBrowser> {
  const { default: bonjour } = await import('bonjour-service');
  return new bonjour.Bonjour();
}

/** The contexts that announce themselves on the local network. */
export async function browse(
  browseMs: number = DEFAULT_BROWSE_MS,
  load: () => Promise<ServiceBrowser> = loadBrowser,
): Promise<readonly NetworkContextInfo[]> {
  const browser = await load();
  const found = new Map<string, NetworkContextInfo>();
  const search = browser.find({ type: SERVICE_TYPE }, (service) => {
    const info = describe(service);
    found.set(info.name, info);
  });
  await new Promise((resolve) => setTimeout(resolve, browseMs));
  search.stop();
  browser.destroy();
  return [...found.values()].toSorted((a, b) => (a.uri < b.uri ? -1 : 1));
}

/**
 * The one context that `ip:` means.
 * @throws IioError `NO_CONTEXT`, `SEVERAL_CONTEXTS` listing them
 */
export async function findNetworkContext(
  browseMs?: number,
  load?: () => Promise<ServiceBrowser>,
): Promise<NetworkContextInfo> {
  const contexts = await browse(browseMs, load);
  const [first, ...others] = contexts;
  if (first === undefined) {
    const message = "'ip:': no IIO context announces itself on the local network; name its address (ip:HOST)";
    throw new IioError('NO_CONTEXT', message);
  }
  if (others.length > 0) {
    const list = contexts.map(({ uri, description }) => `  ${uri}  ${description}`).join('\n');
    throw new IioError('SEVERAL_CONTEXTS', `'ip:' fits several IIO contexts; name one of them:\n${list}`);
  }
  return first;
}

function describe({ name, host, port, addresses = [], referer }: FoundService): NetworkContextInfo {
  // Link-local IPv6 addresses are of no use without their interface.
  const usable = addresses.filter((address) => !/^fe80:/i.test(address));
  const address = usable.find((candidate) => !candidate.includes(':')) ?? usable[0] ?? referer?.address ?? host;
  const uri = ipUri({ host: address, port: port > 0 ? port : DEFAULT_PORT });
  return { kind: 'ip', uri, description: `${name} (${host}, ${address})`, name, host, address, port };
}
