import { errnoName, IioError } from '@iio-bridge/protocol';
import type { FileDescriptor } from '../sys/file-descriptor.js';
import type { Call } from './data-plane.js';
import type { NativeDataPlane, NativeStreamOptions } from './native.js';

/**
 * `device`, `buffer`: what block requests of this stream name. `transferOp`, `retryOp`: the opcodes of TRANSFER_BLOCK and
 * RETRY_DEQUEUE_BLOCK in the client's protocol generation. `timeoutMs`: how long a request waits for samples, 0 for
 * ever. `sourceByRead`, `sinkByAio`: copy on that side even where DMABUF would work.
 */
export type RxStreamOptions = NativeStreamOptions;

/** How samples get from the IIO buffer into a block: by the hardware's DMA, or by read(), which copies. */
export type RxSource = 'iio-dmabuf' | 'iio-read';
/**
 * How they get from the block to the host: by the USB controller's DMA, by asynchronous I/O, which copies, or through a
 * socket, which copies as well.
 */
export type RxSink = 'usb-dmabuf' | 'usb-aio' | 'tcp';

/** SourceKind and SinkKind in native/src/block.h, in their order. */
const SOURCES: readonly RxSource[] = ['iio-dmabuf', 'iio-read'];
const SINKS: readonly RxSink[] = ['usb-dmabuf', 'usb-aio', 'tcp'];

/** The way that a block's samples take, and the errno name of what the better way failed with. */
export interface BlockPath {
  readonly source: RxSource;
  readonly sink: RxSink;
  readonly sourceRefusal?: string;
  readonly sinkRefusal?: string;
}

/** Totals since the stream was created. */
export interface RxStatistics {
  /** Blocks that reached the host. */
  readonly blocks: number;
  readonly bytes: number;
  /** Transfers into memory that ended with an error, such as those cut off when the buffer was disabled. */
  readonly sourceErrors: number;
  /** Requests answered with -ETIMEDOUT. */
  readonly timeouts: number;
  /** How often the enabled buffer had no block to fill, so that samples may have been lost. */
  readonly unfilledCount: number;
  /** And for how many nanoseconds in all. */
  readonly unfilledNs: number;
}

/** An IIO buffer whose blocks go to a link. The data plane owns its descriptor and blocks; `close()` gives them up. */
export class RxStream {
  readonly #id: number;
  readonly #native: NativeDataPlane;
  readonly #call: Call;

  /** Made by {@link Link.createRxStream}. */
  constructor(id: number, native: NativeDataPlane, call: Call) {
    this.#id = id;
    this.#native = native;
    this.#call = call;
  }

  /**
   * Adds a block of `size` bytes in `dmabuf`, which is taken, or in ordinary memory where that is undefined. The first
   * block decides between `iio-dmabuf` and `iio-read` for the whole stream.
   *
   * @throws {IioError} `EEXIST`; `ESHUTDOWN`; what the kernel says when it takes no further block.
   */
  async createBlock(
    index: number,
    clientId: number,
    dmabuf: FileDescriptor | undefined,
    size: number,
  ): Promise<BlockPath> {
    const numbers = await this.#numbers(`create block ${index} of ${size} bytes`, (native, token) =>
      native.createBlock(this.#id, index, clientId, dmabuf?.release() ?? -1, size, token),
    );
    const [source = 0, sink = 0, sourceErrno = 0, sinkErrno = 0] = numbers;
    return {
      source: SOURCES[source] ?? 'iio-read',
      sink: SINKS[sink] ?? 'usb-aio',
      ...(sourceErrno === 0 ? {} : { sourceRefusal: errnoName(sourceErrno) }),
      ...(sinkErrno === 0 ? {} : { sinkRefusal: errnoName(sinkErrno) }),
    };
  }

  /** Frees a block, whatever it is doing. @throws {IioError} `EBADF` if there is none. */
  async freeBlock(index: number): Promise<void> {
    await this.#call(`free block ${index}`, (native, token) => native.freeBlock(this.#id, index, token));
  }

  /** To be called right after the buffer was enabled: requested blocks are given to it now. */
  async start(): Promise<void> {
    await this.#call('start the stream', (native, token) => native.setEnabled(this.#id, true, token));
  }

  /** To be called right before the buffer is disabled: it is given no further block. */
  async stop(): Promise<void> {
    await this.#call('stop the stream', (native, token) => native.setEnabled(this.#id, false, token));
  }

  /** How long requests wait for samples from now on, in ms; 0 = for ever. */
  setTimeout(ms: number): void {
    this.#native.setTimeout(this.#id, ms);
  }

  async statistics(): Promise<RxStatistics> {
    const numbers = await this.#numbers('read statistics', (native, token) => native.statistics(this.#id, token));
    const [blocks = 0, bytes = 0, sourceErrors = 0, timeouts = 0, unfilledCount = 0, unfilledNs = 0] = numbers;
    return { blocks, bytes, sourceErrors, timeouts, unfilledCount, unfilledNs };
  }

  /** Frees every block and closes the buffer's descriptor. */
  async close(): Promise<void> {
    await this.#call('close the stream', (native, token) => native.removeStream(this.#id, token));
  }

  async #numbers(
    operation: string,
    post: (native: NativeDataPlane, token: number) => void,
  ): Promise<readonly number[]> {
    const answer = await this.#call(operation, post);
    if (answer === undefined || answer instanceof Uint8Array) {
      throw new IioError('EPROTO', `${operation}: the data plane answered without numbers`);
    }
    return answer;
  }
}
