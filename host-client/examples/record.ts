// Records an input to a file: node host-client/dist/examples/record.js [URI] [DEVICE] [FILE] [SAMPLES]
import { open } from 'node:fs/promises';
import { Context } from '@iio-bridge/host-client';

const [uri = 'ip:127.0.0.1', deviceName = 'emu-adc', file = 'samples.bin', samples = '1000000'] = process.argv.slice(2);
const wanted = Number(samples);

await using context = await Context.open(uri);
const device = context.device(deviceName);
await using output = await open(file, 'w');
await using stream = await device.createRxStream({ samplesPerBlock: 16384, blocks: 8 });
let recorded = 0;
for await (using block of stream) {
  const take = Math.min(block.samples, wanted - recorded);
  // The block's memory is ours until the end of this iteration, and by then it is written.
  await output.writeFile(block.bytes.subarray(0, take * block.layout.bytes));
  recorded += take;
  if (recorded === wanted) {
    break;
  }
}
const { bytesPerSecond, gaps, lostSamples } = stream.statistics;
const loss = gaps === undefined ? 'the server does not tell of gaps' : `${gaps} gaps, ${lostSamples} samples lost`;
console.log(`${recorded} samples in ${file}, ${(bytesPerSecond / 1e6).toFixed(1)} MB/s; ${loss}`);
