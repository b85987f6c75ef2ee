import { type BlockRecord, decodeBlockRecord, IioError, type SampleLayout } from '@iio-bridge/protocol';
import type { Channel } from './device.js';
import { type Calibration, channelFloats, channelValues, interleavedView, type SampleArray } from './samples.js';
import type { CapturedBlock } from './session.js';

/** What the blocks of one stream have in common. */
export interface RxBlockOwner {
  readonly layout: SampleLayout;
  /** By channel position; `undefined` unless the stream was opened with `scaled`. */
  readonly calibrations: ReadonlyMap<number, Calibration> | undefined;
  released(captured: CapturedBlock): void;
}

/**
 * Samples of one block. Owns its memory until {@link release}, which hands it back to the stream: a stream has a fixed
 * number of blocks, and captures nothing into those that its user holds.
 */
export class RxBlock implements Disposable {
  /** Counts the blocks that came from the stream, from 0. */
  readonly sequence: number;
  /** Counts the stream's interruptions: blocks of two epochs are of two captures, with anything between them. */
  readonly epoch: number;
  /** Sample sets in the block. */
  readonly samples: number;
  readonly #owner: RxBlockOwner;
  #captured: CapturedBlock | undefined;

  constructor(owner: RxBlockOwner, sequence: number, epoch: number, captured: CapturedBlock) {
    this.#owner = owner;
    this.sequence = sequence;
    this.epoch = epoch;
    this.samples = captured.bytes.length / owner.layout.bytes;
    this.#captured = captured;
  }

  get layout(): SampleLayout {
    return this.#owner.layout;
  }

  /**
   * The raw sample sets, `samples * layout.bytes` long, as the device stored them; no copy. Views taken from here show
   * later samples after the release.
   * @throws IioError `RELEASED`
   */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#held().bytes;
  }

  /**
   * What the server knows of the block beside its samples: when it was captured, and what was lost before it. `undefined`
   * from servers that do not tell (all but iio-bridge).
   * @throws IioError `RELEASED`
   */
  get metadata(): BlockRecord | undefined {
    const { record } = this.#held();
    return record === undefined ? undefined : decodeBlockRecord(record);
  }

  /**
   * All channels as one typed array, sample set by sample set; no copy. `undefined` unless every enabled channel has the
   * same plain format (little endian, no shift, all bits significant) and the sample set has no padding.
   * @throws IioError `RELEASED`
   */
  interleaved(): SampleArray | undefined {
    return interleavedView(this.layout, this.bytes);
  }

  /**
   * One channel's values, `samples` (times the format's repeat) long. A view without a copy if the sample set consists
   * of just this channel in a plain format, otherwise a converted copy: `number`s up to 32 bits, `bigint`s above.
   * @throws IioError `RELEASED`; `NO_CHANNEL` if the stream does not carry the channel
   */
  channel(which: Channel | string): SampleArray {
    return channelValues(this.layout, this.bytes, which);
  }

  /**
   * One channel's values in physical units, `(raw + offset) * scale`, with the `scale` and `offset` that the channel had
   * when the stream was opened. The unit is the one that the kernel's IIO ABI documents for the channel's type: millivolts
   * of a voltage, for example.
   * @param target memory to reuse, at least as long as the values
   * @throws IioError `RELEASED`, `NO_CHANNEL`; `EINVAL` if the stream was opened without `scaled`
   */
  scaled(which: Channel | string, target?: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
    const { calibrations } = this.#owner;
    const position = this.layout.channels.find(({ channel, position }) =>
      typeof which === 'string' ? channel.id === which : position === which.position,
    )?.position;
    if (calibrations === undefined) {
      throw new IioError('EINVAL', 'the stream knows no scales: open it with `scaled: true`');
    }
    const calibration = calibrations.get(position ?? -1) ?? { scale: 1, offset: 0 };
    return channelFloats(this.layout, this.bytes, which, calibration, target);
  }

  /** Gives the memory back, so that the server is asked for more samples. Further calls do nothing. */
  release(): void {
    const captured = this.#captured;
    this.#captured = undefined;
    if (captured !== undefined) {
      this.#owner.released(captured);
    }
  }

  [Symbol.dispose](): void {
    this.release();
  }

  #held(): CapturedBlock {
    if (this.#captured === undefined) {
      throw new IioError('RELEASED', `block ${this.sequence} was used after release(): its memory holds other samples`);
    }
    return this.#captured;
  }
}
