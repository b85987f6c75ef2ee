import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { GuestProcess } from '../../lab/guest-process.js';
import { DEFAULT_MODULES } from '../../lab/modules.js';
import { checkoutRoot } from '../../lab/paths.js';
import { useMachine } from './support.js';

const GADGETS = '/sys/kernel/config/usb_gadget';
const RUN = '/run/iio-bridge';

const lab = useMachine({ modules: DEFAULT_MODULES });

function program(name: string, ...words: string[]): string[] {
  return [process.execPath, join(checkoutRoot(), 'dist/bundle', `${name}.js`), ...words];
}

async function start(...words: string[]): Promise<GuestProcess> {
  const child = await lab.machine.spawn(program('control-plane', ...words));
  onTestFinished(async () => {
    await child.kill('SIGKILL');
    await child.exited;
  });
  return child;
}

/** Starts a gadget program and waits until it serves and the host has configured it. */
async function startGadget(...words: string[]): Promise<GuestProcess> {
  const child = await start(...words);
  await child.waitForLine(/"ready":true/);
  await child.waitForLine(/"event":"enable"/);
  return child;
}

async function stop(child: GuestProcess): Promise<void> {
  await child.write('stop\n');
  expect(await child.exited, child.output().stdout).toMatchObject({ code: 0 });
}

/** JSON lines of a program that ended. */
async function reports(...words: string[]): Promise<unknown[]> {
  const { stdout, stderr } = await lab.machine.run(program('control-plane', ...words));
  expect(stderr).toBe('');
  return stdout
    .trim()
    .split('\n')
    .map((line): unknown => JSON.parse(line));
}

async function iioDevice(name: string): Promise<string> {
  const command = `for d in /sys/bus/iio/devices/iio:device*; do [ "$(cat $d/name)" = ${name} ] && basename $d; done`;
  return (await lab.machine.output(`${command}; true`)).trim();
}

async function text(command: string): Promise<string> {
  return (await lab.machine.output(command)).trim();
}

async function expectNothingLeft(): Promise<void> {
  expect(await text(`ls ${GADGETS}`)).toBe('');
  expect(await text('grep functionfs /proc/mounts || true')).toBe('');
  expect(await text(`find ${RUN} -mindepth 1 -type d`)).toBe('');
}

