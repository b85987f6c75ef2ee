import { ChannelMask, type Demux, demux, ERRNO, IioError, type SampleLayout, sampleLayout } from '@iio-bridge/protocol';
import { withDeadline } from './deadline.js';
import type { ReaderStatistics } from './frame-reader.js';
import type { Capture, CapturedBlock, CaptureSink, StreamPlan } from './session.js';
import type { TextClient } from './text-client.js';

/** A READBUF counts bytes in C's int. */
const MAX_BLOCK_BYTES = 2 ** 31 - 1;

/** Sample sets as the server sends them: of all its clients' channels, unless it sorts them out itself. */
interface Received {
  /** As the line before the samples has it. */
  readonly mask: string;
  readonly layout: SampleLayout;
  /** `undefined` where they are just ours. */
  readonly pick: Demux | undefined;
}

interface TextBlock extends CapturedBlock {
  readonly memory: Uint8Array<ArrayBuffer>;
  bytes: Uint8Array<ArrayBuffer>;
}

/**
 * An input of a server that speaks the text protocol. The server allows one request at a time; so one block is being read
 * while others wait for the user. What it captures meanwhile is for its kernel's buffer to keep.
 */
export class TextCapture implements Capture {
  readonly layout: SampleLayout;
  readonly #client: TextClient;
  readonly #plan: StreamPlan;
  readonly #sink: CaptureSink;
  readonly #idle: TextBlock[] = [];
  #received: Received;
  /** Of a wider mask: before its channels are picked. */
  #wide: Uint8Array<ArrayBuffer> | undefined;
  /** Sample sets that came on top of what was asked for, when the server's mask became narrower. */
  #surplus: Uint8Array | undefined;
  #bytesCopied = 0;
  #running: Promise<void> | undefined;
  #wake: (() => void) | undefined;
  #reading = false;
  #closing: Promise<void> | undefined;

  private constructor(client: TextClient, plan: StreamPlan, sink: CaptureSink) {
    this.#client = client;
    this.#plan = plan;
    this.#sink = sink;
    this.layout = sampleLayout(plan.channels, plan.mask);
    this.#received = { mask: plan.mask.toText(), layout: this.layout, pick: undefined };
  }

  static async open(client: TextClient, plan: StreamPlan, sink: CaptureSink): Promise<TextCapture> {
    const capture = new TextCapture(client, plan, sink);
    try {
      const bytes = plan.samplesPerBlock * capture.layout.bytes;
      if (bytes === 0 || bytes > MAX_BLOCK_BYTES) {
        throw new IioError('EINVAL', `${plan.what}: a block of ${plan.samplesPerBlock} samples has ${bytes} bytes`);
      }
      const command = `OPEN ${plan.device.id} ${plan.samplesPerBlock} ${plan.mask.toText()}`;
      await client.status(command, `open ${plan.what}`);
      for (let index = 0; index < plan.blocks; index++) {
        capture.#idle.push(capture.#newBlock(bytes));
      }
      return capture;
    } catch (error) {
      await client.close();
      throw error;
    }
  }

  get inFlight(): number {
    return this.#reading ? 1 : 0;
  }

  get reader(): ReaderStatistics {
    return {
      bytesCopied: this.#bytesCopied,
      realignments: 0,
      windowBytes: this.#plan.samplesPerBlock * this.layout.bytes,
    };
  }

  async start(): Promise<void> {
    this.#client.whenFailed((error) => this.#fail(error));
    this.#running = this.#run();
  }

  close(): Promise<void> {
    this.#closing ??= this.#finish();
    return this.#closing;
  }

  #newBlock(bytes: number): TextBlock {
    const memory = new Uint8Array(this.#client.reader.capacityFor(bytes));
    const block: TextBlock = {
      memory,
      bytes: memory.subarray(0, bytes),
      record: undefined,
      recycle: () => {
        this.#idle.push(block);
        this.#wake?.();
      },
    };
    return block;
  }

