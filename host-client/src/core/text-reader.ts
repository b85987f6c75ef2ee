import { IioError } from '@iio-bridge/protocol';
import type { Link } from './link.js';
import { type PendingRead, readOnce } from './read-once.js';

/** Masks are the longest lines: 8 digits per 32 channels. Bytes. */
const MAX_LINE_BYTES = 4096;
const MAX_CHUNK_BYTES = 1024 * 1024;
const NEWLINE = 10;

/**
 * What comes over a link in text mode: lines, and payloads of known length. Owns the read in flight; one caller at a time.
 * Payloads land in their own memory, but for what came together with the line before them.
 */
export class TextReader {
  readonly #link: Link;
  readonly #scratch: Uint8Array;
  #start = 0;
  #end = 0;
  #current: PendingRead | undefined;

  constructor(link: Link) {
    this.#link = link;
    this.#scratch = new Uint8Array(Math.max(MAX_LINE_BYTES, link.packetSize));
  }

  /** Capacity of the memory for a payload: reads are whole packets. */
  capacityFor(bytes: number): number {
    return this.#roundUp(bytes) + this.#link.packetSize;
  }

  /** Takes the read in flight back; who waits for it gets `ECANCELED`. */
  cancel(): void {
    this.#current?.cancel();
  }

  /** A decimal number on a line of its own; line ends before it are skipped. @throws IioError `EPROTO` */
  async readInteger(): Promise<number> {
    let line = '';
    while (line === '') {
      line = (await this.readLine()).trim();
    }
    const [number] = /^-?\d{1,10}(?=\s|$)/.exec(line) ?? [];
    if (number === undefined) {
      throw new IioError('EPROTO', `${this.#link.name}: ${JSON.stringify(line.slice(0, 40))} came instead of a number`);
    }
    return Number(number);
  }

  /** Without its line end. @throws IioError `EPROTO` if it is too long */
  async readLine(): Promise<string> {
    for (let searched = this.#start; ; ) {
      const at = this.#scratch.subarray(0, this.#end).indexOf(NEWLINE, searched);
      if (at >= 0) {
        const line = String.fromCharCode(...this.#scratch.subarray(this.#start, at));
        this.#start = at + 1;
        return line;
      }
      searched = this.#end - this.#start;
      this.#scratch.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
      if (this.#scratch.length - this.#end < this.#link.packetSize) {
        throw new IioError('EPROTO', `${this.#link.name}: a line of more than ${this.#end} bytes came`);
      }
      const room = this.#scratch.length - this.#end;
      const free = room - (room % this.#link.packetSize);
      this.#end += await this.#read(this.#scratch.subarray(this.#end, this.#end + free), 1);
    }
  }

  /** @param target at least {@link capacityFor} `length` long; its first `length` bytes get the payload */
  async readInto(target: Uint8Array, length: number): Promise<void> {
    let filled = Math.min(length, this.#end - this.#start);
    target.set(this.#scratch.subarray(this.#start, this.#start + filled));
    this.#start += filled;
    while (filled < length) {
      const wanted = Math.min(length - filled, MAX_CHUNK_BYTES);
      filled += await this.#read(target.subarray(filled, filled + this.#roundUp(wanted)), wanted);
    }
    // The line end of a value may come in its last packet.
    const surplus = target.subarray(length, filled);
    if (surplus.length > 0) {
      this.#scratch.set(surplus);
      this.#start = 0;
      this.#end = surplus.length;
    }
  }

  async #read(memory: Uint8Array, minimum: number): Promise<number> {
    this.#current = readOnce(this.#link, memory, minimum);
    const { length, cancelled } = await this.#current.done;
    this.#current = undefined;
    if (cancelled) {
      throw new IioError('ECANCELED', `${this.#link.name}: closed`);
    }
    return length;
  }

  #roundUp(bytes: number): number {
    return Math.ceil(bytes / this.#link.packetSize) * this.#link.packetSize;
  }
}
