// Our client as a program with the options and the report of the C programs of bench/baseline: reads a stream, or plays one.
import { parseArgs } from 'node:util';
import { Context, type Device } from '@iio-bridge/host-client';
import { processCpuSeconds } from './clocks.js';
import type { StreamReport } from './configuration.js';
import { COUNTER_SET_BYTES, CounterChecker, fillSparse } from './counter.js';
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
const blocks = Number(values.blocks);
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

/** Which channels, how large a block, and how many of them. */
function streamOptions(device: Device) {
  const channels = device.channels.filter(({ description: { scanElement } }) =>
    scanElement === undefined ? false : ((channelMask >> scanElement.index) & 1) === 1,
  );
  const setBytes = rate === undefined ? COUNTER_SET_BYTES : TIMESTAMPED_SET_BYTES;
  return { channels, blocks, samplesPerBlock: blockBytes / setBytes };
}

/** Rate and CPU time of what a stream moves. */
class Meter {
  readonly #cpuBefore = ownCpuSeconds();
  readonly #serverCpuBefore = serverCpuSeconds();
  readonly #memory = values.heap ? new MemoryMeter() : undefined;
  #startedAt = 0;
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  /** A block has come, or gone. The first one only starts the clock. */
  count(): void {
    this.#bytes += blockBytes;
    this.#memory?.note();
    if (this.#startedAt === 0) {
      this.#startedAt = performance.now();
    }
  }

  async end(): Promise<Omit<StreamReport, 'mismatches'>> {
    const seconds = (performance.now() - this.#startedAt) / 1000;
    return {
      bytes: this.#bytes,
      seconds,
      mbPerSecond: (this.#bytes - blockBytes) / seconds / 1e6,
      clientCpuSeconds: ownCpuSeconds() - this.#cpuBefore,
      serverCpuSeconds: serverCpuSeconds() - this.#serverCpuBefore,
      ...(this.#memory === undefined ? {} : { memory: await this.#memory.end() }),
    };
  }
}

async function capture(device: Device): Promise<StreamReport> {
  await using stream = await device.createRxStream({ ...streamOptions(device), metadata: false });
  const meter = new Meter();
  const checker = rate === undefined ? new CounterChecker('sparse') : new TimestampChecker(rate);
  for await (const block of stream) {
    checker.check(block.bytes);
    block.release();
    meter.count();
    if (meter.bytes >= totalBytes) {
      break;
    }
  }
  const report = await meter.end();
  if (checker instanceof CounterChecker) {
    return { ...report, mismatches: checker.mismatches + checker.gaps };
  }
  const { latency, lostSets } = checker;
  const producedSets = report.bytes / TIMESTAMPED_SET_BYTES + lostSets;
  const loss = { reports: 0, reportedSets: 0, unreportedSets: lostSets, misplacedSets: 0, producedSets };
  return { ...report, mismatches: 0, latency, loss };
}

/** The DAC checks what it plays. */
async function play(device: Device): Promise<StreamReport> {
  await using stream = await device.createTxStream({ ...streamOptions(device), metadata: false });
  const meter = new Meter();
  let filled = 0;
  for await (const block of stream) {
    // Blocks come back empty: that more are handed out than can be on their way shows that earlier ones were taken.
    if (filled >= blocks * blockBytes) {
      meter.count();
    }
    if (filled >= totalBytes) {
      block.release();
      break;
    }
    fillSparse(block.bytes, filled);
    filled += blockBytes;
    block.send();
  }
  await stream.flush();
  while (meter.bytes < totalBytes) {
    meter.count();
  }
  return { ...(await meter.end()), mismatches: 0 };
}

await using context = await Context.open(values.uri, { timeoutMs: TIMEOUT_MS });
const device = context.device(values.device);
const report = values.playback ? await play(device) : await capture(device);
process.stdout.write(`${JSON.stringify(report)}\n`);
process.exitCode = report.mismatches > 0 ? 1 : 0;
