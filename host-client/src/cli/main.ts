#!/usr/bin/env node
import { IioError } from '@iio-bridge/protocol';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import type { Attribute } from '../core/attribute.js';
import type { Context as IioContext } from '../core/context.js';
import { Context, DEFAULT_TIMEOUT_MS, type Logger, scan } from '../index.js';
import { EXIT } from './exit-codes.js';
import { collectInfo, formatInfo } from './info.js';
import { formatSummary, read } from './read.js';

const DEFAULT_SAMPLES_PER_BLOCK = 4096;
const DEFAULT_BLOCKS = 4;

interface CommonOptions {
  readonly uri: string;
  readonly timeout: number;
  readonly json?: true;
  readonly verbose?: true;
}

interface ReadCommandOptions extends CommonOptions {
  readonly bufferSize: number;
  readonly samples?: number;
  readonly blocks: number;
  readonly output?: string;
}

interface AttrCommandOptions extends CommonOptions {
  readonly channel?: string;
  readonly input?: true;
  readonly outputChannel?: true;
  readonly debug?: true;
  readonly buffer?: number;
}

/** Ends the work in progress on the first SIGINT or SIGTERM; a second one kills. */
class Interruption {
  readonly #controller = new AbortController();
  exitCode: number | undefined;

  constructor() {
    process.once('SIGINT', () => this.#interrupt(EXIT.interrupted));
    process.once('SIGTERM', () => this.#interrupt(EXIT.terminated));
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  #interrupt(exitCode: number): void {
    this.exitCode = exitCode;
    this.#controller.abort(new IioError('EINTR', 'interrupted'));
  }
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new InvalidArgumentError('a whole number is needed');
  }
  return value;
}

function positiveNumber(text: string): number {
  const value = wholeNumber(text);
  if (value === 0) {
    throw new InvalidArgumentError('a number above 0 is needed');
  }
  return value;
}

function stderrLogger(options: CommonOptions): Logger {
  return {
    debug: (message) => options.verbose === true && process.stderr.write(`iio-client: ${message()}\n`),
    warn: (message) => process.stderr.write(`iio-client: ${message()}\n`),
  };
}

function openContext(options: CommonOptions, signal: AbortSignal): Promise<IioContext> {
  const timeoutMs = timeoutOf(options);
  return Context.open(options.uri, { timeoutMs, logger: stderrLogger(options), signal });
}

/** For work that has no use for the signal itself: an interruption closes the context, and so ends what waits. */
async function openInterruptible(options: CommonOptions, { signal }: Interruption): Promise<IioContext> {
  const context = await openContext(options, signal);
  // The promise of the end is kept by the context, for whoever disposes of it.
  signal.addEventListener('abort', () => context.close().catch(() => {}), { once: true });
  return context;
}

/** `-T 0` waits for ever, as with iio_readdev. */
function timeoutOf({ timeout }: CommonOptions): number {
  return timeout === 0 ? Number.POSITIVE_INFINITY : timeout;
}

function withCommonOptions(command: Command): Command {
  return command
    .option('-u, --uri <uri>', 'context: usb:, usb:BUS.ADDRESS, usb:BUS.ADDRESS.INTERFACE, usb:serial=SERIAL', 'usb:')
    .option('-T, --timeout <ms>', 'time-out in milliseconds, 0 for none', wholeNumber, DEFAULT_TIMEOUT_MS)
    .option('--json', 'print JSON')
    .option('-v, --verbose', 'report retries and repairs on standard error');
}

async function runScan(options: Pick<CommonOptions, 'json'>): Promise<void> {
  const contexts = await scan();
  const text = contexts.map(({ uri, description }) => `${uri}  ${description}\n`).join('');
  process.stdout.write(options.json === true ? toJson(contexts) : text || 'No IIO context found on USB.\n');
}

async function runInfo(options: CommonOptions, interruption: Interruption): Promise<void> {
  await using context = await openInterruptible(options, interruption);
  const info = await collectInfo(context);
  process.stdout.write(options.json === true ? toJson(info) : formatInfo(info));
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
  await using context = await openContext(options, interruption.signal);
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
  const stream = options.json === true && options.output !== undefined ? process.stdout : process.stderr;
  stream.write(text);
}

async function runAttr(
  device: string,
  name: string,
  value: string | undefined,
  options: AttrCommandOptions,
  interruption: Interruption,
): Promise<void> {
  await using context = await openInterruptible(options, interruption);
  const attribute = attributeFor(context, device, name, options);
  if (value !== undefined) {
    await attribute.write(value);
  }
  const current = (await attribute.read()).trimEnd();
  process.stdout.write(options.json === true ? toJson({ attribute: attribute.path, value: current }) : `${current}\n`);
}

function attributeFor(context: IioContext, key: string, name: string, options: AttrCommandOptions): Attribute {
  const device = context.device(key);
  if (options.channel !== undefined) {
    const direction = options.input === true ? 'in' : options.outputChannel === true ? 'out' : undefined;
    return device.channel(options.channel, direction).attribute(name);
  }
  if (options.buffer !== undefined) {
    return device.buffer(options.buffer).attribute(name);
  }
  return options.debug === true ? device.debugAttribute(name) : device.attribute(name);
}

function toJson(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}

function buildProgram(interruption: Interruption): Command {
  const program = new Command('iio-client')
    .description('Talks to IIO devices over USB: iio-bridge, and servers of libiio 1.0 and later.')
    .exitOverride()
    .addHelpText(
      'after',
      '\nExit codes: 0 success (also when the reader of standard output goes away), 1 failure, 2 wrong usage,\n' +
        '130 interrupted (SIGINT), 143 terminated (SIGTERM).',
    );

  program
    .command('scan')
    .description('list the IIO contexts on USB')
    .option('--json', 'print JSON')
    .action((options: Pick<CommonOptions, 'json'>) => runScan(options));

  withCommonOptions(program.command('info'))
    .description('show devices, channels and buffers with the values of their attributes')
    .action((options: CommonOptions) => runInfo(options, interruption));

  withCommonOptions(program.command('read'))
    .description('stream raw samples to standard output or a file; channels default to all of the buffer')
    .argument('<device>', 'id, name or label')
    .argument('[channel...]', 'ids, names or labels')
    .option('-b, --buffer-size <samples>', 'sample sets per block', positiveNumber, DEFAULT_SAMPLES_PER_BLOCK)
    .option('-s, --samples <count>', 'sample sets to read; 0 reads until interrupted', wholeNumber, 0)
    .option('-B, --blocks <count>', 'blocks in circulation', positiveNumber, DEFAULT_BLOCKS)
    .option('-o, --output <file>', 'write there; with --json the summary then goes to standard output')
    .action((device: string, channels: string[], options: ReadCommandOptions) =>
      runRead(device, channels, options, interruption),
    );

  withCommonOptions(program.command('attr'))
    .description('print an attribute, after writing a value to it if one is given')
    .argument('<device>', 'id, name or label')
    .argument('<attribute>', 'name')
    .argument('[value]', 'to write')
    .option('-c, --channel <channel>', 'an attribute of this channel')
    .option('-i, --input', 'the input channel of that name')
    .option('-O, --output-channel', 'the output channel of that name')
    .option('-d, --debug', 'a debug attribute')
    .option('--buffer <index>', 'an attribute of this buffer', wholeNumber)
    .action((device: string, name: string, value: string | undefined, options: AttrCommandOptions) =>
      runAttr(device, name, value, options, interruption),
    );

  return program;
}

async function main(): Promise<number> {
  // The callback of each write tells; without a listener the process would die of the event.
  process.stdout.on('error', () => {});
  const interruption = new Interruption();
  try {
    await buildProgram(interruption).parseAsync();
    return interruption.exitCode ?? EXIT.success;
  } catch (error) {
    if (error instanceof CommanderError) {
      return error.exitCode === 0 ? EXIT.success : EXIT.usage;
    }
    if (interruption.exitCode !== undefined) {
      return interruption.exitCode;
    }
    const text = error instanceof IioError ? `${error.message} (${error.code})` : String(error);
    process.stderr.write(`iio-client: ${text}\n`);
    return error instanceof IioError && error.code === 'USAGE' ? EXIT.usage : EXIT.failure;
  }
}

process.exitCode = await main();
