import type { Measurement, Progress, Waveform } from './events.js';
import { plot } from './plot.js';

const WIDTH = 78;
const BAR_CELLS = 20;
const PLOT_ROWS = 6;
const LABEL_WIDTH = 14;

const BOLD = 1;
const GREEN = 32;
const RED = 31;
const CYAN = 36;
const DIM = 2;

/** Writes the demo for a person: plain lines, and on a terminal colours and a status line that is drawn over. */
export class Screen {
  readonly #out: NodeJS.WriteStream;
  readonly #live: boolean;
  readonly #coloured: boolean;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
    this.#live = out.isTTY;
    const { NO_COLOR } = process.env;
    this.#coloured = this.#live && (NO_COLOR === undefined || NO_COLOR === '');
  }

  heading(text: string): void {
    this.#print(`\n${this.#paint(BOLD, text)}`);
  }

  line(text = ''): void {
    this.#print(text);
  }

  /** Draws over the last status; where nothing can be drawn over, does nothing. */
  status(progress: Progress, wantedSeconds: number): void {
    if (!this.#live) {
      return;
    }
    const done = Math.min(1, progress.seconds / wantedSeconds);
    const cells = Math.round(done * BAR_CELLS);
    const bar = this.#paint(CYAN, '█'.repeat(cells)) + this.#paint(DIM, '░'.repeat(BAR_CELLS - cells));
    const rate = `${progress.mbPerSecond.toFixed(0)} MB/s`.padStart(9);
    const blocks = `${grouped(progress.blocks)} blocks`.padStart(13);
    const lost = `${grouped(progress.lostSamples)} lost`;
    this.#out.write(`\r\x1b[K  ${bar} ${progress.seconds.toFixed(1).padStart(5)} s ${rate} ${blocks}   ${lost}`);
  }

  endStatus(): void {
    if (this.#live) {
      this.#out.write('\r\x1b[K');
    }
  }

  measurement(result: Measurement): void {
    const isZeroCopy = result.mode === 'zero-copy';
    const gaps =
      result.gaps === 0 ? 'none' : `${grouped(result.gaps)}, ${grouped(result.lostSamples)} sample sets lost`;
    this.#row('mode', this.#paint(isZeroCopy ? GREEN : RED, result.mode));
    this.#row('rate', `${result.mbPerSecond.toFixed(0)} MB/s for ${result.seconds.toFixed(1)} s`);
    this.#row('blocks', `${grouped(result.blocks)} of ${result.blockBytes / 1024} KiB, ${gigabytes(result.bytes)}`);
    this.#row('gaps', this.#good(result.gaps === 0, gaps));
    this.#row(
      'verified',
      `${grouped(result.verifiedSamples)} sample sets, ` +
        this.#good(
          result.mismatches === 0,
          result.mismatches === 0 ? 'all correct' : `${grouped(result.mismatches)} wrong`,
        ),
    );
    this.#row('bridge CPU', `${result.bridgeCpuSecondsPerGb.toFixed(3)} s per GB`);

    this.heading(isZeroCopy ? 'Why this is called zero-copy' : `Why this is called ${result.mode}`);
    const { sharedDmabufs, sharingDevices, mappings, mappedDmabufs } = result;
    // A bridge that copies without a reason was told to.
    const reason = result.fallbacks.length === 0 ? 'as asked' : `because of ${result.fallbacks.join(', ')}`;
    this.#row("bridge's log", `${result.source} → ${result.sink}${isZeroCopy ? '' : `, ${reason}`}`);
    this.#row(
      'kernel',
      sharedDmabufs === 0
        ? 'no DMA buffer is attached to two devices'
        : `${sharedDmabufs} DMA buffers, each attached to ${sharingDevices.join(' and ')}`,
    );
    this.#row(
      'its memory',
      `${mappings} mappings while streaming, ${mappedDmabufs === 0 ? 'none' : mappedDmabufs} of a DMA buffer`,
    );
  }

  waveform(waveform: Waveform): void {
    const { channel, samples, samplingFrequency, sineFrequency } = waveform;
    const peak = samples.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
    const microseconds = (samples.length / samplingFrequency) * 1e6;
    this.heading(
      `${channel}: ${frequency(sineFrequency)} sine at ${frequency(samplingFrequency, 'S/s')}, ${samples.length} samples`,
    );
    for (const row of plot(samples, WIDTH - 2, PLOT_ROWS)) {
      this.#print(`  ${this.#paint(CYAN, row)}`);
    }
    const axis = `peak ${peak}`;
    this.#print(
      this.#paint(
        DIM,
        `  0${axis.padStart((WIDTH + axis.length) / 2 - 2).padEnd(WIDTH - 11)}${microseconds.toFixed(0).padStart(5)} µs`,
      ),
    );
  }

  verdict(isGood: boolean, text: string): void {
    this.#print(`\n${this.#good(isGood, text)}`);
  }

  #row(label: string, text: string): void {
    this.#print(`  ${label.padEnd(LABEL_WIDTH)}${text}`);
  }

  #good(isGood: boolean, text: string): string {
    return this.#paint(isGood ? GREEN : RED, text);
  }

  #paint(code: number, text: string): string {
    return this.#coloured && text !== '' ? `\x1b[${code}m${text}\x1b[0m` : text;
  }

  #print(text: string): void {
    this.#out.write(`${text}\n`);
  }
}

function grouped(value: number): string {
  return value.toLocaleString('en-US');
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(2)} GB`;
}

function frequency(value: number, unit = 'Hz'): string {
  if (value >= 1e6) {
    return `${value / 1e6} M${unit}`;
  }
  return value >= 1e3 ? `${value / 1e3} k${unit}` : `${value} ${unit}`;
}
