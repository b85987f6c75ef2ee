import { expect, onTestFinished, test } from 'vitest';
import { loadModules, unloadModules } from '../../lab/modules.js';
import { Bridge, SG_MODULES } from './bridge.js';
import { DAC, expectPlayed, prepareDac, SimulatedDac } from './playback.js';
import { useMachine } from './support.js';

const lab = useMachine({ modules: SG_MODULES, prepare: prepareDac });

const WHOLE = { blockBytes: 256 * 1024, blocks: 4, count: 24 };
const ODD = { blockBytes: 100_008, blocks: 4, count: 24, sizes: [100_008, 8, 1024, 65_536] };

async function expectBlocks(bridge: Bridge, path: object): Promise<void> {
  const { dev } = await SimulatedDac.find(lab.machine);
  for (const fields of [WHOLE, ODD]) {
    for (const cut of ['libiio', 'one', 10_000] as const) {
      await expectPlayed(lab.machine, { dev, cut, ...fields });
      expect(bridge.streamPath).toEqual(path);
    }
  }
  expect(bridge.complaints).toEqual([]);
}

test('an output copies on the USB side when it is asked to', async () => {
  const bridge = await Bridge.start(lab.machine, '--mode', 'copy');
  await expectBlocks(bridge, { mode: 'half-copy', source: 'usb-aio', sink: 'iio-dmabuf', fallbacks: [] });
  await bridge.expectCleanStop();
});

test('an output copies on a controller without scatter-gather, and says why', async () => {
  const { machine } = lab;
  await unloadModules(machine, ['dummy_hcd_sg']);
  onTestFinished(async () => {
    await unloadModules(machine, ['dummy_hcd']);
    await loadModules(machine, SG_MODULES.slice(0, 1));
  });
  await loadModules(machine, [{ name: 'dummy_hcd', params: { is_super_speed: 1 } }]);
  const bridge = await Bridge.start(machine);
  await expectBlocks(bridge, {
    mode: 'half-copy',
    source: 'usb-aio',
    sink: 'iio-dmabuf',
    fallbacks: ['udc-no-sg'],
  });
  await bridge.expectCleanStop();
});

test("libiio's iio_writedev plays a file to its end, over USB without a copy and over TCP", async () => {
  const { machine } = lab;
  const dac = await SimulatedDac.find(machine);
  const sets = 256 * 1024;
  await machine.output([
    process.execPath,
    '-e',
    `const n = BigUint64Array.from({ length: ${sets} }, (_, i) => BigInt(i));
     require('fs').writeFileSync('/tmp/counter', new Uint8Array(n.buffer))`,
  ]);
  await machine.output('ip link set lo up || ifconfig lo up');
  const bridge = await Bridge.start(machine, '--tcp', '127.0.0.1:30431');
  const paths = {
    'usb:': { mode: 'zero-copy', source: 'usb-dmabuf', sink: 'iio-dmabuf', fallbacks: [] },
    'ip:127.0.0.1': { mode: 'half-copy', source: 'tcp', sink: 'iio-dmabuf', fallbacks: [] },
  };
  for (const [uri, path] of Object.entries(paths)) {
    const before = { bytes: await dac.playedBytes(), errors: await dac.number('pattern_errors') };
    await machine.output(`iio_writedev -u ${uri} -b 32768 ${DAC} </tmp/counter`);
    expect((await dac.playedBytes()) - before.bytes, uri).toBe(sets * 8);
    expect(await dac.number('pattern_errors'), uri).toBe(before.errors);
    expect(bridge.streamPath).toEqual(path);
  }
  await bridge.expectCleanStop();
});
