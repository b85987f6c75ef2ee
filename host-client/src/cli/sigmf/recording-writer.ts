import { type FileHandle, open, rename, writeFile } from 'node:fs/promises';
import { onFile } from '../files.js';
import { dateTime } from './metadata.js';
import type { Annotation, Capture, Metadata } from './schema.js';

const DATA = '.sigmf-data';
const META = '.sigmf-meta';
/** How often gaps are saved while a recording goes on, for the case that the process is killed. Milliseconds. */
const SAVE_INTERVAL_MS = 1000;

/** Samples that are missing just before a piece. */
export interface Gap {
  /** Sample sets; `undefined` if nobody knows how many. */
  readonly lostSets: number | undefined;
  /** For how long nothing was captured, in ns. */
  readonly gapNs: bigint | undefined;
  /** The sets were counted, not calculated from the time. */
  readonly measured: boolean;
  /** Some of them had been captured, and were dropped because the client was too slow. */
  readonly dropped: boolean;
}

/** Consecutive sample sets of a stream. */
export interface Piece {
  /** Whole sample sets, in the format of the recording. */
  readonly bytes: Uint8Array;
  readonly gap?: Gap | undefined;
  /** When the first set was captured, in ns since 1970. */
  readonly startNs?: bigint | undefined;
}

export interface RecordingOptions {
  /** Path of the recording, without `.sigmf-data` and `.sigmf-meta`. */
  readonly path: string;
  readonly global: Metadata['global'];
  /** For every capture segment: `core:frequency` and the like. */
  readonly capture: Readonly<Record<string, unknown>>;
  /** Of one sample set in the dataset. */
  readonly setBytes: number;
  /** Start the next recording (`path-0`, `path-1`, …) after that many sample sets. */
  readonly setsPerPart: number | undefined;
  /** Write over what is there. */
  readonly force: boolean;
}

/** One `.sigmf-data` with its `.sigmf-meta`. */
interface Part {
  readonly path: string;
  readonly index: number;
  readonly file: FileHandle;
  readonly captures: Capture[];
  readonly annotations: Annotation[];
  sets: number;
}

/**
 * Writes a stream as SigMF recordings. Owns the files. Every dataset with samples has a valid `.sigmf-meta`, also while it is
 * being written; {@link close} completes the last one, and has to be called also after a failure.
 */
export class RecordingWriter implements AsyncDisposable {
  readonly #options: RecordingOptions;
  readonly #parts: string[] = [];
  #part: Part | undefined;
  /** Sets of the stream before the next piece, lost ones included. */
  #globalIndex = 0;
  #recordedSets = 0;
  #savedAt = 0;

  constructor(options: RecordingOptions) {
    this.#options = options;
  }

  /** Paths of the recordings so far, without extension. */
  get parts(): readonly string[] {
    return this.#parts;
  }

  /** Sample sets written. */
  get recordedSets(): number {
    return this.#recordedSets;
  }

  /** Creates the files. @throws IioError of the file system: `EEXIST`, `ENOENT`, … */
  async open(): Promise<void> {
    this.#part ??= await this.#createPart();
    await this.#save(this.#part);
  }

