import { IioError } from '@iio-bridge/protocol';
import type { Command } from 'commander';
import type { Context, RxStatistics } from '../index.js';
import type { Interruption } from './interruption.js';
import { openContext, type StreamCommandOptions, timeoutOf, withStreamOptions } from './options.js';
import { megabytes, print, showProgress, toJson } from './output.js';
import { fileSink, standardOutput } from './sink.js';

interface ReadCommandOptions extends StreamCommandOptions {
  readonly output?: string;
}

export interface ReadOptions {
  readonly device: string;
  readonly channels: readonly string[];
  readonly samplesPerBlock: number;
  readonly blocks: number;
  /** Sample sets to read in all; `undefined` reads until the signal. */
  readonly samples: number | undefined;
  /** A file to write to; `undefined` is standard output. */
  readonly output: string | undefined;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** What `read` did; the form that `--json` prints. */
export interface ReadSummary extends RxStatistics {
  readonly device: string;
  readonly channels: readonly string[];
  readonly sampleBytes: number;
  /** Sample sets written. */
  readonly samplesWritten: number;
  readonly seconds: number;
}

export function addReadCommand(program: Command, interruption: Interruption): void {
  withStreamOptions(program.command('read'), 'read')
    .description('stream raw samples to standard output or a file; channels default to all of the buffer')
    .argument('<device>', 'id, name or label')
    .argument('[channel...]', 'ids, names or labels')
    .option('-o, --output <file>', 'write there; with --json the summary then goes to standard output')
    .action((device: string, channels: string[], options: ReadCommandOptions) =>
      runRead(device, channels, options, interruption),
    );
}

async function runRead(
  device: string,
  channels: readonly string[],
  options: ReadCommandOptions,
  interruption: Interruption,
): Promise<void> {
  if (options.output === undefined && process.stdout.isTTY) {
    throw new IioError('USAGE', 'raw samples would garble the terminal: redirect standard output or give -o FILE');
  }
  await using context = await openContext(options, interruption);
  const summary = await read(context, {
    device,
    channels,
    samplesPerBlock: Math.min(options.bufferSize, options.samples || options.bufferSize),
    blocks: options.blocks,
    samples: options.samples === 0 ? undefined : options.samples,
    output: options.output,
    timeoutMs: timeoutOf(options),
    signal: interruption.signal,
  });
  const text = options.json === true ? toJson(summary) : formatSummary(summary);
  if (options.json === true && options.output !== undefined) {
    await print(text);
  } else {
    process.stderr.write(text);
  }
}

/** Streams raw sample sets, as the device stores them, to a file or standard output. */
export async function read(context: Context, options: ReadOptions): Promise<ReadSummary> {
  const { device, channels, samplesPerBlock, blocks, timeoutMs, signal } = options;
  await using sink = options.output === undefined ? standardOutput() : await fileSink(options.output);
  const startedAt = performance.now();
  await using stream = await context.device(device).createRxStream({
    samplesPerBlock,
    blocks,
    timeoutMs,
    signal,
    ...(channels.length === 0 ? {} : { channels }),
  });
  const stopProgress = showProgress(() => {
    const { blocks: arrived, bytes, bytesPerSecond, inFlight, held } = stream.statistics;
    return (
      `${arrived} blocks, ${megabytes(bytes)} MB, ${megabytes(bytesPerSecond)} MB/s, ` +
      `${inFlight} in flight, ${held} held`
    );
  });
  let samplesWritten = 0;
  try {
    for await (using block of stream) {
      const wanted = Math.min(block.samples, (options.samples ?? Number.POSITIVE_INFINITY) - samplesWritten);
      const more = await sink.write(block.bytes.subarray(0, wanted * block.layout.bytes));
      samplesWritten += wanted;
      if (!more || samplesWritten === options.samples) {
        break;
      }
    }
  } catch (error) {
    if (!signal.aborted) {
      throw error;
    }
  } finally {
    stopProgress();
  }
  return {
    device,
    channels: stream.layout.channels.map(({ channel }) => channel.id),
    sampleBytes: stream.layout.bytes,
    samplesWritten,
    seconds: (performance.now() - startedAt) / 1000,
    ...stream.statistics,
  };
}

export function formatSummary(summary: ReadSummary): string {
  const { samplesWritten, sampleBytes, seconds, channels, bytesPerSecond } = summary;
  return (
    `${samplesWritten} samples of ${channels.join(', ')} (${megabytes(samplesWritten * sampleBytes)} MB) ` +
    `in ${seconds.toFixed(2)} s, ${megabytes(bytesPerSecond)} MB/s\n`
  );
}
