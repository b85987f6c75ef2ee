import { IioError } from '@iio-bridge/protocol';
import type { Link, LinkRole, Transport } from '../core/link.js';
import {
  LIBUSB_ERROR,
  LIBUSB_TRANSFER,
  loadUsb,
  type UsbApi,
  type UsbDevice,
  type UsbEndpoint,
  type UsbInterface,
  usbErrno,
} from './usb-api.js';
import { accessDenied, type FoundUsbContext, findUsbContext, hexId, nameOf, type UsbFilter } from './usb-discovery.js';
import { UsbLink, type UsbLinkHost } from './usb-link.js';

/** Vendor request to an interface, host to device. */
const REQUEST_TYPE = 0x41;
const GET_STATUS = { requestType: 0x80, request: 0, length: 2 } as const;

/** bRequest of the vendor requests; wValue is the pipe. */
const PIPE_REQUEST = { RESET_PIPES: 0, OPEN_PIPE: 1, CLOSE_PIPE: 2 } as const;

interface Pipe {
  readonly in: UsbEndpoint;
  readonly out: UsbEndpoint;
  link: UsbLink | undefined;
}

/**
 * An IIO context on USB, through libusb (see usb-api.ts for why npm `usb` 2.x). Owns the open device and its claimed
 * interface; nobody else can use the interface meanwhile. A link takes one pipe: one IN and one OUT endpoint, paired by
 * their order in the descriptors.
 */
export class UsbTransport implements Transport {
  readonly uri: string;
  readonly description: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly #api: UsbApi;
  readonly #found: FoundUsbContext;
  readonly #device: UsbDevice;
  readonly #interface: UsbInterface;
  readonly #pipes: readonly Pipe[];
  readonly #host: UsbLinkHost;

  private constructor(api: UsbApi, found: FoundUsbContext, usbInterface: UsbInterface, pipes: readonly Pipe[]) {
    const { device } = found;
    this.#api = api;
    this.#found = found;
    const { bcdUSB } = device.deviceDescriptor;
    this.uri = found.uri;
    this.description = found.description;
    this.attributes = new Map([
      ['usb,vendor', found.manufacturer],
      ['usb,product', found.product],
      ['usb,serial', found.serial],
      ['usb,idVendor', hexId(found.vendorId)],
      ['usb,idProduct', hexId(found.productId)],
      ['usb,release', `${(bcdUSB >> 8).toString(16)}.${((bcdUSB >> 4) & 0xf).toString(16)}`],
    ]);
    this.#device = device;
    this.#interface = usbInterface;
    this.#pipes = pipes;
    this.#host = { bytesInFlight: 0, isGone: () => this.#isGone(), onMemoryFreed: new Set() };
  }

  /**
   * Finds the device, claims its interface and ends what an earlier user left open.
   * @throws IioError `BAD_URI`, `NO_CONTEXT`, `SEVERAL_CONTEXTS`, `EACCES` (with a udev rule), `EBUSY` (another program
   *   has claimed the interface), `DISCONNECTED`
   */
  static async open(uri: string, api?: UsbApi): Promise<UsbTransport> {
    return await UsbTransport.#open(uri, api ?? (await loadUsb()));
  }

