import { type FileHandle, open } from 'node:fs/promises';
import { IioError, type SampleLayout } from '@iio-bridge/protocol';
import { fromFsError } from '../../sys/errors.js';
import type { SampleSource } from './sample-source.js';

/**
 * Samples from a file, over and over: sample sets with all channels of the buffer, of which the enabled ones are taken out.
 * Owns the open file.
 */
export class FileSource implements SampleSource {
  readonly followsAnother = false;
  readonly #file: FileHandle;
  readonly #setsInFile: number;
  /** Layout of the file. */
  readonly #whole: SampleLayout;
  /** Layout of the samples to make; their channels are some of those in the file. */
  readonly #layout: SampleLayout;
  readonly #read: Uint8Array;
  readonly #made: Uint8Array;
  #position = 0;

  private constructor(
    file: FileHandle,
    setsInFile: number,
    whole: SampleLayout,
    layout: SampleLayout,
    maxSets: number,
  ) {
    this.#file = file;
    this.#setsInFile = setsInFile;
    this.#whole = whole;
    this.#layout = layout;
    this.#read = new Uint8Array(maxSets * whole.bytes);
    this.#made = new Uint8Array(maxSets * layout.bytes);
  }

  /** Undefined if there is no such file. @throws {IioError} `EINVAL` if it holds no sample set; the errno of opening it */
  static async open(
    path: string,
    whole: SampleLayout,
    layout: SampleLayout,
    maxSets: number,
  ): Promise<FileSource | undefined> {
    let file: FileHandle;
    try {
      file = await open(path);
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') {
        return undefined;
      }
      throw fromFsError(error, `open ${path}`);
    }
    const { size } = await file.stat();
    const sets = Math.floor(size / whole.bytes);
    if (sets === 0) {
      await file.close();
      throw new IioError('EINVAL', `${path} has ${size} bytes, but a sample set with all channels has ${whole.bytes}`);
    }
    return new FileSource(file, sets, whole, layout, maxSets);
  }

  async next(sets: number): Promise<Uint8Array> {
    const { bytes } = this.#whole;
    const wanted = Math.min(sets, this.#setsInFile - this.#position) * bytes;
    const { bytesRead } = await this.#file.read(this.#read, 0, wanted, this.#position * bytes);
    const count = Math.floor(bytesRead / bytes);
    if (count === 0) {
      throw new IioError('EIO', 'the sample file has become shorter while it was read');
    }
    this.#position = (this.#position + count) % this.#setsInFile;
    if (this.#layout.channels.length === this.#whole.channels.length) {
      return this.#read.subarray(0, count * bytes);
    }
    this.#pick(count);
    return this.#made.subarray(0, count * this.#layout.bytes);
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #pick(sets: number): void {
    for (const { position, offset, bytes } of this.#layout.channels) {
      const inFile = this.#whole.channels.find((channel) => channel.position === position)?.offset ?? 0;
      for (let set = 0; set < sets; set++) {
        const from = set * this.#whole.bytes + inFile;
        const to = set * this.#layout.bytes + offset;
        for (let byte = 0; byte < bytes; byte++) {
          this.#made[to + byte] = this.#read[from + byte] ?? 0;
        }
      }
    }
  }
}
