import { ChannelMask, encodeU64, IioError, packCode, type SampleLayout, sampleLayout } from '@iio-bridge/protocol';
import type { Answer, BinaryClient, Request } from './binary-client.js';
import type { ControlLink } from './control-link.js';
import { withDeadline } from './deadline.js';
import type { StreamPlan } from './session.js';

/** A block's length travels in a signed 32-bit code. Bytes. */
const MAX_BLOCK_BYTES = 2 ** 31 - 1;
/** How long an orderly end may take before the link is just closed, which makes the server clean up. Milliseconds. */
const TEARDOWN_BUDGET_MS = 700;

/**
 * A buffer on the server, open on its own link. Owns the link. Inputs and outputs differ in what they do with the blocks; this
 * is what they share.
 */
export class BinaryBuffer {
  readonly client: BinaryClient;
  readonly plan: StreamPlan;
  layout: SampleLayout = { bytes: 0, channels: [] };
  readonly #control: ControlLink;
  #open = false;
  #blocksCreated = 0;

  constructor(client: BinaryClient, control: ControlLink, plan: StreamPlan) {
    this.client = client;
    this.#control = control;
    this.plan = plan;
  }

  get blockBytes(): number {
    return this.plan.samplesPerBlock * this.layout.bytes;
  }

  /** Opens the buffer, with the extensions that the plan names. */
  async open(): Promise<void> {
    const { plan, client } = this;
    const { device, bufferIndex, extensions, channels, what, samplesPerBlock } = plan;
    if (extensions !== undefined) {
      await client.streamOptions(device.index, bufferIndex, extensions, `set the options of ${what}`);
    }
    const answer = await this.#openBuffer();
    this.#open = true;
    this.layout = sampleLayout(channels, ChannelMask.fromBytes(channels.length, answer.payload));
    if (this.blockBytes === 0 || this.blockBytes > MAX_BLOCK_BYTES) {
      throw new IioError('EINVAL', `${what}: a block of ${samplesPerBlock} samples has ${this.blockBytes} bytes`);
    }
  }

  async createBlocks(): Promise<void> {
    const { blocks, bufferIndex } = this.plan;
    for (let block = 0; block < blocks; block++) {
      await this.order('CREATE_BLOCK', `create block ${block} (${this.blockBytes} bytes) of`, {
        clientId: block + 1,
        code: packCode(block, bufferIndex),
        payload: [encodeU64(this.blockBytes)],
      });
      this.#blocksCreated++;
    }
  }

  order(operation: Request['operation'], verb: string, rest: Partial<Request> = {}): Promise<Answer> {
    return this.client.request(this.#orderFor(operation, verb, rest));
  }

  /**
   * The link is read to the end of this, because the server may be in the middle of a block. Order as libiio's clients:
   * blocks, then the buffer's state, then the buffer, then the pipe. Never rejects: what goes wrong goes to the logger,
   * and closing the link makes the server clean up anyway.
   */
  async close(): Promise<void> {
    const { client } = this;
    client.streamBlocks(undefined);
    const until = performance.now() + TEARDOWN_BUDGET_MS;
    const { bufferIndex, what } = this.plan;
    let reachable = this.#open && client.failure?.code !== 'DISCONNECTED';
    for (let block = 0; block < this.#blocksCreated && reachable; block++) {
      const code = packCode(block, bufferIndex);
      reachable = await this.#attempt(this.#control, until, 'FREE_BLOCK', `free block ${block} of`, { code });
    }
    if (this.#open && client.failure === undefined) {
      await this.#attempt(client, until, 'DISABLE_BUFFER', 'disable');
    }
    if (reachable) {
      await this.#attempt(this.#control, until, 'CLOSE_BUFFER', 'close');
    }
    await client.close().catch((error: unknown) => {
      client.logger.warn(() => `close the link of ${what}: ${String(error)}`);
    });
  }

  async #openBuffer(): Promise<Answer> {
    const { mask, what } = this.plan;
    try {
      return await this.order('OPEN_BUFFER', 'open', { payload: [mask.toBytes()], answer: 'payload' });
    } catch (error) {
      if (error instanceof IioError && (error.code === 'EEXIST' || error.code === 'EBUSY')) {
        const message = `${what} is in use by another client; a buffer serves one at a time`;
        throw new IioError('EBUSY', message, { cause: error });
      }
      throw error;
    }
  }

  #orderFor(operation: Request['operation'], verb: string, rest: Partial<Request>): Request {
    const { device, bufferIndex } = this.plan;
    const what = `${verb} ${this.plan.what}`;
    return { operation, device: device.index, code: bufferIndex, answer: 'status', what, ...rest };
  }

  /** @returns whether the server answered in time, be it with an error */
  async #attempt(
    link: ControlLink | BinaryClient,
    until: number,
    operation: Request['operation'],
    verb: string,
    rest: Partial<Request> = {},
  ): Promise<boolean> {
    const timeoutMs = Math.max(1, until - performance.now());
    const request = this.#orderFor(operation, verb, { ...rest, timeoutMs });
    try {
      await withDeadline(link.request(request), { timeoutMs, what: request.what });
      return true;
    } catch (error) {
      this.client.logger.debug(() => `${request.what}: ${String(error)}`);
      return !(error instanceof IioError && ['ETIMEDOUT', 'DISCONNECTED'].includes(error.code));
    }
  }
}
