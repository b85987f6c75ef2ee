import { IioError } from '@iio-bridge/protocol';
import {
  LIBUSB_ERROR,
  type UsbApi,
  type UsbDevice,
  type UsbEndpointDescriptor,
  type UsbInterfaceDescriptor,
  usbErrno,
} from './usb-api.js';

/** The interface string that marks an IIO context; libiio looks at nothing else. */
const INTERFACE_STRING = 'IIO';
const ENDPOINT_IN = 0x80;
const TRANSFER_TYPE_MASK = 0x03;
const TRANSFER_TYPE_BULK = 2;

/** What a `usb:` URI asks for. */
export type UsbTarget =
  | { readonly kind: 'any' }
  | { readonly kind: 'address'; readonly bus: number; readonly address: number; readonly interfaceIndex?: number }
  | { readonly kind: 'serial'; readonly serial: string };

/** Which devices to look at. */
export interface UsbFilter {
  readonly vendorId?: number;
  readonly productId?: number;
}

/** An IIO interface of a device, as `scan()` finds it. */
export interface UsbContextInfo {
  readonly kind: 'usb';
  /** `usb:<bus>.<address>.<interface index>`: finds it again until it is unplugged. */
  readonly uri: string;
  /** `vvvv:pppp (<manufacturer> <product>), serial=<serial>`. */
  readonly description: string;
  readonly serial: string;
  readonly manufacturer: string;
  readonly product: string;
  readonly vendorId: number;
  readonly productId: number;
}

export interface FoundUsbContext extends UsbContextInfo {
  readonly device: UsbDevice;
  readonly interfaceIndex: number;
}

/** A device that may hold an IIO context but could not be opened, and why. */
export interface UnreadableUsbDevice {
  readonly device: UsbDevice;
  readonly error: unknown;
}

export interface UsbSearchResult {
  readonly contexts: readonly FoundUsbContext[];
  readonly unreadable: readonly UnreadableUsbDevice[];
}

/**
 * `usb:`, `usb:B.A`, `usb:B.A.I` (bus, address, interface index; decimal) or `usb:serial=XXX`.
 * @throws IioError `BAD_URI`
 */
