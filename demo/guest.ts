// Runs in the lab's guest: the bridge as a child process, and its client in this one. Prints GuestEvents.
import { release } from 'node:os';
import { Context, type Device } from '@iio-bridge/host-client';
import { BridgeProcess, type LogRecord } from '../bench/bridge-process.js';
import { processCpuSeconds } from '../bench/clocks.js';
import { ADC_NAME } from '../bench/converters.js';
import { COUNTER_SET_BYTES, CounterChecker } from '../bench/counter.js';
import { readAttachments, readMappings } from '../bench/dmabufs.js';
import { waitForIioInterface } from '../bench/usb-presence.js';
import type { Evidence, GuestEvent, GuestRequest, Measurement, Progress, Waveform } from './events.js';

const BLOCK_BYTES = 1024 * 1024;
const BLOCKS = 4;
const PROGRESS_MS = 100;
const LOG_TIMEOUT_MS = 1000;

const SINE_SAMPLING_FREQUENCY = 1_000_000;
const SINE_FREQUENCY = 10_000;
const SINE_CHANNEL = 'voltage0';
/** Four periods and a bit. */
const SINE_SAMPLES = 420;

function emit(event: GuestEvent): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

/** The bridge's record of how the stream runs, and beside it what the kernel says. */
async function gatherEvidence(bridge: BridgeProcess): Promise<Evidence> {
  const isOpening = (record: LogRecord) => record.msg === 'stream open';
  const { mode, source, sink, fallbacks } = await bridge.waitForRecord(isOpening, LOG_TIMEOUT_MS);
  const [mappings, attachments] = await Promise.all([readMappings(bridge.pid), readAttachments()]);
  const shared = attachments.filter((devices) => devices.length > 1);
  return {
    mode: String(mode),
    source: String(source),
    sink: String(sink),
    fallbacks: Array.isArray(fallbacks) ? fallbacks.map(String) : [],
    sharedDmabufs: shared.length,
    sharingDevices: [...new Set(shared.flat())].toSorted(),
    bridgePid: bridge.pid,
    mappings: mappings.total,
    mappedDmabufs: mappings.dmabufs,
  };
}

/** Streams the counter signal as fast as it goes, and checks every sample set. */
async function measure(bridge: BridgeProcess, device: Device, seconds: number): Promise<Measurement> {
  await device.attribute('test_signal').write('counter');
  await device.attribute('free_running').write('1');

  const checker = new CounterChecker('every-set');
  let bytes = 0;
  let blocks = 0;
  let firstBytes = 0;
  let startedAt = 0;
  let reportAt = 0;
  let cpuBefore = 0;
  let evidence: Evidence | undefined;

  const progress = (): Progress => {
    const elapsed = (performance.now() - startedAt) / 1000;
    return {
      bytes,
      seconds: elapsed,
      mbPerSecond: elapsed > 0 ? (bytes - firstBytes) / elapsed / 1e6 : 0,
      blocks,
      gaps: checker.gaps,
      lostSamples: checker.lostSets,
      mismatches: checker.mismatches,
    };
  };

  await using stream = await device.createRxStream({
    samplesPerBlock: BLOCK_BYTES / COUNTER_SET_BYTES,
    blocks: BLOCKS,
  });
  for await (const block of stream) {
    checker.check(block.bytes);
    bytes += block.bytes.length;
    blocks += 1;
    block.release();
    const now = performance.now();
    if (blocks === 1) {
      // Rate and CPU time count from here on: what it takes to set a stream up is not a matter of its size.
      startedAt = now;
      reportAt = now + PROGRESS_MS;
      firstBytes = bytes;
      cpuBefore = processCpuSeconds(bridge.pid);
    }
    if (evidence === undefined && now - startedAt >= (seconds * 1000) / 2) {
      evidence = await gatherEvidence(bridge);
    }
    if (now - startedAt >= seconds * 1000 && evidence !== undefined) {
      break;
    }
    if (now >= reportAt) {
      emit({ event: 'progress', ...progress() });
      reportAt = now + PROGRESS_MS;
    }
  }
  const cpu = processCpuSeconds(bridge.pid) - cpuBefore;
  if (evidence === undefined) {
    throw new Error('The stream ended by itself');
  }
  return {
    ...progress(),
    ...evidence,
    device: device.name ?? device.id,
    blockBytes: BLOCK_BYTES,
    verifiedSamples: checker.checkedSets,
    bridgeCpuSecondsPerGb: cpu / ((bytes - firstBytes) / 1e9),
  };
}

/** A few periods of a sine at a fixed sampling frequency. */
async function captureSine(device: Device): Promise<Waveform> {
  await device.attribute('free_running').write('0');
  await device.attribute('sampling_frequency').write(String(SINE_SAMPLING_FREQUENCY));
  await device.attribute('test_signal').write('sine');
  await device.attribute('sine_frequency').write(String(SINE_FREQUENCY));
  await using stream = await device.createRxStream({ samplesPerBlock: 4096, blocks: 2, channels: [SINE_CHANNEL] });
  for await (const block of stream) {
    const samples = Array.from(block.channel(SINE_CHANNEL).subarray(0, SINE_SAMPLES), Number);
    block.release();
    return {
      channel: SINE_CHANNEL,
      samples,
      samplingFrequency: SINE_SAMPLING_FREQUENCY,
      sineFrequency: SINE_FREQUENCY,
    };
  }
  throw new Error('The stream of the sine ended without a block');
}

const request: GuestRequest = JSON.parse(process.argv[2] ?? '');
await using bridge = await BridgeProcess.start('--mode', request.mode);
await waitForIioInterface();
{
  await using context = await Context.open('usb:');
  const device = context.device(ADC_NAME);
  emit({ event: 'device', name: ADC_NAME, channels: device.channels.length, kernel: release() });
  emit({ event: 'measurement', result: await measure(bridge, device, request.seconds) });
  emit({ event: 'waveform', ...(await captureSine(device)) });
}
const { code, milliseconds } = await bridge.stop();
emit({ event: 'stopped', exitCode: code, milliseconds });
