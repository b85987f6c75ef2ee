#!/usr/bin/env node
// A host that pauses: with the elastic ring no sample is lost, and without it every lost sample is reported.
import { Command, Option } from 'commander';
import { type Machine, type MachineKind, startMachine } from '../lab/machine.js';
import type { Loss, StreamReport, StreamRun } from './configuration.js';
import { prepareConverter, resetConverters } from './converters.js';
import { COUNTER_SET_BYTES } from './counter.js';
import { count, MIB, progress, reportFailure } from './options.js';
import { baselineCommand, buildBaseline, streamOptions } from './programs.js';
import { BridgeServer, loadBenchModules } from './servers.js';
import { markdownTable, medianOf } from './table.js';

interface Options {
  readonly machine: MachineKind;
  readonly minutes: number;
  readonly percent: number;
}

const BLOCK_BYTES = MIB;
const BLOCKS = 4;
const MAX_RATE_BYTES = 256 * MIB;
const MAX_RATE_RUNS = 3;
const RING_MS = 500;
const PAUSE_SECONDS = 0.25;
const PERIOD_SECONDS = 1;
/** Without the ring, as long as it takes to see that losses are reported. */
const LOSSY_MINUTES = 1;
const GUEST_MEMORY_MIB = 2048;
const TIMEOUT_MS = 300_000;

interface Case {
  readonly title: string;
  readonly ringMs: number | undefined;
  readonly minutes: number;
}

function captureRun(totalBytes: number): StreamRun {
  return { direction: 'rx', blockBytes: BLOCK_BYTES, blocks: BLOCKS, totalBytes };
}

/** Bytes/s at which the C client takes samples from a converter that is as fast as it. */
async function measureMaximum(machine: Machine): Promise<number> {
  const rates: number[] = [];
  for (let run = 0; run < MAX_RATE_RUNS; run++) {
    await resetConverters(machine);
    await using _bridge = await BridgeServer.start(machine);
    const { index } = await prepareConverter(machine, 'adc');
    const command = baselineCommand('iiod-client', {
      ...streamOptions(captureRun(MAX_RATE_BYTES)),
      'device-index': index,
    });
    const report: StreamReport = JSON.parse(
      await machine.output(command, { timeoutMs: TIMEOUT_MS * machine.slowness }),
    );
    rates.push(report.mbPerSecond * 1e6);
  }
  return medianOf(rates);
}

/** Streams at a rate while the client is stopped for a part of each second. */
async function streamWithPauses(machine: Machine, bytesPerSecond: number, { ringMs, minutes }: Case) {
  await resetConverters(machine);
  await using _bridge = await BridgeServer.start(machine);
  const { index } = await prepareConverter(machine, 'adc', Math.round(bytesPerSecond / COUNTER_SET_BYTES));
  const totalBytes = Math.ceil((bytesPerSecond * minutes * 60) / BLOCK_BYTES) * BLOCK_BYTES;
  await using client = await machine.spawn(
    baselineCommand('iiod-client', {
      ...streamOptions(captureRun(totalBytes)),
      'device-index': index,
      metadata: true,
      'ring-ms': ringMs,
    }),
  );
  const { pid } = client;
  const running = PERIOD_SECONDS - PAUSE_SECONDS;
  // Bash's own read and kill: a process for each pause would cost the only processor several per cent of its time.
  await using _pauses = await machine.spawn(
    `exec bash -c 'exec 3<> <(:); pause() { read -rt $1 -u 3; }; pause ${running};
      while kill -STOP ${pid}; do pause ${PAUSE_SECONDS}; kill -CONT ${pid}; pause ${running}; done'`,
  );
  const { code } = await client.exited;
  const { stdout, stderr } = client.output();
  const report: StreamReport | undefined = stdout.startsWith('{') ? JSON.parse(stdout) : undefined;
  if (report?.loss === undefined || (code !== 0 && report.mismatches === 0)) {
    throw new Error(`The client ended with ${code}: ${stderr}`);
  }
  return { ...report, loss: report.loss };
}

function isComplete({ bytes, mismatches }: StreamReport, loss: Loss): boolean {
  const received = bytes / COUNTER_SET_BYTES;
  return mismatches === 0 && loss.unreportedSets === 0 && received + loss.reportedSets === loss.producedSets;
}

async function compare(options: Options): Promise<{ readonly text: string; readonly isMet: boolean }> {
  await using machine = await startMachine(options.machine, { memoryMiB: GUEST_MEMORY_MIB, log: progress });
  await loadBenchModules(machine);
  const maximum = await measureMaximum(machine);
  const rate = maximum * options.percent;
  progress(`maximum ${(maximum / 1e6).toFixed(0)} MB/s, so ${(rate / 1e6).toFixed(0)} MB/s from now on`);
  const cases: readonly Case[] = [
    { title: `ring of ${RING_MS} ms`, ringMs: RING_MS, minutes: options.minutes },
    { title: 'no ring', ringMs: undefined, minutes: Math.min(options.minutes, LOSSY_MINUTES) },
  ];
  const rows: string[][] = [];
  let isMet = true;
  for (const one of cases) {
    const report = await streamWithPauses(machine, rate, one);
    const { loss } = report;
    const complete = isComplete(report, loss);
    isMet &&= complete && (one.ringMs === undefined ? loss.reportedSets > 0 : loss.reportedSets === 0);
    rows.push([
      one.title,
      (rate / 1e6).toFixed(0),
      report.seconds.toFixed(0),
      String(report.bytes / COUNTER_SET_BYTES),
      String(loss.reportedSets),
      String(loss.reports),
      String(loss.misplacedSets),
      String(loss.unreportedSets),
      String(loss.producedSets),
      complete ? 'yes' : 'NO',
    ]);
  }
  const header = [
    '',
    'MB/s',
    'seconds',
    'received',
    'reported lost',
    'reports',
    'with another block',
    'unreported',
    'produced',
    'adds up',
  ];
  return { text: markdownTable(header, rows, 1), isMet };
}

function percent(text: string): number {
  return count(text) / 100;
}

const options = new Command('npm run bench:ring --')
  .description(`A host that pauses for ${PAUSE_SECONDS} s in each second: with and without an elastic ring`)
  .addOption(new Option('--machine <kind>', 'the lab machine').choices(['uml', 'qemu']).default('uml'))
  .option('--minutes <n>', 'with the ring', Number, 10)
  .option('--percent <n>', 'of the maximum rate', percent, 0.7)
  .parse()
  .opts<Options>();

try {
  buildBaseline();
  const { text, isMet } = await compare(options);
  process.stdout.write(`\n${options.machine}: sample sets of ${COUNTER_SET_BYTES} bytes\n\n${text}\n`);
  if (!isMet) {
    progress('Not as it should be: see the table');
    process.exitCode = 1;
  }
} catch (error) {
  reportFailure(error);
}