  /** Resolves when the bytes may be overwritten. @throws IioError of the file system: `ENOSPC`, `EEXIST`, … */
  async write({ bytes, gap, startNs }: Piece): Promise<void> {
    const { setBytes, setsPerPart = Number.POSITIVE_INFINITY } = this.#options;
    const sets = bytes.length / setBytes;
    let isDiscontinuous = gap !== undefined;
    this.#globalIndex += gap?.lostSets ?? 0;
    for (let done = 0; done < sets; ) {
      if (this.#part !== undefined && this.#part.sets >= setsPerPart) {
        await this.#closePart();
      }
      this.#part ??= await this.#createPart();
      const isFirst = this.#part.captures.length === 0;
      if (isFirst || isDiscontinuous) {
        this.#beginCapture(this.#part, startNs === undefined ? undefined : startNs + this.#durationNs(done));
      }
      if (isDiscontinuous && gap !== undefined) {
        this.#annotate(this.#part, gap);
      }
      isDiscontinuous = false;
      if (isFirst) {
        await this.#save(this.#part);
      }
      const count = Math.min(sets - done, setsPerPart - this.#part.sets);
      await this.#append(this.#part, bytes.subarray(done * setBytes, (done + count) * setBytes), count);
      done += count;
    }
    if (gap !== undefined && this.#part !== undefined && performance.now() - this.#savedAt > SAVE_INTERVAL_MS) {
      await this.#save(this.#part);
    }
  }

  /** Completes the files. */
  async close(): Promise<void> {
    await this.#closePart();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #createPart(): Promise<Part> {
    const { path, setsPerPart, force } = this.#options;
    const index = this.#parts.length;
    const name = setsPerPart === undefined ? path : `${path}-${index}`;
    const file = await onFile(`create ${name}${DATA}`, () => open(name + DATA, force ? 'w' : 'wx'));
    this.#parts.push(name);
    return { path: name, index, file, captures: [], annotations: [], sets: 0 };
  }

  #beginCapture({ captures, sets }: Part, startNs: bigint | undefined): void {
    captures.push({
      'core:sample_start': sets,
      'core:global_index': this.#globalIndex,
      ...(startNs === undefined ? {} : { 'core:datetime': dateTime(startNs) }),
      ...this.#options.capture,
    });
  }

  #annotate({ annotations, sets }: Part, { lostSets, gapNs, measured, dropped }: Gap): void {
    const amount = lostSets === undefined ? 'samples' : `${measured ? '' : 'about '}${lostSets} samples`;
    const time = gapNs === undefined ? '' : ` (${Number(gapNs) / 1e6} ms)`;
    const why = dropped ? ', some because the recorder was too slow' : '';
    annotations.push({
      'core:sample_start': sets,
      'core:sample_count': 0,
      'core:label': 'gap',
      'core:comment': `${amount}${time} were lost before this one${why}`,
      'core:generator': this.#options.global['core:recorder'] ?? 'iio-client',
      ...(lostSets === undefined ? {} : { 'iio:lost_samples': lostSets, 'iio:measured': measured }),
      ...(gapNs === undefined ? {} : { 'iio:gap_ns': Number(gapNs) }),
      'iio:dropped': dropped,
    });
  }

  async #append(part: Part, bytes: Uint8Array, sets: number): Promise<void> {
    await onFile(`write ${part.path}${DATA}`, async () => {
      for (let at = 0; at < bytes.length; ) {
        at += (await part.file.write(bytes, at)).bytesWritten;
      }
    });
    part.sets += sets;
    this.#recordedSets += sets;
    this.#globalIndex += sets;
  }

  async #closePart(): Promise<void> {
    const part = this.#part;
    this.#part = undefined;
    if (part === undefined) {
      return;
    }
    await onFile(`complete ${part.path}`, async () => {
      try {
        // A write that failed in the middle may have left a part of a sample set.
        await part.file.truncate(part.sets * this.#options.setBytes);
      } finally {
        await part.file.close();
        await this.#save(part);
      }
    });
  }

  /** At once or not at all, so that a reader never sees half a document. */
  async #save({ path, index, captures, annotations }: Part): Promise<void> {
    const { global, setsPerPart } = this.#options;
    const metadata: Metadata = {
      global: setsPerPart === undefined ? global : { ...global, 'iio:part': index },
      captures,
      annotations,
    };
    await onFile(`write ${path}${META}`, async () => {
      await writeFile(`${path}${META}.tmp`, `${JSON.stringify(metadata, undefined, 2)}\n`);
      await rename(`${path}${META}.tmp`, path + META);
    });
    this.#savedAt = performance.now();
  }

  #durationNs(sets: number): bigint {
    const rate = this.#options.global['core:sample_rate'];
    return rate === undefined ? 0n : BigInt(Math.round((sets / rate) * 1e9));
  }
}

/** `name`, `name.sigmf-data` and `name.sigmf-meta` are the same recording. */
export function recordingPath(name: string): string {
  return name.replace(/\.sigmf-(data|meta)$/, '');
}

export { DATA as DATA_EXTENSION, META as META_EXTENSION };
