import { getSystemErrorName } from 'node:util';
import { IioError } from '@iio-bridge/protocol';
import { type Hints, systemError } from '../sys/errors.js';
import type { FileDescriptor } from '../sys/file-descriptor.js';
import { Capture, type CaptureOptions } from './capture.js';
import { Link } from './link.js';
import { type NativeDataPlane, startNativeDataPlane } from './native.js';
import { Playback, type PlaybackOptions } from './playback.js';
import { SampleIo } from './sample-io.js';
import { type Connection, TcpListener } from './tcp-listener.js';

interface Waiter {
  readonly operation: string;
  resolve(data: Uint8Array | readonly number[] | undefined): void;
  reject(error: Error): void;
}

/** What keeps other work of the machine from holding samples up. Nothing by default. */
export interface Tuning {
  /** SCHED_FIFO with this priority, 1 to 99. */
  readonly realtimePriority?: number | undefined;
  /** The number of the one processor to run on. */
  readonly cpu?: number | undefined;
  /** What the data plane runs on is not paged out: code, native heap, stack. */
  readonly lockMemory?: boolean | undefined;
}

const REALTIME_HINT =
  'run as root, or with CAP_SYS_NICE or LimitRTPRIO= in the systemd unit; in a container, kernel.sched_rt_runtime_us may have to be raised';
const CPU_HINT = 'this process may not use a processor of that number: see /proc/self/status, Cpus_allowed_list';
const MEMORY_HINT = 'run as root, or with CAP_IPC_LOCK or LimitMEMLOCK=infinity in the systemd unit';

/** A call into the data plane's thread, answered with bytes, numbers or nothing. */
export type Call = (
  operation: string,
  post: (native: NativeDataPlane, token: number) => void,
) => Promise<Uint8Array | readonly number[] | undefined>;

/**
 * The native thread through which samples flow. Owns the thread, and through it every endpoint file, IIO buffer
 * descriptor and block that is handed over; `close()` ends all of them.
 *
 * JavaScript sets links and captures up and takes them down. It is not in the path of a block.
 */
export class DataPlane implements Disposable {
  readonly #native: NativeDataPlane;
  readonly #waiters = new Map<number, Waiter>();
  readonly #links = new Map<number, Link>();
  #ep0Listener: (event: Uint8Array) => void = () => undefined;
  #lastId = 0;
  #closed = false;

