import type { IioError } from '@iio-bridge/protocol';
import type {
  WebUsbDevice,
  WebUsbInResult,
  WebUsbInterface,
  WebUsbOutResult,
} from '../../../host-client/src/webusb/webusb-api.js';
import type { FakeLink, FakeTransport } from './fake-bus.js';

interface PendingIn {
  readonly memory: Uint8Array<ArrayBuffer>;
  readonly resolve: (result: WebUsbInResult) => void;
  readonly reject: (error: Error) => void;
}

interface Pipe {
  link: FakeLink | undefined;
  /** Of a session that is over: they get the bytes of the next one. */
  readonly orphans: PendingIn[];
}

function domException(name: string): Error {
  return Object.assign(new Error(name), { name });
}

/** A device as WebUSB shows it, before the sessions of a fake server. Its transfers cannot be cancelled. */
export class FakeWebUsbDevice implements WebUsbDevice {
  opened = false;
  readonly vendorId = 0x0456;
  readonly productId = 0xb673;
  readonly manufacturerName = 'Acme';
  readonly productName = 'Board';
  readonly serialNumber = '007';
  readonly usbVersionMajor = 2;
  readonly usbVersionMinor = 0;
  readonly configuration: { readonly interfaces: readonly WebUsbInterface[] };
  /** `[bRequest, wValue]` */
  readonly requests: (readonly [number, number])[] = [];
  claimError: Error | undefined;
  #gone = false;
  readonly #transport: FakeTransport;
  readonly #pipes: readonly Pipe[];

  constructor(transport: FakeTransport, { pipes = 3, packetSize = 512, interfaceName = 'IIO' } = {}) {
    this.#transport = transport;
    this.#pipes = Array.from({ length: pipes }, () => ({ link: undefined, orphans: [] }));
    const endpoints = Array.from({ length: 2 * pipes }, (_, i) => ({
      endpointNumber: Math.floor(i / 2) + 1,
      direction: i % 2 === 0 ? ('in' as const) : ('out' as const),
      type: 'bulk',
      packetSize,
    }));
    this.configuration = {
      interfaces: [
        { interfaceNumber: 0, alternates: [{ interfaceName: 'RNDIS', endpoints: [] }] },
        { interfaceNumber: 5, alternates: [{ interfaceName, endpoints }] },
      ],
    };
  }

  /** Transfers that wait for bytes, of sessions that are over. */
  get orphans(): number {
    return this.#pipes.reduce((sum, { orphans }) => sum + orphans.length, 0);
  }

  async open(): Promise<void> {
    this.opened = true;
  }

  async close(): Promise<void> {
    this.opened = false;
    for (const { orphans } of this.#pipes) {
      for (const { reject } of orphans.splice(0)) {
        reject(domException('AbortError'));
      }
    }
  }

  async selectConfiguration(): Promise<void> {}

  async claimInterface(): Promise<void> {
    if (this.claimError !== undefined) {
      throw this.claimError;
    }
  }

  async releaseInterface(): Promise<void> {}

  disconnect(): void {
    this.#gone = true;
    this.#transport.disconnect();
  }

  async controlTransferOut({
    request,
    value,
    index,
  }: {
    readonly request: number;
    readonly value: number;
    readonly index: number;
  }): Promise<WebUsbOutResult> {
    if (this.#gone) {
      throw domException('NotFoundError');
    }
    const pipe = this.#pipes[value];
    if (index !== 5 || pipe === undefined) {
      return { status: 'stall', bytesWritten: 0 };
    }
    this.requests.push([request, value]);
    for (const closing of request === 0 ? this.#pipes : [pipe]) {
      await closing.link?.close();
      closing.link = undefined;
    }
    if (request === 1) {
      await this.#transport.openLink(value === 0 ? 'main' : 'buffer');
      pipe.link = this.#transport.links.at(-1);
      for (const orphan of pipe.orphans.splice(0)) {
        this.#post(pipe, orphan);
      }
    }
    return { status: 'ok', bytesWritten: 0 };
  }

  transferIn(endpointNumber: number, length: number): Promise<WebUsbInResult> {
    const pipe = this.#pipes[endpointNumber - 1];
    if (pipe === undefined || this.#gone) {
      return Promise.reject(domException('NotFoundError'));
    }
    return new Promise((resolve, reject) => this.#post(pipe, { memory: new Uint8Array(length), resolve, reject }));
  }

  async transferOut(endpointNumber: number, data: Uint8Array<ArrayBuffer>): Promise<WebUsbOutResult> {
    const link = this.#pipes[endpointNumber - 1]?.link;
    if (link === undefined || this.#gone) {
      throw domException('NetworkError');
    }
    await link.write(data);
    return { status: 'ok', bytesWritten: data.length };
  }

  #post(pipe: Pipe, pending: PendingIn): void {
    const { link } = pipe;
    if (link === undefined) {
      pipe.orphans.push(pending);
      return;
    }
    const sink = {
      onRead: (length: number, cancelled: boolean) => {
        if (cancelled && length === 0) {
          pipe.orphans.push(pending);
        } else {
          pending.resolve({ status: 'ok', data: new DataView(pending.memory.buffer, 0, length) });
        }
      },
      onReadFailed: (error: IioError) => {
        if (error.code === 'EOVERFLOW') {
          pending.resolve({ status: 'babble' });
        } else {
          pending.reject(domException('NetworkError'));
        }
      },
    };
    link.read(pending.memory, sink);
  }
}
