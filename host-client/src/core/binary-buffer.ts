import {
  ChannelMask,
  encodeU64,
  FRAME_HEADER_BYTES,
  IioError,
  packCode,
  type SampleLayout,
  sampleLayout,
} from '@iio-bridge/protocol';
import type { Answer, BinaryClient, Request } from './binary-client.js';
import type { ControlLink } from './control-link.js';
import { withDeadline } from './deadline.js';
import type { StreamPlan } from './session.js';

/** A block's length travels in a signed 32-bit code. Bytes. */
const MAX_BLOCK_BYTES = 2 ** 31 - 1;
/** In a request for a block, which is a frame's header and a u64. Bytes. */
export const REQUEST_LENGTH_OFFSET = FRAME_HEADER_BYTES;
const BLOCK_REQUEST_BYTES = REQUEST_LENGTH_OFFSET + 8;
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

  /** What asks for a transfer of a block, but for the samples: the header, and at {@link REQUEST_LENGTH_OFFSET} the length. */
  blockRequest(operation: 'TRANSFER_BLOCK' | 'ENQUEUE_BLOCK_CYCLIC', index: number): Uint8Array {
    const request = new Uint8Array(BLOCK_REQUEST_BYTES);
    request.set(this.client.encode({ operation, ...this.blockAddress(index) }));
    request.set(encodeU64(this.blockBytes), REQUEST_LENGTH_OFFSET);
    return request;
  }

  /** How such a request goes to the server: in one transfer where it takes that. */
  transfersOf(request: Uint8Array, isBridge: boolean): readonly Uint8Array[] {
    const isOne = isBridge || this.client.link.packetSize === 1;
    return isOne ? [request] : [request.subarray(0, REQUEST_LENGTH_OFFSET), request.subarray(REQUEST_LENGTH_OFFSET)];
  }

  blockAddress(index: number): { readonly clientId: number; readonly device: number; readonly code: number } {
    const { device, bufferIndex } = this.plan;
    return { clientId: index + 1, device: device.index, code: packCode(index, bufferIndex) };
  }

  async createBlocks(): Promise<void> {
    const { blocks } = this.plan;
    for (let block = 0; block < blocks; block++) {
      await this.order('CREATE_BLOCK', `create block ${block} (${this.blockBytes} bytes) of`, {
        ...this.blockAddress(block),
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
