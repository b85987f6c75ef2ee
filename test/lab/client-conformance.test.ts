import { describe, expect, it } from 'vitest';
import type { Machine } from '../../lab/machine.js';
import { conformance, type Expectations } from '../conformance/suite.js';
import { ADC, Bridge, nodeProgram, prepareConverters, SG_MODULES } from './bridge.js';
import { useMachine } from './support.js';

const lab = useMachine({ modules: SG_MODULES, prepare: prepareConverters });

const EXPECTATIONS = '/tmp/expectations.json';

/** Runs the suite in the guest. @returns the failures, by case */
async function run(machine: Machine, uri: string, expectations: Expectations): Promise<Record<string, string>> {
  await machine.writeFile(EXPECTATIONS, JSON.stringify(expectations));
  const { stdout, stderr } = await machine.run(nodeProgram('dist/test/conformance/main.js', uri, EXPECTATIONS), {
    timeoutMs: 120_000 * machine.slowness,
  });
  const results: { name: string; error?: string }[] = stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
  const names = conformance(uri, expectations).map(({ name }) => name);
  expect(
    results.map(({ name }) => name),
    stderr,
  ).toEqual(names);
  return Object.fromEntries(results.flatMap(({ name, error }) => (error === undefined ? [] : [[name, error]])));
}

const BRIDGE = {
  input: {
    device: ADC,
    channels: ['voltage0', 'voltage1', 'voltage2', 'voltage3'],
    samplesPerBlock: 4096,
    blocks: 50,
    counts: true,
  },
  writable: { device: ADC, name: 'sampling_frequency', values: ['48000', '1000000'] },
  refusing: { device: ADC, name: 'test_signal', value: 'noise', code: 'EINVAL' },
} as const satisfies Partial<Expectations>;

describe('iio-bridge over USB', () => {
  it.each([
    { ...BRIDGE, protocol: 'binary', shares: false },
    { ...BRIDGE, protocol: 'text', shares: true },
  ] satisfies Expectations[])('passes the suite, $protocol', async (expectations) => {
    await Bridge.start(lab.machine);
    expect(await run(lab.machine, 'usb:', expectations)).toEqual({});
  }, 300_000);
});
