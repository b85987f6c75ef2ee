#!/usr/bin/env node
// Our client beside libiio's over TCP, and its memory over USB.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { Command } from 'commander';
import { z } from 'zod';
import { type Machine, startMachine } from '../lab/machine.js';
import { checkoutRoot } from '../lab/paths.js';
import { BridgeProcess } from './bridge-process.js';
import type { Direction, StreamReport } from './configuration.js';
import { prepareConverter, resetConverters } from './converters.js';
import { COUNTER_SET_BYTES } from './counter.js';
import { HEAP_NODE_OPTIONS } from './memory.js';
import { count, KIB, MIB, progress, reportFailure } from './options.js';
import { baselineCommand, buildBaseline, streamOptions, typescriptCommand } from './programs.js';
import { BridgeServer, loadBenchModules } from './servers.js';
import { markdownTable, medianOf, sizeText } from './table.js';

interface Options {
  readonly repetitions: number;
  readonly mib: number;
  readonly gib: number;
  /** False by `--no-usb`. */
  readonly usb: boolean;
}

const BLOCK_SIZES = [64 * KIB, 256 * KIB, MIB, 4 * MIB];
const BLOCKS = 4;
const DEVICE = 'emu-adc';
const GUEST_MEMORY_MIB = 1024;
const USB_TIMEOUT_MS = 300_000;

const readySchema = z.object({ tcp: z.tuple([z.object({ port: z.number() })]) });

const CLIENTS = {
  typescript: 'our client',
  libiio: 'libiio 0.24, C program',
  readdev: 'iio_readdev 0.24 to a pipe',
} as const;
type Client = keyof typeof CLIENTS;

/** An emulated converter that is as fast as its clients, on a free port of this host. */
async function startBridge(): Promise<BridgeProcess> {
  const context = join(checkoutRoot(), 'test/fixtures/emulated/converters.xml');
  return await BridgeProcess.start('--no-usb', '--tcp', '127.0.0.1:0', '--emulate', context, '--free-running');
}

async function uriOf(bridge: BridgeProcess): Promise<string> {
  const { port } = readySchema.parse(await bridge.waitForReady()).tcp[0];
  return `ip:127.0.0.1:${port}`;
}

async function output(command: readonly string[]): Promise<{ readonly stdout: string; readonly stderr: string }> {
  const [program = '', ...words] = command;
  const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'] });
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')]);
  if (child.exitCode !== 0) {
    throw new Error(`${program} ended with ${child.exitCode ?? child.signalCode}: ${stdout}${stderr}`);
  }
  return { stdout, stderr };
}

async function readOverTcp(client: Client, uri: string, pid: number, blockBytes: number, totalBytes: number) {
  const stream = streamOptions({ direction: 'rx', blockBytes, blocks: BLOCKS, totalBytes });
  const options = { ...stream, uri, device: DEVICE, 'server-pid': pid };
  if (client !== 'readdev') {
    const command = client === 'typescript' ? typescriptCommand(options) : baselineCommand('libiio-client', options);
    const report: StreamReport = JSON.parse((await output(command)).stdout);
    return report;
  }
  const setsPerBlock = blockBytes / COUNTER_SET_BYTES;
  const words = ['iio_readdev', '-u', uri, '-b', setsPerBlock, '-s', totalBytes / COUNTER_SET_BYTES, DEVICE];
  const sink = baselineCommand('sink', { ...stream, 'server-pid': pid });
  const script = `TIMEFORMAT='cpu %U %S'; { time ${words.join(' ')}; } | ${sink.join(' ')}`;
  const { stdout, stderr } = await output(['bash', '-o', 'pipefail', '-c', script]);
  const [, user = 'NaN', system = 'NaN'] = /^cpu (\S+) (\S+)$/m.exec(stderr) ?? [];
  const report: StreamReport = JSON.parse(stdout);
  return { ...report, clientCpuSeconds: Number(user) + Number(system) };
}

