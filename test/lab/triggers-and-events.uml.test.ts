import { expect, onTestFinished, test } from 'vitest';
import { ADC, prepareConverters, SG_MODULES, useBridge } from './bridge.js';
import { createDummy, createTimer, DUMMY, DUMMY_MODULES, DUMMY_SET, TIMER } from './dummy-device.js';
import { outputOf, sysfsValue, waitForIdleBuffers } from './libiio-tools.js';
import { useMachine } from './support.js';
import { BinaryPipe, OP, UsbLink } from './usb-link.js';

const TCP = 'ip:127.0.0.1';
const ENOENT = 2;
const ENODEV = 19;
const EAGAIN = 11;
const EINTR = 4;

const lab = useMachine({
  modules: [...SG_MODULES, ...DUMMY_MODULES],
  prepare: async (machine) => {
    await createDummy(machine);
    await createTimer(machine);
    await prepareConverters(machine);
  },
});
const served = useBridge(lab, '--tcp', '30431');

async function deviceIndex(name: string): Promise<number> {
  const text = await outputOf(lab.machine, `iio_attr -u ${TCP} -d`);
  const rows = text.split('\n').filter((line) => line.startsWith('\t'));
  return rows.findIndex((row) => row.includes(name));
}

test.each(['usb:', TCP])('%s: a trigger is set, shown, used and taken away', async (uri) => {
  const { machine } = lab;
  const channels = Object.keys(DUMMY_SET);
  await outputOf(
    machine,
    `iio_attr -u ${uri} -d ${TIMER} sampling_frequency 1000 &&
    iio_readdev -u ${uri} -t ${TIMER} -b 32 -s 128 ${DUMMY} ${channels.join(' ')} >/tmp/triggered`,
  );
  const samples = await machine.readFile('/tmp/triggered');
  const values = new Int16Array(samples.buffer.slice(samples.byteOffset, samples.byteOffset + samples.byteLength));
  expect([...values]).toEqual(Array.from({ length: 128 }, () => Object.values(DUMMY_SET)).flat());
  expect(await outputOf(machine, `iio_info -u ${uri}`)).toMatch(
    new RegExp(`^\\t\\tCurrent trigger: trigger\\d+\\(${TIMER}\\)$`, 'm'),
  );
  await waitForIdleBuffers(machine);

  const link = await UsbLink.claim(machine);
  await link.open();
  expect(await link.readText(`GETTRIG ${DUMMY}`)).toBe(TIMER);
  expect(await link.command(`SETTRIG ${DUMMY} nosuch`)).toBe(String(-ENOENT));
  expect(await link.command(`SETTRIG ${DUMMY}`)).toBe('0');
  expect(await link.command(`GETTRIG ${DUMMY}`)).toBe('0');
  expect(await link.command(`GETTRIG ${ADC}`)).toBe(String(-ENOENT));
  await link.release();
  expect(await sysfsValue(machine, DUMMY, 'trigger/current_trigger')).toBe('');
});

test('a trigger is set and taken away in the binary protocol', async () => {
  const { machine } = lab;
  const [dummy, timer] = [await deviceIndex(DUMMY), await deviceIndex(TIMER)];
  const link = await UsbLink.claim(machine);
  const pipe = await BinaryPipe.open(link);
  expect(await pipe.ask({ op: OP.getTrigger, device: dummy })).toEqual({ id: 0, code: -ENODEV });
  expect(await pipe.ask({ op: OP.setTrigger, device: dummy, code: timer })).toEqual({ id: 0, code: 0 });
  expect(await pipe.ask({ op: OP.getTrigger, device: dummy })).toEqual({ id: 0, code: timer });
  expect(await sysfsValue(machine, DUMMY, 'trigger/current_trigger')).toBe(TIMER);
  expect(await pipe.ask({ op: OP.setTrigger, device: dummy, code: -1 })).toEqual({ id: 0, code: 0 });
  expect(await sysfsValue(machine, DUMMY, 'trigger/current_trigger')).toBe('');
  await link.release();
});