  static async #open(uri: string, api: UsbApi, filter?: UsbFilter): Promise<UsbTransport> {
    const found = await findUsbContext(api, uri, filter);
    const { device, interfaceIndex } = found;
    if (device.interfaces !== undefined) {
      throw new IioError('EBUSY', `${nameOf(device)} is open in this program already; use that context`);
    }
    try {
      device.open();
    } catch (error) {
      throw openError(device, error);
    }
    let usbInterface: UsbInterface | undefined;
    try {
      usbInterface = claim(device, interfaceIndex);
      const transport = new UsbTransport(api, found, usbInterface, pipesOf(usbInterface));
      await transport.#pipeRequest('RESET_PIPES', 0);
      return transport;
    } catch (error) {
      if (usbInterface !== undefined) {
        await release(usbInterface);
      }
      device.close();
      throw error instanceof IioError ? error : openError(device, error);
    }
  }

  async openLink(role: LinkRole): Promise<Link> {
    const number = role === 'main' ? 0 : this.#pipes.findIndex(({ link }, pipe) => pipe > 0 && link === undefined);
    const pipe = this.#pipes[number];
    if (pipe === undefined || pipe.link !== undefined) {
      const count = this.#pipes.length;
      throw new IioError(
        'EBUSY',
        `${this.uri}: all ${count} pipes are in use (one for attributes, ${count - 1} for buffers); close a stream first`,
      );
    }
    const link = new UsbLink(`pipe ${number} of ${this.uri}`, pipe, this.#host, async () => {
      try {
        await this.#pipeRequest('CLOSE_PIPE', number);
      } catch {
        // Gone, or deaf: the next OPEN_PIPE or RESET_PIPES ends the session.
      } finally {
        pipe.link = undefined;
      }
    });
    pipe.link = link;
    try {
      await this.#pipeRequest('OPEN_PIPE', number);
    } catch (error) {
      await link.close();
      throw error;
    }
    return link;
  }

  /** Closes what is left of the links, releases the interface and closes the device. */
  async close(): Promise<void> {
    await Promise.all(this.#pipes.map(({ link }) => link?.close()));
    // A device that is lost, or stalls, cannot be told; what is left is to let go of it.
    await this.#pipeRequest('RESET_PIPES', 0).catch(() => {});
    await release(this.#interface);
    this.#device.close();
  }

  /** By the serial number; a device without one must be the only one of its vendor and product. */
  async reopen(): Promise<Transport> {
    const { serial, vendorId, productId } = this.#found;
    return serial === ''
      ? await UsbTransport.#open('usb:', this.#api, { vendorId, productId })
      : await UsbTransport.#open(`usb:serial=${serial}`, this.#api);
  }

  #pipeRequest(request: keyof typeof PIPE_REQUEST, pipe: number): Promise<void> {
    const what = `${this.uri}: ${request} ${pipe}`;
    return new Promise((resolve, reject) => {
      const { interfaceNumber } = this.#interface;
      this.#device.controlTransfer(
        REQUEST_TYPE,
        PIPE_REQUEST[request],
        pipe,
        interfaceNumber,
        Buffer.alloc(0),
        (error) => {
          if (error === undefined) {
            resolve();
          } else {
            this.#controlError(what, error).then(reject, reject);
          }
        },
      );
    });
  }

  async #controlError(what: string, error: unknown): Promise<IioError> {
    const gone = isDeviceGone(error) || (isVague(error) && (await this.#isGone()));
    return gone
      ? new IioError('DISCONNECTED', `${what}: the device was disconnected`, { cause: error })
      : controlError(what, error);
  }

  /** Every device answers GET_STATUS; between its leaving and the hub's noticing, transfers fail in any way. */
  #isGone(): Promise<boolean> {
    return new Promise((resolve) => {
      const { requestType, request, length } = GET_STATUS;
      this.#device.controlTransfer(requestType, request, 0, 0, length, (error) => resolve(error !== undefined));
    });
  }
}

function claim(device: UsbDevice, interfaceIndex: number): UsbInterface {
  const usbInterface = device.interfaces?.[interfaceIndex];
  if (usbInterface === undefined) {
    throw new IioError('NO_CONTEXT', `${nameOf(device)} has lost its interface ${interfaceIndex}`);
  }
  try {
    device.setAutoDetachKernelDriver(true);
  } catch {
    // Only Linux has kernel drivers that could be in the way.
  }
  usbInterface.claim();
  return usbInterface;
}

/** Also gives a kernel driver that was detached its interface back. */
function release(usbInterface: UsbInterface): Promise<void> {
  return new Promise((resolve) => {
    try {
      usbInterface.release(() => resolve());
    } catch {
      // The device is gone.
      resolve();
    }
  });
}

function pipesOf({ endpoints }: UsbInterface): readonly Pipe[] {
  return Array.from({ length: endpoints.length / 2 }, (_, pipe) => {
    const [inEndpoint, outEndpoint] = endpoints.slice(2 * pipe);
    if (inEndpoint === undefined || outEndpoint === undefined) {
      throw new IioError('EINVAL', `pipe ${pipe} lacks an endpoint`);
    }
    return { in: inEndpoint, out: outEndpoint, link: undefined };
  });
}

function isDeviceGone(error: unknown): boolean {
  const errno = usbErrno(error);
  return errno === LIBUSB_ERROR.NO_DEVICE || errno === LIBUSB_TRANSFER.NO_DEVICE;
}

function openError(device: UsbDevice, error: unknown): IioError {
  const name = nameOf(device);
  switch (usbErrno(error)) {
    case LIBUSB_ERROR.ACCESS:
      return accessDenied(device, error);
    case LIBUSB_ERROR.BUSY:
      return new IioError('EBUSY', `${name} is in use by another program (an IIO client?); close that first`, {
        cause: error,
      });
    case LIBUSB_ERROR.NO_DEVICE:
      return new IioError('DISCONNECTED', `${name} was disconnected`, { cause: error });
    case LIBUSB_ERROR.NOT_SUPPORTED:
      return new IioError('ENOTSUP', `${name} has no WinUSB driver; install one for its IIO interface`, {
        cause: error,
      });
    default:
      return new IioError('EIO', `${name} cannot be opened: ${String(error)}`, { cause: error });
  }
}

/** An error that says neither that the device refuses nor that it is busy. */
function isVague(error: unknown): boolean {
  const errno = usbErrno(error);
  return errno !== LIBUSB_TRANSFER.TIMED_OUT && errno !== LIBUSB_TRANSFER.STALL;
}

function controlError(what: string, error: unknown): IioError {
  switch (usbErrno(error)) {
    case LIBUSB_TRANSFER.TIMED_OUT:
      return new IioError('ETIMEDOUT', `${what}: no answer in 1 s; an earlier session on the device may be stuck`, {
        cause: error,
      });
    case LIBUSB_TRANSFER.STALL:
      return new IioError('EPIPE', `${what}: refused by the device`, { cause: error });
    default:
      return new IioError('EIO', `${what}: ${String(error)}`, { cause: error });
  }
}
