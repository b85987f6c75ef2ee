import FFT from 'fft.js';

/** The level of a bin without power. */
const FLOOR_DB = -200;

export interface Spectrum {
  /** Level of each bin in dB of a full-scale sine; from 0 Hz up to half the sampling frequency, or around 0 if complex. */
  readonly levels: Float64Array;
  /** Frequency of the first bin, and from each to the next, in cycles per sample. */
  readonly firstFrequency: number;
  readonly binWidth: number;
  readonly peak: Peak;
}

export interface Peak {
  /** In cycles per sample, between bins where that fits better. */
  readonly frequency: number;
  /** dB of a full-scale sine. */
  readonly level: number;
}

/** Power spectra with a Hann window. Owns its tables; one instance serves any number of spectra of one size. */
export class SpectrumAnalyzer {
  /** Samples of a spectrum, a power of two. */
  readonly size: number;
  readonly #fft: FFT;
  readonly #window: Float64Array;
  readonly #gain: number;
  readonly #input: number[];
  readonly #output: number[];

  constructor(size: number) {
    this.size = size;
    this.#fft = new FFT(size);
    this.#window = Float64Array.from({ length: size }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / size));
    this.#gain = this.#window.reduce((sum, weight) => sum + weight, 0);
    this.#input = this.#fft.createComplexArray();
    this.#output = this.#fft.createComplexArray();
  }

  /** Of the first `size` samples. `fullScale`: the amplitude that is 0 dB. */
  real(samples: ArrayLike<number>, fullScale: number): Spectrum {
    this.#load(samples, undefined);
    this.#fft.transform(this.#output, this.#input);
    const bins = this.size / 2 + 1;
    const levels = new Float64Array(bins);
    for (let bin = 0; bin < bins; bin++) {
      // The power of a real sine is shared by a positive and a negative frequency, except at the two ends.
      const share = bin === 0 || bin === bins - 1 ? 1 : 2;
      levels[bin] = this.#level(bin, share / (this.#gain * fullScale));
    }
    return this.#spectrum(levels, 0);
  }

  /** Of the first `size` pairs. */
  complex(inPhase: ArrayLike<number>, quadrature: ArrayLike<number>, fullScale: number): Spectrum {
    this.#load(inPhase, quadrature);
    this.#fft.transform(this.#output, this.#input);
    const half = this.size / 2;
    const levels = new Float64Array(this.size);
    for (let bin = 0; bin < this.size; bin++) {
      levels[bin] = this.#level((bin + half) % this.size, 1 / (this.#gain * fullScale));
    }
    return this.#spectrum(levels, -0.5);
  }

  #load(real: ArrayLike<number>, imaginary: ArrayLike<number> | undefined): void {
    const meanReal = mean(real, this.size);
    const meanImaginary = imaginary === undefined ? 0 : mean(imaginary, this.size);
    for (let i = 0; i < this.size; i++) {
      const weight = this.#window[i] ?? 0;
      this.#input[2 * i] = ((real[i] ?? 0) - meanReal) * weight;
      this.#input[2 * i + 1] = imaginary === undefined ? 0 : ((imaginary[i] ?? 0) - meanImaginary) * weight;
    }
  }

  #level(bin: number, factor: number): number {
    const magnitude = Math.hypot(this.#output[2 * bin] ?? 0, this.#output[2 * bin + 1] ?? 0) * factor;
    return magnitude > 0 ? Math.max(FLOOR_DB, 20 * Math.log10(magnitude)) : FLOOR_DB;
  }

  #spectrum(levels: Float64Array, firstFrequency: number): Spectrum {
    const binWidth = 1 / this.size;
    return { levels, firstFrequency, binWidth, peak: peakOf(levels, firstFrequency, binWidth) };
  }
}

/**
 * Around the largest bin. A tone between two bins shows in both, in a ratio that the shape of the window's main lobe tells:
 * `sinc(d) / (1 - d²)` at a distance of `d` bins.
 */
function peakOf(levels: Float64Array, firstFrequency: number, binWidth: number): Peak {
  let at = 0;
  for (let bin = 1; bin < levels.length; bin++) {
    if ((levels[bin] ?? FLOOR_DB) > (levels[at] ?? FLOOR_DB)) {
      at = bin;
    }
  }
  const top = levels[at] ?? FLOOR_DB;
  const [left, right] = [levels[at - 1] ?? FLOOR_DB, levels[at + 1] ?? FLOOR_DB];
  const ratio = 10 ** ((Math.max(left, right) - top) / 20);
  const distance = Math.max(0, (2 * ratio - 1) / (ratio + 1));
  const lobe = distance === 0 ? 1 : Math.sin(Math.PI * distance) / (Math.PI * distance) / (1 - distance ** 2);
  return {
    frequency: firstFrequency + (at + (right > left ? distance : -distance)) * binWidth,
    level: top - 20 * Math.log10(lobe),
  };
}

function mean(values: ArrayLike<number>, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) {
    sum += values[i] ?? 0;
  }
  return sum / count;
}
