import type { FileDescriptor } from '../sys/file-descriptor.js';
import type { BlockMemory } from './block-memory.js';

/** For so long a piece is played: while it is, the other one must be enqueued anew. */
const PIECE_SECONDS = 0.1;
const LARGEST_PIECE_BYTES = 4 * 1024 * 1024;
/** Where nothing says how fast the samples are played. */
const USUAL_PIECE_BYTES = 64 * 1024;
/** The kernel takes what is written into a queue, and its time to say that there is room. */
const WRITTEN_PIECE_BYTES = 256 * 1024;

export interface CycleOptions {
  /** Of one cycle. */
  readonly bytes: number;
  /** Of the buffer, when it plays. */
  readonly bytesPerSecond: number | undefined;
  /** Samples are written to the buffer, not enqueued. */
  readonly isWritten: boolean;
}

/** How long a piece is, whole cycles of which two take turns: bytes. */
export function cyclePieceBytes({ bytes, bytesPerSecond, isWritten }: CycleOptions, limit: number): number {
  const wanted = isWritten
    ? WRITTEN_PIECE_BYTES
    : bytesPerSecond === undefined
      ? USUAL_PIECE_BYTES
      : Math.min(LARGEST_PIECE_BYTES, bytesPerSecond * PIECE_SECONDS);
  return bytes * Math.max(1, Math.min(Math.ceil(wanted / bytes), Math.floor(limit / bytes)));
}

/** The memory of a cyclic output beside the client's block: owns it until it is given to the data plane, and its share of the limits. */
export class CyclePieces implements Disposable {
  /** As {@link Playback.repeat} wants them. */
  readonly spares: readonly FileDescriptor[];
  /** Bytes of each. */
  readonly size: number;
  readonly #memory: BlockMemory;
  #counted: number;

  /** @throws {IioError} `ENOMEM` */
  constructor(memory: BlockMemory, options: CycleOptions) {
    this.#memory = memory;
    this.size = cyclePieceBytes(options, memory.maxBlockBytes);
    const wanted = this.size === options.bytes ? 1 : 2;
    this.#counted = 0;
    const spares: FileDescriptor[] = [];
    this.spares = spares;
    try {
      for (let i = 0; i < wanted; i++) {
        memory.take(this.size);
        this.#counted += this.size;
        const spare = options.isWritten ? undefined : memory.allocate(this.size);
        if (spare === undefined) {
          break;
        }
        spares.push(spare);
      }
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    for (const spare of this.spares) {
      spare.close();
    }
    this.#memory.give(this.#counted);
    this.#counted = 0;
  }
}
