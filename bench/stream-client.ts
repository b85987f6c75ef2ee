// Our client as a program with the options and the report of the C programs of bench/baseline: reads a stream, or plays one.
import { parseArgs } from 'node:util';
import { Context, IioError } from '@iio-bridge/host-client';
import { processCpuSeconds } from './clocks.js';
import type { StreamReport } from './configuration.js';
import { COUNTER_SET_BYTES, CounterChecker } from './counter.js';
import { MemoryMeter } from './memory.js';
import { TIMESTAMPED_SET_BYTES, TimestampChecker } from './timestamps.js';

const { values } = parseArgs({
  options: {
    uri: { type: 'string', default: 'usb:' },
    device: { type: 'string', default: 'iio-sim-adc' },
    'channel-mask': { type: 'string', default: '0xf' },
    playback: { type: 'boolean', default: false },
    'block-size': { type: 'string', default: String(1024 * 1024) },
    blocks: { type: 'string', default: '4' },
    total: { type: 'string', default: String(256 * 1024 * 1024) },
    rate: { type: 'string' },
    'server-pid': { type: 'string' },
    heap: { type: 'boolean', default: false },
  },
});

const blockBytes = Number(values['block-size']);
const totalBytes = Number(values.total);
const rate = values.rate === undefined ? undefined : Number(values.rate);
const channelMask = Number(values['channel-mask']);

/** A machine that emulates another may take this long for an answer. */
const TIMEOUT_MS = 60_000;

function serverCpuSeconds(): number {
  const pid = values['server-pid'];
  return pid === undefined ? 0 : processCpuSeconds(Number(pid));
}

function ownCpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

async function capture(): Promise<StreamReport> {
  const checker = rate === undefined ? new CounterChecker('sparse') : new TimestampChecker(rate);
  await using context = await Context.open(values.uri, { timeoutMs: TIMEOUT_MS });
  const device = context.device(values.device);
  const channels = device.channels.filter(({ description: { scanElement } }) =>
    scanElement === undefined ? false : ((channelMask >> scanElement.index) & 1) === 1,
  );
  await using stream = await device.createRxStream({
    channels,
    samplesPerBlock: blockBytes / (rate === undefined ? COUNTER_SET_BYTES : TIMESTAMPED_SET_BYTES),
    blocks: Number(values.blocks),
  });
  const cpuBefore = ownCpuSeconds();
  const serverCpuBefore = serverCpuSeconds();
  const memory = values.heap ? new MemoryMeter() : undefined;
  let bytes = 0;
  let startedAt = 0;
  for await (const block of stream) {
    checker.check(block.bytes);
    bytes += block.bytes.byteLength;
    block.release();
    memory?.note();
    if (startedAt === 0) {
      startedAt = performance.now();
    }
    if (bytes >= totalBytes) {
      break;
    }
  }
  const seconds = (performance.now() - startedAt) / 1000;
  return {
    bytes,
    seconds,
    mbPerSecond: (bytes - blockBytes) / seconds / 1e6,
    clientCpuSeconds: ownCpuSeconds() - cpuBefore,
    serverCpuSeconds: serverCpuSeconds() - serverCpuBefore,
    ...(memory === undefined ? {} : { memory: await memory.end() }),
    ...(checker instanceof TimestampChecker
      ? {
          mismatches: 0,
          latency: checker.latency,
          loss: {
            reports: 0,
            reportedSets: 0,
            unreportedSets: checker.lostSets,
            producedSets: bytes / TIMESTAMPED_SET_BYTES + checker.lostSets,
          },
        }
      : { mismatches: checker.mismatches + checker.gaps }),
  };
}

if (values.playback) {
  throw new IioError('ENOSYS', 'The client has no streams to outputs');
}
const report = await capture();
process.stdout.write(`${JSON.stringify(report)}\n`);
process.exitCode = report.mismatches > 0 ? 1 : 0;
