/**
 * The part of npm `usb` 2.x that this client uses.
 *
 * Version 2 and not 3, because 3.x allows a single transfer in flight per endpoint and drops what a transfer had
 * received when it times out or is cancelled. This client lives on several transfers in flight, and on getting the
 * received bytes of cancelled ones.
 */

export interface UsbError extends Error {
  /** A libusb error (< 0) from a call, or a transfer's status (> 0) from its end. */
  readonly errno: number;
}

/** enum libusb_error (libusb.h): what a call failed with. */
export const LIBUSB_ERROR = {
  ACCESS: -3,
  NO_DEVICE: -4,
  NOT_FOUND: -5,
  BUSY: -6,
  TIMEOUT: -7,
  PIPE: -9,
  NO_MEM: -11,
  NOT_SUPPORTED: -12,
} as const;

/** enum libusb_transfer_status (libusb.h): how a transfer ended. */
export const LIBUSB_TRANSFER = {
  ERROR: 1,
  TIMED_OUT: 2,
  CANCELLED: 3,
  STALL: 4,
  NO_DEVICE: 5,
  OVERFLOW: 6,
} as const;

export type TransferCallback = (error: UsbError | undefined, buffer: Uint8Array, actualLength: number) => void;

export interface UsbTransfer {
  /**
   * May be called again once the callback was called. After it threw, the object is of no use any more. Declared with a
   * Buffer in the package, but what Node-API takes for one is any Uint8Array; that saves an object per transfer.
   */
  submit(buffer: Uint8Array): unknown;
  cancel(): boolean;
}

export interface UsbEndpointDescriptor {
  readonly bEndpointAddress: number;
  readonly bmAttributes: number;
  readonly wMaxPacketSize: number;
}

export interface UsbEndpoint {
  readonly descriptor: UsbEndpointDescriptor;
  makeTransfer(timeoutMs: number, callback: TransferCallback): UsbTransfer;
}

export interface UsbInterfaceDescriptor {
  readonly bInterfaceNumber: number;
  readonly iInterface: number;
  readonly endpoints: readonly UsbEndpointDescriptor[];
}

export interface UsbInterface {
  readonly interfaceNumber: number;
  readonly endpoints: readonly UsbEndpoint[];
  claim(): void;
  release(callback: (error?: UsbError) => void): void;
}

export interface UsbDeviceDescriptor {
  readonly bcdUSB: number;
  readonly idVendor: number;
  readonly idProduct: number;
  readonly iManufacturer: number;
  readonly iProduct: number;
  readonly iSerialNumber: number;
}

export interface UsbDevice {
  readonly busNumber: number;
  readonly deviceAddress: number;
  readonly deviceDescriptor: UsbDeviceDescriptor;
  /** Interfaces of the active configuration, each with its alternate settings. */
  readonly configDescriptor: { readonly interfaces: readonly (readonly UsbInterfaceDescriptor[])[] } | undefined;
  /** `undefined` unless open. */
  readonly interfaces: readonly UsbInterface[] | undefined;
  open(): void;
  close(): void;
  setAutoDetachKernelDriver(enable: boolean): void;
  getStringDescriptor(index: number, callback: (error?: UsbError, value?: string) => void): void;
  /** Times out after 1000 ms. */
  controlTransfer(
    bmRequestType: number,
    bRequest: number,
    wValue: number,
    wIndex: number,
    dataOrLength: number | Buffer,
    callback: (error: UsbError | undefined, data: Buffer | number | undefined) => void,
  ): unknown;
}

export interface UsbApi {
  /** Not 0 if libusb could not start. */
  readonly INIT_ERROR: number;
  getDeviceList(): UsbDevice[];
}

/** Loaded on demand, so that programs that use no USB do not start libusb. */
export async function loadUsb(): Promise<UsbApi> {
  const { usb } = await import('usb');
  return usb;
}

export function usbErrno(error: unknown): number | undefined {
  return error instanceof Error && 'errno' in error && typeof error.errno === 'number' ? error.errno : undefined;
}
