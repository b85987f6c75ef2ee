import { type ChannelMask, type DeviceDescription, IioError, type RingPolicy } from '@iio-bridge/protocol';
import type { SampleReader } from '../../dataplane/sample-reader.js';
import type { Backend } from '../../iio/backend.js';
import { InputCapture, type InputEnvironment, type RingSize } from '../input-capture.js';
import type { Logger } from '../logger.js';
import { SerialQueue } from '../serial-queue.js';
import { streamPath } from '../stream-mode.js';
import { type BlockLayout, InputClient, type SampleLink } from './input-client.js';

export interface SharedInputOptions {
  readonly backend: Backend;
  readonly device: DeviceDescription;
  /** Position of the device in the backend's context. */
  readonly deviceIndex: number;
  readonly bufferIndex: number;
  /** Blocks that each client has waiting for it before it loses some; also those that the kernel's FIFO has room for. */
  readonly fifoBlocks: number;
  readonly inputs: InputEnvironment;
  readonly ring: RingSize | undefined;
  readonly policy: RingPolicy;
  readonly demux: boolean;
  readonly log: Logger;
}

export interface JoinOptions {
  readonly link: SampleLink;
  readonly mask: ChannelMask;
  /** Sample sets per block. */
  readonly samples: number;
  readonly log: Logger;
}

/** The capture as it is open now. */
interface Running {
  readonly samples: number;
  readonly layout: BlockLayout;
  readonly input: InputCapture;
  blocks: number;
}

/**
 * An input that text clients have in common: owns the capture, for all channels that one of them wants and in blocks of the
 * size of the largest. Whenever a client comes or goes and that changes something, it is opened anew.
 */
export class SharedInput {
  readonly isOutput = false;
  readonly cyclic = false;
  readonly #options: SharedInputOptions;
  readonly #clients = new Set<InputClient>();
  /** Also such as have left, and wait for their turn to close it. */
  readonly #withReader = new Set<InputClient>();
  readonly #queue = new SerialQueue();
  #running: Running | undefined;

  constructor(options: SharedInputOptions) {
    this.#options = options;
  }

  get isUnused(): boolean {
    return this.#clients.size === 0;
  }

  get layout(): BlockLayout | undefined {
    return this.#running?.layout;
  }

  /**
   * Adds a client; it has left again if this fails.
   *
   * @throws {IioError} what {@link Backend.openBuffer} and the driver say; `EINVAL`, `ENOMEM` above the limits of memory;
   * `EOPNOTSUPP` where samples would be copied and the configuration refuses that
   */
  async join({ link, mask, samples, log }: JoinOptions): Promise<InputClient> {
    const { device, demux } = this.#options;
    // In one go: who leaves meanwhile must not be told what is wrong with this one's wishes.
    return await this.#queue.run(async () => {
      const client = new InputClient({ device, link, mask, samples, demux, log });
      this.#clients.add(client);
      try {
        await this.#adapt();
        return client;
      } catch (error) {
        this.#clients.delete(client);
        await this.#closeReader(client);
        await this.#adaptForTheRest();
        throw error;
      }
    });
  }

  /** Resolves when the buffer is closed, or open for the clients that remain. Does nothing the second time. */
  async leave(client: InputClient): Promise<void> {
    if (!this.#clients.delete(client)) {
      return;
    }
    await this.#queue.run(async () => {
      await this.#closeReader(client);
      await this.#adaptForTheRest();
    });
  }

  /** That the buffer cannot be opened anew is for those to hear who still want it. */
  async #adaptForTheRest(): Promise<void> {
    try {
      await this.#adapt();
    } catch (error) {
      if (this.#clients.size === 0) {
        throw error;
      }
      const failure = error instanceof Error ? error : new Error(String(error));
      this.#options.log.warn({ err: failure }, 'an input could not be opened anew for the clients that remain');
      for (const other of this.#clients) {
        other.set(undefined, failure);
      }
    }
  }

  /** Opens the buffer for the clients that there are, if it is not already. */
  async #adapt(): Promise<void> {
    const [first, ...others] = this.#clients;
    const mask = others.reduce<ChannelMask | undefined>((union, { mask }) => union?.union(mask), first?.mask);
    const samples = Math.max(0, ...Array.from(this.#clients, (client) => client.samples));
    const before = this.#running;
    if (before !== undefined && mask?.equals(before.input.requested) === true && before.samples === samples) {
      await this.#serveAll(before);
      return;
    }
    this.#running = undefined;
    await this.#stop(before);
    if (mask !== undefined) {
      this.#running = await this.#start(mask, samples);
    }
  }

  async #start(mask: ChannelMask, samples: number): Promise<Running> {
    const { inputs, fifoBlocks, ...address } = this.#options;
    const input = await InputCapture.open({ ...address, mask, environment: inputs, flows: true });
    input.join(this);
    const running: Running = { samples, layout: { mask: input.mask, sample: input.sample }, input, blocks: 0 };
    try {
      await this.#serveAll(running);
      await input.enable(this, samples * input.sample.bytes, running.blocks, fifoBlocks);
      await input.start(async () => undefined);
      return running;
    } catch (error) {
      await this.#stop(running);
      throw error;
    }
  }

  /** Blocks and a reader for each client. */
  async #serveAll(running: Running): Promise<void> {
    const { input, layout, samples } = running;
    for (; running.blocks < this.#clients.size * this.#options.fifoBlocks; running.blocks++) {
      await input.addBlock(samples * layout.sample.bytes);
    }
    for (const client of this.#clients) {
      if (client.opening === undefined) {
        await this.#openReader(client, running);
      }
    }
  }

  async #openReader(client: InputClient, { input, layout }: Running): Promise<void> {
    const { memory } = this.#options.inputs;
    const isWhole = client.takesWholeBlocks(layout);
    let reader: SampleReader;
    try {
      reader = await input.capture.openSampleReader(
        client.nativeLink,
        this.#options.fifoBlocks,
        memory.mode !== 'auto' || !isWhole,
      );
    } catch (error) {
      if (!(error instanceof IioError) || error.code !== 'ESHUTDOWN') {
        throw error;
      }
      // Its link has ended, and it is about to leave: no reason for the others to go without samples.
      client.set(undefined, error);
      return;
    }
    this.#withReader.add(client);
    client.set({ layout, reader });
    input.notePath(streamPath(reader.path, memory));
  }

  async #closeReader(client: InputClient): Promise<void> {
    const reader = client.opening?.reader;
    this.#withReader.delete(client);
    client.set(undefined);
    if (reader === undefined) {
      return;
    }
    const { droppedBlocks } = await reader.statistics();
    if (droppedBlocks > 0) {
      this.#options.log.warn({ droppedBlocks }, 'a client lost blocks that it did not fetch in time');
    }
    await reader.close();
  }

  async #stop(running: Running | undefined): Promise<void> {
    await running?.input.leave(this, async () => {
      for (const client of [...this.#withReader]) {
        await this.#closeReader(client);
      }
    });
  }
}
