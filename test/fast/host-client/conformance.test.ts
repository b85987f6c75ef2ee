import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../../../src/bridge/config.js';
import { Service } from '../../../src/bridge/service.js';
import { conformance, type Expectations } from '../../conformance/suite.js';
import { FakeLog } from '../bridge/text-fakes.js';

const log = new FakeLog();
const services: Service[] = [];

/** One with the DAC looped back to the ADC, and one whose ADC counts. */
beforeAll(async () => {
  for (const loopback of [{ from: 'emu-dac', to: 'emu-adc' }, undefined]) {
    const config = parseConfig(
      {
        usb: { enabled: false },
        tcp: { listen: ['127.0.0.1:0'] },
        permissions: { tcp: { registers: true, debugAttributes: true } },
        emulate: {
          context: 'test/fixtures/emulated/converters.xml',
          freeRunning: true,
          ...(loopback === undefined ? {} : { loopback }),
        },
      },
      'test',
    );
    services.push(await Service.start(config, { log }));
  }
});

afterAll(async () => {
  await Promise.all(services.map((service) => service.stop()));
  expect(log.errors).toEqual([]);
});

const COMMON = {
  input: {
    device: 'emu-mixed',
    channels: ['voltage0', 'voltage1', 'voltage2', 'voltage3', 'timestamp'],
    samplesPerBlock: 1000,
    blocks: 20,
  },
  writable: {
    device: 'emu-adc',
    channel: 'voltage1',
    name: 'scale',
    values: ['0.25', '0.152587'],
  },
  refusing: { device: 'emu-mixed', name: 'test_signal', value: 'noise', code: 'EINVAL' },
  output: { device: 'emu-dac', loopback: 'emu-adc' },
} as const satisfies Partial<Expectations>;

const COUNTING = {
  ...COMMON,
  input: {
    device: 'emu-adc',
    channels: ['voltage0', 'voltage1', 'voltage2', 'voltage3'],
    samplesPerBlock: 4096,
    blocks: 50,
    trigger: 'emu-timer',
    counts: true,
  },
  output: { device: 'emu-dac' },
  registers: { device: 'emu-adc', register: 0x10 },
} as const satisfies Partial<Expectations>;

const EVENTS = { device: 'emu-adc', channel: 'voltage0', enable: 'thresh_rising_en' };

const SERVERS: readonly (readonly [name: string, service: number, Expectations])[] = [
  ['loopback, binary', 0, { ...COMMON, protocol: 'binary', shares: false }],
  ['loopback, text', 0, { ...COMMON, protocol: 'text', shares: true }],
  ['ADC, binary', 1, { ...COUNTING, protocol: 'binary', shares: false, events: EVENTS }],
  ['ADC, text', 1, { ...COUNTING, protocol: 'text', shares: true }],
];

describe.each(SERVERS)('iio-bridge over TCP: %s', (_server, service, expectations) => {
  // The port is known once the service runs; the names of the cases do not depend on it.
  it.each(conformance('', expectations).map(({ name }, index) => [name, index] as const))('%s', async (_, index) => {
    const uri = `ip:127.0.0.1:${services[service]?.endpoints[0]?.port}`;
    await conformance(uri, expectations)[index]?.run();
  });
});
