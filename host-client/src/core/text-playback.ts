import { ERRNO, IioError, type SampleLayout, sampleLayout } from '@iio-bridge/protocol';
import type { Playback, PlaybackBlock, PlaybackSink, StreamPlan } from './session.js';
import type { TextClient } from './text-client.js';

const MAX_BLOCK_BYTES = 2 ** 31 - 1;

interface Sending {
  readonly block: PlaybackBlock;
  readonly bytes: number;
}

/** An output of a server that speaks the text protocol: it takes one block at a time, and answers when it has it. */
export class TextPlayback implements Playback {
  readonly partialBlocks = true;
  readonly layout: SampleLayout;
  readonly blocks: readonly PlaybackBlock[];
  readonly #client: TextClient;
  readonly #plan: StreamPlan;
  readonly #sink: PlaybackSink;
  readonly #queue: Sending[] = [];
  #running: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  private constructor(client: TextClient, plan: StreamPlan, sink: PlaybackSink) {
    this.#client = client;
    this.#plan = plan;
    this.#sink = sink;
    this.layout = sampleLayout(plan.channels, plan.mask);
    const bytes = plan.samplesPerBlock * this.layout.bytes;
    if (bytes === 0 || bytes > MAX_BLOCK_BYTES) {
      throw new IioError('EINVAL', `${plan.what}: a block of ${plan.samplesPerBlock} samples has ${bytes} bytes`);
    }
    this.blocks = Array.from({ length: plan.blocks }, () => ({ bytes: new Uint8Array(bytes), record: undefined }));
  }

  static async open(client: TextClient, plan: StreamPlan, cyclic: boolean, sink: PlaybackSink): Promise<TextPlayback> {
    try {
      const playback = new TextPlayback(client, plan, sink);
      const command = `OPEN ${plan.device.id} ${plan.samplesPerBlock} ${plan.mask.toText()}${cyclic ? ' CYCLIC' : ''}`;
      await client.status(command, `open ${plan.what}`);
      client.whenFailed((error) => playback.#fail(error));
      return playback;
    } catch (error) {
      await client.close();
      throw error;
    }
  }

  send(block: PlaybackBlock, bytes: number): void {
    if (this.#closing === undefined && this.#client.failure === undefined) {
      this.#queue.push({ block, bytes });
      this.#running ??= this.#run();
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#finish();
    return this.#closing;
  }

  async #run(): Promise<void> {
    try {
      for (let next = this.#queue[0]; next !== undefined && this.#closing === undefined; next = this.#queue[0]) {
        if (await this.#sendOne(next)) {
          this.#queue.shift();
          this.#sink.onPlayed(next.block);
        } else {
          this.#sink.onRetry();
        }
      }
    } catch (error) {
      this.#client.fail(error instanceof IioError ? error : new IioError('EIO', String(error)));
    } finally {
      this.#running = undefined;
    }
  }

  /** @returns false if the server had no room in its time-out */
  async #sendOne({ block, bytes }: Sending): Promise<boolean> {
    const { device, what } = this.#plan;
    await this.#client.send(`WRITEBUF ${device.id} ${bytes}`);
    const ready = await this.#client.reader.readInteger();
    if (ready === -ERRNO.ETIMEDOUT) {
      return false;
    }
    if (ready < 0) {
      throw IioError.fromErrno(ready, `write to ${what}`);
    }
    await this.#client.write(block.bytes.subarray(0, bytes));
    const taken = await this.#client.reader.readInteger();
    if (taken < 0) {
      throw IioError.fromErrno(taken, `write to ${what}`);
    }
    if (taken !== bytes) {
      throw new IioError('EPROTO', `${what}: the server took ${taken} of ${bytes} bytes`);
    }
    return true;
  }

  #fail(error: IioError): void {
    if (this.#closing === undefined) {
      this.#sink.onFailure(error);
    }
  }

  async #finish(): Promise<void> {
    await this.#client.closeBuffer(this.#plan.device.id, this.#plan.what, this.#running);
  }
}
