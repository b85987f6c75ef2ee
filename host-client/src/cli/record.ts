import { formatScanFormat, type SampleLayout } from '@iio-bridge/protocol';
import type { Command } from 'commander';
import type { Context, Device, RxStream } from '../index.js';
import { gapBefore, startOf } from './block-facts.js';
import type { Interruption } from './interruption.js';
import {
  byteSize,
  type CaptureCommandOptions,
  captureOptions,
  deviceForStream,
  openContext,
  positiveReal,
  quadratureOption,
  usageError,
  warn,
  withCaptureOptions,
} from './options.js';
import { megabytes, print, showProgress, toJson } from './output.js';
import { type StreamFacts, streamFacts } from './sampling.js';
import { channelIds, expectedLayout, streamChannels } from './selection.js';
import type { Quadrature } from './sigmf/datatype.js';
import { EXTENSION_VERSION, SIGMF_VERSION } from './sigmf/metadata.js';
import { type RecordingFormat, recordingFormat } from './sigmf/recording-format.js';
import { RecordingWriter, recordingPath } from './sigmf/recording-writer.js';
import type { Metadata } from './sigmf/schema.js';
import { VERSION } from './version.js';

const RECORDER = `iio-client ${VERSION}`;
/** Wider values have no SigMF integers; they are time stamps. */
const MAX_BITS = 32;

export interface RecordCommandOptions extends CaptureCommandOptions {
  readonly output: string;
  readonly duration?: number;
  readonly splitSize?: number;
  readonly splitTime?: number;
  readonly rate?: number;
  readonly frequency?: number;
  readonly quadrature: Quadrature;
  readonly author?: string;
  readonly description?: string;
  readonly force?: true;
}

/** What `record` did; the form that `--json` prints. */
export interface RecordSummary {
  readonly device: string;
  readonly channels: readonly string[];
  readonly datatype: string;
  readonly sampleRate?: number;
  /** Sample sets recorded. */
  readonly samplesWritten: number;
  readonly bytesWritten: number;
  readonly seconds: number;
  /** Paths without extension. */
  readonly recordings: readonly string[];
  /** `null` if the server does not report gaps. */
  readonly gaps: number | null;
  readonly lostSamples: number | null;
}

export function addRecordCommand(program: Command, interruption: Interruption): void {
  withCaptureOptions(program.command('record'), 'record')
    .description('record a stream as SigMF: NAME.sigmf-data and NAME.sigmf-meta; gaps become annotations')
    .argument('<device>', 'id, name or label')
    .argument('[channel...]', 'ids, names or labels; default: all of the buffer but time stamps')
    .requiredOption('-o, --output <name>', 'path of the recording, without extension')
    .option('--duration <seconds>', 'end after that time', positiveReal)
    .option('--split-size <bytes>', 'NAME-0, NAME-1, … with datasets of up to that size: 500M, 2Gi', byteSize)
    .option('--split-time <seconds>', 'the same by the time that a dataset covers', positiveReal)
    .option('--rate <hertz>', 'sampling rate, where the device does not tell it', positiveReal)
    .option('--frequency <hertz>', 'centre frequency that the samples were mixed down from', positiveReal)
    .addOption(quadratureOption())
    .option('--author <text>', 'for the metadata')
    .option('--description <text>', 'for the metadata')
    .option('--force', 'write over a recording of that name')
    .action((device: string, channels: string[], options: RecordCommandOptions) =>
      runRecord(device, channels, options, interruption),
    );
}

async function runRecord(
  device: string,
  channels: readonly string[],
  options: RecordCommandOptions,
  interruption: Interruption,
): Promise<void> {
  await using context = await openContext(options, interruption);
  const summary = await record(
    context,
    await deviceForStream(context, device, options),
    channels,
    options,
    interruption.signal,
  );
  if (options.json === true) {
    await print(toJson(summary));
  } else {
    process.stderr.write(formatSummary(summary));
  }
}

/** Records until the samples, the time or the patience of the user are at their end. */
export async function record(
  context: Context,
  device: Device,
  channels: readonly string[],
  options: RecordCommandOptions,
  signal: AbortSignal,
): Promise<RecordSummary> {
  const wanted = channels.length > 0 ? channels : recordable(device);
  const facts = await streamFacts(device, expectedLayout(device, 'in', wanted));
  const rate = options.rate ?? facts.rate;
  await using stream = await device.createRxStream(captureOptions(options, wanted, signal));
  const startedAt = performance.now();
  const format = recordingFormat(stream.layout, options.quadrature);
  const writer = new RecordingWriter({
    path: recordingPath(options.output),
    global: globalMetadata(context, device, stream.layout, { format, rate, options, facts }),
    capture: options.frequency === undefined ? {} : { 'core:frequency': options.frequency },
    setBytes: format.bytes,
    setsPerPart: setsPerPart(options, rate, format),
    force: options.force === true,
  });
  await writer.open();
  const stopProgress = showProgress(
    () => `${writer.recordedSets} samples, ${megabytes(writer.recordedSets * format.bytes)} MB`,
  );
  try {
    await recordBlocks(stream, writer, { format, rate, options });
  } catch (error) {
    if (!signal.aborted) {
      throw error;
    }
  } finally {
    stopProgress();
    await writer.close();
  }
  const { gaps, lostSamples } = stream.statistics;
  return {
    device: device.name ?? device.id,
    channels: channelIds(stream.layout),
    datatype: format.datatype,
    ...(rate === undefined ? {} : { sampleRate: rate }),
    samplesWritten: writer.recordedSets,
    bytesWritten: writer.recordedSets * format.bytes,
    seconds: (performance.now() - startedAt) / 1000,
    recordings: writer.parts,
    gaps: gaps ?? null,
    lostSamples: lostSamples ?? null,
  };
}