export function parseUsbUri(uri: string): UsbTarget {
  const rest = /^usb:(.*)$/s.exec(uri)?.[1];
  if (rest === '') {
    return { kind: 'any' };
  }
  const serial = /^serial=(.+)$/s.exec(rest ?? '')?.[1];
  if (serial !== undefined) {
    return { kind: 'serial', serial };
  }
  const [bus, address, interfaceIndex] = (/^(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?$/.exec(rest ?? '') ?? [])
    .slice(1)
    .map((digits) => (digits === undefined ? undefined : Number(digits)));
  if (bus === undefined || address === undefined || [bus, address, interfaceIndex ?? 0].some((part) => part > 255)) {
    throw new IioError('BAD_URI', `'${uri}' is not usb:, usb:BUS.ADDRESS[.INTERFACE] or usb:serial=SERIAL`);
  }
  return { kind: 'address', bus, address, ...(interfaceIndex === undefined ? {} : { interfaceIndex }) };
}

/** Whether an interface has the shape of an IIO one: pairs of bulk endpoints, IN before OUT, and a name. */
function isCandidate(descriptor: UsbInterfaceDescriptor | undefined): boolean {
  const endpoints = descriptor?.endpoints ?? [];
  const fits = ({ bEndpointAddress, bmAttributes }: UsbEndpointDescriptor, i: number): boolean =>
    (bmAttributes & TRANSFER_TYPE_MASK) === TRANSFER_TYPE_BULK &&
    ((bEndpointAddress & ENDPOINT_IN) !== 0) === (i % 2 === 0);
  return descriptor?.iInterface !== 0 && endpoints.length >= 2 && endpoints.length % 2 === 0 && endpoints.every(fits);
}

/** A device whose descriptors cannot be read (being unplugged, or broken) has none. */
function interfacesOf(device: UsbDevice): readonly (readonly UsbInterfaceDescriptor[])[] {
  try {
    return device.configDescriptor?.interfaces ?? [];
  } catch {
    return [];
  }
}

/**
 * Looks at every device whose descriptors fit; opens only those, and closes them again. A machine without USB has none.
 * On Linux without udev the list is that of the process's start.
 */
export async function findUsbContexts(
  usb: UsbApi,
  target: UsbTarget,
  { vendorId, productId }: UsbFilter = {},
): Promise<UsbSearchResult> {
  const contexts: FoundUsbContext[] = [];
  const unreadable: UnreadableUsbDevice[] = [];
  for (const device of usb.INIT_ERROR === 0 ? usb.getDeviceList() : []) {
    if (target.kind === 'address' && (device.busNumber !== target.bus || device.deviceAddress !== target.address)) {
      continue;
    }
    const { idVendor, idProduct } = device.deviceDescriptor;
    if ((vendorId ?? idVendor) !== idVendor || (productId ?? idProduct) !== idProduct) {
      continue;
    }
    const candidates = interfacesOf(device)
      .map(([alternate], interfaceIndex) => ({ alternate, interfaceIndex }))
      .filter(({ alternate }) => isCandidate(alternate));
    if (candidates.length === 0) {
      continue;
    }
    // A context of this process has it open: closing it here would pull the cable there.
    const isOurs = device.interfaces !== undefined;
    try {
      if (!isOurs) {
        device.open();
      }
    } catch (error) {
      unreadable.push({ device, error });
      continue;
    }
    try {
      for (const { alternate, interfaceIndex } of candidates) {
        if ((await readString(device, alternate?.iInterface ?? 0)) === INTERFACE_STRING) {
          contexts.push(await describe(device, interfaceIndex));
          break;
        }
      }
    } catch (error) {
      unreadable.push({ device, error });
    } finally {
      if (!isOurs) {
        device.close();
      }
    }
  }
  return { contexts: contexts.filter((context) => matches(context, target)), unreadable };
}

/**
 * The one context that the target means.
 * @throws IioError `NO_CONTEXT`, `SEVERAL_CONTEXTS` listing them, `EACCES` with a udev rule
 */
export async function findUsbContext(usb: UsbApi, uri: string, filter?: UsbFilter): Promise<FoundUsbContext> {
  const target = parseUsbUri(uri);
  const { contexts, unreadable } = await findUsbContexts(usb, target, filter);
  const [first, ...others] = contexts;
  if (first === undefined) {
    throw notFound(usb, uri, unreadable);
  }
  if (others.length > 0) {
    const list = contexts.map((context) => `  ${context.uri}  ${context.description}`).join('\n');
    throw new IioError('SEVERAL_CONTEXTS', `'${uri}' fits several IIO contexts; name one of them:\n${list}`);
  }
  return first;
}

function matches(context: FoundUsbContext, target: UsbTarget): boolean {
  switch (target.kind) {
    case 'any':
      return true;
    case 'serial':
      return context.serial === target.serial;
    case 'address':
      return target.interfaceIndex === undefined || target.interfaceIndex === context.interfaceIndex;
  }
}

async function describe(device: UsbDevice, interfaceIndex: number): Promise<FoundUsbContext> {
  const { idVendor, idProduct, iManufacturer, iProduct, iSerialNumber } = device.deviceDescriptor;
  const manufacturer = await readString(device, iManufacturer);
  const product = await readString(device, iProduct);
  const serial = await readString(device, iSerialNumber);
  return {
    kind: 'usb',
    device,
    interfaceIndex,
    uri: `usb:${device.busNumber}.${device.deviceAddress}.${interfaceIndex}`,
    description: `${hexId(idVendor)}:${hexId(idProduct)} (${manufacturer} ${product}), serial=${serial}`,
    serial,
    manufacturer,
    product,
    vendorId: idVendor,
    productId: idProduct,
  };
}

function readString(device: UsbDevice, index: number): Promise<string> {
  return new Promise((resolve, reject) => {
    if (index === 0) {
      resolve('');
      return;
    }
    device.getStringDescriptor(index, (error, value) => {
      if (error === undefined) {
        resolve(value ?? '');
      } else {
        reject(error);
      }
    });
  });
}

function notFound(usb: UsbApi, uri: string, unreadable: readonly UnreadableUsbDevice[]): IioError {
  const denied = unreadable.find(({ error }) => usbErrno(error) === LIBUSB_ERROR.ACCESS);
  if (denied !== undefined) {
    return accessDenied(denied.device, denied.error);
  }
  if (usb.INIT_ERROR !== 0) {
    const message = `'${uri}': USB is not available here (libusb error ${usb.INIT_ERROR})`;
    return new IioError('NO_CONTEXT', message);
  }
  const [other] = unreadable;
  const hint =
    other === undefined
      ? 'is the device plugged in, its server running, and its interface named IIO?'
      : `${nameOf(other.device)} could not be read: ${String(other.error)}`;
  return new IioError('NO_CONTEXT', `'${uri}': no IIO context found on USB; ${hint}`, { cause: other?.error });
}

export function accessDenied(device: UsbDevice, cause: unknown): IioError {
  const { idVendor, idProduct } = device.deviceDescriptor;
  const rule =
    `SUBSYSTEM=="usb", ATTR{idVendor}=="${hexId(idVendor)}", ATTR{idProduct}=="${hexId(idProduct)}", ` +
    'MODE="0660", TAG+="uaccess"';
  return new IioError(
    'EACCES',
    `no permission to open ${nameOf(device)}; on Linux put this line into /etc/udev/rules.d/60-iio.rules, run ` +
      `'udevadm control --reload' and plug the device in again:\n  ${rule}`,
    { cause },
  );
}

export function nameOf(device: UsbDevice): string {
  const { idVendor, idProduct } = device.deviceDescriptor;
  return `USB device ${hexId(idVendor)}:${hexId(idProduct)} (usb:${device.busNumber}.${device.deviceAddress})`;
}

export function hexId(id: number): string {
  return id.toString(16).padStart(4, '0');
}
