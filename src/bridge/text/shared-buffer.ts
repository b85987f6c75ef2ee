import { type ChannelMask, type DeviceDescription, IioError, sampleLayout } from '@iio-bridge/protocol';
import type { SampleIo } from '../../dataplane/sample-io.js';
import type { Backend, BackendBuffer } from '../../iio/backend.js';
import type { Logger } from '../logger.js';
import { SerialQueue } from '../serial-queue.js';
import { type BlockLayout, BufferClient } from './buffer-client.js';

/** Short cycles are written several at a time, so that a cycle of one sample does not cost a call per sample. */
const MIN_CYCLE_BYTES = 64 * 1024;

/** How samples are read from a buffer and written to it. */
export type BlockIo = Pick<SampleIo, 'read' | 'write' | 'close'>;

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
  readonly demux: boolean;
  readonly openSampleIo: (fd: number) => BlockIo;
  readonly log: Logger;
}

/** The backend's buffer as it is open now. */
interface Running {
  readonly requested: ChannelMask;
  readonly samples: number;
  readonly layout: BlockLayout;
  readonly buffer: BackendBuffer;
  readonly io: BlockIo;
  /** Whom its blocks are for: a client that has just come may want channels that this opening lacks. */
  readers: readonly BufferClient[];
}

/**
 * A buffer that text clients have in common: owns the backend's buffer, open for all channels that one of them wants and
 * for blocks of the size of the largest. Whenever a client comes or goes and that changes something, it is opened anew.
 */
export class SharedBuffer {
  readonly #options: SharedBufferOptions;
  readonly #clients = new Set<BufferClient>();
  readonly #queue = new SerialQueue();
  #running: Running | undefined;
  /** What a read is pending of. */
  #reading: Running | undefined;
  #writer: BufferClient | undefined;
  #cycle: Uint8Array | undefined;
  /** Why the buffer is not open although it has clients. */
  #failure: Error | undefined;

  constructor(options: SharedBufferOptions) {
    this.#options = options;
  }

  get cyclic(): boolean {
    return this.#options.cyclic;
  }

  get isOutput(): boolean {
    const { device, bufferIndex } = this.#options;
    return device.buffers.find(({ index }) => index === bufferIndex)?.direction === 'out';
  }

  get isUnused(): boolean {
    return this.#clients.size === 0;
  }

  get layout(): BlockLayout | undefined {
    return this.#running?.layout;
  }

  /**
   * Adds a client; it has left again if this fails.
   *
   * @param backend the client's own
   * @param samples sample sets per block
   * @throws {IioError} what {@link Backend.openBuffer} and the driver say; what {@link SampleMemory.take} says; `EBUSY` for
   * an output whose other clients use other channels or another backend
   */
  async join(backend: Backend, mask: ChannelMask, samples: number, log: Logger): Promise<BufferClient> {
    // In one go: who leaves meanwhile must not be told what is wrong with this one's wishes.
    return await this.#queue.run(async () => {
      this.#assertMayJoin(backend, mask);
      const { device, demux } = this.#options;
      const client = new BufferClient(this, { device, mask, samples, demux, log });
      this.#clients.add(client);
      try {
        await this.#adapt();
        return client;
      } catch (error) {
        this.#clients.delete(client);
        await this.#adaptForTheRest();
        throw error;
      }
    });
  }

  #assertMayJoin(backend: Backend, mask: ChannelMask): void {
    if (this.isOutput && this.#clients.size > 0) {
      const isSame = [...this.#clients].every((other) => other.mask.equals(mask));
      // A backend also stands for what its clients may do, and was not asked for this one.
      if (!isSame || backend !== this.#options.backend) {
        throw new IioError('EBUSY', `${this.#name} is in use with other channels or by another kind of client`);
      }
    }
  }

  /** Resolves when the buffer is closed, or open for the clients that remain. Does nothing the second time. */
  async leave(client: BufferClient): Promise<void> {
    if (!this.#clients.delete(client)) {
      return;
    }
    if (client.lostBlocks > 0) {
      this.#options.log.warn({ lostBlocks: client.lostBlocks }, 'a client lost blocks that it did not fetch in time');
    }
    if (this.#writer === client) {
      this.#writer = undefined;
    }
    await this.#queue.run(() => this.#adaptForTheRest());
  }

  /** That the buffer cannot be opened anew is for those to hear who still want it. */
  async #adaptForTheRest(): Promise<void> {
    try {
      await this.#adapt();
    } catch (error) {
      if (this.#clients.size === 0) {
        throw error;
      }
      this.#failure = error instanceof Error ? error : new Error(String(error));
      this.#options.log.warn({ err: error }, 'a buffer could not be opened anew for the clients that remain');
      this.#notify(this.#failure);
    }
  }

  demand(): void {
    if (this.#failure !== undefined) {
      this.#notify(this.#failure);
      return;
    }
    const running = this.#running;
    if (running !== undefined && this.#reading !== running) {
      this.#reading = running;
      this.#read(running).catch((error: unknown) => this.#options.log.error({ err: error }, 'a buffer cannot be read'));
    }
  }

  /** Makes `client` the one that writes until {@link endWriting}. @throws {IioError} `EPERM` for an input, `EBUSY`. */
  beginWriting(client: BufferClient): void {
    if (!this.isOutput) {
      throw new IioError('EPERM', `${this.#name} is an input`);
    }
    if (this.#writer !== undefined) {
      throw new IioError('EBUSY', `another client is writing to ${this.#name}`);
    }
    this.#writer = client;
  }

  endWriting(client: BufferClient): void {
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

  /** Opens the buffer for the clients that there are, if it is not already. */
  async #adapt(): Promise<void> {
    const clients = [...this.#clients];
    const [first, ...others] = clients;
    const mask = others.reduce<ChannelMask | undefined>((union, { mask }) => union?.union(mask), first?.mask);
    const samples = Math.max(0, ...clients.map((client) => client.samples));
    const before = this.#running;
    const isSame = before !== undefined && mask !== undefined && before.requested.equals(mask);
    // What an output plays must not be cut off because a client comes or goes.
    if (isSame && (before.samples === samples || this.isOutput)) {
      before.readers = clients;
      return;
    }
    this.#failure = undefined;
    this.#running = undefined;
    this.#cycle = undefined;
    await this.#stop(before);
    if (mask === undefined) {
      return;
    }
    this.#running = await this.#start(clients, mask, samples);
    this.#notify();
  }

  async #start(readers: readonly BufferClient[], mask: ChannelMask, samples: number): Promise<Running> {
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
        const io = openSampleIo(buffer.fd);
        const layout = { mask: buffer.mask, sample };
        return { requested: mask, samples, layout, buffer, io, readers };
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

  /**
   * Reads while some client waits. The block that is under way when the last of them gives up is kept for it: clients
   * have time-outs of their own, this read has none.
   */
  async #read(running: Running): Promise<void> {
    try {
      while (this.#running === running && [...this.#clients].some((client) => client.isWaiting)) {
        const bytes = await running.io.read(running.samples * running.layout.sample.bytes, 0);
        for (const client of running.readers.filter((reader) => this.#clients.has(reader))) {
          client.push({ layout: running.layout, bytes });
        }
      }
    } catch (error) {
      if (!(error instanceof IioError)) {
        throw error;
      }
      if (this.#running === running) {
        this.#notify(error);
      }
    } finally {
      if (this.#reading === running) {
        this.#reading = undefined;
      }
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

  #notify(error?: Error): void {
    for (const client of this.#clients) {
      client.notify(error);
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
