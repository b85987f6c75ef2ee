import { open } from 'node:fs/promises';
import type { Context } from '../core/context.js';
import type { RxStatistics, RxStream } from '../core/rx-stream.js';

const PROGRESS_INTERVAL_MS = 500;

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

/** Where samples go. Owns the file, if it is one. */
interface Sink extends AsyncDisposable {
  /** Resolves when the bytes may be overwritten: to false if nobody wants more. */
  write(bytes: Uint8Array): Promise<boolean>;
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
  const stopProgress = showProgress(stream);
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

async function fileSink(path: string): Promise<Sink> {
  const file = await open(path, 'w');
  return {
    write: async (bytes) => {
      for (let at = 0; at < bytes.length; ) {
        at += (await file.write(bytes, at)).bytesWritten;
      }
      return true;
    },
    [Symbol.asyncDispose]: () => file.close(),
  };
}

function standardOutput(): Sink {
  return {
    write: (bytes) =>
      new Promise((resolve, reject) => {
        process.stdout.write(bytes, (error) => {
          if (error === null || error === undefined) {
            resolve(true);
          } else if ('code' in error && error.code === 'EPIPE') {
            resolve(false);
          } else {
            reject(error);
          }
        });
      }),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** A line that renews itself, only where a person can see it. */
function showProgress(stream: RxStream): () => void {
  if (!process.stderr.isTTY) {
    return () => {};
  }
  const timer = setInterval(() => {
    const { blocks, bytes, bytesPerSecond, inFlight, held } = stream.statistics;
    process.stderr.write(
      `\r${blocks} blocks, ${megabytes(bytes)} MB, ${megabytes(bytesPerSecond)} MB/s, ` +
        `${inFlight} in flight, ${held} held\x1b[K`,
    );
  }, PROGRESS_INTERVAL_MS);
  return () => {
    clearInterval(timer);
    process.stderr.write('\r\x1b[K');
  };
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
