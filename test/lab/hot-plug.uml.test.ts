import { expect, onTestFinished, test } from 'vitest';
import { loadModules, unloadModules } from '../../lab/modules.js';
import { ADC, prepareConverters, SG_MODULES, startStream, useBridge } from './bridge.js';
import { createDummy, createTimer, DUMMY_MODULES, removeAllDummies, removeDummy, TIMER } from './dummy-device.js';
import { outputOf } from './libiio-tools.js';
import { useMachine } from './support.js';
import { UsbLink } from './usb-link.js';

const TCP = 'ip:127.0.0.1';

const lab = useMachine({ modules: SG_MODULES, prepare: prepareConverters });
const served = useBridge(lab, '--tcp', '30431');

async function devicesOf(uri: string): Promise<string[]> {
  const text = await outputOf(lab.machine, `iio_attr -u ${uri} -d`);
  return text
    .split('\n')
    .flatMap((line) => /^\t(\S+?)(?:, (.*))?: found/.exec(line)?.slice(1, 3).join(' ').trim() ?? []);
}

test('devices that come and go are those of new clients, and no stream is disturbed', async () => {
  const { machine } = lab;
  const before = await devicesOf('usb:');
  expect(before).toHaveLength(4);

  // Over USB, because it holds the interface; the others come over TCP.
  const stream = await startStream(machine, { device: ADC, samplesPerBlock: 32_768 });
  await stream.waitForLine(/"event":"streaming"/);

  await loadModules(machine, DUMMY_MODULES);
  expect(await devicesOf(TCP)).toEqual([...before.slice(0, 3), 'iio_evgen', ...before.slice(3)]);
  await createDummy(machine, 'comes');
  await createDummy(machine, 'goes');
  expect(await devicesOf(TCP)).toEqual([
    ...before.slice(0, 3),
    'iio:device3 comes',
    'iio:device4 goes',
    'iio_evgen',
    ...before.slice(3),
  ]);
  expect(await outputOf(machine, `iio_attr -u ${TCP} -c comes accel_x calibbias`)).toBe('-7\n');

  await removeDummy(machine, 'comes');
  await removeDummy(machine, 'goes');
  await unloadModules(machine, ['iio_dummy', 'iio_dummy_evgen']);
  expect(await devicesOf(TCP)).toEqual(before);

  await stream.kill('SIGTERM');
  await stream.exited;
  const { stdout, stderr } = stream.output();
  expect(stdout, stderr).toMatch(/"event":"streaming"/);
  expect(stdout).not.toMatch(/"event":"failed"/);
  expect(served.bridge.complaints).toEqual([]);
});

test('a client keeps the context that it was given: what has gone is refused, what is left is not renumbered', async () => {
  const { machine } = lab;
  await loadModules(machine, DUMMY_MODULES);
  onTestFinished(() => removeAllDummies(machine));
  await createDummy(machine, 'first');
  await createDummy(machine, 'second');

  const link = await UsbLink.claim(machine);
  await link.open();
  expect(await link.readText('READ second INPUT accel_x calibbias')).toBe('-7');
  await removeDummy(machine, 'first');
  expect(await link.readText('READ second INPUT accel_x calibbias')).toBe('-7');
  expect(Number(await link.command('READ first INPUT accel_x calibbias'))).toBeLessThan(0);
  await removeDummy(machine, 'second');
  expect(Number(await link.command('READ second INPUT accel_x calibbias'))).toBeLessThan(0);
  expect(await link.readText(`READ ${ADC} test_signal`)).toBe('counter');
  await link.release();
  // What makes the dummies' events is a device, too.
  const left = await devicesOf('usb:');
  expect(left).toContain('iio_evgen');
  expect(left).toHaveLength(5);
});

test('a device that goes while it streams ends that stream alone', async () => {
  const { machine } = lab;
  await loadModules(machine, DUMMY_MODULES);
  onTestFinished(() => removeAllDummies(machine));
  await createDummy(machine, 'leaving');
  await createTimer(machine);
  const reading = await machine.spawn(`exec iio_readdev -u ${TCP} -t ${TIMER} -b 16 leaving accel_x >/tmp/leaving`);
  onTestFinished(() => reading[Symbol.asyncDispose]());
  await machine.output('until [ -s /tmp/leaving ]; do sleep 0.05; done');
  await removeDummy(machine, 'leaving');
  await reading.exited;
  // Its exit code says nothing of it.
  expect(reading.output().stderr).toContain('Unable to refill buffer');
  expect(await outputOf(machine, `iio_attr -u ${TCP} -d ${ADC} test_signal`)).toBe('counter\n');
});