describe('a gadget', () => {
  test('comes up, is seen by the host as IIO, and goes away without a trace', async () => {
    const gadget = await startGadget('gadget', 'first', '3');
    const device = await text("dirname $(grep -lx '0042' /sys/bus/usb/devices/*/serial)");
    expect(await text(`cat ${device}/idVendor ${device}/idProduct ${device}/product`)).toBe(
      '1209\n0001\nControl plane',
    );
    expect(await text(`cat ${device}/*:1.0/interface ${device}/*:1.0/bInterfaceClass`)).toBe('IIO\nff');
    expect(await text(`cat ${device}/*:1.0/bNumEndpoints`)).toBe('06');
    expect(await text(`cat ${device}/*:1.0/ep_*/direction | sort | uniq -c | tr -s ' '`)).toMatch(/3 in\s+3 out/);
    expect(await text(`cat ${device}/*:1.0/ep_*/wMaxPacketSize | sort -u`)).toBe('0400');
    await stop(gadget);
    expect(gadget.output().stdout).toContain('"event":"unbind"');
    await expectNothingLeft();
  });

  test('answers control requests: acknowledges, stalls, and goes on', async () => {
    const gadget = await startGadget('gadget', 'control', '2');
    const send = async (request: number, value: number) =>
      text(program('usb-control', 'IIO', String(request), String(value)).join(' '));
    expect(await send(1, 0)).toBe('ok');
    expect(await send(9, 7)).toBe('EPIPE');
    expect(await send(1, 1)).toBe('ok');
    await stop(gadget);
    const answers = gadget.output().stdout.match(/"setup".*/g);
    expect(answers).toEqual([
      '"setup":{"requestType":65,"request":1,"value":0,"index":0,"length":0},"outcome":"answered"}',
      '"setup":{"requestType":65,"request":9,"value":7,"index":0,"length":0},"outcome":"answered"}',
      '"setup":{"requestType":65,"request":1,"value":1,"index":0,"length":0},"outcome":"answered"}',
    ]);
  });

  test('of a killed process is replaced by the next one', async () => {
    const killed = await startGadget('gadget', 'killed', '1');
    await killed.kill('SIGKILL');
    await killed.exited;
    expect(await text(`ls ${GADGETS}`)).toBe('killed');
    expect(await text('grep -c functionfs /proc/mounts')).toBe('1');
    const next = await startGadget('gadget', 'killed', '1');
    expect(await text('grep -c functionfs /proc/mounts')).toBe('1');
    expect(await text(`cat ${GADGETS}/killed/UDC`)).toBe('dummy_udc.0');
    await stop(next);
    await expectNothingLeft();
  });

  test('of a process that runs is not taken away', async () => {
    const gadget = await startGadget('gadget', 'owned', '1');
    expect(await reports('gadget', 'owned', '1')).toEqual([
      { code: 'EBUSY', message: expect.stringContaining(`process ${gadget.pid}`) },
    ]);
    expect(await text(`cat ${GADGETS}/owned/UDC`)).toBe('dummy_udc.0');
    await stop(gadget);
    await expectNothingLeft();
  });

  test('without a free controller says who has it', async () => {
    const gadget = await startGadget('gadget', 'holder', '1');
    const [last] = (await reports('gadget', 'other', '1')).slice(-1);
    expect(last).toEqual({ code: 'EBUSY', message: expect.stringContaining('dummy_udc.0 serves') });
    await stop(gadget);
    // The one that failed ended without cleaning up: the next of its name does.
    await stop(await startGadget('gadget', 'other', '1'));
    await expectNothingLeft();
  });

  test('that somebody else set up gets our function and stays as it was afterwards', async () => {
    const path = `${GADGETS}/theirs`;
    await text(
      `mkdir -p ${path}/configs/c.1 ${path}/strings/0x409 && cd ${path} && echo 0x1209 > idVendor && echo 2 > idProduct`,
    );
    onTestFinished(async () => {
      await text(`cd ${path} && rmdir configs/c.1 strings/0x409 && rmdir ${path}`);
    });
    const gadget = await startGadget('join', 'joined', path, 'c.1');
    expect(await text('cat /sys/bus/usb/devices/*:1.0/interface')).toContain('IIO');
    await stop(gadget);
    expect(await text(`ls ${path}/functions ${path}/configs/c.1`)).not.toContain('ffs');
    expect(await text('grep functionfs /proc/mounts || true')).toBe('');
  });
});

describe('an IIO buffer', () => {
  test('has the channels that were asked for, and belongs to one process', async () => {
    const device = await iioDevice('iio-sim-adc');
    const owner = await start('buffer', device, 'in_voltage2', 'in_voltage0');
    await owner.waitForLine(/"enabled":\["in_voltage0","in_voltage2"\]/);
    await owner.write('enable\n');
    await owner.waitForLine(/"running":true/);
    const enable = `/sys/bus/iio/devices/${device}/buffer0/enable`;
    expect(await text(`cat ${enable}`)).toBe('1');
    expect(await reports('buffer', device, 'in_voltage1')).toEqual([
      { code: 'EBUSY', message: expect.stringContaining('another program has it open') },
    ]);
    // The one that was refused has not disturbed the owner.
    expect(await text(`cat ${enable}`)).toBe('1');
    await owner.write('close\n');
    expect(await owner.exited).toMatchObject({ code: 0 });
    expect(await text(`cat ${enable}`)).toBe('0');
  });

  test('that a killed process left running is taken over', async () => {
    const device = await iioDevice('iio-sim-adc');
    const killed = await start('buffer', device, 'in_voltage0');
    await killed.write('enable\n');
    await killed.waitForLine(/"running":true/);
    await killed.kill('SIGKILL');
    await killed.exited;
    expect(await text(`cat /sys/bus/iio/devices/${device}/buffer0/enable`)).toBe('1');
    const next = await start('buffer', device, 'in_voltage3');
    await next.waitForLine(/"enabled":\["in_voltage3"\]/);
    await next.write('close\n');
    expect(await next.exited).toMatchObject({ code: 0 });
  });

  test('of a device that does not exist: ENODEV', async () => {
    expect(await reports('buffer', 'iio:device99')).toEqual([
      { code: 'ENODEV', message: 'there is no IIO device iio:device99' },
    ]);
  });

  test('takes dmabufs of every allocator that this kernel has', async () => {
    const device = await iioDevice('iio-sim-adc');
    const heaps = await text('ls /dev/dma_heap');
    expect(heaps.split('\n')).toContain('system');
    expect(await reports('heaps', device)).toEqual([...heaps.split('\n'), 'udmabuf'].map((heap) => ({ heap })));
  });
});
