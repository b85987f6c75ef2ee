import { IioError } from '@iio-bridge/protocol';
import type { Command } from 'commander';
import type { Attribute, Context, Device } from '../index.js';
import type { Interruption } from './interruption.js';
import {
  type CommonOptions,
  openContext,
  positiveNumber,
  positiveReal,
  timeoutOf,
  withCommonOptions,
} from './options.js';
import { megabytes, print, showProgress, toJson } from './output.js';
import { channelIds, expectedLayout } from './selection.js';

const DEFAULT_SECONDS = 2;
const DEFAULT_BLOCKS = 4;
/** Sizes of blocks that are tried if none is given. */
const BLOCK_BYTES = [16 * 1024, 128 * 1024, 1024 * 1024] as const;
const ROUND_TRIPS = 100;

interface BenchCommandOptions extends CommonOptions {
  readonly bufferSize?: number;
  readonly blocks: number;
  readonly duration: number;
}

interface BenchRun {
  readonly samplesPerBlock: number;
  readonly blockBytes: number;
  readonly seconds: number;
  readonly bytes: number;
  readonly bytesPerSecond: number;
  readonly samplesPerSecond: number;
  /** Of this process, user and system, per 10^9 bytes. */
  readonly cpuSecondsPerGigabyte: number;
  /** Between the arrivals of blocks, in ms. */
  readonly blockIntervalMs: { readonly median: number; readonly max: number };
  readonly gaps: number | null;
  readonly lostSamples: number | null;
}

interface BenchResult {
  readonly uri: string;
  readonly device: string;
  readonly channels: readonly string[];
  /** Of reading one attribute, in ms; `null` if the device has none that can be read. */
  readonly roundTripMs: { readonly median: number; readonly max: number } | null;
  readonly runs: readonly BenchRun[];
}

export function addBenchCommand(program: Command, interruption: Interruption): void {
  withCommonOptions(program.command('bench'))
    .description('measure what a context delivers: throughput of an input, CPU time, and the time of a request')
    .argument('[device]', 'id, name or label; default: the first with an input buffer')
    .argument('[channel...]', 'ids, names or labels; default: all of the buffer')
    .option('-b, --buffer-size <samples>', 'sample sets per block; default: blocks of several sizes', positiveNumber)
    .option('--blocks <count>', 'blocks in circulation', positiveNumber, DEFAULT_BLOCKS)
    .option('--duration <seconds>', 'of each measurement', positiveReal, DEFAULT_SECONDS)
    .action((device: string | undefined, channels: string[], options: BenchCommandOptions) =>
      runBench(device, channels, options, interruption),
    );
}

async function runBench(
  name: string | undefined,
  channels: readonly string[],
  options: BenchCommandOptions,
  interruption: Interruption,
): Promise<void> {
  await using context = await openContext(options, interruption);
  const device = name === undefined ? firstInput(context) : context.device(name);
  const { bytes: setBytes } = expectedLayout(device, 'in', channels);
  const sizes =
    options.bufferSize === undefined
      ? BLOCK_BYTES.map((bytes) => Math.max(1, Math.floor(bytes / setBytes)))
      : [options.bufferSize];
  const roundTripMs = await roundTrip(device);
  const runs: BenchRun[] = [];
  for (const samplesPerBlock of sizes) {
    runs.push(await stream(device, channels, { ...options, samplesPerBlock, signal: interruption.signal }));
  }
  const result: BenchResult = {
    uri: context.uri,
    device: device.name ?? device.id,
    channels: channelIds(expectedLayout(device, 'in', channels)),
    roundTripMs,
    runs,
  };
  await print(options.json === true ? toJson(result) : formatBench(result));
}

function firstInput(context: Context): Device {
  const found = context.devices.find(({ buffers }) => buffers.some(({ direction }) => direction === 'in'));
  if (found === undefined) {
    throw new IioError('NO_DEVICE', `${context.uri} has no device with an input buffer`);
  }
  return found;
}

