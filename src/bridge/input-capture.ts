import { type ChannelMask, IioError, type RingPolicy, type SampleLayout, sampleLayout } from '@iio-bridge/protocol';
import type { Capture } from '../dataplane/capture.js';
import type { DataPlane } from '../dataplane/data-plane.js';
import type { BackendBuffer } from '../iio/backend.js';
import type { BufferLengths } from '../iio/buffer.js';
import { fifoLengths } from '../iio/fifo-lengths.js';
import type { FileDescriptor } from '../sys/file-descriptor.js';
import type { BlockMemory } from './block-memory.js';
import type { BufferStatistics, FiguresProvider, InputFigures } from './buffer-statistics.js';
import { LimitError } from './limit-error.js';
import type { LossCounters } from './loss-counters.js';
import type { OpenRequest } from './open-buffer.js';
import { samplingFrequency } from './sampling-frequency.js';
import { SerialQueue } from './serial-queue.js';
import { assertZeroCopy, type StreamPath } from './stream-mode.js';

/** read() needs room in the kernel's FIFO for what arrives while a block is being sent. */
const READ_FIFO_BLOCKS = 2;

/** How much is captured ahead of the clients' requests. */
export type RingSize = { readonly ms: number } | { readonly bytes: number };

/** What inputs share, whoever opens them. */
export interface InputEnvironment {
  readonly dataPlane: Pick<DataPlane, 'createCapture'>;
  readonly memory: BlockMemory;
  readonly statistics: BufferStatistics;
  readonly lossCounters: LossCounters;
}

export interface InputOptions extends OpenRequest {
  readonly environment: InputEnvironment;
  /** The blocks are with the hardware whoever requests what. */
  readonly flows: boolean;
  readonly ring: RingSize | undefined;
  readonly policy: RingPolicy;
}

/**
 * An input buffer that is open: owns the backend's buffer, the capture from it, and the blocks of the ring. Its clients come
 * and go; the hardware runs while one of them has it enabled. Operations are executed one after the other.
 */
export class InputCapture implements FiguresProvider {
  /** The channels that were asked for. */
  readonly requested: ChannelMask;
  /** With the channels that the device switched on by itself. */
  readonly mask: ChannelMask;
  readonly sample: SampleLayout;
  readonly capture: Capture;
  /** The size of its clients' blocks, once there is one. */
  blockBytes: number | undefined;
  readonly #options: InputOptions;
  readonly #buffer: BackendBuffer;
  readonly #queue = new SerialQueue();
  readonly #users = new Set<object>();
  readonly #enabledBy = new Set<object>();
  #isStarted = false;
  #samplingHz = 0;
  #lengths: BufferLengths = { length: 0, watermark: 0 };
  #ringSizes: number[] = [];
  #path: StreamPath | undefined;
  #closing: Promise<void> | undefined;

  private constructor(options: InputOptions, buffer: BackendBuffer, sample: SampleLayout, capture: Capture) {
    this.#options = options;
    this.#buffer = buffer;
    this.requested = options.mask;
    this.mask = buffer.mask;
    this.sample = sample;
    this.capture = capture;
    options.environment.statistics.opened(options.device.id, options.bufferIndex, this);
  }

  /** @throws {IioError} what {@link Backend.openBuffer} throws; `EINVAL` for a mask without samples. */
  static async open(options: InputOptions): Promise<InputCapture> {
    const { backend, device, deviceIndex, bufferIndex, mask, environment, flows, ring, policy, log } = options;
    const buffer = await backend.openBuffer(deviceIndex, bufferIndex, mask);
    try {
      const sample = sampleLayout(device.channels, buffer.mask);
      if (sample.bytes === 0) {
        throw new IioError(
          'EINVAL',
          `buffer ${bufferIndex} of ${device.id} has no samples for the mask ${mask.toText()}`,
        );
      }
      const timestamp = sample.channels.find(({ channel, bytes }) => channel.id === 'timestamp' && bytes === 8);
      const counter = await environment.lossCounters.open(backend, deviceIndex, device).catch((error: unknown) => {
        log.warn({ err: error }, 'the overflow counter cannot be read: losses are estimated');
        return undefined;
      });
      const capture = await environment.dataPlane.createCapture(
        buffer.fd,
        {
          byRead: !environment.memory.hasDmabufs,
          setBytes: sample.bytes,
          timestampOffset: timestamp?.offset,
          flows: flows || ring !== undefined,
          onDemand: ring === undefined,
          policy,
        },
        counter,
      );
      return new InputCapture(options, buffer, sample, capture);
    } catch (error) {
      await buffer.close();
      throw error;
    }
  }

