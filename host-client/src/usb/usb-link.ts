import { IioError } from '@iio-bridge/protocol';
import { Fifo } from '../core/fifo.js';
import type { Link, ReadSink, ReadTransfer } from '../core/link.js';
import { LIBUSB_ERROR, LIBUSB_TRANSFER, type UsbEndpoint, type UsbTransfer, usbErrno } from './usb-api.js';

/** What the links of one device share. */
export interface UsbLinkHost {
  /** Bytes of bulk transfers in flight on all links. */
  bytesInFlight: number;
  /** Whether the device has left the bus; asks it. */
  isGone(): Promise<boolean>;
  /** Called when a transfer of any link has ended, with memory for others. */
  readonly onMemoryFreed: Set<() => void>;
}

/** A transfer object and whom its end is to be told; reused. The callback of npm `usb` is fixed when the object is made. */
interface Carrier extends ReadTransfer {
  readonly transfer: UsbTransfer;
  /** Of a read. */
  sink: ReadSink | undefined;
  write: PendingWrite | undefined;
  bytes: number;
}

interface PendingWrite {
  readonly bytes: Uint8Array;
  readonly resolve: (() => void) | undefined;
  readonly reject: (error: IioError) => void;
}

/** One pipe of the interface. Owns the transfers in flight on its two endpoints. */
export class UsbLink implements Link {
  readonly name: string;
  readonly packetSize: number;
  readonly #in: UsbEndpoint;
  readonly #out: UsbEndpoint;
  readonly #host: UsbLinkHost;
  readonly #closePipe: () => Promise<void>;
  readonly #idle = { in: new Fifo<Carrier>(), out: new Fifo<Carrier>() };
  readonly #busy = new Set<Carrier>();
  readonly #writes = new Fifo<PendingWrite>();
  readonly #idleWaiters: (() => void)[] = [];
  readonly #pushWrites = (): void => this.#submitWrites();
  #closing: Promise<void> | undefined;

  /** @param closePipe tells the device and frees the pipe; called once, when no transfer is in flight any more */
  constructor(
    name: string,
    endpoints: { readonly in: UsbEndpoint; readonly out: UsbEndpoint },
    host: UsbLinkHost,
    closePipe: () => Promise<void>,
  ) {
    this.name = name;
    this.#in = endpoints.in;
    this.#out = endpoints.out;
    this.#host = host;
    this.#closePipe = closePipe;
    // The upper bits hold extra transactions per microframe, which bulk endpoints do not have.
    this.packetSize = this.#in.descriptor.wMaxPacketSize & 0x7ff;
    host.onMemoryFreed.add(this.#pushWrites);
  }

  read(buffer: Uint8Array, sink: ReadSink): ReadTransfer {
    this.#requireOpen();
    return this.#submit('in', buffer, sink, undefined);
  }

  write(...transfers: readonly Uint8Array[]): Promise<void> {
    const written = transfers.map(
      (bytes) =>
        new Promise<void>((resolve, reject) => {
          this.#requireOpen();
          this.#writes.push({ bytes, resolve, reject });
        }),
    );
    this.#submitWrites();
    return Promise.all(written).then(() => {});
  }

  post(transfer: Uint8Array, onFailed: (error: IioError) => void): void {
    this.#writes.push({ bytes: transfer, resolve: undefined, reject: onFailed });
    this.#submitWrites();
  }

  close(): Promise<void> {
    this.#closing ??= this.#finish();
    return this.#closing;
  }

  async #finish(): Promise<void> {
    this.#host.onMemoryFreed.delete(this.#pushWrites);
    for (const { reject } of this.#writes.drain()) {
      reject(this.#closedError());
    }
    for (const carrier of [...this.#busy].reverse()) {
      this.#cancel(carrier);
    }
    if (this.#busy.size > 0) {
      await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
    }
    await this.#closePipe();
  }

  #submitWrites(): void {
    for (;;) {
      const next = this.#writes.first;
      if (next === undefined) {
        return;
      }
      try {
        this.#submit('out', next.bytes, undefined, next);
        this.#writes.shift();
      } catch (error) {
        const failure = error instanceof IioError ? error : new IioError('EIO', `${this.name}: ${String(error)}`);
        if (failure.code === 'ENOMEM' && this.#host.bytesInFlight > 0) {
          return;
        }
        this.#writes.shift();
        next.reject(failure);
      }
    }
  }

  #submit(
    direction: 'in' | 'out',
    bytes: Uint8Array,
    sink: ReadSink | undefined,
    write: PendingWrite | undefined,
  ): Carrier {
    const carrier = this.#idle[direction].shift() ?? this.#makeCarrier(direction);
    carrier.sink = sink;
    carrier.write = write;
    carrier.bytes = bytes.length;
    try {
      carrier.transfer.submit(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    } catch (error) {
      throw this.#submitError(error, direction);
    }
    this.#busy.add(carrier);
    this.#host.bytesInFlight += bytes.length;
    return carrier;
  }

  #makeCarrier(direction: 'in' | 'out'): Carrier {
    const endpoint = direction === 'in' ? this.#in : this.#out;
    const carrier: Carrier = {
      transfer: endpoint.makeTransfer(0, (error, _buffer, actualLength) =>
        this.#ended(carrier, direction, error?.errno, actualLength),
      ),
      cancel: () => this.#cancel(carrier),
      sink: undefined,
      write: undefined,
      bytes: 0,
    };
    return carrier;
  }

