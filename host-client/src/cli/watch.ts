import { type Command, InvalidArgumentError } from 'commander';
import type { BufferInfo, Device, RxStream } from '../index.js';
import { gapBefore } from './block-facts.js';
import { EXIT } from './exit-codes.js';
import type { Interruption } from './interruption.js';
import {
  type CaptureCommandOptions,
  captureOptions,
  deviceForStream,
  openContext,
  positiveNumber,
  quadratureOption,
  withCaptureOptions,
} from './options.js';
import { print, toJsonLine } from './output.js';
import { decibels, shortWithUnit, withUnit } from './plot/units.js';
import { toneOf, type WatchedInput, type WatchedSource, WatchModel } from './plot/watch-model.js';
import { ansiPaint, plainPaint, renderWatch, type WatchView } from './plot/watch-screen.js';
import { type StreamFacts, streamFacts, unitOf } from './sampling.js';
import { bufferOf, expectedLayout, streamChannels } from './selection.js';
import { isQuadrature, type Quadrature } from './sigmf/datatype.js';

const SCREEN_INTERVAL_MS = 100;
const LINE_INTERVAL_MS = 1000;
/** How often the server is asked for the fill of its ring, in ms. */
const POLL_INTERVAL_MS = 500;
const DEFAULT_SPECTRUM_SIZE = 4096;
/** More curves than this cannot be told apart. */
const MAX_CHANNELS = 6;

interface WatchCommandOptions extends CaptureCommandOptions {
  readonly interval?: number;
  readonly fftSize: number;
  readonly quadrature: Quadrature;
}

export function addWatchCommand(program: Command, interruption: Interruption): void {
  withCaptureOptions(program.command('watch'), 'watch')
    .description('show rate, gaps, ring, waveform and spectrum of a stream; q quits, space pauses, + and - zoom')
    .argument('<device>', 'id, name or label')
    .argument('[channel...]', `ids, names or labels; default: the first ${MAX_CHANNELS} that are no time stamps`)
    .option('--interval <ms>', `between pictures, ${SCREEN_INTERVAL_MS}; or lines, ${LINE_INTERVAL_MS}`, positiveNumber)
    .option('--fft-size <samples>', 'a power of two', powerOfTwo, DEFAULT_SPECTRUM_SIZE)
    .addOption(quadratureOption())
    .action((device: string, channels: string[], options: WatchCommandOptions) =>
      runWatch(device, channels, options, interruption),
    );
}

function powerOfTwo(text: string): number {
  const size = Number(text);
  if (!Number.isInteger(Math.log2(size)) || size < 16 || size > 2 ** 20) {
    throw new InvalidArgumentError('a power of two from 16 to 1048576 is needed');
  }
  return size;
}

async function runWatch(
  name: string,
  channels: readonly string[],
  options: WatchCommandOptions,
  interruption: Interruption,
): Promise<void> {
  await using context = await openContext(options, interruption);
  const device = await deviceForStream(context, name, options);
  const wanted = channels.length > 0 ? channels : watchable(device);
  const facts = await streamFacts(device, expectedLayout(device, 'in', wanted));
  await using stream = await device.createRxStream(captureOptions(options, wanted, interruption.signal));
  const model = new WatchModel(sourceOf(stream, context.uri, facts, options), options.fftSize, performance.now());
  using server = new ServerState(bufferOf(device, 'in'));
  using display = displayFor(options, model, interruption);
  const interval = options.interval ?? display.intervalMs;
  let shownAt = performance.now();
  let epoch = 0;
  for await (using block of stream) {
    const now = performance.now();
    model.arrived(
      {
        sets: block.samples,
        isGap: gapBefore(block, epoch) !== undefined,
        values: () => stream.layout.channels.map(({ channel }) => block.channel(channel.id)),
      },
      now,
    );
    epoch = block.epoch;
    const isLast = options.samples > 0 && model.sets >= options.samples;
    if (now - shownAt >= interval || isLast) {
      shownAt = now;
      const { gaps, lostSamples } = stream.statistics;
      if (!(await display.show(model.view(now, { gaps, lostSets: lostSamples, ...server.state })))) {
        return;
      }
    }
    if (isLast) {
      return;
    }
  }
}

/** The first channels of the input buffer that are no time stamps. */
function watchable(device: Device): string[] {
  return streamChannels(device, 'in')
    .filter(({ id }) => id !== 'timestamp')
    .slice(0, MAX_CHANNELS)
    .map(({ id }) => id);
}

function sourceOf(
  { device, layout }: RxStream,
  uri: string,
  { rate, conversions }: StreamFacts,
  { quadrature }: WatchCommandOptions,
): WatchedSource {
  const channels = layout.channels.slice(0, MAX_CHANNELS).map(({ channel, position }): WatchedInput => {
    const { scale, offset } = conversions.get(position) ?? {};
    const { unit, factor } = (scale === undefined ? undefined : unitOf(channel.id)) ?? { unit: '', factor: 1 };
    const { bits = 0, signed = false } = channel.scanElement?.format ?? {};
    return {
      name: channel.label ?? channel.name ?? channel.id,
      scale: (scale ?? 1) * factor,
      offset: scale === undefined ? 0 : (offset ?? 0),
      unit,
      fullScale: 2 ** (bits - 1) - (signed ? 0 : 0.5),
    };
  });
  return {
    uri,
    device: device.name ?? device.id,
    channels,
    complex: channels.length >= 2 && isQuadrature(layout, quadrature),
    setBytes: layout.bytes,
    sampleRate: rate,
  };
}

