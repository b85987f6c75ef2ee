#!/usr/bin/env node
import { IioError } from '@iio-bridge/protocol';
import { Command, CommanderError } from 'commander';
import { addAttrCommand } from './attr.js';
import { addBenchCommand } from './bench.js';
import { addEventsCommand } from './events.js';
import { EXIT } from './exit-codes.js';
import { addInfoCommand } from './info.js';
import { Interruption } from './interruption.js';
import { addPlayCommand } from './play.js';
import { addReadCommand } from './read.js';
import { addRecordCommand } from './record.js';
import { addRegCommand } from './reg.js';
import { remedyFor } from './remedies.js';
import { addScanCommand } from './scan.js';
import { addTrigCommand } from './trig.js';
import { VERSION } from './version.js';
import { addWatchCommand } from './watch.js';
import { addWriteCommand } from './write.js';

/** In the order of the help. */
const COMMANDS = [
  addInfoCommand,
  addAttrCommand,
  addReadCommand,
  addWriteCommand,
  addRecordCommand,
  addPlayCommand,
  addWatchCommand,
  addBenchCommand,
  addEventsCommand,
  addRegCommand,
  addTrigCommand,
];

function buildProgram(interruption: Interruption): Command {
  const program = new Command('iio-client')
    .description('Talks to IIO devices over USB and TCP: iio-bridge, and any iiod.')
    .version(VERSION)
    .exitOverride()
    .addHelpText(
      'after',
      '\nExit codes: 0 success (also when the reader of standard output goes away), 1 failure, 2 wrong usage,\n' +
        '130 interrupted (SIGINT), 143 terminated (SIGTERM).',
    );
  addScanCommand(program);
  for (const add of COMMANDS) {
    add(program, interruption);
  }
  return program;
}

/** How work ends that an interruption has ended. */
const ENDED: ReadonlySet<string> = new Set(['ECANCELED', 'EINTR', 'DISCONNECTED']);

function explain(error: unknown): string {
  if (!(error instanceof IioError)) {
    return String(error);
  }
  const { code, message } = error;
  const remedy = remedyFor(error);
  return `${message}${message.includes(code) ? '' : ` (${code})`}${remedy === undefined ? '' : `; ${remedy}`}`;
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
    if (interruption.exitCode !== undefined && error instanceof IioError && ENDED.has(error.code)) {
      return interruption.exitCode;
    }
    process.stderr.write(`iio-client: ${explain(error)}\n`);
    return error instanceof IioError && error.code === 'USAGE' ? EXIT.usage : EXIT.failure;
  }
}

process.exitCode = await main();
