import { BLOCK_RECORD_BYTES, encodeU64, type IioError, type SampleLayout } from '@iio-bridge/protocol';
import { BinaryBuffer, REQUEST_LENGTH_OFFSET } from './binary-buffer.js';
import { blockError, isDequeueTimeout } from './binary-capture.js';
import type { BinaryClient, BlockHandle } from './binary-client.js';
import type { ServerTraits } from './binary-session.js';
import { BufferPool, type PayloadBuffer } from './buffer-pool.js';
import type { ControlLink } from './control-link.js';
import type { Playback, PlaybackBlock, PlaybackSink, StreamPlan } from './session.js';

/** An output of a server that speaks the binary protocol. The hardware starts with the first block that is sent. */
export class BinaryPlayback implements Playback {
  /** libiio's servers read a whole block, whatever the length says. */
  readonly partialBlocks: boolean;
  readonly #buffer: BinaryBuffer;
  readonly #sink: PlaybackSink;
  #blocks: readonly OutputBlock[] = [];
  #enabled = false;
  #closing: Promise<void> | undefined;
  #failed = false;

  private constructor(buffer: BinaryBuffer, traits: ServerTraits, sink: PlaybackSink) {
    this.#buffer = buffer;
    this.partialBlocks = traits.isBridge;
    this.#sink = sink;
  }

  static async open(
    client: BinaryClient,
    control: ControlLink,
    traits: ServerTraits,
    plan: StreamPlan,
    cyclic: boolean,
    sink: PlaybackSink,
  ): Promise<BinaryPlayback> {
    const buffer = new BinaryBuffer(client, control, plan);
    const playback = new BinaryPlayback(buffer, traits, sink);
    try {
      await buffer.open();
      await buffer.createBlocks();
      const operation = cyclic ? 'ENQUEUE_BLOCK_CYCLIC' : 'TRANSFER_BLOCK';
      playback.#blocks = Array.from(
        { length: plan.blocks },
        (_, index) => new OutputBlock(playback, buffer, traits, operation, index),
      );
      client.whenFailed((error) => playback.#fail(error));
      return playback;
    } catch (error) {
      await buffer.close();
      throw error;
    }
  }

  get layout(): SampleLayout {
    return this.#buffer.layout;
  }

  get blocks(): readonly PlaybackBlock[] {
    return this.#blocks;
  }

  send(block: PlaybackBlock, bytes: number): void {
    const output = this.#blocks.find((candidate) => candidate === block);
    if (output === undefined || this.#closing !== undefined || this.#failed) {
      return;
    }
    this.#buffer.client.requestBlock(output, output.transfer(bytes));
    if (!this.#enabled) {
      this.#enabled = true;
      this.#buffer.order('ENABLE_BUFFER', 'enable').catch((error: IioError) => this.#fail(error));
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#buffer.close();
    return this.#closing;
  }

  answered(block: OutputBlock, code: number): void {
    if (this.#closing !== undefined || this.#failed) {
      return;
    }
    if (code >= 0) {
      this.#sink.onPlayed(block);
    } else if (isDequeueTimeout(code)) {
      this.#sink.onRetry();
      this.#buffer.client.requestBlock(block, block.retryRequest);
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

/** A block of an output, here and on the server. What its transfers need is made once. */
class OutputBlock implements BlockHandle, PlaybackBlock {
  readonly what: string;
  readonly clientId: number;
  /** Answers bring no samples. */
  readonly blockBytes = 0;
  readonly pool = new BufferPool(0, 0);
  readonly records: boolean;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly retryRequest: readonly Uint8Array[];
  readonly #playback: BinaryPlayback;
  readonly #request: Uint8Array;
  readonly #requestTransfers: readonly Uint8Array[];
  /** With all of the block behind it. */
  readonly #whole: readonly Uint8Array[];
  readonly #record: Uint8Array<ArrayBuffer> | undefined;
  #requested: number;
  #hasRecord = false;

  constructor(
    playback: BinaryPlayback,
    buffer: BinaryBuffer,
    traits: ServerTraits,
    operation: 'TRANSFER_BLOCK' | 'ENQUEUE_BLOCK_CYCLIC',
    index: number,
  ) {
    const { plan, client, blockBytes } = buffer;
    const address = buffer.blockAddress(index);
    this.#playback = playback;
    this.what = `${plan.what}, block ${index}`;
    this.clientId = address.clientId;
    this.records = plan.extensions?.metadata === true;
    this.bytes = new Uint8Array(blockBytes);
    this.#request = buffer.blockRequest(operation, index);
    this.#requestTransfers = buffer.transfersOf(this.#request, traits.isBridge);
    this.#whole = [...this.#requestTransfers, this.bytes];
    this.#requested = blockBytes;
    this.retryRequest = [client.encode({ operation: 'RETRY_DEQUEUE_BLOCK', ...address })];
    this.#record = this.records ? new Uint8Array(BLOCK_RECORD_BYTES) : undefined;
  }

  get record(): Uint8Array<ArrayBuffer> | undefined {
    return this.#hasRecord ? this.#record : undefined;
  }

  /** What asks the server to play the first `bytes` bytes. */
  transfer(bytes: number): readonly Uint8Array[] {
    if (bytes !== this.#requested) {
      this.#requested = bytes;
      this.#request.set(encodeU64(bytes), REQUEST_LENGTH_OFFSET);
    }
    return bytes === this.bytes.length ? this.#whole : [...this.#requestTransfers, this.bytes.subarray(0, bytes)];
  }

  onAnswer(
    code: number,
    _payload: PayloadBuffer | undefined,
    _length: number,
    record: Uint8Array<ArrayBuffer> | undefined,
  ): void {
    this.#hasRecord = record !== undefined;
    if (record !== undefined) {
      this.#record?.set(record);
    }
    this.#playback.answered(this, code);
  }
}
