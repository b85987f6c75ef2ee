#!/usr/bin/env node
// The control plane beside iiod's: attributes and contexts over TCP, with libiio as the client of both.
import { Command, Option } from 'commander';
import { type Machine, type MachineKind, startMachine } from '../lab/machine.js';
import { ADC_NAME } from './converters.js';
import { count, progress, reportFailure } from './options.js';
import { baselineCommand, buildBaseline } from './programs.js';
import { BridgeServer, loadBenchModules, startIiod } from './servers.js';
import { markdownTable, medianOf } from './table.js';

interface Options {
  readonly machine: MachineKind;
  readonly repetitions: number;
  readonly reads: number;
  readonly contexts: number;
}

interface Figures {
  readonly readsPerSecond: number;
  readonly contextMilliseconds: number;
}

const BRIDGE_PORT = 30432;
const TIMEOUT_MS = 120_000;

async function measure(machine: Machine, uri: string, { reads, contexts }: Options): Promise<Figures> {
  const output = async (options: Record<string, number>): Promise<Record<string, number>> => {
    const command = baselineCommand('libiio-client', { uri, device: ADC_NAME, ...options });
    return JSON.parse(await machine.output(command, { timeoutMs: TIMEOUT_MS * machine.slowness }));
  };
  const { perSecond = Number.NaN } = await output({ reads });
  const { milliseconds = Number.NaN } = await output({ contexts });
  return { readsPerSecond: perSecond, contextMilliseconds: milliseconds };
}

async function compare(options: Options): Promise<string> {
  await using machine = await startMachine(options.machine, { log: progress });
  await loadBenchModules(machine);
  await using bridge = await BridgeServer.start(machine, '--no-usb', '--tcp', `127.0.0.1:${BRIDGE_PORT}`);
  await using iiod = await startIiod(machine);
  const servers = [
    { title: 'iio-bridge', uri: `ip:127.0.0.1:${BRIDGE_PORT}`, pid: bridge.pid, figures: [] as Figures[] },
    { title: 'iiod 0.24', uri: iiod.tcpUri, pid: iiod.pid, figures: [] as Figures[] },
  ];
  for (let repetition = 1; repetition <= options.repetitions; repetition++) {
    for (const { title, uri, figures } of servers) {
      const measured = await measure(machine, uri, options);
      figures.push(measured);
      const context = `${measured.contextMilliseconds.toFixed(1)} ms per context`;
      progress(
        `${repetition}/${options.repetitions} ${title}: ${measured.readsPerSecond.toFixed(0)} reads/s, ${context}`,
      );
    }
  }
  const rows = servers.map(({ title, figures }) => [
    title,
    medianOf(figures.map(({ readsPerSecond }) => readsPerSecond)).toFixed(0),
    medianOf(figures.map(({ contextMilliseconds }) => contextMilliseconds)).toFixed(1),
  ]);
  return markdownTable(['server', 'attribute reads/s', 'ms per context'], rows, 1);
}

const options = new Command('npm run bench:control --')
  .description("Attribute reads and context creation over TCP, beside Debian's iiod with the same client")
  .addOption(new Option('--machine <kind>', 'the lab machine').choices(['uml', 'qemu']).default('uml'))
  .option('--repetitions <n>', 'runs per figure, whose median counts', count, 3)
  .option('--reads <n>', 'attribute reads per run', count, 1000)
  .option('--contexts <n>', 'contexts per run', count, 20)
  .parse()
  .opts<Options>();

try {
  buildBaseline();
  process.stdout.write(`\n${options.machine}, TCP, libiio 0.24 as client\n\n${await compare(options)}\n`);
} catch (error) {
  reportFailure(error);
}
