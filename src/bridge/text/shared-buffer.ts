import {
  type ChannelMask,
  type DeviceDescription,
  IioError,
  type SampleLayout,
  sampleLayout,
} from '@iio-bridge/protocol';
import type { Playback, PlaybackOptions, Written } from '../../dataplane/playback.js';
import type { Backend, BackendBuffer } from '../../iio/backend.js';
import type { BufferLengths } from '../../iio/buffer.js';
import { fifoLengths } from '../../iio/fifo-lengths.js';
import type { FileDescriptor } from '../../sys/file-descriptor.js';
import type { BlockMemory } from '../block-memory.js';
import { BlockSizes } from '../block-sizes.js';
import type { BufferStatistics, FiguresProvider, OutputFigures } from '../buffer-statistics.js';
import { CyclePieces } from '../cycle.js';
import type { Logger } from '../logger.js';
import type { LossCounters } from '../loss-counters.js';
import { samplingFrequency } from '../sampling-frequency.js';
import { SerialQueue } from '../serial-queue.js';
import { assertZeroCopy, playPath, type StreamPath } from '../stream-mode.js';
import type { SampleLink } from './input-client.js';

/** A cycle is received into one block while the one before is played out of the other. */
const CYCLIC_BLOCKS = 2;

/** What a shared output uses of the data plane's. */
export interface OutputPlayback
  extends Pick<
    Playback,
    'createBlock' | 'start' | 'stop' | 'write' | 'drain' | 'receive' | 'repeat' | 'path' | 'statistics' | 'close'
  > {
  connect(link: SampleLink): Promise<void>;
}

/** What outputs share, whoever opens them. */
export interface OutputEnvironment {
  readonly dataPlane: {
    createPlayback(fd: number, options: PlaybackOptions, underflowCounter?: FileDescriptor): Promise<OutputPlayback>;
  };
  readonly memory: BlockMemory;
  readonly statistics: BufferStatistics;
  readonly lossCounters: LossCounters;
}

export interface SharedBufferOptions {
  readonly backend: Backend;
  readonly device: DeviceDescription;
  /** Position of the device in the backend's context. */
  readonly deviceIndex: number;
  readonly bufferIndex: number;
  /** Played again and again from the first WRITEBUF on. */
  readonly cyclic: boolean;
  /** Blocks that may wait to be played. */
  readonly fifoBlocks: number;
  readonly outputs: OutputEnvironment;
  readonly log: Logger;
}

/** The backend's buffer as it is open now. */
interface Running {
  readonly layout: { readonly mask: ChannelMask; readonly sample: SampleLayout };
  readonly buffer: BackendBuffer;
  readonly playback: OutputPlayback;
  readonly sizes: BlockSizes;
  readonly hertz: number | undefined;
  path: StreamPath;
}

/** One client of an output. */
export interface OutputClient {
  readonly mask: ChannelMask;
  /** Sample sets per block. */
  readonly samples: number;
  readonly link: SampleLink;
}

/**
 * An output that text clients have in common: owns the backend's buffer, open from the first client to the last, and the
 * playback that is fed by the link of whoever writes. One of them does at a time.
 */