  async #run(): Promise<void> {
    try {
      while (this.#closing === undefined) {
        const block = this.#idle.shift();
        if (block === undefined) {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
          continue;
        }
        this.#reading = true;
        const length = await this.#fill(block.memory);
        this.#reading = false;
        if (length === 0) {
          this.#idle.unshift(block);
        } else if (this.#closing === undefined) {
          if (block.bytes.length !== length) {
            block.bytes = block.memory.subarray(0, length);
          }
          this.#sink.onBlock(block);
        }
      }
    } catch (error) {
      this.#client.fail(error instanceof IioError ? error : new IioError('EIO', String(error)));
    } finally {
      this.#reading = false;
    }
  }

  /** @returns bytes of whole sample sets; 0 if there were none in the server's time-out */
  async #fill(target: Uint8Array<ArrayBuffer>): Promise<number> {
    const wanted = this.#plan.samplesPerBlock;
    let samples = this.#surplus === undefined ? 0 : this.#store(this.#surplus, target, 0, wanted);
    while (samples < wanted && this.#closing === undefined) {
      const { layout } = this.#received;
      await this.#client.send(`READBUF ${this.#plan.device.id} ${(wanted - samples) * layout.bytes}`);
      const got = await this.#receive(target, samples, wanted - samples);
      if (got === 0) {
        break;
      }
      samples += got;
    }
    return samples * this.layout.bytes;
  }

  /** The chunks that answer one request. @returns sample sets */
  async #receive(target: Uint8Array<ArrayBuffer>, before: number, most: number): Promise<number> {
    const { reader } = this.#client;
    const first = await reader.readInteger();
    if (first === -ERRNO.ETIMEDOUT) {
      this.#sink.onRetry();
      return 0;
    }
    return await withDeadline(
      this.#chunks(first, target, before, most),
      { timeoutMs: this.#client.timeoutMs, what: this.#plan.what },
      () => new IioError('ETIMEDOUT', `${this.#plan.what}: the server stopped in the middle of a block`),
    );
  }

  async #chunks(first: number, target: Uint8Array<ArrayBuffer>, before: number, most: number): Promise<number> {
    const { what } = this.#plan;
    const asked = this.#received.layout.bytes * most;
    let memory: Uint8Array<ArrayBuffer> = target;
    let bytes = 0;
    for (let length = first; ; length = await this.#client.reader.readInteger()) {
      if (length < 0) {
        throw IioError.fromErrno(length, `read ${what}`);
      }
      if (length === 0) {
        break;
      }
      if (length > asked - bytes) {
        throw new IioError('EPROTO', `${what}: ${length} bytes announced of ${asked - bytes} that were asked for`);
      }
      if (bytes === 0) {
        this.#received = this.#receivedFor((await this.#client.reader.readLine()).trim());
        memory = this.#memoryFor(target, before, asked);
      }
      await this.#client.reader.readInto(memory.subarray(bytes), length);
      bytes += length;
      if (bytes === asked) {
        break;
      }
    }
    const { layout, pick } = this.#received;
    const samples = Math.floor(bytes / layout.bytes);
    if (memory === this.#wide) {
      const whole = memory.subarray(0, samples * layout.bytes);
      this.#bytesCopied += whole.length;
      return this.#store(pick?.(whole) ?? whole.slice(), target, before, most);
    }
    return samples;
  }

  /** Copies sample sets of ours into a block; what does not fit it is kept for the next one. */
  #store(samples: Uint8Array, target: Uint8Array<ArrayBuffer>, before: number, most: number): number {
    const room = most * this.layout.bytes;
    target.set(samples.subarray(0, room), before * this.layout.bytes);
    this.#surplus = samples.length > room ? samples.subarray(room) : undefined;
    return Math.min(samples.length, room) / this.layout.bytes;
  }

  /** Where a request's bytes go: into the block itself if they are just its channels. */
  #memoryFor(target: Uint8Array<ArrayBuffer>, before: number, bytes: number): Uint8Array<ArrayBuffer> {
    const { samplesPerBlock } = this.#plan;
    if (this.#received.pick === undefined && bytes <= (samplesPerBlock - before) * this.layout.bytes) {
      return target.subarray(before * this.layout.bytes);
    }
    const needed = this.#client.reader.capacityFor(bytes);
    if (this.#wide === undefined || this.#wide.length < needed) {
      this.#wide = new Uint8Array(needed);
    }
    return this.#wide;
  }

  #receivedFor(line: string): Received {
    if (line === this.#received.mask) {
      return this.#received;
    }
    const { channels, mask: own, what } = this.#plan;
    try {
      const mask = ChannelMask.fromText(channels.length, line);
      const layout = sampleLayout(channels, mask);
      return { mask: line, layout, pick: mask.equals(own) ? undefined : demux(layout, this.layout) };
    } catch (error) {
      const message = `${what}: the server sends samples of the channels ${JSON.stringify(line.slice(0, 40))}`;
      throw new IioError('EPROTO', message, { cause: error });
    }
  }

  #fail(error: IioError): void {
    if (this.#closing === undefined) {
      this.#sink.onFailure(error);
    }
  }

  async #finish(): Promise<void> {
    this.#wake?.();
    await this.#client.closeBuffer(this.#plan.device.id, this.#plan.what, this.#running);
  }
}
