import { decodeU32, decodeU64 } from './frame.js';

/**
 * What iio-bridge adds to iiod's binary protocol: docs/EXTENSIONS.md. A server that has the extensions says so in the
 * context attribute {@link EXTENSIONS_ATTRIBUTE}; nothing here reaches a client that has not asked for it.
 */
export const EXTENSIONS_ATTRIBUTE = 'iio-bridge,extensions';

/** The extensions by name; the attribute lists them, separated by blanks. */
export const EXTENSIONS = ['stream-options', 'explain'] as const;
export type Extension = (typeof EXTENSIONS)[number];

/**
 * Request: `code` = buffer index, payload u32 length and that many bytes of JSON, a {@link StreamOptions}. Applies to the
 * next OPEN_BUFFER of that buffer on the same link. Answer: 0 or an errno, on client id 0.
 */
export const STREAM_OPTIONS_OP = 0xe0;

/** Request without payload. Answer: the sentence behind the link's latest refusal, as UTF-8; 0 where there is none. */
export const EXPLAIN_OP = 0xe1;

/**
 * In the place of RESPONSE_OP: a block's answer with `metadata`. {@link BLOCK_RECORD_BYTES} bytes follow the header in the
 * same transfer, and then, of an input, `code` bytes of samples. Failures are answered by ordinary responses.
 */
export const BLOCK_ANSWER_OP = 0xe2;

/** What to do with new samples when all blocks of the ring wait for the client. */
export const RING_POLICIES = ['drop-newest', 'drop-oldest', 'stop'] as const;
export type RingPolicy = (typeof RING_POLICIES)[number];

/** What a client may ask for before it opens a buffer. */
export interface StreamOptions {
  /** Answer blocks with {@link BLOCK_ANSWER_OP}. */
  readonly metadata?: boolean;
  /** Capture ahead of the client's requests: time, or bytes, of samples beyond the client's own blocks. Inputs only. */
  readonly ring?: { readonly ms: number } | { readonly bytes: number };
  /** Default `drop-newest`. */
  readonly policy?: RingPolicy;
  /** Join those who have this input open already, instead of EEXIST; the channels must be the same. */
  readonly share?: boolean;
}

export const BLOCK_RECORD_BYTES = 40;

/** What is known of a block beside its samples. */
export interface BlockRecord {
  /** Counts the blocks since the buffer was enabled, whether or not this client got them; of an input from 0. */
  readonly sequence: bigint;
  /** CLOCK_REALTIME of the server, in ns, when the hardware had finished the block. */
  readonly capturedAtNs: bigint;
  /** Sample sets lost (of an output: not played) just before the first one of this block. */
  readonly lostSets: bigint;
  /** For how long the hardware had no block just before this one, in ns. */
  readonly gapNs: bigint;
  /** Counts the times that the buffer was enabled. */
  readonly epoch: number;
  /**
   * `lostSets` was measured (overflow counter, timestamps), or there are none; otherwise it is `gapNs` times the sampling
   * frequency, and if both are 0, nothing tells: an output whose samples are written.
   */
  readonly exact: boolean;
  /** Some of `lostSets` were captured, but dropped because this client did not fetch them. */
  readonly dropped: boolean;
}

const EXACT = 1;
const DROPPED = 2;

/** Little-endian: u64 sequence, capturedAtNs, lostSets, gapNs; u32 epoch, flags (1 exact, 2 dropped). */
export function encodeBlockRecord(record: BlockRecord): Uint8Array {
  const bytes = new Uint8Array(BLOCK_RECORD_BYTES);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, record.sequence, true);
  view.setBigUint64(8, record.capturedAtNs, true);
  view.setBigUint64(16, record.lostSets, true);
  view.setBigUint64(24, record.gapNs, true);
  view.setUint32(32, record.epoch, true);
  view.setUint32(36, (record.exact ? EXACT : 0) | (record.dropped ? DROPPED : 0), true);
  return bytes;
}

/** @throws RangeError if fewer than {@link BLOCK_RECORD_BYTES} bytes follow `offset` */
export function decodeBlockRecord(bytes: Uint8Array, offset = 0): BlockRecord {
  const flags = decodeU32(bytes, offset + 36);
  return {
    sequence: decodeU64(bytes, offset),
    capturedAtNs: decodeU64(bytes, offset + 8),
    lostSets: decodeU64(bytes, offset + 16),
    gapNs: decodeU64(bytes, offset + 24),
    epoch: decodeU32(bytes, offset + 32),
    exact: (flags & EXACT) !== 0,
    dropped: (flags & DROPPED) !== 0,
  };
}