async function stream(
  device: Device,
  channels: readonly string[],
  options: Pick<BenchCommandOptions, 'blocks' | 'duration' | 'timeout'> & {
    readonly samplesPerBlock: number;
    readonly signal: AbortSignal;
  },
): Promise<BenchRun> {
  const { samplesPerBlock, blocks, duration, signal } = options;
  await using rx = await device.createRxStream({
    ...(channels.length === 0 ? {} : { channels }),
    samplesPerBlock,
    blocks,
    timeoutMs: timeoutOf(options),
    signal,
  });
  const stopProgress = showProgress(() => `${samplesPerBlock} samples per block: ${megabytes(rx.statistics.bytes)} MB`);
  const intervals: number[] = [];
  let bytes = 0;
  let startedAt = 0;
  let lastAt = 0;
  let cpu = process.cpuUsage();
  try {
    for await (using block of rx) {
      const now = performance.now();
      // The first block tells when the hardware started, not how fast it is.
      if (startedAt === 0) {
        startedAt = now;
        cpu = process.cpuUsage();
      } else {
        bytes += block.bytes.length;
        intervals.push(now - lastAt);
      }
      lastAt = now;
      if (now - startedAt >= duration * 1000 && intervals.length > 0) {
        break;
      }
    }
  } finally {
    stopProgress();
  }
  const { user, system } = process.cpuUsage(cpu);
  const seconds = (lastAt - startedAt) / 1000;
  const { gaps, lostSamples } = rx.statistics;
  return {
    samplesPerBlock,
    blockBytes: samplesPerBlock * rx.layout.bytes,
    seconds,
    bytes,
    bytesPerSecond: bytes / seconds,
    samplesPerSecond: bytes / rx.layout.bytes / seconds,
    cpuSecondsPerGigabyte: (user + system) / 1e6 / (bytes / 1e9),
    blockIntervalMs: spread(intervals),
    gaps: gaps ?? null,
    lostSamples: lostSamples ?? null,
  };
}

async function roundTrip(device: Device): Promise<BenchResult['roundTripMs']> {
  const attribute = await readable([...device.attributes.values()]);
  if (attribute === undefined) {
    return null;
  }
  const times: number[] = [];
  for (let i = 0; i < ROUND_TRIPS; i++) {
    const startedAt = performance.now();
    await attribute.read();
    times.push(performance.now() - startedAt);
  }
  return spread(times);
}

async function readable(attributes: readonly Attribute[]): Promise<Attribute | undefined> {
  for (const attribute of attributes) {
    try {
      await attribute.read();
      return attribute;
    } catch (error) {
      if (error instanceof IioError && error.code === 'DISCONNECTED') {
        throw error;
      }
    }
  }
  return undefined;
}

function spread(values: readonly number[]): { readonly median: number; readonly max: number } {
  const sorted = values.toSorted((a, b) => a - b);
  return { median: sorted[Math.floor(sorted.length / 2)] ?? 0, max: sorted.at(-1) ?? 0 };
}

function formatBench({ uri, device, channels, roundTripMs, runs }: BenchResult): string {
  const heading = ['block', 'MB/s', 'MS/s', 'CPU s/GB', 'interval ms', 'longest', 'gaps', 'lost'];
  const rows = runs.map((run) => [
    `${(run.blockBytes / 1024).toFixed(0)} KiB`,
    megabytes(run.bytesPerSecond),
    (run.samplesPerSecond / 1e6).toFixed(3),
    run.cpuSecondsPerGigabyte.toFixed(2),
    run.blockIntervalMs.median.toFixed(2),
    run.blockIntervalMs.max.toFixed(2),
    String(run.gaps ?? 'unknown'),
    String(run.lostSamples ?? 'unknown'),
  ]);
  const widths = heading.map((title, column) =>
    Math.max(...[heading, ...rows].map((row) => row[column]?.length ?? 0), title.length),
  );
  const line = (cells: readonly string[]) => cells.map((cell, column) => cell.padStart(widths[column] ?? 0)).join('  ');
  const trip =
    roundTripMs === null
      ? 'no attribute could be read'
      : `an attribute is read in ${roundTripMs.median.toFixed(2)} ms (at most ${roundTripMs.max.toFixed(2)})`;
  return `${device} (${channels.join(', ')}) at ${uri}; ${trip}\n${[heading, ...rows].map(line).join('\n')}\n`;
}