/** Mode and ring of the server, asked for now and then. Owns its timer. */
class ServerState implements Disposable {
  readonly #timer: NodeJS.Timeout;
  #state: Pick<WatchView, 'ring' | 'mode'> = { ring: undefined, mode: undefined };
  #isAsking = false;

  constructor(buffer: BufferInfo) {
    this.#timer = setInterval(() => this.#ask(buffer), POLL_INTERVAL_MS);
    this.#ask(buffer);
  }

  get state(): Pick<WatchView, 'ring' | 'mode'> {
    return this.#state;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #ask({ attributes }: BufferInfo): void {
    if (this.#isAsking) {
      return;
    }
    this.#isAsking = true;
    // Without an answer the screen goes on with the last one; the stream itself tells when the server is gone.
    Promise.all([attributes.get('ring_fill')?.read(), attributes.get('mode')?.read()])
      .then(([fill, mode]) => {
        this.#state = { ring: parseRing(fill), mode: mode?.trim() };
      })
      .catch(() => {})
      .finally(() => {
        this.#isAsking = false;
      });
  }
}

/** `3/16` */
function parseRing(text: string | undefined): WatchView['ring'] {
  const [, filled, total] = /^(\d+)\/(\d+)\s*$/.exec(text ?? '') ?? [];
  return filled === undefined ? undefined : { filled: Number(filled), total: Number(total) };
}

/** Where views go. Owns the terminal's mode. */
interface Display extends Disposable {
  readonly intervalMs: number;
  /** Resolves to false if nobody wants more. */
  show(view: WatchView): Promise<boolean>;
}

function displayFor(options: WatchCommandOptions, model: WatchModel, interruption: Interruption): Display {
  if (options.json === true) {
    return lineDisplay((view) => toJsonLine(summaryOf(view)));
  }
  return process.stdout.isTTY ? new Screen(model, interruption) : lineDisplay(formatLine);
}

function lineDisplay(format: (view: WatchView) => string): Display {
  return {
    intervalMs: LINE_INTERVAL_MS,
    show: (view) => print(format(view)),
    [Symbol.dispose]: () => {},
  };
}

const ENTER = '\x1b[?1049h\x1b[?25l';
const LEAVE = '\x1b[?25h\x1b[?1049l';

/** The terminal's other screen, as with pagers and editors: what was there before is there again afterwards. */
class Screen implements Display {
  readonly intervalMs = SCREEN_INTERVAL_MS;
  readonly #model: WatchModel;
  readonly #interruption: Interruption;
  readonly #onKey = (key: Buffer): void => this.#pressed(String(key));
  #isPaused = false;

  constructor(model: WatchModel, interruption: Interruption) {
    this.#model = model;
    this.#interruption = interruption;
    process.stdout.write(ENTER);
    if (process.stdin.isTTY) {
      process.stdin.setRawMode(true);
      process.stdin.on('data', this.#onKey);
    }
  }

  show(view: WatchView): Promise<boolean> {
    if (this.#isPaused) {
      return Promise.resolve(true);
    }
    const { columns, rows } = process.stdout;
    // https://no-color.org
    const { NO_COLOR } = process.env;
    const paint = NO_COLOR ? plainPaint : ansiPaint;
    const lines = renderWatch(view, { columns, rows }, paint);
    return print(`\x1b[H${lines.join('\x1b[K\r\n')}\x1b[J`);
  }

  [Symbol.dispose](): void {
    if (process.stdin.isTTY) {
      process.stdin.off('data', this.#onKey);
      process.stdin.setRawMode(false);
      process.stdin.pause();
    }
    process.stdout.write(LEAVE);
  }

  #pressed(key: string): void {
    switch (key) {
      case 'q':
        this.#interruption.end(EXIT.success);
        break;
      // Raw mode gives Ctrl-C to us, instead of making a signal of it.
      case '\x03':
        this.#interruption.end(EXIT.interrupted);
        break;
      case ' ':
        this.#isPaused = !this.#isPaused;
        break;
      case '+':
        this.#model.zoom++;
        break;
      case '-':
        this.#model.zoom--;
        break;
    }
  }
}

/** What `--json` prints, once per interval. */
function summaryOf(view: WatchView) {
  const { seconds, setsPerSecond, bytesPerSecond, gaps, lostSets, ring, mode, sampleRate, spectrum } = view;
  const tone = spectrum === undefined ? undefined : toneOf(spectrum);
  return {
    seconds,
    samplesPerSecond: setsPerSecond,
    bytesPerSecond,
    gaps: gaps ?? null,
    lostSamples: lostSets ?? null,
    ring: ring ?? null,
    mode: mode ?? null,
    peak:
      tone === undefined || sampleRate === undefined
        ? null
        : { frequency: tone.frequency * sampleRate, dBFS: tone.level },
  };
}

function formatLine(view: WatchView): string {
  const { setsPerSecond, bytesPerSecond, gaps, lostSets, ring } = view;
  const { peak } = summaryOf(view);
  const parts = [
    withUnit(setsPerSecond, 'S/s'),
    withUnit(bytesPerSecond, 'B/s'),
    gaps === undefined ? 'gaps unknown' : `gaps ${gaps}, lost ${lostSets ?? 'unknown'}`,
    ...(ring === undefined ? [] : [`ring ${ring.filled}/${ring.total}`]),
    ...(peak === null ? [] : [`peak ${shortWithUnit(peak.frequency, 'Hz')} ${decibels(peak.dBFS)} dBFS`]),
  ];
  return `${parts.join('  ')}\n`;
}
