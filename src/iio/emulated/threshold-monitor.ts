import { type ChannelLayout, decodeSample, eventId, eventKind, type SampleLayout } from '@iio-bridge/protocol';
import type { AttributeValues } from './attribute-values.js';
import type { SampleClock } from './sample-clock.js';

interface Threshold {
  readonly channel: ChannelLayout;
  readonly id: bigint;
  readonly rising: boolean;
  readonly falling: boolean;
  readonly isOn: () => boolean;
  readonly level: () => number;
  last: number | undefined;
}

/**
 * Compares the samples of an input with the thresholds of its channels' events: `thresh_rising_en` switches one on,
 * `thresh_rising_value` is its level in raw units. Rising: last < level ≤ this; falling: last > level ≥ this; either: both.
 */
export class ThresholdMonitor {
  readonly #thresholds: readonly Threshold[];
  readonly #layout: SampleLayout;
  readonly #clock: SampleClock;
  readonly #emit: (id: bigint, timeNs: bigint) => void;
  readonly #stamp = new BigInt64Array(1);

  constructor(
    device: number,
    layout: SampleLayout,
    values: AttributeValues,
    clock: SampleClock,
    emit: (id: bigint, timeNs: bigint) => void,
  ) {
    this.#layout = layout;
    this.#clock = clock;
    this.#emit = emit;
    this.#thresholds = layout.channels.flatMap((channel) => thresholdsOf(device, channel, values));
  }

  /** Looks at whole sample sets, the first of which is number `first`. */
  check(bytes: Uint8Array, first: number): void {
    for (const threshold of this.#thresholds) {
      if (threshold.isOn()) {
        this.#compare(threshold, bytes, first);
      } else {
        threshold.last = undefined;
      }
    }
  }

  #compare(threshold: Threshold, bytes: Uint8Array, first: number): void {
    const { offset, channel } = threshold.channel;
    const format = channel.scanElement?.format;
    if (format === undefined) {
      return;
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const level = threshold.level();
    let last = threshold.last;
    for (let at = 0, set = first; at < bytes.byteLength; at += this.#layout.bytes, set++) {
      const value = Number(decodeSample(view, at + offset, format));
      if (last !== undefined) {
        const rises = threshold.rising && last < level && value >= level;
        const falls = threshold.falling && last > level && value <= level;
        if (rises || falls) {
          this.#clock.timeStamps(set, this.#stamp, 1);
          this.#emit(threshold.id, this.#stamp[0] ?? 0n);
        }
      }
      last = value;
    }
    threshold.last = last;
  }
}

function thresholdsOf(device: number, layout: ChannelLayout, values: AttributeValues): Threshold[] {
  const { channel, position } = layout;
  return channel.eventAttributes.flatMap(({ name }) => {
    const kind = eventKind(name);
    if (kind?.type !== 'thresh') {
      return [];
    }
    const enable = values.channelEventValue(device, position, name);
    const level = values.channelEventValue(device, position, name.replace(/_en$/, '_value'));
    return {
      channel: layout,
      id: eventId(channel, kind),
      rising: kind.direction !== 'falling',
      falling: kind.direction !== 'rising',
      isOn: () => enable?.text.trim() === '1',
      level: () => Number(level?.text ?? 0),
      last: undefined,
    };
  });
}
