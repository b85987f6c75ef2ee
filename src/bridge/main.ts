#!/usr/bin/env node
import { readFile } from 'node:fs/promises';
import { IioError, RING_POLICIES, type RingPolicy } from '@iio-bridge/protocol';
import { Command, InvalidArgumentError, Option } from 'commander';
import { pino } from 'pino';
import { fromFsError } from '../sys/errors.js';
import { type Config, parseConfig, parseRing } from './config.js';
import type { RingSize } from './input-capture.js';
import type { Logger } from './logger.js';
import { Service } from './service.js';
import { type Announcer, isLoopback } from './tcp-server.js';
import { VERSION } from './version.js';

interface ServeOptions {
  readonly configFile?: string;
  /** False by `--no-usb`. */
  readonly usb: boolean;
  readonly name?: string;
  readonly gadget?: string;
  readonly config?: string;
  readonly udc?: string;
  readonly pipes?: number;
  readonly idVendor?: number;
  readonly idProduct?: number;
  readonly manufacturer?: string;
  readonly product?: string;
  readonly serial?: string;
  readonly tcp?: readonly string[];
  /** False by `--no-announce`. */
  readonly announce: boolean;
  readonly readOnly?: true;
  readonly emulate?: string;
  readonly signal?: 'counter' | 'sine';
  readonly freeRunning?: true;
  readonly loopback?: { readonly from: string; readonly to: string };
  readonly mode?: 'auto' | 'copy';
  readonly heap?: string;
  readonly metrics?: string;
  readonly ring?: RingSize;
  readonly ringPolicy?: RingPolicy;
  readonly require?: 'zero-copy';
  readonly realtime?: number;
  readonly cpu?: number;
  readonly lockMemory?: true;
  readonly logLevel: string;
}

const program = new Command('iio-bridge')
  .description('Serves IIO devices over USB and TCP, in the protocol of iiod.')
  .version(VERSION);

program
  .command('serve')
  .description('serve the IIO context until SIGTERM or SIGINT')
  .option('--config-file <path>', 'JSON; what is given on the command line comes first')
  .optionsGroup('USB:')
  .option('--no-usb', 'leave USB alone')
  .option('--name <name>', 'of the gadget and its function (default: iio-bridge)')
  .option('--gadget <directory>', 'join this gadget (below usb_gadget/) instead of making one')
  .option('--config <name>', 'configuration of that gadget to join (default: c.1)')
  .option('--udc <name>', 'USB device controller, from /sys/class/udc (default: the first free one)')
  .option('--pipes <n>', 'one for the context, and one for each buffer open at once (default: 3)', integer)
  .option('--id-vendor <id>', 'USB vendor id (default: 0x1209)', integer)
  .option('--id-product <id>', 'USB product id (default: 0x0001)', integer)
  .option('--manufacturer <text>', 'USB string (default: iio-bridge)')
  .option('--product <text>', 'USB string (default: IIO context)')
  .option('--serial <text>', 'USB serial number (default: the name of the host)')
  .optionsGroup('TCP:')
  .option('--tcp <[host:]port>', 'listen here, on loopback without a host; repeatable (iiod: 30431)', collect)
  .option('--no-announce', 'do not announce the service by DNS-SD where others can reach it')
  .optionsGroup('Access:')
  .option('--read-only', 'clients write nothing: no attributes, triggers, registers, output buffers')
  .optionsGroup('Emulation:')
  .option('--emulate <context.xml>', "serve this context instead of the machine's devices")
  .addOption(
    new Option('--signal <name>', 'what inputs without a sample file show (default: counter)').choices([
      'counter',
      'sine',
    ]),
  )
  .option('--free-running', 'as fast as clients read and write, whatever the sampling frequency')
  .option('--loopback <output=input>', 'the input device captures what the output device plays', wire)
  .optionsGroup('Streams:')
  .addOption(
    new Option('--mode <mode>', 'auto: as few copies as the hardware allows; the others copy on purpose').choices([
      'auto',
      'copy',
    ]),
  )
  .option('--heap <name>', 'DMA heap for blocks, from /dev/dma_heap, or udmabuf (default: the first that works)')
  .option('--ring <size>', 'capture ahead of the clients: 500ms, 64MiB (default: what they request)', ring)
  .addOption(
    new Option('--ring-policy <policy>', 'what gives way when the ring is full (default: drop-newest)').choices(
      RING_POLICIES,
    ),
  )
  .addOption(new Option('--require <mode>', 'refuse streams of which a side would copy').choices(['zero-copy']))
  .optionsGroup('Real time:')
  .option('--realtime <priority>', 'SCHED_FIFO for the thread through which all samples go, 1 to 99', integer)
  .option('--cpu <n>', 'the processor that it runs on', integer)
  .option('--lock-memory', 'what that thread runs on is not paged out')
  .optionsGroup('Other:')
  .option('--metrics <[host:]port>', 'serve figures for Prometheus here, on loopback without a host, as /metrics')
  .addOption(
    new Option('--log-level <level>', 'of the log on standard output')
      .choices(['debug', 'info', 'warn', 'error'])
      .default('info'),
  )
  .action(serve);

