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
  /** Of links whose writes wait for memory: called when a transfer of any link has ended. */
  readonly onMemoryFreed: Set<() => void>;
}

/** A transfer object and whom its end is to be told; reused. The callback of npm `usb` is fixed when the object is made. */
interface Carrier extends ReadTransfer {
  readonly transfer: UsbTransfer;
  /** Of a read. */
  sink: ReadSink | undefined;
  write: PendingWrite | undefined;
  bytes: number;
  /** Counts the transfers of the link; 0 while none is in flight. */
  order: number;
}

/** Reused. */
interface PendingWrite {
  bytes: Uint8Array;
  resolve: (() => void) | undefined;
  reject: (error: IioError) => void;
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
  readonly #carriers = new Set<Carrier>();
  readonly #writes = new Fifo<PendingWrite>();
  readonly #idleWrites = new Fifo<PendingWrite>();
  readonly #idleWaiters: (() => void)[] = [];
  readonly #pushWrites = (): void => this.#submitWrites();
  #inFlight = 0;
  #submitted = 0;
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
          this.#queue(bytes, resolve, reject);
        }),
    );
    this.#submitWrites();
    return Promise.all(written).then(() => {});
  }

  post(transfer: Uint8Array, onFailed: (error: IioError) => void): void {
    if (this.#closing !== undefined) {
      onFailed(this.#closedError());
      return;
    }
    this.#queue(transfer, undefined, onFailed);
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
    const busy = [...this.#carriers].filter(({ order }) => order > 0);
    for (const carrier of busy.sort((a, b) => b.order - a.order)) {
      this.#cancel(carrier);
    }
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
    }
    await this.#closePipe();
  }

  #queue(bytes: Uint8Array, resolve: PendingWrite['resolve'], reject: PendingWrite['reject']): void {
    const write = this.#idleWrites.shift();
    if (write === undefined) {
      this.#writes.push({ bytes, resolve, reject });
    } else {
      write.bytes = bytes;
      write.resolve = resolve;
      write.reject = reject;
      this.#writes.push(write);
    }
  }

  #submitWrites(): void {
    for (;;) {
      const next = this.#writes.first;
      if (next === undefined) {
        this.#host.onMemoryFreed.delete(this.#pushWrites);
        return;
      }
      try {
        this.#submit('out', next.bytes, undefined, next);
        this.#writes.shift();
      } catch (error) {
        const failure = error instanceof IioError ? error : new IioError('EIO', `${this.name}: ${String(error)}`);
        if (failure.code === 'ENOMEM' && this.#host.bytesInFlight > 0) {
          this.#host.onMemoryFreed.add(this.#pushWrites);
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
      carrier.transfer.submit(bytes);
    } catch (error) {
      this.#carriers.delete(carrier);
      throw this.#submitError(error, direction);
    }
    carrier.order = ++this.#submitted;
    this.#inFlight++;
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
      order: 0,
    };
    this.#carriers.add(carrier);
    return carrier;
  }

  #ended(carrier: Carrier, direction: 'in' | 'out', errno: number | undefined, length: number): void {
    const { sink, write } = carrier;
    carrier.order = 0;
    this.#inFlight--;
    this.#idle[direction].push(carrier);
    this.#host.bytesInFlight -= carrier.bytes;
    if (sink !== undefined) {
      if (errno === undefined || errno === LIBUSB_TRANSFER.CANCELLED) {
        sink.onRead(length, errno !== undefined);
      } else {
        this.#readFailed(errno, sink);
      }
    } else if (write !== undefined) {
      const { resolve, reject } = write;
      this.#idleWrites.push(write);
      if (errno !== undefined) {
        this.#errorFor(errno, 'write').then(reject, reject);
      } else if (length < carrier.bytes) {
        reject(new IioError('EIO', `${this.name}: ${length} of ${carrier.bytes} bytes written`));
      } else {
        resolve?.();
      }
    }
    if (this.#inFlight === 0 && this.#idleWaiters.length > 0) {
      for (const wake of this.#idleWaiters.splice(0)) {
        wake();
      }
    }
    if (this.#host.onMemoryFreed.size > 0) {
      for (const push of [...this.#host.onMemoryFreed]) {
        push();
      }
    }
  }

  /** Not a part of the caller, where the closures would cost memory per transfer. */
  #readFailed(errno: number, sink: ReadSink): void {
    this.#errorFor(errno, 'read').then((error) => sink.onReadFailed(error), sink.onReadFailed.bind(sink));
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
