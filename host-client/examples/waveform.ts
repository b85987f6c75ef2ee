// Plots some periods of an input: node host-client/dist/examples/waveform.js [URI] [DEVICE] [CHANNEL]
import { Context } from '@iio-bridge/host-client';

const COLUMNS = 76;
const ROWS = 17;
const [uri = 'ip:127.0.0.1', deviceName = 'emu-adc', channel = 'voltage0'] = process.argv.slice(2);

await using context = await Context.open(uri);
const device = context.device(deviceName);
// `scaled` reads the channel's scale, once; a voltage is in millivolts then.
await using stream = await device.createRxStream({ channels: [channel], samplesPerBlock: 3000, scaled: true });
for await (using block of stream) {
  plot(block.scaled(channel));
  break;
}

function plot(values: Float32Array): void {
  const peak = values.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
  const shown = Array.from({ length: COLUMNS }, (_, x) => values[Math.floor((x * values.length) / COLUMNS)] ?? 0);
  for (let row = 0; row < ROWS; row++) {
    const line = shown.map((value) => (Math.round(((1 - value / peak) / 2) * (ROWS - 1)) === row ? '*' : ' '));
    console.log(line.join('').trimEnd());
  }
  console.log(`${channel} of ${deviceName}: ${values.length} samples, peak ${peak.toFixed(1)} mV`);
}