  /** `buffer 0 of iio:device0` */
  get name(): string {
    return `buffer ${this.#options.bufferIndex} of ${this.#options.device.id}`;
  }

  /** Blocks circulate between the hardware and all clients, so they must be of one size. */
  get needsEqualBlocks(): boolean {
    return this.#options.ring !== undefined || this.#users.size > 1;
  }

  /** `user` stands for a client, from here to {@link leave}. */
  join(user: object): void {
    this.#users.add(user);
  }

  /** With the last of them, everything ends. `release`: gives up what the client has, once the hardware has let go. */
  async leave(user: object, release: () => Promise<void>): Promise<void> {
    this.#users.delete(user);
    if (this.#users.size > 0) {
      await this.disable(user, release);
    } else {
      this.#closing ??= this.#queue.run(() => this.#close(release));
      await this.#closing;
    }
  }

  /** After a client could not join. */
  async closeUnlessUsed(): Promise<void> {
    if (this.#users.size === 0) {
      await this.leave(this, async () => undefined);
    }
  }

  /** How samples travel to a client. @throws {IioError} `EOPNOTSUPP` where the configuration refuses it. */
  notePath(path: StreamPath): void {
    const { memory } = this.#options.environment;
    if (memory.requiresZeroCopy) {
      try {
        assertZeroCopy(path, this.name);
      } catch (error) {
        this.#options.log.warn({ ...path }, error instanceof Error ? error.message : String(error));
        throw error;
      }
    }
    if (this.#path === undefined || this.#path.mode !== path.mode) {
      this.#options.log.info({ ...path }, 'stream open');
    }
    this.#path = path;
  }

  /** A block that belongs to no client. @throws {IioError} `EINVAL`, `ENOMEM`. */
  async addBlock(size: number): Promise<void> {
    const { memory } = this.#options.environment;
    memory.take(size);
    let dmabuf: FileDescriptor | undefined;
    try {
      dmabuf = memory.allocate(size);
      await this.capture.addBlock(dmabuf, size);
    } catch (error) {
      memory.give(size);
      closeUnlessTaken(dmabuf);
      throw error;
    }
    this.#ringSizes.push(size);
  }

