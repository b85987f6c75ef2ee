import {
  BLOCK_RECORD_BYTES,
  blockFailureOf,
  ERRNO,
  errnoName,
  IioError,
  type SampleLayout,
} from '@iio-bridge/protocol';
import { BinaryBuffer } from './binary-buffer.js';
import type { BinaryClient, BlockHandle } from './binary-client.js';
import type { ServerTraits } from './binary-session.js';
import { BufferPool, type PayloadBuffer, viewOf } from './buffer-pool.js';
import type { ControlLink } from './control-link.js';
import type { ReaderStatistics } from './frame-reader.js';
import type { Capture, CapturedBlock, CaptureSink, StreamPlan } from './session.js';

const NO_BYTES: Uint8Array<ArrayBuffer> = new Uint8Array();

/** Why a block was not filled. */
export function blockError(what: string, code: number): IioError {
  const failure = blockFailureOf(code);
  if (failure === undefined) {
    return new IioError('EPROTO', `${what}: the server sent an empty block`);
  }
  const name = errnoName(failure.errno);
  const reason = failure.stage === 'enqueue' ? 'the block was refused' : 'the transfer failed';
  return new IioError(name, `${what}: ${reason} (${name})`);
}

export function isDequeueTimeout(code: number): boolean {
  return code === -ERRNO.ETIMEDOUT;
}

/** An input of a server that speaks the binary protocol: as many requests are outstanding as there are idle blocks. */
export class BinaryCapture implements Capture {
  readonly #buffer: BinaryBuffer;
  readonly #sink: CaptureSink;
  readonly #blocks: InputBlock[] = [];
  #closing: Promise<void> | undefined;
  #failed = false;
  #inFlight = 0;

  private constructor(buffer: BinaryBuffer, sink: CaptureSink) {
    this.#buffer = buffer;
    this.#sink = sink;
  }

  static async open(
    client: BinaryClient,
    control: ControlLink,
    traits: ServerTraits,
    plan: StreamPlan,
    sink: CaptureSink,
  ): Promise<BinaryCapture> {
    const buffer = new BinaryBuffer(client, control, plan);
    const capture = new BinaryCapture(buffer, sink);
    try {
      await buffer.open();
      await buffer.createBlocks();
      const pool = new BufferPool(client.capacityFor(buffer.blockBytes), plan.blocks);
      for (let index = 0; index < plan.blocks; index++) {
        capture.#blocks.push(new InputBlock(capture, buffer, traits, index, pool));
      }
      client.whenFailed((error) => capture.#fail(error));
      return capture;
    } catch (error) {
      await buffer.close();
      throw error;
    }
  }

  get layout(): SampleLayout {
    return this.#buffer.layout;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  get reader(): ReaderStatistics {
    return this.#buffer.client.statistics;
  }

  async start(): Promise<void> {
    for (const block of this.#blocks) {
      this.request(block, block.transferRequest);
    }
    await this.#buffer.order('ENABLE_BUFFER', 'enable');
    this.#buffer.client.streamBlocks(this.#blocks[0]);
  }

  close(): Promise<void> {
    this.#closing ??= this.#buffer.close();
    return this.#closing;
  }

  request(block: InputBlock, transfers: readonly Uint8Array[]): void {
    if (this.#closing === undefined && !this.#failed) {
      this.#inFlight++;
      this.#buffer.client.requestBlock(block, transfers);
    }
  }

  answered(block: InputBlock, code: number): void {
    this.#inFlight--;
    if (this.#closing !== undefined || this.#failed) {
      block.drop();
    } else if (block.bytes.length > 0) {
      this.#sink.onBlock(block);
    } else if (isDequeueTimeout(code)) {
      this.#sink.onRetry();
      this.request(block, block.retryRequest);
    } else {
      this.#fail(blockError(block.what, code));
    }
  }

  #fail(error: IioError): void {
    if (!this.#failed && this.#closing === undefined) {
      this.#failed = true;
      this.#sink.onFailure(error);
    }
  }
}

/** A block of an input, here and on the server. What its transfers need is made once. */
class InputBlock implements BlockHandle, CapturedBlock {
  readonly what: string;
  readonly clientId: number;
  readonly blockBytes: number;
  readonly pool: BufferPool;
  readonly records: boolean;
  readonly transferRequest: readonly Uint8Array[];
  readonly retryRequest: readonly Uint8Array[];
  readonly #capture: BinaryCapture;
  readonly #record: Uint8Array<ArrayBuffer> | undefined;
  #hasRecord = false;
  readonly #setBytes: number;
  #buffer: PayloadBuffer | undefined;
  bytes: Uint8Array<ArrayBuffer> = NO_BYTES;

  constructor(capture: BinaryCapture, buffer: BinaryBuffer, traits: ServerTraits, index: number, pool: BufferPool) {
    const { plan, client, blockBytes, layout } = buffer;
    const address = buffer.blockAddress(index);
    this.what = `${plan.what}, block ${index}`;
    this.clientId = address.clientId;
    this.blockBytes = blockBytes;
    this.#setBytes = layout.bytes;
    this.pool = pool;
    this.records = plan.extensions?.metadata === true;
    this.transferRequest = buffer.transfersOf(buffer.blockRequest('TRANSFER_BLOCK', index), traits.isBridge);
    this.retryRequest = [client.encode({ operation: 'RETRY_DEQUEUE_BLOCK', ...address })];
    this.#capture = capture;
    this.#record = this.records ? new Uint8Array(BLOCK_RECORD_BYTES) : undefined;
  }

  get record(): Uint8Array<ArrayBuffer> | undefined {
    return this.#hasRecord ? this.#record : undefined;
  }

  onAnswer(
    code: number,
    payload: PayloadBuffer | undefined,
    length: number,
    record: Uint8Array<ArrayBuffer> | undefined,
  ): void {
    this.#buffer = payload;
    this.bytes = payload === undefined ? NO_BYTES : viewOf(payload, 0, length - (length % this.#setBytes));
    this.#hasRecord = record !== undefined;
    if (record !== undefined) {
      this.#record?.set(record);
    }
    this.#capture.answered(this, code);
  }

  recycle(): void {
    this.drop();
    this.#capture.request(this, this.transferRequest);
  }

  drop(): void {
    this.#buffer?.pool.give(this.#buffer);
    this.#buffer = undefined;
    this.bytes = NO_BYTES;
  }
}
