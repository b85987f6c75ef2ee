import { IioError } from '@iio-bridge/protocol';
import { browse, type NetworkContextInfo } from './tcp/dns-sd.js';
import { loadUsb, type UsbApi } from './usb/usb-api.js';
import { findUsbContexts, type UsbContextInfo, type UsbFilter } from './usb/usb-discovery.js';

export type ContextInfo = UsbContextInfo | NetworkContextInfo;

export interface ScanOptions {
  /** Look on USB: at all devices, or only at those of a vendor (and product). Others are not opened. Default true. */
  readonly usb?: boolean | UsbFilter;
  /** Look on the local network (DNS-SD). Default true. */
  readonly ip?: boolean;
  /** How long to listen on the network, in milliseconds. Default 1000. */
  readonly browseMs?: number;
}

/**
 * All IIO contexts on USB and on the local network. Devices that cannot be opened for lack of permission are not listed.
 * A machine without USB, or without a network, has none there.
 */
export async function scan(options: ScanOptions = {}, usbApi?: UsbApi): Promise<readonly ContextInfo[]> {
  const { usb = true, ip = true, browseMs } = options;
  const [onUsb, onNetwork] = await Promise.all([
    usb === false ? [] : scanUsb(usb === true ? {} : usb, usbApi),
    ip ? browse(browseMs) : [],
  ]);
  return [...onUsb, ...onNetwork];
}

/**
 * What iio_info and its relatives take for `-S`: a list, separated by commas, of `usb`, `usb=VID:PID`, `usb=VID:*` and
 * `ip`. Empty: all.
 * @throws IioError `BAD_URI`
 */
export function parseScanOptions(text: string): ScanOptions {
  if (text === '') {
    return {};
  }
  let usb: boolean | UsbFilter = false;
  let ip = false;
  for (const backend of text.split(',')) {
    const [, vendor, product] = /^usb=(?:0x)?([0-9a-f]{1,4}):(?:\*|(?:0x)?([0-9a-f]{1,4}))$/i.exec(backend) ?? [];
    if (vendor !== undefined) {
      const vendorId = Number.parseInt(vendor, 16);
      usb = { vendorId, ...(product === undefined ? {} : { productId: Number.parseInt(product, 16) }) };
    } else if (backend === 'usb') {
      usb = true;
    } else if (backend === 'ip') {
      ip = true;
    } else {
      throw new IioError('BAD_URI', `'${backend}' is no place to look for contexts: usb, usb=VID:PID, usb=VID:*, ip`);
    }
  }
  return { usb, ip };
}

async function scanUsb(filter: UsbFilter | Record<string, never>, api?: UsbApi): Promise<readonly UsbContextInfo[]> {
  const { contexts } = await findUsbContexts(api ?? (await loadUsb()), { kind: 'any' }, filter);
  return contexts.map(({ kind, uri, description, serial, manufacturer, product, vendorId, productId }) => ({
    kind,
    uri,
    description,
    serial,
    manufacturer,
    product,
    vendorId,
    productId,
  }));
}
