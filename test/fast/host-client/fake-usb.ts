import type {
  TransferCallback,
  UsbApi,
  UsbDevice,
  UsbEndpoint,
  UsbError,
  UsbInterface,
  UsbTransfer,
} from '../../../host-client/src/usb/usb-api.js';

export function usbError(errno: number): UsbError {
  return Object.assign(new Error(`LIBUSB ${errno}`), { errno });
}

export interface FakeTransfer extends UsbTransfer {
  readonly buffer: Buffer | undefined;
  finish(errno: number | undefined, length: number): void;
}

export class FakeEndpoint implements UsbEndpoint {
  readonly descriptor: { bEndpointAddress: number; bmAttributes: number; wMaxPacketSize: number };
  /** In the order of submission; ended ones are removed. */
  readonly pending: FakeTransfer[] = [];
  made = 0;
  submitError: UsbError | undefined;

  constructor(address: number) {
    this.descriptor = { bEndpointAddress: address, bmAttributes: 2, wMaxPacketSize: 512 };
  }

  makeTransfer(_timeoutMs: number, callback: TransferCallback): UsbTransfer {
    this.made++;
    const { pending } = this;
    const refusal = () => this.submitError;
    let submitted: Buffer | undefined;
    const transfer: FakeTransfer = {
      get buffer() {
        return submitted;
      },
      submit: (buffer) => {
        if (submitted !== undefined) {
          throw new Error('Transfer is already active');
        }
        submitted = buffer;
        const error = refusal();
        if (error !== undefined) {
          throw error;
        }
        pending.push(transfer);
        return transfer;
      },
      cancel: () => {
        setImmediate(() => pending.includes(transfer) && transfer.finish(3, 0));
        return true;
      },
      finish: (errno, length) => {
        const buffer = submitted;
        pending.splice(pending.indexOf(transfer), 1);
        submitted = undefined;
        if (buffer !== undefined) {
          callback(errno === undefined ? undefined : usbError(errno), buffer, length);
        }
      },
    };
    return transfer;
  }
}

export interface FakeUsbDeviceOptions {
  readonly address?: number;
  readonly serial?: string;
  readonly pipes?: number;
  readonly interfaceString?: string;
  readonly openError?: UsbError;
  readonly claimError?: UsbError;
}

/** A composite device: interface 0 is something else, interface 1 has the pipes. */
export class FakeUsbDevice implements UsbDevice {
  readonly busNumber = 1;
  readonly deviceAddress: number;
  readonly deviceDescriptor = {
    bcdUSB: 0x0210,
    idVendor: 0x0456,
    idProduct: 0xb673,
    iManufacturer: 1,
    iProduct: 2,
    iSerialNumber: 3,
  };
  readonly endpoints: readonly FakeEndpoint[];
  readonly configDescriptor;
  interfaces: readonly UsbInterface[] | undefined;
  /** Control requests to the interface: `[bRequest, wValue, wIndex]`. */
  readonly requests: (readonly [number, number, number])[] = [];
  opened = 0;
  claimed = false;
  controlError: UsbError | undefined;
  readonly #options: FakeUsbDeviceOptions;

  constructor(options: FakeUsbDeviceOptions = {}) {
    this.#options = options;
    this.deviceAddress = options.address ?? 4;
    // Endpoint numbers differ within a pair, as controllers renumber them.
    this.endpoints = Array.from({ length: (options.pipes ?? 3) * 2 }, (_, i) =>
      i % 2 === 0 ? new FakeEndpoint(0x81 + i / 2) : new FakeEndpoint(5 + i),
    );
    this.configDescriptor = {
      interfaces: [
        [
          {
            bInterfaceNumber: 0,
            iInterface: 9,
            endpoints: [{ bEndpointAddress: 0x8f, bmAttributes: 3, wMaxPacketSize: 8 }],
          },
        ],
        [{ bInterfaceNumber: 1, iInterface: 4, endpoints: this.endpoints.map(({ descriptor }) => descriptor) }],
      ],
    };
  }

  open(): void {
    if (this.#options.openError !== undefined) {
      throw this.#options.openError;
    }
    this.opened++;
    const interfaceOf = (interfaceNumber: number, endpoints: readonly UsbEndpoint[]): UsbInterface => ({
      interfaceNumber,
      endpoints,
      claim: () => {
        if (this.#options.claimError !== undefined) {
          throw this.#options.claimError;
        }
        this.claimed = true;
      },
      release: (callback) => {
        this.claimed = false;
        setImmediate(() => callback());
      },
    });
    this.interfaces = [interfaceOf(0, []), interfaceOf(1, this.endpoints)];
  }

  close(): void {
    if (this.endpoints.some(({ pending }) => pending.length > 0)) {
      throw new Error("Can't close device with a pending request");
    }
    this.opened--;
    this.interfaces = undefined;
  }

  setAutoDetachKernelDriver(): void {
    throw usbError(-12);
  }

  getStringDescriptor(index: number, callback: (error?: UsbError, value?: string) => void): void {
    const strings = ['', 'Acme', 'Board', this.#options.serial ?? '007', this.#options.interfaceString ?? 'IIO'];
    setImmediate(() => callback(undefined, strings[index]));
  }

  controlTransfer(
    bmRequestType: number,
    bRequest: number,
    wValue: number,
    wIndex: number,
    _data: number | Buffer,
    callback: (error: UsbError | undefined, data: Buffer | number | undefined) => void,
  ): void {
    if (bmRequestType === 0x41) {
      this.requests.push([bRequest, wValue, wIndex]);
    }
    const error = this.controlError;
    setImmediate(() => callback(error, error === undefined ? 0 : undefined));
  }
}

export function fakeUsb(...devices: readonly FakeUsbDevice[]): UsbApi {
  return { INIT_ERROR: 0, getDeviceList: () => [...devices] };
}
