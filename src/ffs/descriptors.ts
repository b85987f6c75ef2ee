import { IioError } from '@iio-bridge/protocol';

/**
 * The two blobs that a FunctionFS program writes to ep0: descriptors, then strings. Layouts and constants are those of
 * include/uapi/linux/usb/functionfs.h and include/uapi/linux/usb/ch9.h; all numbers are little-endian.
 */

/** Hosts find an IIO context by this interface string and by nothing else. */
export const INTERFACE_NAME = 'IIO';

/** The kernel takes at most 30 endpoints in one function (FFS_MAX_EPS_COUNT), and an address has 4 bits. */
export const MAX_PIPES = 15;

export interface DescriptorOptions {
  /** Pairs of bulk endpoints (1..15): pipe p is the p-th IN endpoint and the OUT endpoint after it. */
  readonly pipes: number;
  /** SuperSpeed packets per burst, minus one (0..15). Default 15; iiod's 0 halves the rate of many hosts. */
  readonly maxBurst?: number;
  /**
   * Microsoft OS 1.0 descriptors: Windows then binds WinUSB by itself. Hosts see them only if the gadget's `os_desc`
   * is on. Default: the compatible id alone; `false` for none.
   */
  readonly microsoft?: MicrosoftOptions | false;
}

export interface MicrosoftOptions {
  /**
   * The interface GUID under which Windows programs look the device up, with braces:
   * `{01234567-89AB-CDEF-0123-456789ABCDEF}`.
   */
  readonly deviceInterfaceGuid?: string;
}

const FUNCTIONFS_STRINGS_MAGIC = 2;
const FUNCTIONFS_DESCRIPTORS_MAGIC_V2 = 3;

const FUNCTIONFS_HAS_FS_DESC = 1;
const FUNCTIONFS_HAS_HS_DESC = 2;
const FUNCTIONFS_HAS_SS_DESC = 4;
const FUNCTIONFS_HAS_MS_OS_DESC = 8;

const USB_DT_INTERFACE = 4;
const USB_DT_ENDPOINT = 5;
const USB_DT_SS_ENDPOINT_COMP = 0x30;
const USB_CLASS_VENDOR_SPEC = 0xff;
const USB_DIR_IN = 0x80;
const USB_ENDPOINT_XFER_BULK = 2;

/** Bulk wMaxPacketSize in bytes that each speed allows at most (USB 2.0 section 5.8.3, USB 3.2 section 9.6.6). */
const FULL_SPEED_PACKET = 64;
const HIGH_SPEED_PACKET = 512;
const SUPER_SPEED_PACKET = 1024;

/** usb_os_desc_header: interface, dwLength, bcdVersion, wIndex, count. */
const OS_HEADER_BYTES = 11;
const OS_BCD_VERSION = 0x0100;
const OS_EXTENDED_COMPAT_ID = 4;
const OS_EXTENDED_PROPERTIES = 5;
/** REG_SZ: a NUL-terminated string. */
const OS_PROPERTY_UNICODE = 1;

const LANGUAGE_EN_US = 0x0409;

/**
 * The descriptor blob, version 2, for full, high and super speed: `51 + 54 × pipes` bytes, and more with Microsoft OS
 * descriptors.
 *
 * @throws {IioError} `EINVAL` for a pipe count, burst or GUID that the kernel would refuse.
 */
export function buildDescriptors(options: DescriptorOptions): Uint8Array {
  const { pipes, maxBurst = 15, microsoft = {} } = options;
  requireRange('pipes', pipes, 1, MAX_PIPES);
  requireRange('maxBurst', maxBurst, 0, 15);
  const osDescriptors = microsoft === false ? [] : microsoftDescriptors(microsoft);
  const flags =
    FUNCTIONFS_HAS_FS_DESC |
    FUNCTIONFS_HAS_HS_DESC |
    FUNCTIONFS_HAS_SS_DESC |
    (osDescriptors.length > 0 ? FUNCTIONFS_HAS_MS_OS_DESC : 0);
  const endpoints = 2 * pipes;
  const counts = [
    ...le32(1 + endpoints),
    ...le32(1 + endpoints),
    ...le32(1 + 2 * endpoints),
    ...(osDescriptors.length > 0 ? le32(osDescriptors.length) : []),
  ];
  return withLength(FUNCTIONFS_DESCRIPTORS_MAGIC_V2, [
    ...le32(flags),
    ...counts,
    ...speed(pipes, FULL_SPEED_PACKET, []),
    ...speed(pipes, HIGH_SPEED_PACKET, []),
    ...speed(pipes, SUPER_SPEED_PACKET, [6, USB_DT_SS_ENDPOINT_COMP, maxBurst, 0, ...le16(0)]),
    ...osDescriptors.flat(),
  ]);
}

