/** `npm run lab -- [--machine uml|qemu|qemu-debug] [--bare] [command…]`: a command or a shell in a guest of the lab. */
import { constants } from 'node:os';
import { IioError } from '@iio-bridge/protocol';
import { Argument, Command, Option } from 'commander';
import type { GuestProcess } from './guest-process.js';
import { MACHINE_KINDS, type Machine, type MachineKind, startMachine } from './machine.js';
import { loadModules } from './modules.js';

interface Options {
  readonly machine: MachineKind;
  readonly bare: boolean;
  readonly memory?: number;
  readonly kernelArg: readonly string[];
}

/** Runs the command with our stdin, stdout and stderr as its own; its exit code, by the shell's convention. */
async function runCommand(machine: Machine, words: readonly string[]): Promise<number> {
  const [only = '', ...more] = words;
  const { TERM = 'dumb' } = process.env;
  await using child = await machine.spawn(more.length === 0 ? only : words, {
    cwd: process.cwd(),
    env: { TERM },
    onOutput: forward,
  });
  void forwardInput(child);
  const { code, signal } = await child.exited;
  const number = Object.entries(constants.signals).find(([name]) => name === signal)?.[1] ?? 0;
  return code ?? 128 + number;
}

/** An interactive shell on a terminal of the guest's, which our own terminal becomes a view of. */
async function runShell(machine: Machine): Promise<number> {
  const { TERM = 'linux' } = process.env;
  const { columns = 80, rows = 24 } = process.stdout;
  // util-linux's script gives the shell a terminal: line editing, job control and Ctrl-C are then the guest's.
  const shell = `stty rows ${rows} columns ${columns}; exec bash -i`;
  await using child = await machine.spawn(['script', '--quiet', '--return', '--command', shell, '/dev/null'], {
    cwd: process.cwd(),
    env: { TERM, SHELL: '/bin/bash' },
    onOutput: forward,
  });
  process.stdin.setRawMode(true);
  try {
    void forwardInput(child);
    const { code } = await child.exited;
    return code ?? 1;
  } finally {
    process.stdin.setRawMode(false);
  }
}

function forward(stream: 'stdout' | 'stderr', chunk: Buffer): void {
  process[stream].write(chunk);
}

async function forwardInput(child: GuestProcess): Promise<void> {
  try {
    for await (const chunk of process.stdin) {
      await child.write(chunk);
    }
    await child.endInput();
  } catch {
    // The guest is gone, which whoever waits for the child's end learns as well.
  }
}

/** Rejects when the user or the system wants this process to end. */
function interruption(): Promise<never> {
  return new Promise((_, reject) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.once(signal, () => reject(new Interrupted(signal)));
    }
  });
}

class Interrupted extends Error {
  readonly exitCode: number;

  constructor(signal: NodeJS.Signals) {
    super(`ended by ${signal}`);
    this.exitCode = 128 + constants.signals[signal];
  }
}

async function work(words: readonly string[], options: Options, signalled: Promise<never>): Promise<number> {
  const starting = startMachine(options.machine, {
    log: (line) => console.error(`lab: ${line}`),
    kernelArgs: options.kernelArg,
    ...(options.memory === undefined ? {} : { memoryMiB: options.memory }),
  });
  await using machine = await Promise.race([starting, signalled]);
  if (!options.bare) {
    await Promise.race([loadModules(machine), signalled]);
  }
  if (words.length > 0) {
    return await Promise.race([runCommand(machine, words), signalled]);
  }
  if (!process.stdin.isTTY) {
    throw new IioError('ENOTTY', 'Without a command the lab opens a shell, which needs a terminal: give a command');
  }
  return await Promise.race([runShell(machine), signalled]);
}

const program = new Command('lab')
  .description(
    'Runs a command in a guest of the lab, with the simulated converters and the USB controller present; a shell without one. ' +
      'The guest sees the host’s files, and what it changes is forgotten.',
  )
  .addOption(new Option('-m, --machine <kind>', 'the machine to boot').choices(MACHINE_KINDS).default('uml'))
  .option('--bare', 'load no kernel modules', false)
  .option('--memory <MiB>', 'memory of the guest', Number)
  .option('--kernel-arg <parameter...>', 'add to the kernel’s command line', [])
  .addArgument(new Argument('[command...]', 'one word goes through /bin/sh, several are run as they are'))
  .passThroughOptions()
  .action(async (words: string[], options: Options) => {
    const signalled = interruption();
    signalled.catch(() => {});
    try {
      process.exitCode = await work(words, options, signalled);
    } catch (error) {
      if (error instanceof Interrupted) {
        // A build or a boot may still be under way: ending this process ends it.
        process.exit(error.exitCode);
      } else if (error instanceof IioError) {
        console.error(`lab: ${error.message}`);
        process.exitCode = 1;
      } else {
        throw error;
      }
    }
    // Our own input may still be open, and nobody reads it any more.
    process.stdin.destroy();
  });

await program.parseAsync();
