import { IioError, type SampleLayout } from '@iio-bridge/protocol';
import type { Device, TxStatistics } from '../index.js';
import { type StreamCommandOptions, timeoutOf } from './options.js';
import { megabytes, print, showProgress, toJson } from './output.js';
import { channelIds } from './selection.js';

/** A cyclic block is one piece of memory here, on the server, and for the hardware. */
const MAX_CYCLIC_BYTES = 256 * 1024 * 1024;

export interface PlaybackCommandOptions extends StreamCommandOptions {
  readonly cyclic?: true;
}

interface PlaybackOptions {
  readonly channels: readonly string[];
  /** What {@link channels} should make; a sample set of the input. */
  readonly layout: SampleLayout;
  readonly samplesPerBlock: number;
  readonly blocks: number;
  /** Sample sets to play at most. */
  readonly samples: number;
  /** Play the input again and again until the signal. */
  readonly cyclic: boolean;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** What `write` and `play` did; the form that `--json` prints. */
interface PlaybackSummary {
  readonly device: string;
  readonly channels: readonly string[];
  readonly sampleBytes: number;
  /** Sample sets that the hardware took; in a cyclic stream, the length of the cycle. */
  readonly samplesWritten: number;
  readonly cyclic: boolean;
  readonly seconds: number;
  /** `null` if the server does not report them. */
  readonly underruns: number | null;
  readonly unplayedSamples: number | null;
}

/** Plays `input`, as the command line says, and tells how it was. `channels`: none for all; `layout` is what they make. */
export async function runPlayback(
  device: Device,
  input: AsyncIterable<Uint8Array>,
  options: PlaybackCommandOptions,
  what: Pick<PlaybackOptions, 'channels' | 'layout' | 'signal'>,
): Promise<void> {
  const summary = await playBack(device, input, {
    ...what,
    samplesPerBlock: options.bufferSize,
    blocks: options.blocks,
    samples: options.samples || Number.POSITIVE_INFINITY,
    cyclic: options.cyclic === true,
    timeoutMs: timeoutOf(options),
  });
  if (options.json === true) {
    await print(toJson(summary));
  } else {
    process.stderr.write(formatPlayback(summary));
  }
}

/**
 * Plays `input`, which has whole sample sets when it is at its end, and waits until the hardware has taken all of it.
 * @throws IioError `EINVAL` if there is nothing to play, or a part of a sample set is left over
 */
async function playBack(
  device: Device,
  input: AsyncIterable<Uint8Array>,
  options: PlaybackOptions,
): Promise<PlaybackSummary> {
  const startedAt = performance.now();
  const limited = firstBytes(input, options.samples * options.layout.bytes);
  const played = options.cyclic ? await playCycle(device, limited, options) : await playOnce(device, limited, options);
  const { underruns, unplayedSamples } = played.statistics;
  return {
    device: device.name ?? device.id,
    channels: channelIds(options.layout),
    sampleBytes: options.layout.bytes,
    samplesWritten: played.bytes / options.layout.bytes,
    cyclic: options.cyclic,
    seconds: (performance.now() - startedAt) / 1000,
    underruns: underruns ?? null,
    unplayedSamples: unplayedSamples ?? null,
  };
}

function formatPlayback(summary: PlaybackSummary): string {
  const { samplesWritten, sampleBytes, cyclic, seconds, channels, underruns, unplayedSamples } = summary;
  const loss =
    underruns === null || underruns === 0 ? '' : `; ${underruns} underruns, ${unplayedSamples} samples unplayed`;
  return (
    `${samplesWritten} samples on ${channels.join(', ')} (${megabytes(samplesWritten * sampleBytes)} MB) ` +
    `${cyclic ? 'again and again for' : 'in'} ${seconds.toFixed(2)} s${loss}\n`
  );
}

interface Played {
  readonly bytes: number;
  readonly statistics: TxStatistics;
}

async function playOnce(device: Device, input: AsyncIterable<Uint8Array>, options: PlaybackOptions): Promise<Played> {
  const { channels, samplesPerBlock, blocks, timeoutMs, signal } = options;
  await using stream = await device.createTxStream({ ...some(channels), samplesPerBlock, blocks, timeoutMs, signal });
  requireLayout(stream.layout, options);
  const stopProgress = showProgress(() => {
    const { blocks: sent, bytes, bytesPerSecond, inFlight } = stream.statistics;
    return `${sent} blocks, ${megabytes(bytes)} MB, ${megabytes(bytesPerSecond)} MB/s, ${inFlight} in flight`;
  });
  let bytes = 0;
  try {
    for await (const chunk of input) {
      await stream.write(chunk);
      bytes += chunk.length;
    }
    requireSamples(bytes, options);
    await stream.flush();
  } catch (error) {
    if (!signal.aborted) {
      throw error;
    }
    bytes = stream.statistics.bytes;
  } finally {
    stopProgress();
  }
  return { bytes, statistics: stream.statistics };
}

async function playCycle(device: Device, input: AsyncIterable<Uint8Array>, options: PlaybackOptions): Promise<Played> {
  const { channels, timeoutMs, signal, layout } = options;
  const cycle = await collect(input);
  requireSamples(cycle.length, options);
  const samplesPerBlock = cycle.length / layout.bytes;
  await using stream = await device.createTxStream({
    ...some(channels),
    samplesPerBlock,
    cyclic: true,
    timeoutMs,
    signal,
  });
  requireLayout(stream.layout, options);
  await stream.write(cycle);
  await stream.flush();
  await aborted(signal);
  return { bytes: cycle.length, statistics: stream.statistics };
}

function some(channels: readonly string[]): { readonly channels?: readonly string[] } {
  return channels.length === 0 ? {} : { channels };
}

function requireSamples(bytes: number, { layout }: PlaybackOptions): void {
  const rest = bytes % layout.bytes;
  if (bytes === 0 || rest !== 0) {
    const what = bytes === 0 ? 'has no samples' : `ends with ${rest} bytes of a sample set, which has ${layout.bytes}`;
    throw new IioError('EINVAL', `the input ${what}; a set is one sample of each of ${channelIds(layout).join(', ')}`);
  }
}

/** Hardware that couples channels may have enabled others, for which there are no samples. */
function requireLayout(opened: SampleLayout, { layout }: PlaybackOptions): void {
  const [wanted, got] = [channelIds(layout), channelIds(opened)].map((ids) => ids.join(', '));
  if (wanted !== got) {
    throw new IioError('EINVAL', `the hardware plays ${got} together: samples of ${wanted} alone cannot be played`);
  }
}

async function* firstBytes(input: AsyncIterable<Uint8Array>, limit: number): AsyncGenerator<Uint8Array> {
  let left = limit;
  for await (const chunk of input) {
    const part = chunk.subarray(0, left);
    left -= part.length;
    yield part;
    if (left === 0) {
      return;
    }
  }
}

async function collect(input: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of input) {
    bytes += chunk.length;
    if (bytes > MAX_CYCLIC_BYTES) {
      throw new IioError(
        'EFBIG',
        `a cycle of more than ${MAX_CYCLIC_BYTES} bytes cannot be played: shorten it with -s`,
      );
    }
    chunks.push(chunk.slice());
  }
  return Buffer.concat(chunks);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
    } else {
      signal.addEventListener('abort', () => resolve(), { once: true });
    }
  });
}
