// Streams from many devices at once, of one context or of several:
// node host-client/dist/examples/many-devices.js [SECONDS] [URI...]
import { Context, type Device, type RxStatistics } from '@iio-bridge/host-client';

const [seconds = '2', ...given] = process.argv.slice(2);
const uris = given.length > 0 ? given : ['ip:127.0.0.1'];

// One signal ends everything: after the time, or by Ctrl-C.
const stop = new AbortController();
const timer = setTimeout(() => stop.abort(), Number(seconds) * 1000);
process.once('SIGINT', () => stop.abort());

const contexts = await Promise.all(uris.map((uri) => Context.open(uri)));
try {
  const inputs = contexts.flatMap((context) =>
    context.devices
      .filter(({ buffers }) => buffers.some(({ direction }) => direction === 'in'))
      .map((device) => ({ name: `${context.uri} ${device.name ?? device.id}`, device })),
  );
  const lines = await Promise.all(
    inputs.map(async ({ name, device }) => {
      const { blocks, bytesPerSecond } = await drain(device);
      const rate = (bytesPerSecond / 1e6).toFixed(2);
      return `${name.padEnd(40)} ${String(blocks).padStart(7)} blocks ${rate.padStart(9)} MB/s`;
    }),
  );
  console.log(lines.join('\n'));
} finally {
  clearTimeout(timer);
  await Promise.all(contexts.map((context) => context.close()));
}

async function drain(device: Device): Promise<RxStatistics> {
  await using stream = await device.createRxStream({ samplesPerBlock: 4096, signal: stop.signal });
  try {
    for await (const block of stream) {
      block.release();
    }
  } catch (error) {
    if (!stop.signal.aborted) {
      throw error;
    }
  }
  return stream.statistics;
}