async function compareOverTcp({ repetitions, mib }: Options): Promise<string> {
  await using bridge = await startBridge();
  const uri = await uriOf(bridge);
  const totalBytes = mib * MIB;
  const rows: string[][] = [];
  for (const blockBytes of BLOCK_SIZES) {
    const reports = new Map(Object.keys(CLIENTS).map((client) => [client as Client, [] as StreamReport[]]));
    for (let repetition = 0; repetition < repetitions; repetition++) {
      for (const [client, list] of reports) {
        const report = await readOverTcp(client, uri, bridge.pid, blockBytes, totalBytes);
        list.push(report);
        progress(`tcp, ${sizeText(blockBytes)}, ${CLIENTS[client]}: ${report.mbPerSecond.toFixed(0)} MB/s`);
      }
    }
    const rate = (client: Client): number => medianOf((reports.get(client) ?? []).map((report) => report.mbPerSecond));
    for (const [client, list] of reports) {
      const perGb = (cpu: (report: StreamReport) => number) =>
        medianOf(list.map((report) => cpu(report) / (report.bytes / 1e9))).toFixed(3);
      rows.push([
        sizeText(blockBytes),
        CLIENTS[client],
        rate(client).toFixed(0),
        (rate(client) / rate('readdev')).toFixed(2),
        (rate(client) / rate('libiio')).toFixed(2),
        perGb((report) => report.clientCpuSeconds),
        perGb((report) => report.serverCpuSeconds),
      ]);
    }
  }
  const header = ['block', 'client', 'MB/s', 'of iio_readdev', 'of libiio', 'client CPU s/GB', 'server CPU s/GB'];
  return markdownTable(header, rows, 2);
}

async function watchMemory(machine: Machine, direction: Direction, blockBytes: number, gib: number): Promise<string[]> {
  await resetConverters(machine);
  await using bridge = await BridgeServer.start(machine);
  const { name } = await prepareConverter(machine, direction === 'rx' ? 'adc' : 'dac');
  const run = { direction, blockBytes, blocks: BLOCKS, totalBytes: gib * 1024 * MIB };
  const command = typescriptCommand(
    { ...streamOptions(run), device: name, 'server-pid': bridge.pid, heap: true },
    HEAP_NODE_OPTIONS,
  );
  const report: StreamReport = JSON.parse(await machine.output(command, { timeoutMs: USB_TIMEOUT_MS }));
  const { heapBytesPerBlock, leastRss, mostRss } = report.memory ?? {};
  return [
    direction.toUpperCase(),
    sizeText(blockBytes),
    `${gib} GiB`,
    report.mbPerSecond.toFixed(0),
    heapBytesPerBlock?.toFixed(0) ?? 'unknown',
    ((leastRss ?? Number.NaN) / MIB).toFixed(1),
    ((mostRss ?? Number.NaN) / MIB).toFixed(1),
  ];
}

async function watchOverUsb({ gib }: Options): Promise<string> {
  await using machine = await startMachine('uml', { memoryMiB: GUEST_MEMORY_MIB, log: progress });
  await loadBenchModules(machine);
  const rows: string[][] = [];
  for (const direction of ['rx', 'tx'] as const) {
    for (const blockBytes of [64 * KIB, MIB]) {
      rows.push(await watchMemory(machine, direction, blockBytes, blockBytes < MIB ? gib / 10 : gib));
    }
  }
  const header = ['way', 'block', 'moved', 'MB/s', 'heap bytes/block', 'least RSS MiB', 'most RSS MiB'];
  return markdownTable(header, rows, 2);
}

const options = new Command('npm run bench:client --')
  .description("Our client beside libiio's over TCP on this host, and its memory over USB in the lab")
  .option('--repetitions <n>', 'runs per figure, whose median counts', count, 3)
  .option('--mib <n>', 'MiB per run over TCP', count, 512)
  .option('--gib <n>', 'GiB over USB, during which the memory is watched', count, 10)
  .option('--no-usb', 'only TCP')
  .parse()
  .opts<Options>();

try {
  buildBaseline();
  process.stdout.write(`\nOver TCP, from the same emulated converter\n\n${await compareOverTcp(options)}\n`);
  if (options.usb) {
    process.stdout.write(`\nOur client's memory, over USB in User-Mode Linux\n\n${await watchOverUsb(options)}\n`);
  }
} catch (error) {
  reportFailure(error);
}
