#!/usr/bin/env node
import { hostname } from 'node:os';
import { IioError } from '@iio-bridge/protocol';
import { Command, InvalidArgumentError, Option } from 'commander';
import { pino } from 'pino';
import { z } from 'zod';
import { type Config, configSchema, DEFAULT_LIMITS } from './config.js';
import { Service } from './service.js';
import { VERSION } from './version.js';

interface ServeOptions {
  readonly name: string;
  readonly gadget?: string;
  readonly config: string;
  readonly udc?: string;
  readonly pipes: number;
  readonly idVendor: number;
  readonly idProduct: number;
  readonly manufacturer: string;
  readonly product: string;
  readonly serial: string;
  readonly mode: Config['stream']['mode'];
  readonly heap?: string;
  readonly logLevel: string;
}

const program = new Command('iio-bridge')
  .description('Serves the IIO devices of this machine over USB, in the protocol of iiod.')
  .version(VERSION);

program
  .command('serve')
  .description('put the IIO context on the bus until SIGTERM or SIGINT')
  .option('--name <name>', 'of the gadget and its function', 'iio-bridge')
  .option('--gadget <directory>', 'join this gadget (below usb_gadget/) instead of making one')
  .option('--config <name>', 'configuration of that gadget to join', 'c.1')
  .option('--udc <name>', 'USB device controller, from /sys/class/udc (default: the first free one)')
  .option('--pipes <n>', 'one for the context, and one for each buffer open at once', integer, 3)
  .option('--id-vendor <id>', 'USB vendor id', integer, 0x1209)
  .option('--id-product <id>', 'USB product id', integer, 0x0001)
  .option('--manufacturer <text>', 'USB string', 'iio-bridge')
  .option('--product <text>', 'USB string', 'IIO context')
  .option('--serial <text>', 'USB serial number', hostname())
  .addOption(
    new Option('--mode <mode>', 'auto: as few copies as the hardware allows; the others copy on purpose')
      .choices(['auto', 'half-copy', 'copy'])
      .default('auto'),
  )
  .option('--heap <name>', 'DMA heap for blocks, from /dev/dma_heap, or udmabuf (default: the first that works)')
  .addOption(
    new Option('--log-level <level>', 'of the log on standard output')
      .choices(['debug', 'info', 'warn', 'error'])
      .default('info'),
  )
  .action(serve);

async function serve(options: ServeOptions): Promise<void> {
  const log = pino({ name: 'iio-bridge', level: options.logLevel }, pino.destination({ dest: 1, sync: true }));
  const service = await Service.start(configFrom(options), log);
  const signal = await terminationSignal();
  log.info({ signal }, 'stopping');
  await service.stop();
  log.info({}, 'stopped');
}

function configFrom(options: ServeOptions): Config {
  const { gadget, udc, heap, ...given } = options;
  const parsed = configSchema.safeParse({
    usb: {
      ...given,
      ...(gadget === undefined ? {} : { existingGadget: gadget }),
      ...(udc === undefined ? {} : { udc }),
    },
    stream: { mode: given.mode, ...(heap === undefined ? {} : { heap }) },
    limits: DEFAULT_LIMITS,
  });
  if (!parsed.success) {
    throw new IioError('BAD_CONFIG', z.prettifyError(parsed.error));
  }
  return parsed.data;
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

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof IioError)) {
    throw error;
  }
  process.stderr.write(`iio-bridge: ${error.message}\n`);
  process.exitCode = 1;
}
