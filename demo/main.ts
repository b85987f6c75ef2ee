#!/usr/bin/env node
import { join } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import type { BridgeMode } from '../bench/bridge-process.js';
import { type Machine, type MachineKind, startMachine } from '../lab/machine.js';
import { loadModules } from '../lab/modules.js';
import { checkoutRoot } from '../lab/paths.js';
import type { GuestEvent, GuestRequest, Measurement } from './events.js';
import { Screen } from './screen.js';

interface Options {
  readonly seconds: number;
  readonly mode: BridgeMode;
  readonly machine: MachineKind;
  readonly json?: boolean;
}

const KERNEL_LOG_TAIL_LINES = 40;
const GUEST_MEMORY_MIB = 1024;
/** Beyond the time that is asked for; on slower machines more. */
const PATIENCE_MS = 120_000;

function positiveSeconds(text: string): number {
  const seconds = Number(text);
  if (!Number.isFinite(seconds) || seconds <= 0 || seconds > 3600) {
    throw new InvalidArgumentError('a number of seconds up to 3600 is wanted');
  }
  return seconds;
}

/** Runs the guest program and shows what it reports as it comes. */
async function runGuest(machine: Machine, options: Options, screen: Screen | undefined): Promise<Measurement> {
  const request: GuestRequest = { mode: options.mode, seconds: options.seconds };
  const program = join(checkoutRoot(), 'dist/bundle/demo-guest.js');
  await using guest = await machine.spawn([process.execPath, program, JSON.stringify(request)]);
  let killing: Promise<void> | undefined;
  const timer = setTimeout(
    () => {
      killing = guest.kill('SIGKILL');
    },
    options.seconds * 1000 + PATIENCE_MS * machine.slowness,
  );
  let measurement: Measurement | undefined;
  let hasStopped = false;

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
        screen?.measurement(event.result);
        measurement = event.result;
        break;
      case 'waveform':
        screen?.waveform(event);
        break;
      case 'stopped':
        hasStopped = event.exitCode === 0;
        screen?.line(
          `\nThe bridge was told to stop, and ended with code ${event.exitCode} after ${event.milliseconds.toFixed(0)} ms.`,
        );
        break;
    }
  }
  const { code } = await guest.exited;
  clearTimeout(timer);
  await killing;
  if (code !== 0 || measurement === undefined || !hasStopped) {
    const what = killing === undefined ? 'failed' : 'did not end in time';
    const output = guest.output().stderr.trim();
    throw new Error(`The demo in the guest ${what}:\n${output}\n\n${await kernelLogTail(machine)}`);
  }
  return measurement;
}

async function kernelLogTail(machine: Machine): Promise<string> {
  const lines = (await machine.kernelLog()).trimEnd().split('\n').slice(-KERNEL_LOG_TAIL_LINES);
  return ['The end of the kernel log:', ...lines].join('\n');
}

/** Whether the kernel bears the bridge out. */
function isZeroCopy({ mode, sharedDmabufs, mappedDmabufs }: Measurement): boolean {
  return mode === 'zero-copy' && sharedDmabufs > 0 && mappedDmabufs === 0;
}

/** What is wrong with the outcome, or undefined. */
function complaint(measurement: Measurement, mode: BridgeMode): string | undefined {
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
  if (mode === 'auto' && !isZeroCopy(measurement)) {
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
  const result = await runGuest(machine, options, screen);
  const problem = complaint(result, options.mode);
  screen?.verdict(problem === undefined, problem ?? 'Every sample was verified.');
  if (options.json === true) {
    const summary = { machine: options.machine, verified: problem === undefined, ...result };
    process.stdout.write(`${JSON.stringify(summary, null, 2)}\n`);
  }
  process.exitCode = problem === undefined ? 0 : 1;
} catch (error) {
  screen?.endStatus();
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
