// Runs in the lab's guest: takes one measurement, and prints it as JSON.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { Context } from '@iio-bridge/host-client';
import { checkoutRoot } from '../lab/paths.js';
import { ADC_NAME, prepareAdc } from './adc.js';
import { type BridgeMode, BridgeProcess } from './bridge-process.js';
import type { Configuration, Measurement } from './configuration.js';
import { COUNTER_SET_BYTES, CounterChecker } from './counter.js';
import { processCpuSeconds } from './process-cpu.js';
import { waitForIioInterface } from './usb-presence.js';

const READER_TRANSFER_BYTES = 256 * 1024;
const READER_TRANSFERS = 16;
const LOG_TIMEOUT_MS = 1000;

type StreamMode = 'zero-copy' | 'copy';

interface DeviceReport {
  readonly cpuSecondsPerGb: number;
  readonly cpuMicrosecondsPerBlock: number;
}

interface ReaderReport {
  readonly bytes: number;
  readonly mbPerSecond: number;
  readonly serverCpuSeconds: number;
}

type BaselineProgram = 'device' | 'reader' | 'iiod-reader';

async function runBaseline<Report>(
  name: BaselineProgram,
  options: Record<string, string | number | true>,
): Promise<Report> {
  const program = join(checkoutRoot(), 'dist/bench/baseline', name);
  const args = Object.entries(options).flatMap(([option, value]) =>
    value === true ? [`--${option}`] : [`--${option}`, String(value)],
  );
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const [output] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  if (child.exitCode !== 0) {
    throw new Error(`${name} ended with ${child.exitCode ?? child.signalCode}: ${output}`);
  }
  return JSON.parse(output);
}

function perBlock(cpuSeconds: number, bytes: number, blockBytes: number) {
  return {
    cpuSecondsPerGb: cpuSeconds / (bytes / 1e9),
    cpuMicrosecondsPerBlock: (cpuSeconds * 1e6) / (bytes / blockBytes),
  };
}

/** The fences' status is read here as the bridge reads it, so that like is compared with like. */
async function measureBare({ blockBytes, blocks, totalBytes }: Configuration): Promise<Measurement> {
  const [device, reader] = await Promise.all([
    runBaseline<DeviceReport>('device', {
      'block-size': blockBytes,
      blocks,
      total: totalBytes,
      'fence-status': true,
    }),
    runBaseline<ReaderReport>('reader', {
      'transfer-size': READER_TRANSFER_BYTES,
      transfers: READER_TRANSFERS,
      total: totalBytes,
      verify: 'sparse',
    }),
  ]);
  return {
    mbPerSecond: reader.mbPerSecond,
    cpuSecondsPerGb: device.cpuSecondsPerGb,
    cpuMicrosecondsPerBlock: device.cpuMicrosecondsPerBlock,
  };
}

/** Starts the bridge and waits until the host side has found it. */
async function startBridge(mode: BridgeMode): Promise<BridgeProcess> {
  const bridge = await BridgeProcess.start(mode);
  await waitForIioInterface();
  return bridge;
}

async function requireMode(bridge: BridgeProcess, wanted: 'zero-copy' | 'half-copy'): Promise<void> {
  const { mode } = await bridge.waitForRecord((record) => record.msg === 'stream open', LOG_TIMEOUT_MS);
  if (mode !== wanted) {
    throw new Error(`The bridge streams in mode ${String(mode)}, not ${wanted}`);
  }
}

async function measureWithCClient({ blockBytes, blocks, totalBytes }: Configuration): Promise<Measurement> {
  await using bridge = await startBridge('auto');
  const deviceIndex = await findDeviceIndex();
  const { bytes, mbPerSecond, serverCpuSeconds } = await runBaseline<ReaderReport>('iiod-reader', {
    'device-index': deviceIndex,
    'block-size': blockBytes,
    blocks,
    total: totalBytes,
    verify: 'sparse',
    'server-pid': bridge.pid,
  });
  await requireMode(bridge, 'zero-copy');
  return { mbPerSecond, ...perBlock(serverCpuSeconds, bytes, blockBytes) };
}

async function findDeviceIndex(): Promise<number> {
  await using context = await Context.open('usb:');
  return context.device(ADC_NAME).index;
}

async function measureWithClient(configuration: Configuration, mode: StreamMode): Promise<Measurement> {
  const { blockBytes, blocks, totalBytes } = configuration;
  await using bridge = await startBridge(mode === 'copy' ? 'copy' : 'auto');
  await using context = await Context.open('usb:');
  await using stream = await context.device(ADC_NAME).createRxStream({
    samplesPerBlock: blockBytes / COUNTER_SET_BYTES,
    blocks,
  });
  await requireMode(bridge, mode === 'copy' ? 'half-copy' : 'zero-copy');

  const checker = new CounterChecker('sparse');
  let bytes = 0;
  let startedAt: number | undefined;
  let cpuBefore = 0;
  for await (const block of stream) {
    checker.check(block.bytes);
    block.release();
    if (startedAt === undefined) {
      // The first block does not count: with it comes what it takes to set a stream up.
      startedAt = performance.now();
      cpuBefore = processCpuSeconds(bridge.pid);
    } else {
      bytes += blockBytes;
    }
    if (bytes + blockBytes >= totalBytes) {
      break;
    }
  }
  const seconds = (performance.now() - (startedAt ?? 0)) / 1000;
  const cpu = processCpuSeconds(bridge.pid) - cpuBefore;
  if (checker.mismatches > 0 || checker.gaps > 0) {
    throw new Error(`${checker.mismatches} sample sets were wrong, and there were ${checker.gaps} gaps`);
  }
  return { mbPerSecond: bytes / seconds / 1e6, ...perBlock(cpu, bytes, blockBytes) };
}

function measure(configuration: Configuration): Promise<Measurement> {
  switch (configuration.chain) {
    case 'bare':
      return measureBare(configuration);
    case 'zero-copy-c-client':
      return measureWithCClient(configuration);
    case 'zero-copy':
    case 'copy':
      return measureWithClient(configuration, configuration.chain);
  }
}

const configuration: Configuration = JSON.parse(process.argv[2] ?? '');
await prepareAdc();
process.stdout.write(`${JSON.stringify(await measure(configuration))}\n`);