/** The strings blob: one language (en-US), one string, which the interface descriptor names as its first. */
export function buildStrings(name: string = INTERFACE_NAME): Uint8Array {
  return withLength(FUNCTIONFS_STRINGS_MAGIC, [
    ...le32(1),
    ...le32(1),
    ...le16(LANGUAGE_EN_US),
    ...zeroTerminated(name),
  ]);
}

/** One interface with its endpoints; the UDC renumbers the endpoints when it binds, in this order. */
function speed(pipes: number, packetBytes: number, companion: readonly number[]): number[] {
  const bytes = [9, USB_DT_INTERFACE, 0, 0, 2 * pipes, USB_CLASS_VENDOR_SPEC, 0, 0, 1];
  for (let pipe = 0; pipe < pipes; pipe++) {
    const number = pipe + 1;
    bytes.push(...endpoint(USB_DIR_IN | number, packetBytes), ...companion);
    bytes.push(...endpoint(number, packetBytes), ...companion);
  }
  return bytes;
}

function endpoint(address: number, packetBytes: number): number[] {
  return [7, USB_DT_ENDPOINT, address, USB_ENDPOINT_XFER_BULK, ...le16(packetBytes), 0];
}

function microsoftDescriptors(options: MicrosoftOptions): number[][] {
  const compatible = [
    // bFirstInterfaceNumber, Reserved1 (1 by specification)
    0,
    1,
    ...padded('WINUSB', 8),
    ...padded('', 8),
    ...padded('', 6),
  ];
  const descriptors = [osDescriptor(OS_EXTENDED_COMPAT_ID, compatible)];
  const guid = options.deviceInterfaceGuid;
  if (guid !== undefined) {
    if (!/^\{[\dA-F]{8}(-[\dA-F]{4}){3}-[\dA-F]{12}\}$/i.test(guid)) {
      throw new IioError('EINVAL', `device interface GUID ${guid} is not of the form {8-4-4-4-12 hexadecimal digits}`);
    }
    descriptors.push(osDescriptor(OS_EXTENDED_PROPERTIES, unicodeProperty('DeviceInterfaceGUID', guid)));
  }
  return descriptors;
}

/** A feature descriptor with exactly one section. */
function osDescriptor(index: number, section: readonly number[]): number[] {
  const interfaceNumber = 0;
  return [
    interfaceNumber,
    ...le32(OS_HEADER_BYTES + section.length),
    ...le16(OS_BCD_VERSION),
    ...le16(index),
    ...le16(1),
    ...section,
  ];
}

/** The kernel takes UTF-8 with its NUL, and turns it into UTF-16 for the host. */
function unicodeProperty(name: string, value: string): number[] {
  const nameBytes = zeroTerminated(name);
  const valueBytes = zeroTerminated(value);
  return [
    ...le32(14 + nameBytes.length + valueBytes.length),
    ...le32(OS_PROPERTY_UNICODE),
    ...le16(nameBytes.length),
    ...nameBytes,
    ...le32(valueBytes.length),
    ...valueBytes,
  ];
}

/** magic, total length, body. */
function withLength(magic: number, body: readonly number[]): Uint8Array {
  return Uint8Array.of(...le32(magic), ...le32(8 + body.length), ...body);
}

function requireRange(name: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new IioError('EINVAL', `${name} is ${value}; FunctionFS takes ${min}..${max}`);
  }
}

function zeroTerminated(text: string): number[] {
  return [...new TextEncoder().encode(text), 0];
}

function padded(text: string, length: number): number[] {
  const bytes = new TextEncoder().encode(text);
  return Array.from({ length }, (_, index) => bytes[index] ?? 0);
}

function le16(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff];
}

function le32(value: number): number[] {
  return [...le16(value), ...le16(value >>> 16)];
}
