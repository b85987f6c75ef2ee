import type {
  TransferCallback,
  UsbApi,
  UsbDevice,
  UsbEndpoint,
  UsbError,
  UsbInterface,
  UsbTransfer,
} from '../../../host-client/src/usb/usb-api.js';
import type { FakeLink, FakeTransport } from './fake-bus.js';

export function usbError(errno: number): UsbError {
  return Object.assign(new Error(`LIBUSB ${errno}`), { errno });
}

export interface FakeTransfer extends UsbTransfer {
  readonly buffer: Uint8Array | undefined;
  finish(errno: number | undefined, length: number): void;
}

/** What a step of a conversation may go wrong with. */
export type Fault = 'disconnect' | 'stall' | 'overflow' | 'error' | 'short';

export class FakeEndpoint implements UsbEndpoint {
  readonly descriptor: { bEndpointAddress: number; bmAttributes: number; wMaxPacketSize: number };
  /** In the order of submission; ended ones are removed. */
  readonly pending: FakeTransfer[] = [];
  made = 0;
  submitError: UsbError | undefined;
  /** Called for each transfer that was submitted. */
  onSubmit: (transfer: FakeTransfer) => void = () => {};
  /** Called for each transfer that is to be cancelled; true if that is dealt with. */
  onCancel: (transfer: FakeTransfer) => boolean = () => false;

  constructor(address: number) {
    this.descriptor = { bEndpointAddress: address, bmAttributes: 2, wMaxPacketSize: 512 };
  }

  makeTransfer(_timeoutMs: number, callback: TransferCallback): UsbTransfer {
    this.made++;
    const { pending } = this;
    const refusal = () => this.submitError;
    let submitted: Uint8Array | undefined;
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
        this.onSubmit(transfer);
        return transfer;
      },
      cancel: () => {
        if (this.onCancel(transfer)) {
          return true;
        }
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
  /** Carries a pipe's request out, and gives the error that it ends with. */
  onPipeRequest: (bRequest: number, wValue: number) => Promise<UsbError | undefined> = async () => undefined;
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
    const end = (error: UsbError | undefined) =>
      setImmediate(() => callback(error, error === undefined ? 0 : undefined));
    if (bmRequestType === 0x41 && this.controlError === undefined) {
      void this.onPipeRequest(bRequest, wValue).then(end);
    } else {
      end(this.controlError);
    }
  }
}

export function fakeUsb(...devices: readonly FakeUsbDevice[]): UsbApi {
  return { INIT_ERROR: 0, getDeviceList: () => [...devices] };
}

const STATUS = { error: 1, stall: 4, disconnect: 5, overflow: 6 } as const;
const NO_DEVICE = -4;

/**
 * Puts a fake server's links behind a device's endpoints. Each transfer and each request to the interface is a step; the
 * fault happens at one of them.
 * @returns the steps so far
 */
export function serveUsb(
  device: FakeUsbDevice,
  transport: FakeTransport,
  fault?: { readonly step: number; readonly kind: Fault },
): { readonly count: number } {
  const links: (FakeLink | undefined)[] = [];
  const steps = { count: 0 };
  let gone = false;
  const faultNow = (): Fault | undefined => (steps.count++ === fault?.step ? fault.kind : undefined);
  const disconnect = () => {
    gone = true;
    device.controlError = usbError(NO_DEVICE);
    for (const endpoint of device.endpoints) {
      endpoint.submitError = usbError(NO_DEVICE);
    }
    transport.disconnect();
  };
  device.onPipeRequest = async (bRequest, wValue) => {
    const kind = faultNow();
    if (kind === 'disconnect') {
      disconnect();
    }
    if (kind === 'stall' || kind === 'overflow') {
      return usbError(STATUS.stall);
    }
    if (kind !== undefined && kind !== 'short') {
      return usbError(kind === 'disconnect' ? STATUS.disconnect : STATUS.error);
    }
    for (const [pipe, link] of links.entries()) {
      if (bRequest === 0 || pipe === wValue) {
        await link?.close();
        links[pipe] = undefined;
      }
    }
    if (bRequest === 1) {
      await transport.openLink(wValue === 0 ? 'main' : 'buffer');
      links[wValue] = transport.links.at(-1);
    }
    return undefined;
  };
  for (const [i, endpoint] of device.endpoints.entries()) {
    const pipe = Math.floor(i / 2);
    const cancels = new Map<FakeTransfer, () => void>();
    endpoint.onCancel = (transfer) => {
      const cancel = cancels.get(transfer);
      cancel?.();
      return cancel !== undefined;
    };
    const end = (transfer: FakeTransfer, errno: number | undefined, length: number) => {
      if (!endpoint.pending.includes(transfer)) {
        return;
      }
      const kind = faultNow();
      if (kind === 'disconnect') {
        disconnect();
      }
      if (kind === undefined || errno !== undefined) {
        transfer.finish(errno, length);
      } else if (kind === 'short') {
        transfer.finish(undefined, Math.max(0, length - 1));
      } else {
        transfer.finish(STATUS[kind], 0);
      }
    };
    endpoint.onSubmit = (transfer) => {
      const { buffer } = transfer;
      const link = links[pipe];
      if (buffer === undefined || link === undefined || gone) {
        return;
      }
      if (i % 2 === 1) {
        link.write(buffer).then(
          () => end(transfer, undefined, buffer.length),
          () => end(transfer, STATUS.disconnect, 0),
        );
        return;
      }
      const read = link.read(buffer, {
        onRead: (length, cancelled) => end(transfer, cancelled ? 3 : undefined, length),
        onReadFailed: ({ code }) => end(transfer, code === 'EOVERFLOW' ? STATUS.overflow : STATUS.disconnect, 0),
      });
      cancels.set(transfer, () => read.cancel());
    };
  }
  return steps;
}