  private constructor() {
    this.#native = startNativeDataPlane((kind, id, status, data) => {
      switch (kind) {
        case 'done':
          this.#answer(id, status, data);
          break;
        case 'closed':
          this.#links.get(id)?.ended(status);
          this.#links.delete(id);
          break;
        case 'ep0':
          if (data instanceof Uint8Array) {
            this.#ep0Listener(data);
          }
          break;
      }
    });
  }

  /** @throws {IioError} `NO_ADDON`; an error of the kernel's when it has no asynchronous I/O context left. */
  static start(): DataPlane {
    return new DataPlane();
  }

  /**
   * Reads FunctionFS events from `fd`, which stays the caller's and must stay open until {@link unwatchEp0}. Links go
   * down in the data plane as soon as it reads that the bus is gone, before the listener hears of it. After a setup
   * event nothing is read until {@link resumeEp0}: reading would answer the request.
   */
  watchEp0(fd: number, listener: (event: Uint8Array) => void): void {
    this.#ep0Listener = listener;
    this.#native.watchEp0(fd);
  }

  resumeEp0(): void {
    this.#native.resumeEp0();
  }

  async unwatchEp0(): Promise<void> {
    await this.#call('stop watching ep0', (native, token) => native.unwatchEp0(token));
  }

  /** A link over the endpoint files of one USB pipe, which it takes; `packetBytes` is the endpoints' wMaxPacketSize. */
  openUsbLink(endpoints: { readonly in: FileDescriptor; readonly out: FileDescriptor }, packetBytes: number): Link {
    return this.#addLink((id) =>
      this.#native.openUsbLink(id, endpoints.in.release(), endpoints.out.release(), packetBytes),
    );
  }

  /** A link over a connected, non-blocking stream socket, which it takes. @throws {IioError} `ESHUTDOWN` after `close()`. */
  openSocketLink(socket: FileDescriptor): Link {
    this.#assertOpen('open a socket link');
    return this.#addLink((id) => this.#native.openSocketLink(id, socket.release()));
  }

  /**
   * Listens on a numeric address (`127.0.0.1`, `::1`; `::` is every address of both families) and port, 0 for any.
   *
   * @throws {IioError} `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`; `EINVAL` for what is no address; `ESHUTDOWN` after
   * `close()`.
   */
  listenTcp(address: string, port: number): TcpListener {
    const operation = `listen on ${address} port ${port}`;
    this.#assertOpen(operation);
    const id = this.#newId();
    const bound = this.#native.listenTcp(id, address, port);
    if (bound < 0) {
      throw systemError(getSystemErrorName(bound), operation);
    }
    return new TcpListener(id, bound, this.#call, (accept) => this.#adoptConnection(accept));
  }

  /**
   * A playback on the IIO buffer `bufferFd`, non-blocking, of which it keeps a duplicate: it must be closed before the buffer
   * is. `underflowCounter`: the file of an attribute that counts the sample sets that the device has not played, which is
   * taken.
   *
   * @throws {IioError} `EMFILE`; `ESHUTDOWN` after `close()`.
   */
  async createPlayback(
    bufferFd: number,
    options: PlaybackOptions,
    underflowCounter?: FileDescriptor,
  ): Promise<Playback> {
    const id = this.#newId();
    await this.#call('create an output', (native, token) =>
      native.createPlayback(id, bufferFd, underflowCounter?.release() ?? -1, options, token),
    );
    return new Playback(id, this.#native, this.#call);
  }

  /**
   * Samples or events on `fd`, which is non-blocking and stays the caller's: a duplicate is kept.
   *
   * @throws {IioError} `EBADF`, `EMFILE`; `EINVAL` for a blocking descriptor; `ESHUTDOWN` after `close()`.
   */
  openSampleIo(fd: number): SampleIo {
    const operation = `read and write samples on descriptor ${fd}`;
    this.#assertOpen(operation);
    const id = this.#newId();
    const status = this.#native.openSampleIo(id, fd);
    if (status < 0) {
      throw systemError(getSystemErrorName(status), operation, {
        EINVAL: 'it is blocking, and would stop everything else',
      });
    }
    return new SampleIo(id, this.#native, this.#call);
  }

  /**
   * Captures from an IIO buffer. Keeps a duplicate of `bufferFd`, so it must be closed before the buffer is.
   * `overflowCounter`, which is taken: a file that shows how many sample sets the device has lost, for exact accounts.
   *
   * @throws {IioError} `EBADF`, `EMFILE`.
   */
  async createCapture(bufferFd: number, options: CaptureOptions, overflowCounter?: FileDescriptor): Promise<Capture> {
    return await Capture.create(this.#native, this.#call, () => this.#newId(), bufferFd, options, overflowCounter);
  }

  /**
   * Keeps the system from holding up the data plane's thread.
   *
   * @throws {IioError} `EPERM`, `EINVAL`, `ENOMEM`, saying what would help.
   */
  async tune({ realtimePriority, cpu, lockMemory = false }: Tuning): Promise<void> {
    if (lockMemory) {
      const hints = { EPERM: MEMORY_HINT, ENOMEM: MEMORY_HINT, EAGAIN: MEMORY_HINT };
      await this.#tune("lock the data plane's memory", hints, (native, token) => native.lockMemory(token));
    }
    if (cpu !== undefined) {
      await this.#tune(`run the data plane on processor ${cpu}`, { EINVAL: CPU_HINT }, (native, token) =>
        native.setCpu(cpu, token),
      );
    }
    if (realtimePriority !== undefined) {
      const operation = `give the data plane real-time priority ${realtimePriority}`;
      await this.#tune(operation, { EPERM: REALTIME_HINT }, (native, token) =>
        native.setRealtime(realtimePriority, token),
      );
    }
  }

  /** Ends every link and capture, and the thread. */
  close(): void {
    if (this.#closed) {
      return;
    }
    this.#closed = true;
    this.#native.shutdown();
    for (const link of this.#links.values()) {
      link.ended(0);
    }
    this.#links.clear();
    const waiters = [...this.#waiters.values()];
    this.#waiters.clear();
    for (const waiter of waiters) {
      waiter.reject(IioError.fromErrno(108, waiter.operation));
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #tune(operation: string, hints: Hints, post: (native: NativeDataPlane, token: number) => void): Promise<void> {
    try {
      await this.#call(operation, post);
    } catch (error) {
      throw error instanceof IioError ? systemError(error.code, operation, hints, { cause: error }) : error;
    }
  }

  readonly #call: Call = (operation, post) => {
    if (this.#closed) {
      return Promise.reject(IioError.fromErrno(108, operation));
    }
    const token = this.#newId();
    return new Promise((resolve, reject) => {
      this.#waiters.set(token, { operation, resolve, reject });
      post(this.#native, token);
    });
  };

  #addLink(open: (id: number) => void): Link {
    const id = this.#newId();
    const link = new Link(id, this.#native, this.#call);
    this.#links.set(id, link);
    open(id);
    return link;
  }

  async #adoptConnection(accept: (native: NativeDataPlane, link: number, token: number) => void): Promise<Connection> {
    const id = this.#newId();
    const link = new Link(id, this.#native, this.#call);
    // Known before the connection is there: it may end before this function hears of it.
    this.#links.set(id, link);
    try {
      const peer = await this.#call('accept a connection', (native, token) => accept(native, id, token));
      return { link, peer: peer instanceof Uint8Array ? new TextDecoder().decode(peer) : '' };
    } catch (error) {
      this.#links.delete(id);
      throw error;
    }
  }

  #assertOpen(operation: string): void {
    if (this.#closed) {
      throw IioError.fromErrno(108, operation);
    }
  }

  #answer(token: number, status: number, data: Uint8Array | readonly number[] | undefined): void {
    const waiter = this.#waiters.get(token);
    this.#waiters.delete(token);
    if (status < 0) {
      waiter?.reject(IioError.fromErrno(status, waiter.operation));
    } else {
      waiter?.resolve(data);
    }
  }

  #newId(): number {
    this.#lastId = (this.#lastId % 0xffff_ffff) + 1;
    return this.#lastId;
  }
}
