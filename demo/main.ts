#!/usr/bin/env node
import { join } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import type { BridgeMode } from '../bench/bridge-process.js';
import { type Machine, type MachineKind, startMachine } from '../lab/machine.js';
import { loadModules } from '../lab/modules.js';
import { checkoutRoot } from '../lab/paths.js';
import type { GuestEvent, GuestRequest, Measurement, Waveform } from './events.js';
import { Screen } from './screen.js';

interface Options {
  readonly seconds: number;
  readonly mode: BridgeMode;
  readonly machine: MachineKind;
  readonly json?: boolean;
}

interface Outcome {
  readonly measurement: Measurement;
  readonly waveform: Waveform;
}

const KERNEL_LOG_TAIL_LINES = 40;
const GUEST_MEMORY_MIB = 1024;

function positiveSeconds(text: string): number {
  const seconds = Number(text);
  if (!Number.isFinite(seconds) || seconds <= 0 || seconds > 3600) {
    throw new InvalidArgumentError('a number of seconds up to 3600 is wanted');
  }
  return seconds;
}

/** Runs the guest program and shows what it reports as it comes. */
async function runGuest(machine: Machine, options: Options, screen: Screen | undefined): Promise<Outcome> {
  const request: GuestRequest = { mode: options.mode, seconds: options.seconds };
  const program = join(checkoutRoot(), 'dist/demo/guest.js');
  await using guest = await machine.spawn([process.execPath, program, JSON.stringify(request)]);
  let measurement: Measurement | undefined;
  let waveform: Waveform | undefined;

  for await (const line of guest.stdout) {
    const event: GuestEvent = JSON.parse(line);
    switch (event.event) {
      case 'device':
        screen?.line(`Linux ${event.kernel} is up; ${event.name} has appeared as an IIO device on USB.`);
        screen?.heading(`Streaming for ${options.seconds} s, checking every sample`);
        break;
      case 'progress':
        screen?.status(event, options.seconds);
        break;
      case 'measurement':
        screen?.endStatus();
        screen?.measurement(event);
        measurement = event;
        break;
      case 'waveform':
        screen?.waveform(event);
        waveform = event;
        break;
      case 'stopped':
        screen?.line(
          `\nThe bridge was told to stop, and ended with code ${event.exitCode} after ${event.milliseconds.toFixed(0)} ms.`,
        );
        break;
    }
  }
  const { code } = await guest.exited;
  if (code !== 0 || measurement === undefined || waveform === undefined) {
    throw new Error(
      `The demo in the guest failed:\n${guest.output().stderr.trim()}\n\n${await kernelLogTail(machine)}`,
    );
  }
  return { measurement, waveform };
}

async function kernelLogTail(machine: Machine): Promise<string> {
  const lines = (await machine.kernelLog()).trimEnd().split('\n').slice(-KERNEL_LOG_TAIL_LINES);
  return ['The end of the kernel log:', ...lines].join('\n');
}

/** What is wrong with the outcome, or undefined. */
function complaint({ measurement }: Outcome, mode: BridgeMode): string | undefined {
  const { bytes, verifiedSamples, gaps, lostSamples, mismatches } = measurement;
  if (bytes === 0 || verifiedSamples === 0) {
    return 'No samples arrived.';
  }
  if (mismatches > 0) {
    return `${mismatches} sample sets were wrong.`;
  }
  if (gaps > 0) {
    return `${lostSamples} sample sets were lost.`;
  }
  if (mode === 'auto' && (measurement.mode !== 'zero-copy' || measurement.mappedDmabufs > 0)) {
    return 'The stream was not zero-copy.';
  }
  return undefined;
}

const program = new Command('npm run demo --')
  .description('Streams from a simulated ADC over USB in a real kernel, and verifies every sample')
  .option('--seconds <n>', 'how long to stream', positiveSeconds, 5)
  .addOption(new Option('--mode <mode>', 'copy forces the copy path').choices(['auto', 'copy']).default('auto'))
  .addOption(new Option('--machine <kind>', 'the lab machine').choices(['uml', 'qemu', 'qemu-debug']).default('uml'))
  .option('--json', 'print one JSON object instead');

const options = program.parse().opts<Options>();
const screen = options.json === true ? undefined : new Screen(process.stdout);

try {
  screen?.heading('iio-bridge: ADC → DMA buffer → USB → TypeScript');
  await using machine = await startMachine(options.machine, {
    memoryMiB: GUEST_MEMORY_MIB,
    log: (text) => process.stderr.write(`${text}\n`),
  });
  await loadModules(machine);
  const outcome = await runGuest(machine, options, screen);
  const problem = complaint(outcome, options.mode);
  screen?.verdict(problem === undefined, problem ?? 'Every sample was verified.');
  if (options.json === true) {
    process.stdout.write(`${JSON.stringify({ ...outcome.measurement, verified: problem === undefined }, null, 2)}\n`);
  }
  process.exitCode = problem === undefined ? 0 : 1;
} catch (error) {
  screen?.endStatus();
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
