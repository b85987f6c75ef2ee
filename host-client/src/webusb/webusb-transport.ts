import { IioError } from '@iio-bridge/protocol';
import type { Link, LinkRole, Transport } from '../core/link.js';
import type { WebUsb, WebUsbDevice, WebUsbInterface } from './webusb-api.js';
import { transferError, WebUsbInput, WebUsbLink } from './webusb-link.js';

/** The interface string that marks an IIO context. */
const INTERFACE_STRING = 'IIO';
/** bRequest of the vendor requests; wValue is the pipe. */
const PIPE_REQUEST = { RESET_PIPES: 0, OPEN_PIPE: 1, CLOSE_PIPE: 2 } as const;

interface Pipe {
  readonly input: WebUsbInput;
  readonly output: number;
  inUse: boolean;
}

/**
 * An IIO context on USB, through WebUSB: `navigator.usb` in a browser, or any object of that shape. Owns the open device and
 * its claimed interface. A link takes one pipe: one IN and one OUT endpoint, paired by their order in the descriptors.
 */
export class WebUsbTransport implements Transport {
  readonly uri: string;
  readonly description: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly #device: WebUsbDevice;
  readonly #interfaceNumber: number;
  readonly #pipes: readonly Pipe[];
  readonly #usb: WebUsb | undefined;

  private constructor(device: WebUsbDevice, iio: WebUsbInterface, pipes: readonly Pipe[], usb: WebUsb | undefined) {
    const { vendorId, productId, manufacturerName, productName, serialNumber } = device;
    const [vendor, product, serial] = [manufacturerName ?? '', productName ?? '', serialNumber ?? ''];
    this.#device = device;
    this.#usb = usb;
    this.#interfaceNumber = iio.interfaceNumber;
    this.#pipes = pipes;
    this.uri = serial === '' ? `usb:${hex(vendorId)}:${hex(productId)}` : `usb:serial=${serial}`;
    this.description = `${hex(vendorId)}:${hex(productId)} (${vendor} ${product}), serial=${serial}`;
    this.attributes = new Map([
      ['usb,vendor', vendor],
      ['usb,product', product],
      ['usb,serial', serial],
      ['usb,idVendor', hex(vendorId)],
      ['usb,idProduct', hex(productId)],
      ['usb,release', `${device.usbVersionMajor}.${device.usbVersionMinor}`],
    ]);
  }

  /**
   * Opens a device that the user has chosen (`navigator.usb.requestDevice()`), claims its IIO interface and ends what an
   * earlier user left open.
   * @param usb where to find the device again for `reconnect`, for example `navigator.usb`
   * @throws IioError `NO_CONTEXT` (no IIO interface), `EBUSY` (cannot be opened or claimed), `DISCONNECTED`
   */
  static async open(device: WebUsbDevice, usb?: WebUsb): Promise<WebUsbTransport> {
    const name = `USB device ${hex(device.vendorId)}:${hex(device.productId)}`;
    try {
      if (!device.opened) {
        await device.open();
      }
      if (device.configuration === null || device.configuration === undefined) {
        await device.selectConfiguration(1);
      }
    } catch (error) {
      throw busy(name, error);
    }
    try {
      const iio = device.configuration?.interfaces.find(
        ({ alternates }) => alternates[0]?.interfaceName === INTERFACE_STRING,
      );
      if (iio === undefined) {
        throw new IioError('NO_CONTEXT', `${name} has no interface named ${INTERFACE_STRING}`);
      }
      const pipes = pipesOf(device, iio, name);
      await device.claimInterface(iio.interfaceNumber).catch((error: unknown) => {
        throw busy(name, error);
      });
      const transport = new WebUsbTransport(device, iio, pipes, usb);
      await transport.#pipeRequest('RESET_PIPES', 0);
      return transport;
    } catch (error) {
      await device.close().catch(() => {});
      throw error;
    }
  }

  async openLink(role: LinkRole): Promise<Link> {
    const number = role === 'main' ? 0 : this.#pipes.findIndex(({ inUse }, pipe) => pipe > 0 && !inUse);
    const pipe = this.#pipes[number];
    if (pipe === undefined || pipe.inUse) {
      const count = this.#pipes.length;
      throw new IioError(
        'EBUSY',
        `${this.uri}: all ${count} pipes are in use (one for attributes, ${count - 1} for buffers); close a stream first`,
      );
    }
    pipe.inUse = true;
    const link = new WebUsbLink(`pipe ${number} of ${this.uri}`, this.#device, pipe.input, pipe.output, {
      open: () => this.#pipeRequest('OPEN_PIPE', number),
      close: () => this.#pipeRequest('CLOSE_PIPE', number).catch(() => {}),
      onClosed: () => {
        pipe.inUse = false;
      },
    });
    try {
      await this.#pipeRequest('OPEN_PIPE', number);
    } catch (error) {
      pipe.inUse = false;
      throw error;
    }
    return link;
  }

  async close(): Promise<void> {
    try {
      await this.#pipeRequest('RESET_PIPES', 0);
      await this.#device.releaseInterface(this.#interfaceNumber);
    } catch {
      // Only a lost device cannot be told; closing it is all that is left.
    }
    await this.#device.close().catch(() => {});
  }

  /** By the serial number, among the devices that the user has given access to. */
  async reopen(): Promise<Transport> {
    const { vendorId, productId, serialNumber } = this.#device;
    const devices = (await this.#usb?.getDevices()) ?? [];
    const device = devices.find(
      (candidate) =>
        candidate.vendorId === vendorId &&
        candidate.productId === productId &&
        (candidate.serialNumber ?? '') === (serialNumber ?? ''),
    );
    if (device === undefined) {
      throw new IioError('NO_CONTEXT', `${this.uri} is not plugged in`);
    }
    return await WebUsbTransport.open(device, this.#usb);
  }

  async #pipeRequest(request: keyof typeof PIPE_REQUEST, pipe: number): Promise<void> {
    const what = `${this.uri}: ${request} ${pipe}`;
    const { status } = await this.#device
      .controlTransferOut({
        requestType: 'vendor',
        recipient: 'interface',
        request: PIPE_REQUEST[request],
        value: pipe,
        index: this.#interfaceNumber,
      })
      .catch((error: unknown) => {
        throw transferError(what, error);
      });
    if (status === 'stall') {
      throw new IioError('EPIPE', `${what}: refused by the device`);
    }
  }
}

function pipesOf(device: WebUsbDevice, { alternates }: WebUsbInterface, name: string): readonly Pipe[] {
  const endpoints = alternates[0]?.endpoints ?? [];
  const pipes: Pipe[] = [];
  for (let i = 0; i + 1 < endpoints.length; i += 2) {
    const [input, output] = [endpoints[i], endpoints[i + 1]];
    if (input?.direction !== 'in' || output?.direction !== 'out') {
      throw new IioError('NO_CONTEXT', `${name}: the endpoints of its IIO interface are no pairs of IN and OUT`);
    }
    const reader = new WebUsbInput(device, input.endpointNumber, input.packetSize);
    pipes.push({ input: reader, output: output.endpointNumber, inUse: false });
  }
  if (pipes.length === 0) {
    throw new IioError('NO_CONTEXT', `${name}: its IIO interface has no endpoints`);
  }
  return pipes;
}

function busy(name: string, cause: unknown): IioError {
  const message = `${name} cannot be opened (${String(cause)}); is another program or tab using it, or permission missing?`;
  return new IioError('EBUSY', message, { cause });
}

function hex(id: number): string {
  return id.toString(16).padStart(4, '0');
}