  #ended(carrier: Carrier, direction: 'in' | 'out', errno: number | undefined, length: number): void {
    const { sink, write } = carrier;
    this.#busy.delete(carrier);
    this.#idle[direction].push(carrier);
    this.#host.bytesInFlight -= carrier.bytes;
    if (sink !== undefined) {
      if (errno === undefined || errno === LIBUSB_TRANSFER.CANCELLED) {
        sink.onRead(length, errno !== undefined);
      } else {
        this.#errorFor(errno, 'read').then((error) => sink.onReadFailed(error), sink.onReadFailed.bind(sink));
      }
    } else if (write !== undefined) {
      if (errno !== undefined) {
        this.#errorFor(errno, 'write').then(write.reject, write.reject);
      } else if (length < write.bytes.length) {
        write.reject(new IioError('EIO', `${this.name}: ${length} of ${write.bytes.length} bytes written`));
      } else {
        write.resolve?.();
      }
    }
    if (this.#busy.size === 0) {
      for (const wake of this.#idleWaiters.splice(0)) {
        wake();
      }
    }
    for (const push of this.#host.onMemoryFreed) {
      push();
    }
  }

  #cancel(carrier: Carrier): void {
    try {
      carrier.transfer.cancel();
    } catch {
      // The device is gone: the transfer ends by itself.
    }
  }

  #requireOpen(): void {
    if (this.#closing !== undefined) {
      throw this.#closedError();
    }
  }

  #closedError(): IioError {
    return new IioError('ECANCELED', `${this.name}: closed`);
  }

  #submitError(error: unknown, direction: 'in' | 'out'): IioError {
    switch (usbErrno(error)) {
      case LIBUSB_ERROR.NO_MEM:
        return new IioError('ENOMEM', `${this.name}: no memory for another USB transfer`, { cause: error });
      case LIBUSB_ERROR.NO_DEVICE:
        return this.#disconnected(error);
      default: {
        const message = `${this.name}: ${direction} transfer refused: ${String(error)}`;
        return new IioError('EIO', message, { cause: error });
      }
    }
  }

  async #errorFor(status: number, operation: 'read' | 'write'): Promise<IioError> {
    switch (status) {
      case LIBUSB_TRANSFER.NO_DEVICE:
        return this.#disconnected();
      case LIBUSB_TRANSFER.CANCELLED:
        return new IioError('ECANCELED', `${this.name}: ${operation} cancelled`);
      case LIBUSB_TRANSFER.STALL:
        return new IioError('EPIPE', `${this.name}: ${operation} stalled by the device`);
      case LIBUSB_TRANSFER.OVERFLOW:
        return new IioError('EOVERFLOW', `${this.name}: the device sent more than a packet may hold`);
      default:
        // Host controllers often report a plain error before the hub notices that the device left.
        return (await this.#host.isGone())
          ? this.#disconnected()
          : new IioError('EIO', `${this.name}: ${operation} failed on the bus (libusb transfer status ${status})`);
    }
  }

  #disconnected(cause?: unknown): IioError {
    return new IioError('DISCONNECTED', `${this.name}: the device was disconnected`, { cause });
  }
}
