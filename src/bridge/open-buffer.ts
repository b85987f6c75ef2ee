import type { ChannelMask, DeviceDescription, Direction } from '@iio-bridge/protocol';
import type { Link } from '../dataplane/link.js';
import type { SampleIo } from '../dataplane/sample-io.js';
import type { Backend } from '../iio/backend.js';
import type { BlockMemory } from './block-memory.js';
import type { BufferStatistics } from './buffer-statistics.js';
import type { NumberingFamily } from './client.js';
import type { InputEnvironment } from './input-capture.js';
import type { Logger } from './logger.js';
import type { StreamSettings } from './stream-options.js';

/** What the binary protocol's opcodes are called in the generation of the client. */
export interface BlockOpcodes {
  readonly transfer: number;
  readonly retry: number;
}

/** Where descriptors are read and written without waiting for them: the data plane. */
export interface SampleIoSource {
  /** `fd`: lent, and duplicated. */
  openSampleIo(fd: number): SampleIo;
}

/** Which buffer, and with what channels. */
export interface OpenRequest {
  readonly backend: Backend;
  readonly device: DeviceDescription;
  /** Position of the device in the context of the client that opens the buffer. */
  readonly deviceIndex: number;
  readonly bufferIndex: number;
  readonly mask: ChannelMask;
  readonly log: Logger;
}

export interface OpenBufferOptions extends OpenRequest {
  /** Where the answers to block requests go. */
  readonly link: Link;
  readonly family: NumberingFamily;
  readonly opcodes: BlockOpcodes;
  /** How long a block request waits for the hardware, in ms; 0 = for ever. */
  readonly timeoutMs: number;
  readonly memory: BlockMemory;
  /** Where an open buffer makes its figures known. */
  readonly statistics: BufferStatistics;
  readonly samples: SampleIoSource;
  /** For inputs. */
  readonly inputs: InputEnvironment;
  /** What the client has asked for, or the configuration says. */
  readonly stream: StreamSettings;
}

/** The samples behind a block request, on the wire. Exactly one of the two must be called. */
export interface Payload {
  /** In pieces, none of them empty. */
  read(): Promise<Uint8Array[]>;
  discard(): Promise<void>;
}

export interface TransferRequest {
  readonly block: number;
  /** Bytes; not 0. */
  readonly bytesUsed: number;
  /** To be repeated until it is freed, without an answer for its end. */
  readonly cyclic: boolean;
  readonly payload: Payload;
}

/**
 * An IIO buffer that a client has opened: owns the kernel's buffer and the blocks. Its operations may come from any link;
 * `close()` may be called at any time, and ends everything at once.
 */
export interface OpenBuffer {
  readonly direction: Direction;
  /** With the channels that the device switched on by itself. */
  readonly mask: ChannelMask;
  /** The numbering that its client uses. */
  readonly family: NumberingFamily;

  /** @throws {IioError} `EEXIST`, `EINVAL` (smaller than a sample set, or over the limits), `ENOMEM`. */
  createBlock(index: number, clientId: number, size: number): Promise<void>;

  /** Whatever the block is doing. @throws {IioError} `EBADF` if there is no such block. */
  freeBlock(index: number): Promise<void>;

  /** @throws {IioError} `EINVAL` without blocks, or what the driver says. */
  enable(): Promise<void>;

  /** Begins to move samples through an enabled buffer. Apart from {@link enable}, so that its answer goes out first. */
  start(): Promise<void>;

  disable(): Promise<void>;

  /**
   * A block request that the data plane does not take care of. Consumes the payload. Once it resolves the answer is the
   * buffer's to give.
   *
   * @throws {IioError} why the block cannot be enqueued: `EBADF`, `EINVAL`, `EBUSY`
   */
  transfer(request: TransferRequest): Promise<void>;

  /**
   * Waits again for a block whose answer was an error. Once it returns the answer is the buffer's to give.
   *
   * @throws {IioError} `EBADF`; `EPERM` for a block that is idle
   */
  retry(block: number): void;

  /** How long block requests wait from now on, in ms; 0 = for ever. */
  setTimeout(ms: number): void;

  close(): Promise<void>;
}
