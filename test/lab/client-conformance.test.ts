import { describe, expect, it } from 'vitest';
import { DebianIiod } from '../../lab/debian-iiod.js';
import type { Machine } from '../../lab/machine.js';
import { conformance, type Expectations } from '../conformance/suite.js';
import { ADC, Bridge, nodeProgram, prepareConverters, SG_MODULES } from './bridge.js';
import { createDummy, createTimer, DUMMY, DUMMY_MODULES, TIMER } from './dummy-device.js';
import { useMachine } from './support.js';

const DEVICES = {
  modules: [...SG_MODULES, ...DUMMY_MODULES],
  prepare: async (machine: Machine) => {
    await prepareConverters(machine);
    await createDummy(machine);
    await createTimer(machine);
  },
};

const EXPECTATIONS = '/tmp/expectations.json';

/** Runs the suite in the guest. @returns the failures, by case */
async function run(machine: Machine, uri: string, expectations: Expectations): Promise<Record<string, string>> {
  await machine.writeFile(EXPECTATIONS, JSON.stringify(expectations));
  const { stdout, stderr } = await machine.run(nodeProgram('dist/bundle/conformance.js', uri, EXPECTATIONS), {
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

const CONVERTERS = {
  input: {
    device: ADC,
    channels: ['voltage0', 'voltage1', 'voltage2', 'voltage3'],
    samplesPerBlock: 4096,
    blocks: 50,
    counts: true,
  },
  writable: { device: ADC, name: 'sampling_frequency', values: ['48000', '1000000'] },
  refusing: { device: ADC, name: 'test_signal', value: 'noise', code: 'EINVAL' },
  output: { device: 'iio-sim-dac' },
} as const satisfies Partial<Expectations>;

/** The kernel's sample driver, driven by a timer. */
const SAMPLE_DRIVER = {
  input: {
    device: DUMMY,
    channels: ['voltage0', 'voltage3-voltage4', 'accel_x'],
    trigger: TIMER,
    samplesPerBlock: 8,
    blocks: 4,
  },
  writable: { device: DUMMY, channel: 'accel_x', name: 'calibbias', values: ['3', '-7'] },
} as const satisfies Partial<Expectations>;

const TIMEOUT_MS = 300_000;

describe('iio-bridge over USB', () => {
  const lab = useMachine(DEVICES);

  it.each([
    ['binary, converters', { ...CONVERTERS, protocol: 'binary', shares: false }],
    ['text, converters', { ...CONVERTERS, protocol: 'text', shares: true }],
    ['binary, sample driver', { ...SAMPLE_DRIVER, protocol: 'binary', shares: false }],
    ['text, sample driver', { ...SAMPLE_DRIVER, protocol: 'text', shares: true }],
  ] satisfies [string, Expectations][])(
    'passes the suite: %s',
    async (_, expectations) => {
      await Bridge.start(lab.machine);
      expect(await run(lab.machine, 'usb:', expectations)).toEqual({});
    },
    TIMEOUT_MS,
  );
});

describe("Debian's iiod", () => {
  // Of its own: Linux 6.12 takes the locks of a DMA buffer in one order for read() and in the other for dmabufs, and lockdep
  // reports what a guest has seen of both.
  const lab = useMachine(DEVICES);

  it.each([
    ['TCP, converters', { ...CONVERTERS, protocol: 'text', shares: true }],
    ['TCP, sample driver', { ...SAMPLE_DRIVER, protocol: 'text', shares: true }],
    ['USB, sample driver', { ...SAMPLE_DRIVER, protocol: 'text', shares: true }],
  ] satisfies [string, Expectations][])(
    'passes the suite: %s',
    async (name, expectations) => {
      const usb = name.startsWith('USB');
      await using iiod = await DebianIiod.start(lab.machine, { port: 30432, ...(usb ? { pipes: 3 } : {}) });
      expect(await run(lab.machine, usb ? 'usb:' : iiod.tcpUri, expectations)).toEqual({});
    },
    TIMEOUT_MS,
  );
});