async function serve(options: ServeOptions): Promise<void> {
  const file = options.configFile;
  const config = parseConfig(
    overlay(file === undefined ? {} : await readJson(file), fromCommandLine(options)),
    file === undefined ? 'the command line' : `${file} and the command line`,
  );
  const log = pino({ name: 'iio-bridge', level: options.logLevel }, pino.destination({ dest: 1, sync: true }));
  // From here on a signal no longer ends the process where it stands, half-way into setting a gadget up.
  const terminated = terminationSignal();
  const service = await Service.start(config, { log, ...(await announcerFor(config, log)) });
  log.info({ signal: await terminated }, 'stopping');
  await service.stop();
  log.info({}, 'stopped');
}

/** Loaded only where there is something to announce. */
async function announcerFor({ tcp }: Config, log: Logger): Promise<{ announcer?: Announcer }> {
  if (!tcp.announce || tcp.listen.every(({ host }) => isLoopback(host))) {
    return {};
  }
  const { DnsSdAnnouncer } = await import('./dns-sd.js');
  return { announcer: new DnsSdAnnouncer(log) };
}

function fromCommandLine(options: ServeOptions): Record<string, unknown> {
  const { emulate, signal, freeRunning, loopback } = options;
  const emulation = defined({ context: emulate, signal, freeRunning, loopback });
  return {
    usb: defined({
      enabled: options.usb ? undefined : false,
      name: options.name,
      existingGadget: options.gadget,
      config: options.config,
      udc: options.udc,
      pipes: options.pipes,
      idVendor: options.idVendor,
      idProduct: options.idProduct,
      manufacturer: options.manufacturer,
      product: options.product,
      serial: options.serial,
    }),
    tcp: defined({ listen: options.tcp, announce: options.announce ? undefined : false }),
    metrics: defined({ listen: options.metrics }),
    ...(Object.keys(emulation).length === 0 ? {} : { emulate: emulation }),
    stream: defined({
      mode: options.mode,
      heap: options.heap,
      ring: options.ring,
      policy: options.ringPolicy,
      require: options.require,
    }),
    dataplane: defined({ realtimePriority: options.realtime, cpu: options.cpu, lockMemory: options.lockMemory }),
    ...(options.readOnly === undefined ? {} : { permissions: { usb: { readOnly: true }, tcp: { readOnly: true } } }),
  };
}

/** Without the members that are undefined. */
function defined(record: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined));
}

/** `over` in front of `under`, member by member; lists are replaced as a whole. */
function overlay(under: unknown, over: unknown): unknown {
  if (!isRecord(under) || !isRecord(over)) {
    return over;
  }
  const merged = { ...under };
  for (const [key, value] of Object.entries(over)) {
    merged[key] = key in under ? overlay(under[key], value) : value;
  }
  return merged;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

async function readJson(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw fromFsError(error, `read the configuration ${path}`);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new IioError('BAD_CONFIG', `${path} is not JSON: ${error instanceof Error ? error.message : error}`, {
      cause: error,
    });
  }
}

function terminationSignal(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      process.on(signal, () => resolve(signal));
    }
  });
}

function integer(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isInteger(value) || value < 0) {
    throw new InvalidArgumentError('a non-negative integer is needed, decimal or 0x…');
  }
  return value;
}

function ring(text: string): RingSize {
  const size = parseRing(text);
  if (size === undefined) {
    throw new InvalidArgumentError('a time or a size is needed: 500ms, 2s, 64MiB');
  }
  return size;
}

function collect(text: string, earlier: readonly string[] = []): readonly string[] {
  return [...earlier, text];
}

function wire(text: string): { from: string; to: string } {
  const [from, to, ...rest] = text.split('=');
  if (!from || !to || rest.length > 0) {
    throw new InvalidArgumentError('<output device>=<input device> is needed');
  }
  return { from, to };
}

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof IioError)) {
    throw error;
  }
  process.stderr.write(`iio-bridge: ${error.message}\n`);
  process.exitCode = 1;
}
