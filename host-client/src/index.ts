import { IioError } from '@iio-bridge/protocol';
import { type ContextOptions, Context as ContextType } from './core/context.js';
import { loadUsb } from './usb/usb-api.js';
import { findUsbContexts, type UsbContextInfo } from './usb/usb-discovery.js';
import { UsbTransport } from './usb/usb-transport.js';

export { type ErrnoName, IioError, type SampleLayout, type ScanFormat } from '@iio-bridge/protocol';
export type { Attribute, AttributeKind } from './core/attribute.js';
export { type ContextOptions, DEFAULT_TIMEOUT_MS } from './core/context.js';
export type { BufferInfo, Channel, Device } from './core/device.js';
export type { Link, LinkRole, ReadCompletion, ReadTransfer, Transport } from './core/link.js';
export { type Logger, silentLogger } from './core/logger.js';
export type { RxBlock, SampleArray } from './core/rx-block.js';
export type { RxStatistics, RxStream, RxStreamOptions } from './core/rx-stream.js';
export type { UsbContextInfo } from './usb/usb-discovery.js';
export { UsbTransport } from './usb/usb-transport.js';

/**
 * Opens the context that a URI names: `usb:` (the only one plugged in), `usb:BUS.ADDRESS`, `usb:BUS.ADDRESS.INTERFACE` or
 * `usb:serial=SERIAL`.
 * @throws IioError `BAD_URI`, `NO_CONTEXT`, `SEVERAL_CONTEXTS`, `EACCES`, `EBUSY`, `TEXT_ONLY`, `BAD_XML`, `ETIMEDOUT`,
 *   `DISCONNECTED`, `ECANCELED`
 */
async function open(uri: string, options: ContextOptions = {}): Promise<ContextType> {
  if (!uri.startsWith('usb:')) {
    throw new IioError('BAD_URI', `'${uri}': only usb: contexts can be opened (usb:, usb:1.4, usb:serial=...)`);
  }
  return await ContextType.connect(await UsbTransport.open(uri), options);
}

/** An IIO context; see {@link Context.open}. */
export type Context = ContextType;
/** `connect` takes a transport of your own. */
export const Context = { open, connect: ContextType.connect } as const;

/** All IIO contexts on USB. Those that cannot be opened for lack of permission are not listed. */
export async function scan(): Promise<readonly UsbContextInfo[]> {
  const { contexts } = await findUsbContexts(await loadUsb(), { kind: 'any' });
  return contexts.map(({ uri, description, serial, manufacturer, product, vendorId, productId }) => ({
    uri,
    description,
    serial,
    manufacturer,
    product,
    vendorId,
    productId,
  }));
}
