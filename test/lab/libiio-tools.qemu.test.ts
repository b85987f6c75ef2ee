import { expect, test } from 'vitest';
import { prepareConverters, SG_MODULES, useBridge } from './bridge.js';
import { COUNTED, expectCounted, outputOf, prepareCounted, simStatistic } from './libiio-tools.js';
import { useMachine } from './support.js';

// A look at libiio's programs on a kernel with several processors; libiio-tools.uml.test.ts has all of it.

const DAC = 'iio-sim-dac';

const lab = useMachine({
  modules: SG_MODULES,
  prepare: async (machine) => {
    await prepareConverters(machine);
    await prepareCounted(machine);
    await machine.output(`echo 1 >$(dirname $(grep -lx ${DAC} /sys/bus/iio/devices/*/name))/free_running`);
  },
});
const served = useBridge(lab);

test('libiio captures and plays over USB, session after session', async () => {
  const { machine } = lab;
  expect(await outputOf(machine, 'iio_info -u usb:')).toMatch(/^IIO context has 4 devices:$/m);
  for (const [block, sets] of [
    [1024, 4096],
    [1000, 1500],
    [256, 256],
  ] as const) {
    await expectCounted(machine, { uri: 'usb:', block, sets });
  }
  const errors = await simStatistic(machine, 'dac', 'pattern_errors');
  await outputOf(machine, `head -c 131072 ${COUNTED} | iio_writedev -u usb: -b 2048 ${DAC}`);
  expect(await simStatistic(machine, 'dac', 'pattern_errors')).toBe(errors);
  expect(served.bridge.complaints).toEqual([]);
});
