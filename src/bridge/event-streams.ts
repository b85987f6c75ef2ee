import { IioError } from '@iio-bridge/protocol';
import type { SampleIo } from '../dataplane/sample-io.js';
import type { Backend } from '../iio/backend.js';
import { EVENT_BYTES } from '../iio/events.js';
import type { FileDescriptor } from '../sys/file-descriptor.js';
import type { SampleIoSource } from './open-buffer.js';

/** Streams of one link; the kernel admits one reader per device anyway. */
const MAX_STREAMS = 64;

/** A read that is not to wait still has to go through the data plane's thread, which tries once before it gives up. */
const NON_BLOCKING_MS = 1;

/**
 * The event streams that a client has on one link, by the ids that it chose: owns their descriptors. Closing a stream
 * ends its pending read with `EINTR`.
 */
export class EventStreams {
  readonly #samples: SampleIoSource;
  readonly #streams = new Map<number, EventStream>();

  constructor(samples: SampleIoSource) {
    this.#samples = samples;
  }

  has(id: number): boolean {
    return this.#streams.has(id);
  }

  /** @throws {IioError} `EEXIST` if the id is taken, `EMFILE`; what {@link Backend.openEvents} throws. */
  async create(id: number, backend: Backend, device: number): Promise<void> {
    if (this.#streams.has(id)) {
      throw new IioError('EEXIST', `event stream ${id} exists already`);
    }
    if (this.#streams.size >= MAX_STREAMS) {
      throw new IioError('EMFILE', `the link has ${MAX_STREAMS} event streams already, which is the limit`);
    }
    const descriptor = await backend.openEvents(device);
    try {
      this.#streams.set(id, new EventStream(device, descriptor, this.#samples.openSampleIo(descriptor.fd)));
    } catch (error) {
      descriptor.close();
      throw error;
    }
  }

  /**
   * The next event, 16 bytes.
   *
   * @throws {IioError} `EBADF` without such a stream, `EAGAIN` if there is none and it is not to wait, `EINTR` when the
   * stream is closed, `EBUSY` if a read is pending already.
   */
  read(id: number, device: number, wait: boolean): Promise<Uint8Array> {
    const stream = this.#streams.get(id);
    if (stream === undefined || stream.device !== device) {
      return Promise.reject(new IioError('EBADF', `device ${device} has no event stream ${id}`));
    }
    return stream.read(wait);
  }

  /** Resolves when its pending read has come back. @throws {IioError} `EBADF` without such a stream. */
  async free(id: number, device: number): Promise<void> {
    const stream = this.#streams.get(id);
    if (stream === undefined || stream.device !== device) {
      throw new IioError('EBADF', `device ${device} has no event stream ${id}`);
    }
    this.#streams.delete(id);
    await stream.close();
  }

  async close(): Promise<void> {
    const streams = [...this.#streams.values()];
    this.#streams.clear();
    await Promise.all(streams.map((stream) => stream.close()));
  }
}

/** Owns a descriptor of events. */
class EventStream {
  readonly device: number;
  readonly #descriptor: FileDescriptor;
  readonly #io: SampleIo;
  #pending: Promise<unknown> | undefined;
  #closed = false;

  constructor(device: number, descriptor: FileDescriptor, io: SampleIo) {
    this.device = device;
    this.#descriptor = descriptor;
    this.#io = io;
  }

  read(wait: boolean): Promise<Uint8Array> {
    if (this.#pending !== undefined) {
      return Promise.reject(new IioError('EBUSY', 'a read of this event stream is pending already'));
    }
    const reading = this.#read(wait).finally(() => {
      this.#pending = undefined;
    });
    this.#pending = reading.catch(() => undefined);
    return reading;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#io.close();
    this.#descriptor.close();
    await this.#pending;
  }

  async #read(wait: boolean): Promise<Uint8Array> {
    try {
      return await this.#io.read(EVENT_BYTES, wait ? 0 : NON_BLOCKING_MS);
    } catch (error) {
      if (this.#closed) {
        throw new IioError('EINTR', 'the event stream has been closed', { cause: error });
      }
      if (error instanceof IioError && error.code === 'ETIMEDOUT') {
        throw new IioError('EAGAIN', 'there is no event');
      }
      throw error;
    }
  }
}
