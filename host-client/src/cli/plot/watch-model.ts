import { History } from './history.js';
import type { Peak, Spectrum } from './spectrum.js';
import { SpectrumAnalyzer } from './spectrum.js';
import { niceCeiling } from './units.js';
import type { WatchView } from './watch-screen.js';

/** Over which the rates are averaged, in ms. */
const RATE_WINDOW_MS = 2000;
const MIN_SPECTRUM_SIZE = 16;
/** Periods of the strongest frequency that the waveform shows. */
const PERIODS = 3;
const MIN_SPAN = 32;
/** A peak is a tone, and sets the time base, if it stands out of the spectrum by so many dB. */
const TONE_DB = 20;

export interface WatchedSource {
  readonly uri: string;
  readonly device: string;
  readonly channels: readonly WatchedInput[];
  /** Channels in pairs are I and Q. */
  readonly complex: boolean;
  readonly setBytes: number;
  readonly sampleRate: number | undefined;
}

export interface WatchedInput {
  readonly name: string;
  /** Raw values times this are in {@link unit}. */
  readonly scale: number;
  readonly offset: number;
  readonly unit: string;
  /** Largest magnitude of a raw value. */
  readonly fullScale: number;
}

/** Samples that arrived. */
export interface Arrival {
  readonly sets: number;
  /** They do not follow those that arrived before. */
  readonly isGap: boolean;
  /** Values of each channel; only called if they are wanted. */
  values(): readonly ArrayLike<number | bigint>[];
}

/** What `watch` knows: takes blocks, gives views. */
export class WatchModel {
  readonly #source: WatchedSource;
  readonly #history: History;
  readonly #arrivals: { readonly at: number; readonly sets: number }[] = [];
  readonly #startedAt: number;
  #analyzer: SpectrumAnalyzer | undefined;
  #sets = 0;
  #isFresh = false;
  /** Power of two that the time base is changed by. */
  zoom = 0;

  /** @param spectrumSize a power of two. @param now in ms, of a clock that {@link arrived} and {@link view} share */
  constructor(source: WatchedSource, spectrumSize: number, now: number) {
    this.#source = source;
    this.#history = new History(source.channels.length, spectrumSize);
    this.#startedAt = now;
  }

  /** Sample sets that came. */
  get sets(): number {
    return this.#sets;
  }

  arrived(arrival: Arrival, now: number): void {
    this.#sets += arrival.sets;
    this.#arrivals.push({ at: now, sets: arrival.sets });
    while ((this.#arrivals[0]?.at ?? now) < now - RATE_WINDOW_MS) {
      this.#arrivals.shift();
    }
    if (arrival.isGap) {
      this.#history.clear();
    }
    // A block that fills the history by itself is only looked at when there is a view to draw.
    if (arrival.sets < this.#history.capacity || !this.#isFresh) {
      this.#history.append(arrival.values());
      this.#isFresh = true;
    }
  }

  /** What there is to see now. The next block is looked at. */
  view(now: number, known: Pick<WatchView, 'gaps' | 'lostSets' | 'ring' | 'mode'>): WatchView {
    this.#isFresh = false;
    const { uri, device, setBytes, sampleRate, channels } = this.#source;
    const spectrum = this.#spectrum();
    const { from, to } = this.#window(spectrum);
    const unit = channels[0]?.unit ?? '';
    const shown = channels.map(({ name, scale, offset }, index) => ({
      name,
      values: this.#history.values(index, from, to).map((value) => (value + offset) * scale),
    }));
    const setsPerSecond = this.#rate(now);
    return {
      uri,
      device,
      seconds: (now - this.#startedAt) / 1000,
      setsPerSecond,
      bytesPerSecond: setsPerSecond * setBytes,
      ...known,
      channels: shown,
      sampleRate,
      range: rangeOf(
        shown.map(({ values }) => values),
        unit,
      ),
      spectrum,
    };
  }

  #rate(now: number): number {
    const [first, ...later] = this.#arrivals;
    const sets = later.reduce((sum, arrival) => sum + arrival.sets, 0);
    const last = later.at(-1)?.at ?? now;
    return first === undefined || last <= first.at ? 0 : (sets / (last - first.at)) * 1000;
  }

  #spectrum(): Spectrum | undefined {
    const size = 2 ** Math.floor(Math.log2(Math.max(1, this.#history.length)));
    const fullScale = this.#source.channels[0]?.fullScale;
    if (size < MIN_SPECTRUM_SIZE || fullScale === undefined) {
      return undefined;
    }
    if (this.#analyzer?.size !== size) {
      this.#analyzer = new SpectrumAnalyzer(size);
    }
    const from = this.#history.length - size;
    const first = this.#history.values(0, from);
    return this.#source.complex
      ? this.#analyzer.complex(first, this.#history.values(1, from), fullScale)
      : this.#analyzer.real(first, fullScale);
  }

  /** A few periods of a tone, beginning where the first channel rises through its middle, so that the picture stands. */
  #window(spectrum: Spectrum | undefined): { readonly from: number; readonly to: number } {
    const { length } = this.#history;
    const tone = spectrum === undefined ? undefined : toneOf(spectrum);
    const span = tone === undefined ? length / 2 : PERIODS / Math.abs(tone.frequency);
    const count = Math.floor(Math.min(length, Math.max(MIN_SPAN, span * 2 ** -this.zoom)));
    const values = this.#history.values(0);
    const middle = (least(values) + largest(values)) / 2;
    for (let at = 1; at + count <= length; at++) {
      if ((values[at - 1] ?? 0) < middle && (values[at] ?? 0) >= middle) {
        return { from: at, to: at + count };
      }
    }
    return { from: length - count, to: length };
  }
}

/** The peak, if it is more than the highest of many random bins. */
export function toneOf({ levels, peak }: Spectrum): Peak | undefined {
  const median = levels.toSorted()[Math.floor(levels.length / 2)] ?? 0;
  return peak.level - median > TONE_DB && peak.frequency !== 0 ? peak : undefined;
}

/** Round limits around all values; around zero if there are negative ones. */
function rangeOf(curves: readonly Float64Array[], unit: string): WatchView['range'] {
  const top = Math.max(...curves.map(largest));
  const bottom = Math.min(...curves.map(least));
  const limit = Math.max(Math.abs(top), Math.abs(bottom));
  if (!Number.isFinite(limit) || limit === 0) {
    return { from: -1, to: 1, unit };
  }
  const to = niceCeiling(limit);
  return { from: bottom < 0 ? -to : 0, to: top > 0 ? to : 0, unit };
}

function largest(values: Float64Array): number {
  return values.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
}

function least(values: Float64Array): number {
  return values.reduce((most, value) => Math.min(most, value), Number.POSITIVE_INFINITY);
}
