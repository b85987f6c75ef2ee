// Sets one sampling frequency after the other, and measures what really comes:
// node host-client/dist/examples/attribute-sweep.js [URI] [DEVICE] [HERTZ...]
import { Context, IioError } from '@iio-bridge/host-client';

const [uri = 'ip:127.0.0.1', deviceName = 'emu-adc', ...given] = process.argv.slice(2);
const frequencies = given.length > 0 ? given : ['10000', '100000', '1000000'];

await using context = await Context.open(uri);
const device = context.device(deviceName);
const attribute = device.attribute('sampling_frequency');
const before = await attribute.read();
console.log('     asked        got   measured');
try {
  for (const asked of frequencies) {
    try {
      await attribute.write(asked);
    } catch (error) {
      // A driver says no with an errno; whatever else happens ends the sweep.
      if (!(error instanceof IioError) || error.errno === undefined) {
        throw error;
      }
      console.log(`${asked.padStart(10)}   refused: ${error.code}`);
      continue;
    }
    const got = Number(await attribute.read());
    const measured = await measure(Math.max(16, Math.round(got / 50)));
    console.log(`${asked.padStart(10)} ${String(got).padStart(10)} ${measured.toFixed(0).padStart(10)}`);
  }
} finally {
  await attribute.write(before);
}

/** Sample sets per second, over ten blocks. */
async function measure(samplesPerBlock: number): Promise<number> {
  await using stream = await device.createRxStream({ channels: ['voltage0'], samplesPerBlock });
  for await (using block of stream) {
    if (block.sequence === 10) {
      break;
    }
  }
  return stream.statistics.bytesPerSecond / stream.layout.bytes;
}