  /**
   * Switches the hardware on, if it is not already. `blockBytes`: the size of the blocks of `user`, who has `blocks` of
   * them; `fifoBlocks`: how many of them the kernel's FIFO is to have room for where samples are read().
   *
   * @throws {IioError} `ENOMEM` where there is no room for the ring; what the driver says.
   */
  enable(user: object, blockBytes: number, blocks: number, fifoBlocks = READ_FIFO_BLOCKS): Promise<void> {
    return this.#exclusive(async () => {
      if (this.#enabledBy.size === 0) {
        await this.#addRing(blockBytes, blocks);
        this.#lengths = this.#lengthsFor(blockBytes, fifoBlocks);
        this.#samplingHz = (await this.#readSamplingHz()) ?? 0;
        await this.#buffer.enable(this.#lengths);
      }
      this.#enabledBy.add(user);
    });
  }

  /** Lets samples flow to an enabled buffer; `ready`: what the client does just before. */
  start(ready: () => Promise<void>): Promise<void> {
    return this.#exclusive(async () => {
      await ready();
      if (!this.#isStarted) {
        this.#isStarted = true;
        await this.capture.start({
          samplingHz: this.#samplingHz,
          fifoSets: this.#path?.source === 'iio-dmabuf' ? 0 : this.#lengths.length,
          isLossless: this.#buffer.isLossless ?? false,
        });
      }
    });
  }

  /** `stopped`: what the client does in any case. The hardware stops with the last client. */
  disable(user: object, stopped: () => Promise<void> = async () => undefined): Promise<void> {
    return this.#exclusive(async () => {
      const wasEnabled = this.#enabledBy.delete(user);
      if (wasEnabled && this.#enabledBy.size === 0) {
        await this.#stop();
      }
      await stopped();
    });
  }

  /** For what must not come between the operations of other clients. */
  exclusively<T>(work: () => Promise<T>): Promise<T> {
    return this.#exclusive(work);
  }

  async figures(): Promise<InputFigures> {
    const { blocks, bytes, overruns, lostSets, waiting, capacity } = await this.capture.statistics();
    return {
      direction: 'in',
      mode: this.#path?.mode ?? 'idle',
      fallbacks: this.#path?.fallbacks ?? [],
      blocks,
      bytes,
      overruns,
      lostSamples: lostSets,
      ringFill: { waiting, blocks: capacity },
    };
  }

  /** In the unit that the kernel's buffer compares with on this path: see {@link BackendBuffer.enable}. */
  #lengthsFor(blockBytes: number, fifoBlocks: number): BufferLengths {
    if (this.#path?.source === 'iio-dmabuf') {
      return { length: blockBytes, watermark: blockBytes };
    }
    return fifoLengths(Math.max(1, Math.floor(blockBytes / this.sample.bytes)), fifoBlocks, this.sample.bytes);
  }

  async #addRing(blockBytes: number, blocks: number): Promise<void> {
    const { ring, log, environment } = this.#options;
    if (ring === undefined || this.#ringSizes.length > 0) {
      return;
    }
    const bytes = 'bytes' in ring ? ring.bytes : await this.#bytesIn(ring.ms);
    const count = Math.ceil(bytes / blockBytes);
    const { maxBlocks } = environment.memory;
    try {
      if (count + blocks > maxBlocks) {
        throw new LimitError(
          'ENOMEM',
          `a ring of ${bytes} bytes for ${this.name} needs ${count} blocks of ${blockBytes} bytes beside the client's ${blocks}, above the limit of ${maxBlocks}: use larger blocks, a shorter ring, or limits.blocks`,
        );
      }
      for (let i = 0; i < count; i++) {
        await this.addBlock(blockBytes);
      }
    } catch (error) {
      if (error instanceof IioError) {
        log.warn({ code: error.code, bytes, blocks: count }, `no ring: ${error.message}`);
      }
      throw error;
    }
    log.info({ bytes: count * blockBytes, blocks: count }, 'ring');
  }

  async #bytesIn(ms: number): Promise<number> {
    const hertz = await this.#readSamplingHz();
    if (hertz === undefined) {
      throw new IioError(
        'EINVAL',
        `${this.#options.device.id} does not say its sampling frequency: give the ring in bytes, not in ms`,
      );
    }
    return Math.ceil((hertz * ms) / 1000) * this.sample.bytes;
  }

  #readSamplingHz(): Promise<number | undefined> {
    const { backend, deviceIndex, device } = this.#options;
    return samplingFrequency(backend, deviceIndex, device, this.mask);
  }

  async #stop(): Promise<void> {
    this.#isStarted = false;
    await this.capture.stop();
    await this.#buffer.disable();
  }

  async #close(release: () => Promise<void>): Promise<void> {
    const { environment, device, bufferIndex, log } = this.#options;
    try {
      // The hardware stops before its memory goes away.
      await this.#stop();
      await release();
      await environment.statistics.closing(device.id, bufferIndex, this);
      const { waiting: _waiting, capacity: _capacity, ...totals } = await this.capture.statistics();
      log.info(totals, 'stream closed');
    } finally {
      await this.capture.close();
      for (const size of this.#ringSizes.splice(0)) {
        environment.memory.give(size);
      }
      await this.#buffer.close();
    }
  }

  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    return this.#queue.run(async () => {
      if (this.#closing !== undefined) {
        throw new IioError('EBADF', `${this.name} is closed`);
      }
      return await work();
    });
  }
}

/** What was to be handed over, and may not have been. */
export function closeUnlessTaken(dmabuf: FileDescriptor | undefined): void {
  if (dmabuf !== undefined && !dmabuf.closed) {
    dmabuf.close();
  }
}
