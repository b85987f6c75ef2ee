import type { Command } from 'commander';
import type { Device, RxStatistics, RxStreamOptions } from '../index.js';
import type { Interruption } from './interruption.js';
import {
  type CaptureCommandOptions,
  captureOptions,
  deviceForStream,
  openContext,
  usageError,
  withCaptureOptions,
} from './options.js';
import { megabytes, print, showProgress, toJson } from './output.js';
import { channelIds } from './selection.js';
import { fileSink, standardOutput } from './sink.js';

interface ReadCommandOptions extends CaptureCommandOptions {
  readonly output?: string;
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
  withCaptureOptions(program.command('read'), 'read')
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
    throw usageError('raw samples would garble the terminal: redirect standard output or give -o FILE');
  }
  await using context = await openContext(options, interruption);
  const summary = await read(
    await deviceForStream(context, device, options),
    captureOptions(options, channels, interruption.signal),
    { samples: options.samples || Number.POSITIVE_INFINITY, output: options.output },
  );
  const text = options.json === true ? toJson(summary) : formatSummary(summary);
  if (options.json === true && options.output !== undefined) {
    await print(text);
  } else {
    process.stderr.write(text);
  }
}

/** Streams raw sample sets, as the device stores them, to a file or (without `output`) standard output. */
export async function read(
  device: Device,
  streamOptions: RxStreamOptions,
  { samples, output }: { readonly samples: number; readonly output: string | undefined },
): Promise<ReadSummary> {
  await using sink = output === undefined ? standardOutput() : await fileSink(output);
  const startedAt = performance.now();
  await using stream = await device.createRxStream(streamOptions);
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
      const wanted = Math.min(block.samples, samples - samplesWritten);
      const more = await sink.write(block.bytes.subarray(0, wanted * block.layout.bytes));
      samplesWritten += wanted;
      if (!more || samplesWritten === samples) {
        break;
      }
    }
  } catch (error) {
    if (streamOptions.signal?.aborted !== true) {
      throw error;
    }
  } finally {
    stopProgress();
  }
  return {
    device: device.name ?? device.id,
    channels: channelIds(stream.layout),
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
