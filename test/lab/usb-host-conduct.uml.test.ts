import { describe, expect, onTestFinished, test } from 'vitest';
import { ADC, Bridge, prepareConverters, SG_MODULES, useBridge } from './bridge.js';
import {
  COUNTED,
  expectCounted,
  outputOf,
  prepareCounted,
  simStatistic,
  waitForBytes,
  waitForIdleBuffers,
} from './libiio-tools.js';
import { useMachine } from './support.js';
import { pythonProgram, UsbLink } from './usb-link.js';

// What hosts do to a bridge, and that the next one does not notice.

const DAC = 'iio-sim-dac';
const UDC = '/sys/kernel/config/usb_gadget/iio-bridge/UDC';
const STALL = '/sys/kernel/debug/iio_sim/adc/stall';
/** Beyond what the program takes by itself. */
const NEXT_MS = 1000;
const TOGETHER_S = 4;

const lab = useMachine({
  modules: SG_MODULES,
  prepare: async (machine) => {
    await prepareConverters(machine);
    await prepareCounted(machine);
    await machine.output(`echo 1 >$(dirname $(grep -lx ${DAC} /sys/bus/iio/devices/*/name))/free_running`);
  },
});
const served = useBridge(lab);

/** How long `iio_info` takes, in ms. What it shows must be what it always shows. */
async function timeInfo(): Promise<number> {
  const startedAt = performance.now();
  const text = await outputOf(lab.machine, 'iio_info -u usb:');
  expect(text.match(/^\tiio:device\d: \S+/gm)).toEqual([
    '\tiio:device0: iio-sim-adc',
    '\tiio:device1: iio-sim-mixed',
    '\tiio:device2: iio-sim-dac',
  ]);
  expect(text).toMatch(/^\t\t\t\tattr {2}\d: sampling_frequency_available value: \[1 1 250000000\]$/m);
  return performance.now() - startedAt;
}

describe('a host that is killed is succeeded by the next within a second, with nothing stale', () => {
  const victims: Record<string, () => Promise<{ kill(): Promise<void> }>> = {
    'while it is idle': async () => {
      const link = await UsbLink.claim(lab.machine);
      await link.open();
      return { kill: () => killed(link.process) };
    },
    'with an answer that it has not fetched': async () => {
      const link = await UsbLink.claim(lab.machine);
      await link.open();
      expect(await link.ask('line 0 0 PRINT')).toBe('ok');
      return { kill: () => killed(link.process) };
    },
    'in the middle of an attribute': async () => {
      const link = await UsbLink.claim(lab.machine);
      await link.open();
      await link.ask(`line 0 0 WRITE ${ADC} sampling_frequency 200`);
      await link.ask('send 0 31303030');
      return { kill: () => killed(link.process) };
    },
    'while it captures': async () => {
      const child = await lab.machine.spawn(`exec iio_readdev -u usb: -b 65536 ${ADC} >/dev/null`);
      await waitForBytes(lab.machine, 'adc', 2 * 65_536 * 8);
      return { kill: () => killed(child) };
    },
    'while it plays': async () => {
      const child = await lab.machine.spawn(`exec iio_writedev -u usb: -b 65536 ${DAC} </dev/zero`);
      await waitForBytes(lab.machine, 'dac', 2 * 65_536 * 8);
      return { kill: () => killed(child) };
    },
  };

  async function killed(child: UsbLink['process']): Promise<void> {
    await child.kill('SIGKILL');
    await child.exited;
  }

  test.each(Object.keys(victims))('%s', async (moment) => {
    const usual = await timeInfo();
    const victim = await victims[moment]?.();
    await victim?.kill();
    expect(await timeInfo()).toBeLessThan(usual + NEXT_MS * lab.machine.slowness);
    await waitForIdleBuffers(lab.machine);
    await expectCounted(lab.machine, { uri: 'usb:', block: 1024, sets: 2048 });
  });
});

