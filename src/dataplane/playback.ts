import { errnoName, IioError } from '@iio-bridge/protocol';
import type { FileDescriptor } from '../sys/file-descriptor.js';
import { numbersIn } from './block-path.js';
import type { Call } from './data-plane.js';
import type { Link } from './link.js';
import type { NativeDataPlane, NativePlaybackOptions } from './native.js';

/**
 * `device`, `buffer`: what block requests for this playback name. `transferOp`, `retryOp`: the opcodes of TRANSFER_BLOCK and
 * RETRY_DEQUEUE_BLOCK in the client's protocol generation, 0 where there are no such requests. `timeoutMs`: how long a
 * request waits until its block is played, 0 for ever. `sampleBytes`: size of a sample set. `maxPayloadBytes`: a request
 * with more ends its link. `sinkByWrite`, `sourceByCopy`: copy on that side even where DMABUF would work. `records`: answers
 * of played blocks carry a record (docs/EXTENSIONS.md).
 */
export type PlaybackOptions = NativePlaybackOptions;

/**
 * How samples get from the host into a block: by the USB controller's DMA, by asynchronous I/O, which copies, or through a
 * socket, which copies as well.
 */
export type PlaySource = 'usb-dmabuf' | 'usb-aio' | 'tcp';
/** How they get from the block to the IIO buffer: by the hardware's DMA, or by write(), which copies. */
export type PlaySink = 'iio-dmabuf' | 'iio-write';

/** PlaySource and PlaySink in native/src/playback.h, in their order. */
const SOURCES: readonly PlaySource[] = ['usb-dmabuf', 'usb-aio', 'tcp'];
const SINKS: readonly PlaySink[] = ['iio-dmabuf', 'iio-write'];

/** The way that an output's samples take, and the errno name of what the better way failed with. */
export interface PlayPath {
  readonly source: PlaySource;
  readonly sink: PlaySink;
  readonly sourceRefusal?: string;
  readonly sinkRefusal?: string;
}

/** Totals since the playback was created. */
export interface PlayStatistics {
  /** Blocks that were played. Of a cycle, each piece counts. */
  readonly blocks: number;
  readonly bytes: number;
  /** Transfers out of memory that ended with an error, such as those cut off when the buffer was disabled. */
  readonly sinkErrors: number;
  /** Requests answered with -ETIMEDOUT. */
  readonly timeouts: number;
  /** How often the enabled buffer, having begun, had no block to play until the next one came; 0 for `iio-write`. */
  readonly underruns: number;
  /** And for how many nanoseconds in all. */
  readonly underrunNs: number;
  /** Sample sets that were not played meanwhile: by the device's counter, or that time at the sampling frequency. */
  readonly unplayedSets: number;
}

/** How much was taken from the link, and why not all of it: `ETIMEDOUT`, an earlier failure of the device, what ended the link. */
export interface Written {
  readonly taken: number;
  readonly failure?: IioError;
}

/**
 * An IIO buffer that plays blocks from links. The data plane owns its descriptor and blocks; `close()` gives them up.
 *
 * While it is connected to a link in the binary protocol, TRANSFER_BLOCK and RETRY_DEQUEUE_BLOCK for its blocks are executed by
 * the data plane. {@link write} and {@link receive} take samples from the link at the place where its reader stands.
 */
export class Playback {
  readonly #id: number;
  readonly #native: NativeDataPlane;
  readonly #call: Call;

  /** Made by {@link DataPlane.createPlayback}. */
  constructor(id: number, native: NativeDataPlane, call: Call) {
    this.#id = id;
    this.#native = native;
    this.#call = call;
  }

  /** From here on samples come from `link`, and answers go there. @throws {IioError} `ESHUTDOWN` when it is down. */
  async connect(link: Link): Promise<void> {
    await this.#call('connect an output to a link', (native, token) =>
      native.connectPlayback(this.#id, link.id, token),
    );
  }

  /**
   * Adds a block of `size` bytes in `dmabuf`, which is taken, or in ordinary memory where that is undefined. The first
   * block decides between `iio-dmabuf` and `iio-write`.
   *
   * @throws {IioError} `EEXIST`; what the kernel says when it takes no further block.
   */
  async createBlock(index: number, clientId: number, dmabuf: FileDescriptor | undefined, size: number): Promise<void> {
    await this.#call(`create block ${index} of ${size} bytes`, (native, token) =>
      native.createOutBlock(this.#id, index, clientId, dmabuf?.release() ?? -1, size, token),
    );
  }

