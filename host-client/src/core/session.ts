import type {
  ChannelDescription,
  ChannelMask,
  Direction,
  IioError,
  SampleLayout,
  StreamOptions,
} from '@iio-bridge/protocol';
import type { ReaderStatistics } from './frame-reader.js';
import type { Protocol } from './handshake.js';

export type AttributeKind = 'device' | 'debug' | 'channel' | 'buffer' | 'device-event' | 'channel-event';

/** A device as both protocols name it. */
export interface DeviceAddress {
  /** Number of the device on the wire. */
  readonly index: number;
  readonly id: string;
  readonly name: string | undefined;
}

/** Where an attribute is, in the numbers of the binary protocol and the words of the text protocol. */
export interface AttributeAddress {
  readonly kind: AttributeKind;
  readonly device: DeviceAddress;
  readonly channel?: { readonly position: number; readonly id: string; readonly direction: Direction };
  /** 0 unless `kind` is `buffer`. */
  readonly bufferIndex: number;
  /** Rank among the attributes of its list, by name. */
  readonly attributeIndex: number;
  readonly name: string;
  /** For messages: `iio:device0/voltage0/raw`. */
  readonly path: string;
}

/** What a stream needs of the server. */
export interface StreamPlan {
  readonly device: DeviceAddress;
  readonly channels: readonly ChannelDescription[];
  readonly bufferIndex: number;
  readonly mask: ChannelMask;
  readonly samplesPerBlock: number;
  readonly blocks: number;
  /** Limit on the bytes of reads in flight. */
  readonly windowBytes: number | undefined;
  /** For iio-bridge. */
  readonly extensions: StreamOptions | undefined;
  /** For messages: `buffer 0 of iio:device0`. */
  readonly what: string;
}

/** Samples that have arrived. Reused: holds until it is recycled. */
export interface CapturedBlock {
  /** The samples; whole sample sets. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The block record (`BLOCK_RECORD_BYTES`), with iio-bridge. */
  readonly record: Uint8Array<ArrayBuffer> | undefined;
  /** Gives the memory back; the server is asked for more. */
  recycle(): void;
}

export interface CaptureSink {
  /** In the order of capture. */
  onBlock(block: CapturedBlock): void;
  /** The server gave up waiting for samples and is asked again. */
  onRetry(): void;
  /** Called once; nothing else is called after it. */
  onFailure(error: IioError): void;
}

/** A buffer that is open for input. Owns it, its link and its blocks. */
export interface Capture {
  /** What the server settled on. */
  readonly layout: SampleLayout;
  /** Blocks that the server is to fill or is sending now. */
  readonly inFlight: number;
  readonly reader: ReaderStatistics;
  /** Lets blocks come. @throws IioError */
  start(): Promise<void>;
  /** Never rejects; takes at most about a second. */
  close(): Promise<void>;
}

export interface PlaybackSink {
  /** The block is idle again: its samples were played, or (cyclic) are being played. */
  onPlayed(block: PlaybackBlock): void;
  onRetry(): void;
  /** Called once; nothing else is called after it. */
  onFailure(error: IioError): void;
}

/** Memory for samples on their way out. */
export interface PlaybackBlock {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Of its latest transfer, with iio-bridge. */
  readonly record: Uint8Array<ArrayBuffer> | undefined;
}

/** A buffer that is open for output. Owns it, its link and its blocks. */
export interface Playback {
  readonly layout: SampleLayout;
  readonly blocks: readonly PlaybackBlock[];
  /** Whether a block may be sent that is not full; otherwise the rest must be filled up. */
  readonly partialBlocks: boolean;
  /** Sends the first `bytes` bytes of an idle block; several may be under way. */
  send(block: PlaybackBlock, bytes: number): void;
  /** Never rejects; takes at most about a second. */
  close(): Promise<void>;
}

/** Events of one device. Owns the server's event stream. */
export interface EventSource {
  /**
   * The next event, 16 bytes as the kernel records it; waits without limit.
   * @throws IioError `ECANCELED` once closed, `DISCONNECTED`
   */
  next(): Promise<Uint8Array>;
  close(): Promise<void>;
}

/**
 * What a context does with its server, whichever protocol that speaks. Owns the main link, and opens a link for each
 * stream. Requests of several callers queue; one that times out never leaves its answer to the next.
 */
export interface Session {
  readonly protocol: Protocol | 'none';
  /** Set once the server is lost for good: its code is `DISCONNECTED`. */
  readonly lost: IioError | undefined;
  readAttribute(address: AttributeAddress): Promise<string>;
  writeAttribute(address: AttributeAddress, value: string): Promise<void>;
  /** Number, id or name of the trigger; `undefined` where none is assigned. */
  readTrigger(device: DeviceAddress): Promise<number | string | undefined>;
  writeTrigger(device: DeviceAddress, trigger: DeviceAddress | undefined): Promise<void>;
  /** Whether there are operations for registers; otherwise the debug attribute `direct_reg_access` is the way. */
  readonly hasRegisters: boolean;
  readRegister(device: DeviceAddress, register: number): Promise<number>;
  writeRegister(device: DeviceAddress, register: number, value: number): Promise<void>;
  openCapture(plan: StreamPlan, sink: CaptureSink): Promise<Capture>;
  openPlayback(plan: StreamPlan, cyclic: boolean, sink: PlaybackSink): Promise<Playback>;
  openEvents(device: DeviceAddress): Promise<EventSource>;
  close(): Promise<void>;
}
