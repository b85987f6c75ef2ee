import type { Machine } from '../lab/machine.js';
import type { Configuration, Measurement, StreamReport, StreamRun } from './configuration.js';
import { type Converter, playedByDac, prepareConverter, resetConverters } from './converters.js';
import { baselineCommand, streamOptions, typescriptCommand } from './programs.js';
import { BridgeServer, type Server, startIiod } from './servers.js';
import { TIMESTAMPED_SET_BYTES } from './timestamps.js';

const RUN_TIMEOUT_MS = 180_000;

/** What a latency run keeps to: half of what the slowest chain manages on the slowest machine. Bytes/s. */
const LATENCY_BYTES_PER_SECOND = 32e6;
/** And for small blocks. */
const LATENCY_BLOCKS_PER_SECOND = 50;

/** What the bare device program prints. */
interface DeviceReport {
  readonly cpuSeconds: number;
}

/** Takes one measurement, with a server that is started for it. */
export async function measure(machine: Machine, configuration: Configuration): Promise<Measurement> {
  await resetConverters(machine);
  await using server = await startServer(machine, configuration);
  const throughput = await run(machine, server, configuration, throughputRun(configuration));
  const { bytes, serverCpuSeconds } = throughput;
  const measurement = {
    mbPerSecond: throughput.mbPerSecond,
    cpuSecondsPerGb: serverCpuSeconds / (bytes / 1e9),
    cpuMicrosecondsPerBlock: (serverCpuSeconds * 1e6) / (bytes / configuration.blockBytes),
  };
  if (configuration.latencyBlocks === 0) {
    return measurement;
  }
  const { latency, loss } = await run(machine, server, configuration, latencyRun(configuration));
  if (latency === undefined) {
    return measurement;
  }
  const { p50Us, p99Us } = latency;
  return { ...measurement, p50Us, p99Us, lostSets: loss?.unreportedSets ?? 0 };
}

function throughputRun({ direction, blockBytes, blocks, totalBytes }: Configuration): StreamRun {
  return { direction, blockBytes, blocks, totalBytes };
}

function latencyRun({ direction, blockBytes, blocks, latencyBlocks }: Configuration): StreamRun {
  const blocksPerSecond = Math.min(LATENCY_BLOCKS_PER_SECOND, LATENCY_BYTES_PER_SECOND / blockBytes);
  const rate = Math.round((blocksPerSecond * blockBytes) / TIMESTAMPED_SET_BYTES);
  return { direction, blockBytes, blocks, totalBytes: latencyBlocks * blockBytes, rate };
}

/** The bare chain has no server: the device program lives as long as its stream. */
async function startServer(machine: Machine, { chain }: Configuration): Promise<Server | undefined> {
  switch (chain) {
    case 'bare':
      return undefined;
    case 'zero-copy':
    case 'typescript':
      return await BridgeServer.start(machine);
    case 'copy':
      return await BridgeServer.start(machine, '--mode', 'copy');
    case 'iiod':
      return await startIiod(machine);
  }
}

async function run(
  machine: Machine,
  server: Server | undefined,
  { chain }: Configuration,
  stream: StreamRun,
): Promise<StreamReport> {
  const kind = stream.direction === 'tx' ? 'dac' : stream.rate === undefined ? 'adc' : 'timestamped';
  const converter = await prepareConverter(machine, kind, stream.rate);
  const playedBefore = await playedByDac(machine);
  const report = await runClient(machine, server, chain, stream, converter);
  if (stream.direction === 'tx') {
    const played = await playedByDac(machine);
    // What is still in the server's and the kernel's buffers when the client ends is not played.
    const least = stream.totalBytes - 4 * stream.blocks * stream.blockBytes;
    if (played.errors > playedBefore.errors || played.bytes - playedBefore.bytes < least) {
      throw new Error(
        `the DAC found ${played.errors - playedBefore.errors} wrong sample sets in ${played.bytes - playedBefore.bytes} bytes`,
      );
    }
  }
  const mode = server instanceof BridgeServer ? server.mode : undefined;
  if (mode !== undefined && (mode === 'zero-copy') !== (chain !== 'copy')) {
    throw new Error(`the bridge streams in mode ${mode}`);
  }
  return report;
}

async function runClient(
  machine: Machine,
  server: Server | undefined,
  chain: Configuration['chain'],
  stream: StreamRun,
  { name, index, channelMask }: Converter,
): Promise<StreamReport> {
  const output = async <Report>(command: readonly string[]): Promise<Report> =>
    JSON.parse(await machine.output(command, { timeoutMs: RUN_TIMEOUT_MS * machine.slowness }));
  const options = streamOptions(stream);
  const served = { ...options, 'channel-mask': channelMask, 'server-pid': server?.pid };
  switch (chain) {
    case 'bare': {
      const device = { ...options, rate: undefined, device: name, 'channel-mask': channelMask };
      const [{ cpuSeconds }, report] = await Promise.all([
        output<DeviceReport>(baselineCommand('device', device)),
        output<StreamReport>(baselineCommand('bulk', options)),
      ]);
      return { ...report, serverCpuSeconds: cpuSeconds };
    }
    case 'zero-copy':
    case 'copy':
      return await output(baselineCommand('iiod-client', { ...served, 'device-index': index }));
    case 'typescript':
      return await output(typescriptCommand({ ...served, device: name }));
    case 'iiod':
      return await output(baselineCommand('libiio-client', { ...served, device: name }));
  }
}