  /** Frees a block, whatever it is doing. @throws {IioError} `EBADF` if there is none. */
  async freeBlock(index: number): Promise<void> {
    await this.#call(`free block ${index}`, (native, token) => native.freeOutBlock(this.#id, index, token));
  }

  /**
   * To be called right after the buffer was enabled: what has arrived is played from now on.
   *
   * @param setsPerSecond sampling frequency, for the estimates in records; 0 if it is not known
   */
  async start(setsPerSecond: number): Promise<void> {
    await this.#call('start to play', (native, token) => native.startPlayback(this.#id, setsPerSecond, token));
  }

  /** To be called right before the buffer is disabled: it is given no further block. */
  async stop(): Promise<void> {
    await this.#call('stop to play', (native, token) => native.stopPlayback(this.#id, token));
  }

  /** To be called right after the buffer was disabled: what was not played is answered with EINTR. */
  async settle(): Promise<void> {
    await this.#call('give back blocks', (native, token) => native.settlePlayback(this.#id, token));
  }

  /** How long requests wait from now on, in ms; 0 = for ever. */
  setTimeout(ms: number): void {
    this.#native.setPlaybackTimeout(this.#id, ms);
  }

  /**
   * Takes `bytes` bytes, whole sample sets, from the link, through as many blocks as it needs. Resolves when the last one has
   * its samples; they are played in the order of the calls. Not to be called again before that.
   *
   * @param timeoutMs how long to wait for a block that is free, each time; 0 for ever
   */
  async write(bytes: number, timeoutMs: number): Promise<Written> {
    const operation = `write ${bytes} bytes of samples`;
    const answer = await this.#call(operation, (native, token) =>
      native.writePlayback(this.#id, bytes, timeoutMs, token),
    );
    const [status = 0, taken = 0] = numbersIn(answer, operation);
    return status < 0 ? { taken, failure: IioError.fromErrno(-status, operation) } : { taken };
  }

  /** Waits until all that has arrived is played. @throws {IioError} `ETIMEDOUT`, `EBADF` when it is closed. */
  async drain(timeoutMs: number): Promise<void> {
    await this.#call('play to the end', (native, token) => native.drainPlayback(this.#id, timeoutMs, token));
  }

  /**
   * Takes the samples of one block from the link, for {@link repeat}.
   *
   * @throws {IioError} with nothing taken: `EBADF` if there is no such block, `EINVAL` if they do not fit, `EBUSY` while
   * other blocks are played, `ENOMEM`; otherwise `ECANCELED` if the block is freed meanwhile, or what ended the link
   */
  async receive(index: number, bytes: number): Promise<void> {
    await this.#call(`receive block ${index}`, (native, token) => native.receiveBlock(this.#id, index, bytes, token));
  }

  /**
   * Plays a block, which was received, again and again until it is freed or another takes its place. Each of `spares`,
   * which are taken, has `size` bytes, and is filled with as many whole cycles as fit; they take turns, and so does the
   * block itself if there is one only. None where samples are written.
   *
   * @throws {IioError} what the kernel says
   */
  async repeat(index: number, spares: readonly FileDescriptor[], size: number): Promise<void> {
    await this.#call(`repeat block ${index}`, (native, token) =>
      native.repeatBlock(
        this.#id,
        index,
        spares.map((spare) => spare.release()),
        size,
        token,
      ),
    );
  }

  /** The source is that of the link connected to last, the sink known once there is a block. */
  async path(): Promise<PlayPath> {
    const [source = 0, sink = 0, sourceErrno = 0, sinkErrno = 0] = await this.#state();
    return {
      source: SOURCES[source] ?? 'usb-aio',
      sink: SINKS[sink] ?? 'iio-write',
      ...(sourceErrno === 0 ? {} : { sourceRefusal: errnoName(sourceErrno) }),
      ...(sinkErrno === 0 ? {} : { sinkRefusal: errnoName(sinkErrno) }),
    };
  }

  async statistics(): Promise<PlayStatistics> {
    const [blocks = 0, bytes = 0, sinkErrors = 0, timeouts = 0, underruns = 0, underrunNs = 0, unplayedSets = 0] = (
      await this.#state()
    ).slice(4);
    return { blocks, bytes, sinkErrors, timeouts, underruns, underrunNs, unplayedSets };
  }

  /** Frees every block and closes the buffer's descriptor. */
  async close(): Promise<void> {
    await this.#call('close the output', (native, token) => native.removePlayback(this.#id, token));
  }

  async #state(): Promise<readonly number[]> {
    const operation = 'read the state of an output';
    return numbersIn(await this.#call(operation, (native, token) => native.playbackState(this.#id, token)), operation);
  }
}