export class SharedBuffer implements FiguresProvider {
  readonly isOutput = true;
  readonly #options: SharedBufferOptions;
  readonly #clients = new Set<OutputClient>();
  readonly #queue = new SerialQueue();
  #running: Running | undefined;
  #writer: OutputClient | undefined;
  #cycle: { readonly block: number; readonly pieces: CyclePieces } | undefined;

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
   * @throws {IioError} what {@link Backend.openBuffer} and the driver say; `EINVAL`, `ENOMEM` above the limits of memory;
   * `EBUSY` where the other clients use other channels or another backend; `EOPNOTSUPP` where samples would be copied and the
   * configuration refuses that
   */
  async join(backend: Backend, client: OutputClient): Promise<OutputClient> {
    // In one go: who leaves meanwhile must not be told what is wrong with this one's wishes.
    return await this.#queue.run(async () => {
      this.#assertMayJoin(backend, client.mask);
      this.#clients.add(client);
      try {
        await this.#adapt();
        return client;
      } catch (error) {
        this.#clients.delete(client);
        await this.#adapt();
        throw error;
      }
    });
  }

  #assertMayJoin(backend: Backend, mask: ChannelMask): void {
    if (this.#clients.size > 0) {
      const isSame = [...this.#clients].every((other) => other.mask.equals(mask));
      // A backend also stands for what its clients may do, and was not asked for this one.
      if (!isSame || backend !== this.#options.backend) {
        throw new IioError('EBUSY', `${this.#name} is in use with other channels or by another kind of client`);
      }
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

  /** Waits until what was written is played, before the last client leaves; not for a cycle. */
  async drain(timeoutMs: number): Promise<void> {
    if (!this.#options.cyclic && this.#clients.size <= 1) {
      await this.#running?.playback.drain(timeoutMs).catch((error: unknown) => {
        this.#options.log.warn({ err: error }, 'an output is closed before all of its samples are played');
      });
    }
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
   * Takes whole sample sets from the link of the client that writes, for the buffer to play.
   *
   * @param timeoutMs 0 = for ever
   * @throws {IioError} `EBADF` if the buffer is closed, with nothing taken
   */
  async write(client: OutputClient, bytes: number, timeoutMs: number): Promise<Written> {
    const running = this.#runningOrThrow();
    await this.#connect(running, client);
    return await running.playback.write(bytes, timeoutMs);
  }

  /**
   * As {@link write}, of a cycle that is played from now until the buffer is closed or another takes its place.
   *
   * @throws {IioError} `EBADF`, `ENOMEM`, `EBUSY` while the cycle before the last one is still played, with nothing taken; what
   * ended the link
   */
  async repeat(client: OutputClient, bytes: number): Promise<Written> {
    const running = this.#runningOrThrow();
    const { playback, layout, hertz, path } = running;
    const pieces = new CyclePieces(this.#options.outputs.memory, {
      bytes,
      bytesPerSecond: hertz === undefined ? undefined : hertz * layout.sample.bytes,
      isWritten: path.sink === 'iio-write',
    });
    const block = this.#cycle?.block === 0 ? 1 : 0;
    try {
      await this.#connect(running, client);
      await playback.receive(block, bytes);
    } catch (error) {
      pieces[Symbol.dispose]();
      throw error;
    }
    try {
      await playback.repeat(block, pieces.spares, pieces.size);
      this.#cycle?.pieces[Symbol.dispose]();
      this.#cycle = { block, pieces };
      return { taken: bytes };
    } catch (error) {
      pieces[Symbol.dispose]();
      if (error instanceof IioError) {
        return { taken: bytes, failure: error };
      }
      throw error;
    }
  }

  async figures(): Promise<OutputFigures> {
    const running = this.#running;
    const statistics = await running?.playback.statistics();
    return {
      direction: 'out',
      mode: running?.path.mode ?? 'idle',
      fallbacks: running?.path.fallbacks ?? [],
      blocks: statistics?.blocks ?? 0,
      bytes: statistics?.bytes ?? 0,
      underruns: statistics?.underruns ?? 0,
      unplayedSamples: statistics?.unplayedSets ?? 0,
    };
  }

  /** Opens the buffer for the clients that there are, if it is not already: what it plays is not cut off. */
  async #adapt(): Promise<void> {
    const [first, ...others] = this.#clients;
    if (first === undefined) {
      await this.#stop(this.#running);
    } else {
      const samples = Math.max(first.samples, ...others.map((other) => other.samples));
      this.#running ??= await this.#start(first, samples);
    }
  }

  async #start(client: OutputClient, samples: number): Promise<Running> {
    const { backend, device, deviceIndex, bufferIndex, outputs, log } = this.#options;
    const { memory, lossCounters } = outputs;
    const buffer = await backend.openBuffer(deviceIndex, bufferIndex, client.mask);
    let playback: OutputPlayback | undefined;
    let sizes: BlockSizes | undefined;
    try {
      const sample = sampleLayout(device.channels, buffer.mask);
      if (sample.bytes === 0) {
        throw new IioError('EINVAL', `${this.#name} has no samples for the mask ${client.mask.toText()}`);
      }
      const counter = await lossCounters.open(backend, deviceIndex, device).catch((error: unknown) => {
        log.warn({ err: error }, 'the underflow counter cannot be read: what is not played is estimated');
        return undefined;
      });
      const options = {
        device: deviceIndex,
        buffer: bufferIndex,
        transferOp: 0,
        retryOp: 0,
        timeoutMs: 0,
        sampleBytes: sample.bytes,
        maxPayloadBytes: memory.maxPayloadBytes,
        sinkByWrite: !memory.hasDmabufs,
        sourceByCopy: memory.mode !== 'auto',
        records: false,
      };
      playback = await outputs.dataPlane.createPlayback(buffer.fd, options, counter);
      await playback.connect(client.link);
      sizes = new BlockSizes(this.#name, sample.bytes, memory);
      const path = await this.#createBlocks(playback, sizes, samples * sample.bytes);
      const hertz = await samplingFrequency(backend, deviceIndex, device, buffer.mask);
      await buffer.enable(this.#lengths(samples, sample.bytes, path));
      await playback.start(hertz ?? 0);
      outputs.statistics.opened(device.id, bufferIndex, this);
      return { layout: { mask: buffer.mask, sample }, buffer, playback, sizes, hertz, path };
    } catch (error) {
      await playback?.close();
      sizes?.clear();
      await buffer.close();
      throw error;
    }
  }

  async #createBlocks(playback: OutputPlayback, sizes: BlockSizes, bytes: number): Promise<StreamPath> {
    const { outputs, cyclic, fifoBlocks } = this.#options;
    const count = cyclic ? CYCLIC_BLOCKS : fifoBlocks;
    for (let index = 0; index < count; index++) {
      sizes.add(index, bytes);
      const dmabuf = outputs.memory.allocate(bytes);
      try {
        await playback.createBlock(index, 0, dmabuf, bytes);
      } catch (error) {
        dmabuf?.close();
        throw error;
      }
    }
    const path = await this.#noted(playback, undefined);
    if (outputs.memory.requiresZeroCopy) {
      assertZeroCopy(path, this.#name);
    }
    return path;
  }

  /** In the unit that the kernel's buffer compares with on this path: see {@link BackendBuffer.enable}. */
  #lengths(samples: number, sampleBytes: number, path: StreamPath): BufferLengths {
    const bytes = samples * sampleBytes;
    return path.sink === 'iio-dmabuf'
      ? { length: bytes, watermark: bytes }
      : fifoLengths(samples, this.#options.fifoBlocks, sampleBytes);
  }

  async #connect(running: Running, client: OutputClient): Promise<void> {
    await running.playback.connect(client.link);
    running.path = await this.#noted(running.playback, running.path);
  }

  async #noted(playback: OutputPlayback, before: StreamPath | undefined): Promise<StreamPath> {
    const path = playPath(await playback.path(), this.#options.outputs.memory);
    if (path.source !== before?.source || path.mode !== before.mode) {
      this.#options.log.info({ direction: 'out', ...path }, 'stream open');
    }
    return path;
  }

  async #stop(running: Running | undefined): Promise<void> {
    const { outputs, device, bufferIndex, log } = this.#options;
    if (running === undefined) {
      return;
    }
    const { playback, buffer, sizes } = running;
    try {
      await playback.stop();
      // The hardware stops before its memory goes away.
      await buffer.disable();
      await outputs.statistics.closing(device.id, bufferIndex, this);
      log.info({ ...(await playback.statistics()) }, 'stream closed');
    } finally {
      this.#running = undefined;
      await playback.close();
      this.#cycle?.pieces[Symbol.dispose]();
      this.#cycle = undefined;
      sizes.clear();
      await buffer.close();
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