test('events of the converter reach the client that waits for them', async () => {
  const { machine } = lab;
  const id = 0xffff;
  /** Of a rising threshold on input voltage channel 0 (include/linux/iio/events.h): the direction, all else is 0. */
  const risingVoltage0 = 1n << 48n;
  await machine.output(
    `cd $(dirname $(grep -lx ${ADC} /sys/bus/iio/devices/*/name))/events &&
    echo 100 >in_voltage0_thresh_rising_value && echo 1 >in_voltage0_thresh_rising_en`,
  );
  onTestFinished(async () => {
    await machine.output(
      `echo 0 >$(dirname $(grep -lx ${ADC} /sys/bus/iio/devices/*/name))/events/in_voltage0_thresh_rising_en`,
    );
  });
  const link = await UsbLink.claim(machine);
  const pipe = await BinaryPipe.open(link);
  expect(await pipe.ask({ op: OP.createEventStream, id })).toEqual({ id, code: 0 });
  expect(await pipe.ask({ op: OP.readEvent, id, code: 1 })).toEqual({ id, code: -EAGAIN });

  // The counter passes 100 once in each of these.
  for (const channel of ['voltage0', 'voltage2']) {
    await pipe.send({ op: OP.readEvent, id });
    const since = BigInt(await outputOf(machine, 'date +%s%N'));
    await outputOf(machine, `iio_readdev -u ${TCP} -b 512 -s 1024 ${ADC} ${channel} >/dev/null`);
    expect(await pipe.answer()).toEqual({ id, code: 16 });
    const event = await pipe.payload(16);
    expect(event.readBigUInt64LE(0)).toBe(risingVoltage0);
    expect(event.readBigInt64LE(8)).toBeGreaterThan(since);
    expect(event.readBigInt64LE(8)).toBeLessThan(BigInt(await outputOf(machine, 'date +%s%N')));
  }

  await pipe.send({ op: OP.readEvent, id });
  await pipe.send({ op: OP.freeEventStream, code: id });
  expect([await pipe.answer(), await pipe.answer()]).toEqual(
    expect.arrayContaining([
      { id, code: -EINTR },
      { id: 0, code: 0 },
    ]),
  );
  await link.release();
});

test('two text clients, one over USB and one over TCP, share a buffer, each with its own channels', async () => {
  const { machine } = lab;
  const sets = { usb: 60_000, tcp: 20_000 };
  const complaintsBefore = served.bridge.complaints.length;
  // The converter keeps its own pace, so that neither client falls behind.
  const directory = `$(dirname $(grep -lx ${ADC} /sys/bus/iio/devices/iio:device*/name))`;
  await machine.output(`cd ${directory} && echo 0 >free_running && echo 20000 >sampling_frequency`);
  onTestFinished(async () => {
    await machine.output(`echo 1 >${directory}/free_running`);
  });
  const usb = await machine.spawn(`exec iio_readdev -u usb: -b 2000 -s ${sets.usb} ${ADC} voltage0 >/tmp/usb`);
  const tcp = await machine.spawn(
    `exec iio_readdev -u ${TCP} -b 1000 -s ${sets.tcp} ${ADC} voltage0 voltage3 >/tmp/tcp`,
  );
  onTestFinished(() => usb[Symbol.asyncDispose]());
  onTestFinished(() => tcp[Symbol.asyncDispose]());
  for (const client of [usb, tcp]) {
    expect(await client.exited, client.output().stderr).toMatchObject({ code: 0 });
  }

  for (const [path, words, count] of [
    ['/tmp/usb', 1, sets.usb],
    ['/tmp/tcp', 2, sets.tcp],
  ] as const) {
    const bytes = await machine.readFile(path);
    expect(bytes.length).toBe(count * words * 2);
    const voltage0 = Array.from({ length: count }, (_, set) => bytes.readUInt16LE(set * words * 2));
    // A client that comes or goes has the buffer made anew; in between, no sample set is missing.
    const breaks = voltage0.flatMap((value, set) =>
      set > 0 && value !== ((voltage0[set - 1] ?? 0) + 1) % 65_536 ? [value] : [],
    );
    expect(
      breaks.filter((value) => value !== 0),
      path,
    ).toEqual([]);
    expect(breaks.length).toBeLessThanOrEqual(2);
    expect(voltage0[0]).toBe(0);
  }
  expect(served.bridge.complaints.slice(complaintsBefore)).toEqual([]);
});
