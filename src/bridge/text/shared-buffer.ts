import {
  type ChannelMask,
  type DeviceDescription,
  IioError,
  type SampleLayout,
  sampleLayout,
} from '@iio-bridge/protocol';
import type { SampleIo } from '../../dataplane/sample-io.js';
import type { Backend, BackendBuffer } from '../../iio/backend.js';
import type { Logger } from '../logger.js';
import { SerialQueue } from '../serial-queue.js';

/** Short cycles are written several at a time, so that a cycle of one sample does not cost a call per sample. */
const MIN_CYCLE_BYTES = 64 * 1024;

/** How samples are written to a buffer. */
export type BlockIo = Pick<SampleIo, 'write' | 'close'>;

/** Where blocks are counted: {@link BlockMemory}. */
export interface SampleMemory {
  readonly maxBlocks: number;
  /** @throws {IioError} `EINVAL` above the size of a block, `ENOMEM` above that of all blocks. */
  take(bytes: number): void;
  give(bytes: number): void;
}

export interface SharedBufferOptions {
  readonly backend: Backend;
  readonly device: DeviceDescription;
  /** Position of the device in the backend's context. */
  readonly deviceIndex: number;
  readonly bufferIndex: number;
  /** Played again and again from the first WRITEBUF on. */
  readonly cyclic: boolean;
  /** Blocks that the kernel's FIFO has room for. */
  readonly fifoBlocks: number;
  readonly memory: SampleMemory;
  readonly openSampleIo: (fd: number) => BlockIo;
  readonly log: Logger;
}

/** The backend's buffer as it is open now. */
interface Running {
  readonly samples: number;
  readonly layout: { readonly mask: ChannelMask; readonly sample: SampleLayout };
  readonly buffer: BackendBuffer;
  readonly io: BlockIo;
}

/** One client of an output. */
export interface OutputClient {
  readonly mask: ChannelMask;
  /** Sample sets per block. */
  readonly samples: number;
}

/**
 * An output that text clients have in common: owns the backend's buffer, open from the first client to the last. One of them
 * writes at a time.
 */
export class SharedBuffer {
  readonly isOutput = true;
  readonly #options: SharedBufferOptions;
  readonly #clients = new Set<OutputClient>();
  readonly #queue = new SerialQueue();
  #running: Running | undefined;
  #writer: OutputClient | undefined;
  #cycle: Uint8Array | undefined;

  constructor(options: SharedBufferOptions) {
    this.#options = options;
  }

  get cyclic(): boolean {
    return this.#options.cyclic;
  }

  get isUnused(): boolean {
    return this.#clients.size === 0;
  }

  get layout(): Running['layout'] | undefined {
    return this.#running?.layout;
  }