test('Ctrl-C while no samples come, and at once the next client: nothing is busy', async () => {
  const { machine } = lab;
  await machine.output(`echo 1 >${STALL}`);
  onTestFinished(async () => {
    await machine.output(`echo 0 >${STALL}`);
  });
  const running = `until grep -qx 1 /sys/bus/iio/devices/iio:device0/buffer0/enable; do sleep 0.02; done`;
  const first = await machine.spawn(`exec iio_readdev -u usb: -b 1024 ${ADC} >/dev/null`);
  onTestFinished(() => first[Symbol.asyncDispose]());
  await machine.output(running);
  await first.kill('SIGINT');
  await first.exited;

  const second = await machine.spawn(`exec iio_readdev -u usb: -b 1024 -s 2048 ${ADC} >/tmp/after`);
  onTestFinished(() => second[Symbol.asyncDispose]());
  await machine.output(running);
  await machine.output(`echo 0 >${STALL}`);
  expect(await second.exited, second.output().stderr).toMatchObject({ code: 0 });
  await outputOf(machine, `cmp -n 16384 /tmp/after ${COUNTED}`);
});

test('control requests that make no sense are stalled while streams go on', async () => {
  const { machine } = lab;
  const link = await UsbLink.claim(machine);
  await link.open();
  const [toInterface, fromInterface, toDevice] = [0x41, 0xc1, 0x40];
  for (const request of [
    `control ${toInterface} 1 3`,
    `control ${toInterface} 2 0xffff`,
    `control ${toInterface} 77 0`,
    `control ${fromInterface} 0 0 8`,
    `control ${fromInterface} 77 0 8`,
    `control ${toInterface} 1 1 8`,
    `control ${toDevice} 1 1`,
  ]) {
    expect(await link.ask(request), request).toBe('EPIPE');
    expect(await link.readText('READ iio-sim-adc test_signal')).toBe('counter');
  }
  expect(await link.ask('close 2')).toBe('ok');
  // Opened again, a pipe starts anew.
  await link.ask('line 0 0 PRINT');
  expect(await link.ask('open 0')).toBe('ok');
  expect(await link.command('TIMEOUT 1000')).toBe('0');
  await link.release();
});

test('a buffer more than the pipes allow is refused as busy, until one is closed', async () => {
  expect(await outputOf(lab.machine, pythonProgram('too_many_buffers.py', 'usb:').join(' '))).toBe('ok\nok\n16\nok\n');
  await waitForIdleBuffers(lab.machine);
});

test('captures, plays, and reads an attribute 100 times a second, all at once', async () => {
  const { machine } = lab;
  const errors = await simStatistic(machine, 'dac', 'pattern_errors');
  const words = pythonProgram('all_at_once.py', 'usb:', String(TOGETHER_S));
  const done: Record<string, unknown> = JSON.parse(await outputOf(machine, words.join(' ')));
  console.log(done);
  expect(done).toMatchObject({ failures: [] });
  for (const what of ['captured', 'played', 'reads']) {
    expect(done[what], what).toBeGreaterThan(4);
  }
  expect(await simStatistic(machine, 'dac', 'pattern_errors')).toBe(errors);
});

test('unbound from the controller and bound again, it serves on', async () => {
  const { machine } = lab;
  const reading = await machine.spawn(`exec iio_readdev -u usb: -b 1024 ${ADC} >/dev/null`);
  onTestFinished(() => reading[Symbol.asyncDispose]());
  await waitForBytes(machine, 'adc', 8192);
  await machine.output(`echo >${UDC}`);
  await reading.exited;
  await machine.output(`while grep -qsx IIO /sys/bus/usb/devices/*/interface; do sleep 0.02; done
    echo dummy_udc.0 >${UDC}
    until grep -qsx IIO /sys/bus/usb/devices/*/interface; do sleep 0.02; done`);
  await waitForIdleBuffers(machine);
  await expectCounted(machine, { uri: 'usb:', block: 1024, sets: 4096 });
});

test('started again while a host is attached, it serves that host', async () => {
  const { machine } = lab;
  const reading = await machine.spawn(`exec iio_readdev -u usb: -b 1024 ${ADC} >/dev/null`);
  onTestFinished(() => reading[Symbol.asyncDispose]());
  await waitForBytes(machine, 'adc', 8192);
  expect(await served.bridge.stop()).toMatchObject({ code: 0 });
  await reading.exited;
  // Its exit code says nothing of it.
  expect(reading.output().stderr).toContain('Unable to refill buffer');
  const next = await Bridge.start(machine);
  await expectCounted(machine, { uri: 'usb:', block: 1024, sets: 4096 });
  await next.expectCleanStop();
});
