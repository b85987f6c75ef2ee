import { IioError, RING_POLICIES, type RingPolicy } from '@iio-bridge/protocol';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { Context, DEFAULT_TIMEOUT_MS, type Device, type Logger, type RxStreamOptions } from '../index.js';
import type { Interruption } from './interruption.js';

/** Sample sets; libiio's programs have 256, which is slow where every block is a round trip. */
const DEFAULT_SAMPLES_PER_BLOCK = 4096;
const DEFAULT_BLOCKS = 4;

/** Of every command that opens a context. */
export interface CommonOptions {
  readonly uri: string;
  readonly timeout: number;
  readonly json?: true;
  readonly verbose?: true;
}

/** Of every command that streams. */
export interface StreamCommandOptions extends CommonOptions {
  readonly bufferSize: number;
  readonly samples: number;
  readonly blocks: number;
  readonly trigger?: string;
}

/** Of every command that captures. */
export interface CaptureCommandOptions extends StreamCommandOptions {
  readonly ring?: RxStreamOptions['ring'];
  readonly policy?: RingPolicy;
  readonly share?: true;
  readonly reconnect?: true;
}

export function withCommonOptions(command: Command): Command {
  return command
    .option(
      '-u, --uri <uri>',
      'context: usb:, usb:BUS.ADDRESS[.INTERFACE], usb:serial=SERIAL, ip:HOST[:PORT], ip:, xml:FILE',
      'usb:',
    )
    .option('-T, --timeout <ms>', 'time-out in milliseconds, 0 for none', wholeNumber, DEFAULT_TIMEOUT_MS)
    .option('--json', 'print JSON')
    .option('-v, --verbose', 'report retries and repairs on standard error');
}

/** `verb`: what is done with the samples. */
export function withStreamOptions(command: Command, verb: string): Command {
  return withCommonOptions(command)
    .option('-b, --buffer-size <samples>', 'sample sets per block', positiveNumber, DEFAULT_SAMPLES_PER_BLOCK)
    .option('-s, --samples <count>', `sample sets to ${verb} in all, 0 for no end`, wholeNumber, 0)
    .option('-t, --trigger <name>', 'assign this trigger first')
    .option('--blocks <count>', 'blocks in circulation', positiveNumber, DEFAULT_BLOCKS);
}

export function withCaptureOptions(command: Command, verb: string): Command {
  return withStreamOptions(command, verb)
    .option('--reconnect', 'go on when the context is lost and comes back')
    .addOption(
      bridgeOption('--ring <size>', 'capture ahead, up to 500ms, 2s, or bytes such as 64M').argParser(ringSize),
    )
    .addOption(bridgeOption('--policy <what>', 'gives way when the ring is full').choices(RING_POLICIES))
    .addOption(bridgeOption('--share', 'join those who stream from the device already'));
}

/** Whether channels in pairs are one complex signal. */
export function quadratureOption(): Option {
  return new Option(
    '--quadrature <how>',
    'channels in pairs are I and Q of complex samples; auto: if their names say so',
  )
    .choices(['auto', 'pairs', 'none'])
    .default('auto');
}

function bridgeOption(flags: string, description: string): Option {
  return new Option(flags, description).helpGroup('With iio-bridge:');
}

/** What a capture needs of the command line. `channels`: none for all. */
export function captureOptions(
  options: CaptureCommandOptions,
  channels: readonly string[],
  signal: AbortSignal,
): RxStreamOptions {
  const { bufferSize, samples, blocks, ring, policy, share } = options;
  return {
    ...(channels.length === 0 ? {} : { channels }),
    samplesPerBlock: Math.min(bufferSize, samples || bufferSize),
    blocks,
    timeoutMs: timeoutOf(options),
    signal,
    ...(ring === undefined ? {} : { ring }),
    ...(policy === undefined ? {} : { policy }),
    ...(share === undefined ? {} : { share }),
  };
}

export function wholeNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isSafeInteger(value) || value < 0) {
    throw new InvalidArgumentError('a whole number is needed');
  }
  return value;
}

export function positiveNumber(text: string): number {
  const value = wholeNumber(text);
  if (value === 0) {
    throw new InvalidArgumentError('a number above 0 is needed');
  }
  return value;
}

/** A positive number that need not be whole: seconds, hertz. */
export function positiveReal(text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0) {
    throw new InvalidArgumentError('a number above 0 is needed');
  }
  return value;
}

const SIZE_UNITS = { '': 1, k: 1e3, M: 1e6, G: 1e9, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30 } as const;

/** Bytes: `1000000`, `100M`, `2Gi`. */
export function byteSize(text: string): number {
  const [, digits, unit = ''] = /^(\d+(?:\.\d+)?)([kMG]|[KMG]i)?B?$/.exec(text) ?? [];
  const factor = Object.entries(SIZE_UNITS).find(([name]) => name === unit)?.[1];
  const size = Math.floor(Number(digits) * (factor ?? Number.NaN));
  if (!Number.isSafeInteger(size) || size <= 0) {
    throw new InvalidArgumentError('a size in bytes is needed, such as 500000, 100M or 2Gi');
  }
  return size;
}

/** Time (`500ms`, `2s`) or bytes. */
function ringSize(text: string): NonNullable<RxStreamOptions['ring']> {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)(ms|s)$/.exec(text) ?? [];
  return digits === undefined
    ? { bytes: byteSize(text) }
    : { ms: Math.max(1, Math.round(Number(digits) * (unit === 's' ? 1000 : 1))) };
}

/** An option that may be given several times. */
export function collect(text: string, earlier: readonly string[] = []): readonly string[] {
  return [...earlier, text];
}

export function stderrLogger({ verbose }: Pick<CommonOptions, 'verbose'>): Logger {
  return {
    debug: (message) => verbose === true && warn(message()),
    warn: (message) => warn(message()),
  };
}

export function warn(text: string): void {
  process.stderr.write(`iio-client: ${text}\n`);
}

export function openContext(
  options: CommonOptions & Pick<CaptureCommandOptions, 'reconnect'>,
  { signal }: Interruption,
): Promise<Context> {
  const { uri, reconnect = false } = options;
  return Context.open(uri, { timeoutMs: timeoutOf(options), logger: stderrLogger(options), signal, reconnect });
}

/** @throws IioError `NO_DEVICE`, and what assigning the trigger gives */
export async function deviceForStream(
  context: Context,
  name: string,
  { trigger }: Pick<StreamCommandOptions, 'trigger'>,
): Promise<Device> {
  const device = context.device(name);
  if (trigger !== undefined) {
    await device.setTrigger(trigger);
  }
  return device;
}

/** For work that has no use for the signal itself: an interruption closes the context, and so ends what waits. */
export async function openInterruptible(options: CommonOptions, interruption: Interruption): Promise<Context> {
  const context = await openContext(options, interruption);
  // The promise of the end is kept by the context, for whoever disposes of it.
  interruption.signal.addEventListener('abort', () => context.close().catch(() => {}), { once: true });
  return context;
}

/** `-T 0` waits for ever, as with iio_readdev. */
export function timeoutOf({ timeout }: Pick<CommonOptions, 'timeout'>): number {
  return timeout === 0 ? Number.POSITIVE_INFINITY : timeout;
}

/** A command line that commander cannot know to be wrong. */
export function usageError(message: string): IioError {
  return new IioError('USAGE', message);
}
