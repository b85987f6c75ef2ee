import { readFile } from 'node:fs/promises';
import { IioError } from '@iio-bridge/protocol';
import { type ContextOptions, Context as ContextType, DEFAULT_TIMEOUT_MS } from './core/context.js';
import { findNetworkContext } from './tcp/dns-sd.js';
import { parseIpUri, TcpTransport } from './tcp/tcp-transport.js';
import { UsbTransport } from './usb/usb-transport.js';

export * from './core/exports.js';
export { type ContextInfo, parseScanOptions, type ScanOptions, scan } from './scan.js';
export type { NetworkContextInfo } from './tcp/dns-sd.js';
export { TcpTransport } from './tcp/tcp-transport.js';
export type { UsbContextInfo, UsbFilter } from './usb/usb-discovery.js';
export { UsbTransport } from './usb/usb-transport.js';

/**
 * Opens the context that a URI names:
 *
 * | URI | Context |
 * |---|---|
 * | `usb:` | the only one plugged in |
 * | `usb:BUS.ADDRESS`, `usb:BUS.ADDRESS.INTERFACE` | on USB, by its place |
 * | `usb:serial=SERIAL` | on USB, by its serial number |
 * | `ip:` | the only one that announces itself on the local network |
 * | `ip:HOST`, `ip:HOST:PORT`, `ip:V6ADDRESS`, `ip:[V6ADDRESS]:PORT` | at an address; port 30431 by default |
 * | `xml:FILE` | the description in a file, without values and samples |
 *
 * @throws IioError `BAD_URI`, `NO_CONTEXT`, `SEVERAL_CONTEXTS`, `EACCES`, `EBUSY`, `TEXT_ONLY`, `BAD_XML`, `ETIMEDOUT`,
 *   `DISCONNECTED`, `ECANCELED`
 */
async function open(uri: string, options: ContextOptions = {}): Promise<ContextType> {
  if (uri.startsWith('usb:')) {
    return await ContextType.connect(await UsbTransport.open(uri), options);
  }
  if (uri.startsWith('ip:')) {
    const target = parseIpUri(uri) ?? targetOf(await findNetworkContext());
    const transport = await TcpTransport.open(target, options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    return await ContextType.connect(transport, options);
  }
  if (uri.startsWith('xml:')) {
    return ContextType.fromXml(await readDocument(uri), uri);
  }
  throw new IioError('BAD_URI', `'${uri}' does not start with usb:, ip: or xml:`);
}

/** An IIO context; see {@link Context.open}. */
// An interface, because the reference shows the members of one, and none of an alias.
export interface Context extends ContextType {}
/** `connect` takes a transport of your own; `fromXml` a document. */
export const Context = { open, connect: ContextType.connect, fromXml: ContextType.fromXml } as const;

function targetOf({ address, port }: { readonly address: string; readonly port: number }) {
  return { host: address, port };
}

async function readDocument(uri: string): Promise<string> {
  const path = uri.slice('xml:'.length);
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new IioError('NO_CONTEXT', `'${uri}': ${path} cannot be read: ${String(error)}`, { cause: error });
  }
}
