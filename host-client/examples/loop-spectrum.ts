// Plays a tone on an output, and looks for it in the spectrum of an input that is wired to it:
// node host-client/dist/examples/loop-spectrum.js [URI] [OUTPUT] [INPUT] [HERTZ]
import { Context, type SampleArray } from '@iio-bridge/host-client';
import FFT from 'fft.js';

const SIZE = 4096;
const AMPLITUDE = 20000;
const [uri = 'ip:127.0.0.1', output = 'emu-dac', input = 'emu-adc', hertz = '20000'] = process.argv.slice(2);

await using context = await Context.open(uri);
const dac = context.device(output);
const adc = context.device(input);
const rate = Number(await adc.attribute('sampling_frequency').read());

// A whole number of periods, so that the cycle has no seam.
const periods = Math.max(1, Math.round((Number(hertz) * SIZE) / rate));
const tone = Int16Array.from({ length: SIZE }, (_, i) => AMPLITUDE * Math.sin((2 * Math.PI * periods * i) / SIZE));
await using playback = await dac.createTxStream({ channels: ['voltage0'], samplesPerBlock: SIZE, cyclic: true });
await playback.write(tone);

await using capture = await adc.createRxStream({ channels: ['voltage0'], samplesPerBlock: SIZE });
for await (using block of capture) {
  const { bin, level } = strongest(block.channel('voltage0'));
  const [played, heard] = [periods, bin].map((cycles) => ((cycles * rate) / SIZE).toFixed(0));
  console.log(`played ${played} Hz, heard ${heard} Hz at ${level.toFixed(1)} dBFS`);
  process.exitCode = bin === periods ? 0 : 1;
  break;
}

function strongest(samples: SampleArray): { readonly bin: number; readonly level: number } {
  const fft = new FFT(SIZE);
  const spectrum: number[] = fft.createComplexArray();
  fft.realTransform(spectrum, Array.from(samples, Number));
  let [bin, largest] = [1, 0];
  for (let i = 1; i < SIZE / 2; i++) {
    const magnitude = Math.hypot(spectrum[2 * i] ?? 0, spectrum[2 * i + 1] ?? 0);
    if (magnitude > largest) {
      [bin, largest] = [i, magnitude];
    }
  }
  return { bin, level: 20 * Math.log10((2 * largest) / SIZE / 32768) };
}