  /**
   * Adds a client; it has left again if this fails.
   *
   * @param backend the client's own
   * @param samples sample sets per block
   * @throws {IioError} what {@link Backend.openBuffer} and the driver say; what {@link SampleMemory.take} says; `EBUSY` where
   * the other clients use other channels or another backend
   */
  async join(backend: Backend, mask: ChannelMask, samples: number): Promise<OutputClient> {
    if (this.#clients.size > 0) {
      const isSame = [...this.#clients].every((other) => other.mask.equals(mask));
      // A backend also stands for what its clients may do, and was not asked for this one.
      if (!isSame || backend !== this.#options.backend) {
        throw new IioError('EBUSY', `${this.#name} is in use with other channels or by another kind of client`);
      }
    }
    const client: OutputClient = { mask, samples };
    this.#clients.add(client);
    try {
      await this.#queue.run(() => this.#adapt());
      return client;
    } catch (error) {
      await this.leave(client).catch(() => undefined);
      throw error;
    }
  }

  /** Resolves when the buffer is closed, or open for the clients that remain. Does nothing the second time. */
  async leave(client: OutputClient): Promise<void> {
    if (!this.#clients.delete(client)) {
      return;
    }
    if (this.#writer === client) {
      this.#writer = undefined;
    }
    await this.#queue.run(() => this.#adapt());
  }

  /** Makes `client` the one that writes until {@link endWriting}. @throws {IioError} `EBUSY`. */
  beginWriting(client: OutputClient): void {
    if (this.#writer !== undefined) {
      throw new IioError('EBUSY', `another client is writing to ${this.#name}`);
    }
    this.#writer = client;
  }

  endWriting(client: OutputClient): void {
    if (this.#writer === client) {
      this.#writer = undefined;
    }
  }

  /**
   * Whole sample sets, for the buffer to play.
   *
   * @param timeoutMs 0 = for ever
   * @throws {IioError} `ETIMEDOUT`; `EBADF` if the buffer is closed; the device's errno
   */
  async write(bytes: Uint8Array, timeoutMs: number): Promise<void> {
    await this.#runningOrThrow().io.write(bytes, timeoutMs);
  }

  /** Plays `bytes`, whole sample sets, from now until the buffer is closed or another cycle takes their place. */
  repeat(bytes: Uint8Array): void {
    const running = this.#runningOrThrow();
    const isPlaying = this.#cycle !== undefined;
    this.#cycle = repeated(bytes, Math.ceil(MIN_CYCLE_BYTES / Math.max(1, bytes.byteLength)));
    if (!isPlaying) {
      this.#play(running).catch((error: unknown) =>
        this.#options.log.error({ err: error }, 'a cycle cannot be played'),
      );
    }
  }

  /** Opens the buffer for the clients that there are, if it is not already: what it plays is not cut off. */
  async #adapt(): Promise<void> {
    const [first, ...others] = this.#clients;
    const before = this.#running;
    if (first === undefined) {
      this.#running = undefined;
      this.#cycle = undefined;
      await this.#stop(before);
    } else {
      this.#running ??= await this.#start(first.mask, Math.max(first.samples, ...others.map(({ samples }) => samples)));
    }
  }

  async #start(mask: ChannelMask, samples: number): Promise<Running> {
    const { backend, device, deviceIndex, bufferIndex, fifoBlocks, memory, openSampleIo } = this.#options;
    const buffer = await backend.openBuffer(deviceIndex, bufferIndex, mask);
    try {
      const sample = sampleLayout(device.channels, buffer.mask);
      if (sample.bytes === 0) {
        throw new IioError('EINVAL', `${this.#name} has no samples for the mask ${mask.toText()}`);
      }
      memory.take(samples * sample.bytes);
      try {
        await buffer.enable({ length: samples * fifoBlocks, watermark: Math.max(1, Math.floor(samples / 2)) });
        return { samples, layout: { mask: buffer.mask, sample }, buffer, io: openSampleIo(buffer.fd) };
      } catch (error) {
        memory.give(samples * sample.bytes);
        throw error;
      }
    } catch (error) {
      await buffer.close();
      throw error;
    }
  }

  async #stop(running: Running | undefined): Promise<void> {
    if (running !== undefined) {
      running.io.close();
      this.#options.memory.give(running.samples * running.layout.sample.bytes);
      await running.buffer.close();
    }
  }

  async #play(running: Running): Promise<void> {
    try {
      while (this.#running === running && this.#cycle !== undefined) {
        await running.io.write(this.#cycle, 0);
      }
    } catch (error) {
      if (this.#running === running) {
        this.#cycle = undefined;
        throw error;
      }
    }
  }

  #runningOrThrow(): Running {
    if (this.#running === undefined) {
      throw new IioError('EBADF', `${this.#name} is closed`);
    }
    return this.#running;
  }

  get #name(): string {
    return `buffer ${this.#options.bufferIndex} of ${this.#options.device.id}`;
  }
}

function repeated(bytes: Uint8Array, times: number): Uint8Array {
  const all = new Uint8Array(bytes.byteLength * times);
  for (let i = 0; i < times; i++) {
    all.set(bytes, i * bytes.byteLength);
  }
  return all;
}
