import { describe, expect, onTestFinished, test } from 'vitest';
import { loadModules, unloadModules } from '../../lab/modules.js';
import {
  ADC,
  Bridge,
  type CheckedRequest,
  clientProgram,
  expectStream,
  MIXED,
  prepareConverters,
  SG_MODULES,
} from './bridge.js';
import { createDummy, createTimer, DUMMY, DUMMY_MODULES, DUMMY_SET, removeAllDummies, TIMER } from './dummy-device.js';
import { useMachine } from './support.js';

const MIB = 1024 * 1024;
const BYTES = 64 * MIB;
const SAMPLES = 32_768;

const lab = useMachine({ modules: SG_MODULES, prepare: prepareConverters });

const EVERY_CHANNEL: CheckedRequest = { device: ADC, samplesPerBlock: SAMPLES, bytes: BYTES };
/** A sample set with holes, and a block that no packet, page or burst divides. */
const ODD: CheckedRequest = {
  device: MIXED,
  channels: ['voltage0', 'voltage1', 'voltage3'],
  samplesPerBlock: 33_333,
  bytes: BYTES / 8,
};
const WITH_TIMESTAMP: CheckedRequest = { device: MIXED, samplesPerBlock: 33_333, bytes: BYTES / 4 };

async function expectStreams(bridge: Bridge, path: object, requests: readonly CheckedRequest[]): Promise<void> {
  for (const request of requests) {
    await expectStream(lab.machine, request);
    expect(bridge.streamPath).toEqual(path);
  }
  expect(bridge.complaints).toEqual([]);
}

test('copies on the USB side when asked to', async () => {
  const bridge = await Bridge.start(lab.machine, '--mode', 'copy');
  await expectStreams(bridge, { mode: 'half-copy', source: 'iio-dmabuf', sink: 'usb-aio', fallbacks: [] }, [
    EVERY_CHANNEL,
    ODD,
    WITH_TIMESTAMP,
  ]);
  await bridge.expectCleanStop();
});

describe('a controller without scatter-gather', () => {
  test('copies on the USB side, and says why', async () => {
    const { machine } = lab;
    await unloadModules(machine, ['dummy_hcd_sg']);
    onTestFinished(async () => {
      await unloadModules(machine, ['dummy_hcd']);
      await loadModules(machine, SG_MODULES.slice(0, 1));
    });
    await loadModules(machine, [{ name: 'dummy_hcd', params: { is_super_speed: 1 } }]);
    const bridge = await Bridge.start(machine);
    await expectStreams(
      bridge,
      {
        mode: 'half-copy',
        source: 'iio-dmabuf',
        sink: 'usb-aio',
        fallbacks: ['udc-no-sg'],
      },
      [EVERY_CHANNEL, ODD],
    );
    await bridge.expectCleanStop();
  });
});

describe('a device without DMABUF', () => {
  test.each([
    { asked: 'auto', mode: 'half-copy', sink: 'usb-dmabuf' },
    { asked: 'copy', mode: 'copy', sink: 'usb-aio' },
  ])('streams by read(), and says why: --mode $asked', async ({ asked, mode, sink }) => {
    const { machine } = lab;
    await loadModules(machine, DUMMY_MODULES);
    onTestFinished(() => removeAllDummies(machine));
    const device = await createDummy(machine);
    await createTimer(machine);
    const bridge = await Bridge.start(machine, '--mode', asked);

    const attr = async (...words: string[]) => (await machine.output(clientProgram('attr', ...words))).trim();
    expect(await attr('-c', DUMMY, 'voltage0', 'raw')).toBe(
      (await machine.output(`cat ${device}/in_voltage0_raw`)).trim(),
    );

    const read = clientProgram('read', '-b', '16', '-s', '64', DUMMY, ...Object.keys(DUMMY_SET));
    const without = await machine.run(read);
    expect(without.stderr).toMatch(/^iio-client: .*enable buffer 0/);
    expect(without.code).toBe(1);

    await machine.output(`echo ${TIMER} >${device}/trigger/current_trigger`);
    await machine.output([...read, '-o', '/tmp/dummy-samples']);
    const samples = await machine.readFile('/tmp/dummy-samples');
    const values = new Int16Array(samples.buffer, samples.byteOffset, samples.byteLength / 2);
    expect([...values]).toEqual(Array.from({ length: 64 }, () => Object.values(DUMMY_SET)).flat());
    expect(bridge.streamPath).toEqual({
      mode,
      source: 'iio-read',
      sink,
      fallbacks: ['no-dmabuf-buffer'],
    });
    await bridge.expectCleanStop();
  });
});
