import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { PROCESS_TIMEOUT_MS, useBridge, useDirectory } from './cli-harness.js';

const sine = useBridge({ args: ['--signal', 'sine'] });
const looped = useBridge({ args: ['--loopback', 'emu-dac=emu-adc'] });
const path = useDirectory();

async function example(name: string, ...words: readonly string[]): Promise<string> {
  const program = fileURLToPath(new URL(`../../../host-client/dist/examples/${name}.js`, import.meta.url));
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [program, ...words]);
  expect(stderr).toBe('');
  return stdout;
}

describe('the examples of the host client', { timeout: PROCESS_TIMEOUT_MS }, () => {
  it('waveform plots three periods', async () => {
    const lines = (await example('waveform', sine())).trimEnd().split('\n');
    expect(lines).toHaveLength(18);
    expect(lines[0]).toMatch(/^ +\*+ +\*+ +\*+$/);
    expect(lines.at(-1)).toBe('voltage0 of emu-adc: 3000 samples, peak 4999.8 mV');
  });

  it('record writes the number of samples that was asked for', async () => {
    const file = path('samples.bin');
    expect(await example('record', sine(), 'emu-adc', file, '50000')).toMatch(/^50000 samples in .*, [\d.]+ MB\/s; /);
    expect((await stat(file)).size).toBe(400_000);
  });

  it('loop-spectrum hears the tone that it plays', async () => {
    expect(await example('loop-spectrum', looped())).toBe('played 20020 Hz, heard 20020 Hz at -4.3 dBFS\n');
  });

  it('attribute-sweep tries the frequencies that were given', async () => {
    const output = await example('attribute-sweep', sine(), 'emu-adc', '5000', '20000');
    expect(output).toMatch(/^ +asked +got +measured\n +5000 +5000 +\d+\n +20000 +20000 +\d+\n$/);
  });

  it('many-devices streams from all inputs of two contexts', async () => {
    const output = await example('many-devices', '0.5', sine(), looped());
    expect(
      output
        .trimEnd()
        .split('\n')
        .map((line) => line.replace(/^ip:127\.0\.0\.1:\d+ /, '').split(' ')[0]),
    ).toEqual(['emu-adc', 'emu-mixed', 'emu-adc', 'emu-mixed']);
  });
});