interface RecordingPlan {
  readonly format: RecordingFormat;
  readonly rate: number | undefined;
  readonly options: RecordCommandOptions;
}

async function recordBlocks(stream: RxStream, writer: RecordingWriter, plan: RecordingPlan): Promise<void> {
  const { format, rate, options } = plan;
  const wanted = wantedSets(options, rate);
  const seconds = rate === undefined ? options.duration : undefined;
  const endAt = performance.now() + (seconds ?? Number.POSITIVE_INFINITY) * 1000;
  let epoch = 0;
  for await (using block of stream) {
    const sets = Math.min(block.samples, wanted - writer.recordedSets);
    const bytes = format.encode(block.bytes.subarray(0, sets * block.layout.bytes));
    await writer.write({ bytes, startNs: startOf(block, rate), gap: gapBefore(block, epoch) });
    epoch = block.epoch;
    if (writer.recordedSets >= wanted || performance.now() >= endAt) {
      return;
    }
  }
}

/** By the sampling rate, if that is known, the duration is exact; otherwise the clock ends the recording. */
function wantedSets({ samples, duration }: RecordCommandOptions, rate: number | undefined): number {
  const bySamples = samples === 0 ? Number.POSITIVE_INFINITY : samples;
  const byTime = duration === undefined || rate === undefined ? Number.POSITIVE_INFINITY : Math.ceil(duration * rate);
  return Math.min(bySamples, byTime);
}

function setsPerPart(
  { splitSize, splitTime }: RecordCommandOptions,
  rate: number | undefined,
  { bytes }: RecordingFormat,
): number | undefined {
  if (splitTime !== undefined && rate === undefined) {
    throw usageError('--split-time needs the sampling rate, which the device does not tell: give --rate');
  }
  const bySize = splitSize === undefined ? Number.POSITIVE_INFINITY : Math.floor(splitSize / bytes);
  const byTime =
    splitTime === undefined || rate === undefined ? Number.POSITIVE_INFINITY : Math.floor(splitTime * rate);
  const sets = Math.max(1, Math.min(bySize, byTime));
  return Number.isFinite(sets) ? sets : undefined;
}

/** All channels of the first input buffer but those that SigMF has no integers for. */
function recordable(device: Device): string[] {
  const channels = streamChannels(device, 'in');
  const isNarrow = ({ description }: (typeof channels)[number]) =>
    (description.scanElement?.format.bits ?? 0) <= MAX_BITS;
  const left = channels.filter((channel) => !isNarrow(channel)).map(({ id }) => id);
  if (left.length > 0) {
    warn(`not recorded, as SigMF has no integers of more than ${MAX_BITS} bits: ${left.join(', ')}`);
  }
  return channels.filter(isNarrow).map(({ id }) => id);
}

function globalMetadata(
  context: Context,
  device: Device,
  layout: SampleLayout,
  { format, rate, options, facts }: RecordingPlan & { readonly facts: StreamFacts },
): Metadata['global'] {
  const { description, attributes } = context;
  const { id, name, label } = device;
  const hardware = attributes.get('hw_model') ?? description.description;
  const channels = layout.channels.map(({ channel, position }) => ({
    id: channel.id,
    ...defined({ name: channel.name, label: channel.label }),
    ...(channel.scanElement === undefined ? {} : { format: formatScanFormat(channel.scanElement.format) }),
    ...defined({ ...facts.conversions.get(position) }),
  }));
  return {
    'core:datatype': format.datatype,
    'core:version': SIGMF_VERSION,
    'core:num_channels': format.channels,
    // SigMF knows no rates below 1 Hz.
    ...(rate === undefined || rate < 1 ? {} : { 'core:sample_rate': rate }),
    'core:hw': `${name ?? id}, ${hardware}`,
    'core:recorder': RECORDER,
    ...defined({ 'core:author': options.author, 'core:description': options.description }),
    'core:extensions': [{ name: 'iio', version: EXTENSION_VERSION, optional: true }],
    'iio:uri': context.uri,
    'iio:context': description.description,
    'iio:device': { id, ...defined({ name, label }) },
    'iio:channels': channels,
    'iio:samples': format.samples,
  };
}

/** Without the members that are undefined. */
function defined<T>(record: Readonly<Record<string, T | undefined>>): Record<string, T> {
  return Object.fromEntries(
    Object.entries(record).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])),
  );
}

function formatSummary(summary: RecordSummary): string {
  const { samplesWritten, bytesWritten, seconds, channels, recordings, datatype, gaps, lostSamples } = summary;
  const [first, ...others] = recordings;
  const where = others.length === 0 ? first : `${first} to ${others.at(-1)}`;
  return (
    `${samplesWritten} samples of ${channels.join(', ')} (${datatype}, ${megabytes(bytesWritten)} MB) ` +
    `in ${seconds.toFixed(2)} s to ${where}; ` +
    `${gaps === null ? 'the server does not report gaps' : gaps === 0 ? 'no gaps' : `${gaps} gaps, ${lostSamples} samples lost`}\n`
  );
}
