import type { Axis, Curve, Paint } from './axes.js';
import { plotCurves } from './axes.js';
import type { Spectrum } from './spectrum.js';
import { clockTime, decibels, shortWithUnit, withUnit } from './units.js';

/** What `iio-client watch` shows at a moment. */
export interface WatchView {
  readonly uri: string;
  readonly device: string;
  readonly seconds: number;
  readonly bytesPerSecond: number;
  readonly setsPerSecond: number;
  /** `undefined` where the server does not tell. */
  readonly gaps: number | undefined;
  readonly lostSets: number | undefined;
  readonly ring: { readonly filled: number; readonly total: number } | undefined;
  readonly mode: string | undefined;
  readonly channels: readonly WatchedChannel[];
  /** Of the stream's sample sets, in Hz; `undefined` if nobody knows it: then the axes count samples. */
  readonly sampleRate: number | undefined;
  /** The vertical axis of the waveform. */
  readonly range: Axis;
  /** Of the first channel, or of the first pair of I and Q. */
  readonly spectrum: Spectrum | undefined;
  /** A line for the user, such as an error; replaces the help. */
  readonly notice?: string | undefined;
}

export interface WatchedChannel {
  readonly name: string;
  /** The part of the samples that is to be seen, in the unit of the view's range. */
  readonly values: ArrayLike<number>;
}

export interface ScreenSize {
  readonly columns: number;
  readonly rows: number;
}

/** dB; the lower end of the spectrum's axis. */
const SPECTRUM_FLOOR = -120;
/** Below this, one of the two plots has the screen for itself. */
const ROWS_FOR_TWO_PLOTS = 16;
const BAR_CHARACTERS = 12;

/** ANSI colours that can be told apart on light and on dark ground; the numbers are those of {@link Paint}, from 1. */
const PALETTE = ['36', '33', '35', '32', '34', '31'] as const;
const DIM = 100;
const BOLD = 101;
const ALARM = 102;

export function ansiPaint(text: string, colour: number): string {
  const code =
    colour === DIM ? '2' : colour === BOLD ? '1' : colour === ALARM ? '1;31' : PALETTE[(colour - 1) % PALETTE.length];
  return colour === 0 || code === undefined ? text : `\x1b[${code}m${text}\x1b[0m`;
}

export function plainPaint(text: string): string {
  return text;
}

/** Exactly `rows` lines of at most `columns` visible characters. */
export function renderWatch(view: WatchView, { columns, rows }: ScreenSize, paint: Paint): string[] {
  const lines = [heading(view, columns, paint), status(view, columns, paint)];
  const left = rows - lines.length;
  const twoPlots = left >= ROWS_FOR_TWO_PLOTS && view.spectrum !== undefined;
  const waveformRows = twoPlots ? Math.ceil(left / 2) : left;
  lines.push(...waveform(view, { columns, rows: waveformRows }, paint));
  if (twoPlots && view.spectrum !== undefined) {
    lines.push(...spectrum(view, view.spectrum, { columns, rows: left - waveformRows }, paint));
  }
  return lines.slice(0, rows);
}

function heading({ device, uri, seconds, notice }: WatchView, columns: number, paint: Paint): string {
  const left = ` ${device}  ${uri}`;
  const right = `${clockTime(seconds)}  ${notice ?? 'q quits, space pauses'} `;
  return paint(spread(left, right, columns), BOLD);
}

function status(view: WatchView, columns: number, paint: Paint): string {
  const { setsPerSecond, bytesPerSecond, gaps, lostSets, ring, mode } = view;
  const parts = [`${withUnit(setsPerSecond, 'S/s')}`, `${withUnit(bytesPerSecond, 'B/s')}`];
  const loss =
    gaps === undefined ? 'gaps unknown' : `gaps ${gaps}${lostSets === undefined ? '' : `, lost ${lostSets}`}`;
  parts.push(loss);
  if (ring !== undefined) {
    const filled = ring.total === 0 ? 0 : Math.round((ring.filled / ring.total) * BAR_CHARACTERS);
    parts.push(`ring ${'█'.repeat(filled)}${'░'.repeat(BAR_CHARACTERS - filled)} ${ring.filled}/${ring.total}`);
  }
  if (mode !== undefined) {
    parts.push(mode);
  }
  const text = ` ${parts.join('   ')}`.slice(0, columns);
  return (gaps ?? 0) > 0 ? text.replace(loss, (found) => paint(found, ALARM)) : text;
}

function waveform(view: WatchView, size: ScreenSize, paint: Paint): string[] {
  const { channels, sampleRate, range } = view;
  const length = channels[0]?.values.length ?? 0;
  const x: Axis =
    sampleRate === undefined
      ? { from: 0, to: Math.max(1, length - 1), unit: 'S' }
      : { from: 0, to: Math.max(1, length - 1) / sampleRate, unit: 's' };
  const names = channels.map(({ name }, index) => paint(`■ ${name}`, index + 1));
  const visible = channels.map(({ name }) => `■ ${name}`).join('  ');
  const title = rule(
    `waveform, ${shortWithUnit(x.to, x.unit)}`,
    { text: names.join('  '), visible },
    size.columns,
    paint,
  );
  // The first channel is drawn last, over the others.
  const curves: Curve[] = channels.map(({ values }, index) => ({ values, colour: index + 1 })).reverse();
  return [title, ...plotCurves(curves, { x, y: range }, { columns: size.columns, rows: size.rows - 1 }, paint)];
}

function spectrum(view: WatchView, found: Spectrum, size: ScreenSize, paint: Paint): string[] {
  const { levels, firstFrequency, binWidth, peak } = found;
  const rate = view.sampleRate ?? 1;
  const unit = view.sampleRate === undefined ? '/S' : 'Hz';
  const x: Axis = {
    from: firstFrequency * rate,
    to: (firstFrequency + (levels.length - 1) * binWidth) * rate,
    unit,
  };
  const isComplex = firstFrequency < 0;
  const of = view.channels
    .slice(0, isComplex ? 2 : 1)
    .map(({ name }) => name)
    .join(' + j ');
  const text = `peak ${withUnit(peak.frequency * rate, unit)} ${decibels(peak.level)} dBFS`;
  const title = rule(
    `spectrum of ${of}, ${shortWithUnit(binWidth * rate, unit)} per bin`,
    { text: paint(text, 1), visible: text },
    size.columns,
    paint,
  );
  const y: Axis = { from: SPECTRUM_FLOOR, to: 0, unit: 'dB' };
  const curve = { values: levels, colour: 1 };
  return [title, ...plotCurves([curve], { x, y }, { columns: size.columns, rows: size.rows - 1 }, paint)];
}

/** `── left ───────── right ──` */
function rule(
  left: string,
  right: { readonly text: string; readonly visible: string },
  columns: number,
  paint: Paint,
): string {
  const room = columns - left.length - right.visible.length - 8;
  return room < 1
    ? paint(`── ${left} `.padEnd(columns, '─').slice(0, columns), DIM)
    : `${paint(`── ${left} ${'─'.repeat(room)}`, DIM)} ${right.text} ${paint('──', DIM)}`;
}

function spread(left: string, right: string, columns: number): string {
  const room = columns - left.length - right.length;
  return room < 1 ? left.slice(0, columns).padEnd(columns) : `${left}${' '.repeat(room)}${right}`;
}
