import type { ScanFormat } from '@iio-bridge/protocol';

/** A channel as a signal sees it. */
export interface SignalChannel {
  /** Among the buffer's channels without the time stamp, by scan index; enabled or not. */
  readonly number: number;
  readonly format: ScanFormat;
  /** The lowest bit of the set's number that the counter shows on this channel. */
  readonly lane: number;
}

/** Where values go: they are cut off to the width of the array's elements. */
export interface Destination {
  readonly values: Int8Array | Int16Array | Int32Array;
  /** Element of the first value, and from each value to the next. */
  readonly start: number;
  readonly stride: number;
}

/** Values of a channel as functions of the number of the sample set. */
export interface Waveform {
  /** For channels of up to 32 bits: the values of `sets` sets from number `first` on, sign-extended if signed. */
  fill(channel: SignalChannel, first: number, destination: Destination, sets: number): void;
  /** For wider channels: one value. */
  wideValue(channel: SignalChannel, set: number): bigint;
}

const TWO_TO_32 = 2 ** 32;

/** Bits of the counter that are dealt out to the channels. */
const COUNTER_BITS = 64;

/**
 * The number of the sample set. If all channels have one format, the number is spread over them: each channel has as many of its bits as
 * fit, the first channel the lowest, starting over when 64 bits are given away. Otherwise each has the low bits.
 */
export const counter: Waveform = {
  fill({ format, lane }, first, { values, start, stride }, sets) {
    const unused = 32 - format.bits;
    const low = first % TWO_TO_32;
    let high = Math.floor(first / TWO_TO_32);
    let at = start;
    // Up to where the upper word changes, so that the loops have nothing but 32-bit integers.
    for (let set = 0; set < sets; high++) {
      let word = (low + set) % TWO_TO_32;
      const end = at + stride * Math.min(sets - set, TWO_TO_32 - word);
      set += (end - at) / stride;
      word |= 0;
      const fixed = lane === 0 ? 0 : lane < 32 ? high << (32 - lane) : high >>> (lane - 32);
      const moving = lane < 32;
      if (format.signed) {
        for (; at < end; at += stride, word = (word + 1) | 0) {
          values[at] = ((moving ? (word >>> lane) | fixed : fixed) << unused) >> unused;
        }
      } else {
        for (; at < end; at += stride, word = (word + 1) | 0) {
          values[at] = ((moving ? (word >>> lane) | fixed : fixed) << unused) >>> unused;
        }
      }
    }
  },

  wideValue({ format, lane }, set) {
    const value = BigInt(set) >> BigInt(lane);
    return format.signed ? BigInt.asIntN(format.bits, value) : BigInt.asUintN(format.bits, value);
  },
};

/** The first bit of the counter on each of a buffer's channels: see {@link counter}. */
export function counterLanes(formats: readonly ScanFormat[]): number[] {
  const [first] = formats;
  const uniform =
    first !== undefined && formats.every(({ bits, signed }) => bits === first.bits && signed === first.signed);
  const lanes = uniform ? Math.max(1, Math.floor(COUNTER_BITS / first.bits)) : 1;
  return formats.map(({ bits }, index) => (index % lanes) * bits);
}

const SINE_STEPS_LOG2 = 12;
const SINE = Float64Array.from({ length: 2 ** SINE_STEPS_LOG2 }, (_, i) =>
  Math.sin((2 * Math.PI * i) / 2 ** SINE_STEPS_LOG2),
);
const QUARTER_TURN = 2 ** 30;

/** Full scale; each channel leads the one before by a quarter of a turn. `cyclesPerSet`: frequency by sampling rate. */
export function sine(cyclesPerSet: number): Waveform {
  // Phases are 32-bit fractions of a turn.
  const step = Math.round((cyclesPerSet % 1) * TWO_TO_32);
  const phaseOf = (channel: SignalChannel, set: number) =>
    Number(BigInt.asUintN(32, BigInt(set) * BigInt(step) + BigInt(channel.number * QUARTER_TURN)));
  const sineAt = (phase: number) => SINE[phase >>> (32 - SINE_STEPS_LOG2)] ?? 0;
  return {
    fill(channel, first, { values, start, stride }, sets) {
      const amplitude = 2 ** (channel.format.bits - 1) - 1;
      const offset = channel.format.signed ? 0 : amplitude + 1;
      let phase = phaseOf(channel, first);
      const end = start + sets * stride;
      for (let at = start; at < end; at += stride) {
        values[at] = Math.round(sineAt(phase) * amplitude) + offset;
        phase = (phase + step) | 0;
      }
    },

    wideValue(channel, set) {
      const amplitude = (1n << BigInt(channel.format.bits - 1)) - 1n;
      const scaled = BigInt(Math.round(sineAt(phaseOf(channel, set)) * 2 ** 30));
      return ((amplitude * scaled) >> 30n) + (channel.format.signed ? 0n : amplitude + 1n);
    },
  };
}
