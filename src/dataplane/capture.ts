import { RING_POLICIES, type RingPolicy } from '@iio-bridge/protocol';
import type { FileDescriptor } from '../sys/file-descriptor.js';
import { blockPathOf, numbersIn } from './block-path.js';
import { BlockReader, type BlockReaderOptions } from './block-reader.js';
import type { Call } from './data-plane.js';
import type { Link } from './link.js';
import type { NativeDataPlane } from './native.js';
import { SampleReader } from './sample-reader.js';

export interface CaptureOptions {
  /** Copy on the device's side even where DMABUF would work. */
  readonly byRead: boolean;
  /** Bytes of a sample set. */
  readonly setBytes: number;
  /** Where a sample set's time stamp begins: s64 little-endian, in ns. */
  readonly timestampOffset?: number | undefined;
  /**
   * Every free block is with the hardware while the buffer is enabled. Otherwise a block is captured when its client
   * requests it, until a second one joins.
   */
  readonly flows: boolean;
  /** Where samples are read(): only while a client waits. What comes meanwhile is for the kernel's FIFO to keep. */
  readonly onDemand: boolean;
  /** What becomes of new samples when every block waits for a client. */
  readonly policy: RingPolicy;
}

/** What holds from one enable to the next disable. */
export interface CaptureRun {
  /** Sample sets per second; 0 where it is not known. */
  readonly samplingHz: number;
  /** Sample sets that the kernel keeps by itself while nobody reads; with read() only. */
  readonly fifoSets: number;
  /** The source waits for its reader: a pause is no loss. */
  readonly isLossless: boolean;
}

/** Totals since the capture was created. */
export interface CaptureStatistics {
  /** Blocks that were filled. */
  readonly blocks: number;
  readonly bytes: number;
  /** Transfers into memory that ended with an error, such as those cut off when the buffer was disabled. */
  readonly sourceErrors: number;
  /** How often the enabled buffer had no block to fill. */
  readonly overruns: number;
  /** And for how many nanoseconds in all. */
  readonly gapNs: number;
  /** Sample sets that were lost meanwhile. */
  readonly lostSets: number;
  /** Blocks that are filled and wait for a client to want them: of the one that has most. */
  readonly waiting: number;
  /** Blocks in all. */
  readonly capacity: number;
}

/**
 * An input buffer whose blocks go to one client or several. The data plane owns its descriptor and blocks; `close()`, after
 * that of its readers, gives them up.
 */
export class Capture {
  readonly #id: number;
  readonly #native: NativeDataPlane;
  readonly #call: Call;
  readonly #newId: () => number;

  private constructor(id: number, native: NativeDataPlane, call: Call, newId: () => number) {
    this.#id = id;
    this.#native = native;
    this.#call = call;
    this.#newId = newId;
  }

  /** For {@link DataPlane.createCapture}. */
  static async create(
    native: NativeDataPlane,
    call: Call,
    newId: () => number,
    bufferFd: number,
    options: CaptureOptions,
    overflowCounter: FileDescriptor | undefined,
  ): Promise<Capture> {
    const id = newId();
    const { byRead, setBytes, timestampOffset = -1, flows, onDemand, policy } = options;
    const given = { byRead, setBytes, timestampOffset, flows, onDemand, policy: RING_POLICIES.indexOf(policy) };
    await call('capture from a buffer', (to, token) =>
      to.createCapture(id, bufferFd, overflowCounter?.release() ?? -1, given, token),
    );
    return new Capture(id, native, call, newId);
  }

  /**
   * Adds a block that belongs to no client, in `dmabuf`, which is taken, or in ordinary memory.
   *
   * @throws {IioError} as {@link BlockReader.createBlock}
   */
  async addBlock(dmabuf: FileDescriptor | undefined, size: number): Promise<void> {
    await this.#call(`add a block of ${size} bytes`, (native, token) =>
      native.addCaptureBlock(this.#id, dmabuf?.release() ?? -1, size, token),
    );
  }

  /** @throws {IioError} `ESHUTDOWN` when the link is down. */
  async openBlockReader(link: Link, options: BlockReaderOptions): Promise<BlockReader> {
    const id = this.#newId();
    await this.#call('open a reader', (native, token) =>
      native.createBlockReader(id, this.#id, link.id, options, token),
    );
    return new BlockReader(id, this.#native, this.#call);
  }

  /**
   * For a capture that has blocks, of which `own` are there for this client. Without a link samples can be taken, but not
   * sent.
   *
   * @throws {IioError} `ESHUTDOWN` when the link is down.
   */
  async openSampleReader(link: Link | undefined, own: number, sinkByAio: boolean): Promise<SampleReader> {
    const id = this.#newId();
    const operation = 'open a reader of samples';
    const answer = await this.#call(operation, (native, token) =>
      native.createSampleReader(id, this.#id, link?.id ?? 0, sinkByAio, own, token),
    );
    return new SampleReader(id, this.#call, blockPathOf(numbersIn(answer, operation)));
  }

  /** To be called right after the buffer was enabled: blocks are given to it now. */
  async start({ samplingHz, fifoSets, isLossless }: CaptureRun): Promise<void> {
    await this.#call('start capturing', (native, token) =>
      native.startCapture(this.#id, samplingHz, fifoSets, isLossless, token),
    );
  }

  /** To be called right before the buffer is disabled: it is given no further block. */
  async stop(): Promise<void> {
    await this.#call('stop capturing', (native, token) => native.stopCapture(this.#id, token));
  }

  async statistics(): Promise<CaptureStatistics> {
    const operation = 'read the statistics of a capture';
    const answer = await this.#call(operation, (native, token) => native.captureStatistics(this.#id, token));
    const [blocks = 0, bytes = 0, sourceErrors = 0, overruns = 0, gapNs = 0, lostSets = 0, waiting = 0, capacity = 0] =
      numbersIn(answer, operation);
    return { blocks, bytes, sourceErrors, overruns, gapNs, lostSets, waiting, capacity };
  }

  /** Frees every block and closes the buffer's descriptor. */
  async close(): Promise<void> {
    await this.#call('close a capture', (native, token) => native.removeCapture(this.#id, token));
  }
}
