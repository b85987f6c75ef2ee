import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { GuestProcess } from '../../lab/guest-process.js';
import type { StreamRequest } from '../../lab/programs/stream-check.js';
import type { RepeatReport } from '../../lab/programs/stream-repeat.js';
import {
  ADC,
  Bridge,
  dmabufCount,
  expectStream,
  lastEvent,
  nodeProgram,
  openFiles,
  prepareConverters,
  SG_MODULES,
  startStream,
} from './bridge.js';
import { useMachine } from './support.js';

const MIB = 1024 * 1024;
/** How much longer than a client before the fault one after it may take to have its first block. */
const RECOVERY_MS = 1000;
const STREAM: StreamRequest = { device: ADC, samplesPerBlock: 32_768 };
const FAULTS = '/sys/kernel/debug/iio_sim/adc';
const UDC = '/sys/kernel/config/usb_gadget/*/UDC';
const ENABLE = `$(dirname $(grep -lx ${ADC} /sys/bus/iio/devices/*/name))/buffer0/enable`;
const SEEN_BY_HOST = 'grep -qsx IIO /sys/bus/usb/devices/*/interface';
/** The host's view of the device that has our interface. */
const HOST_SIDE = '$(dirname $(grep -lx IIO /sys/bus/usb/devices/*/interface) | sed "s/:.*//")';

const lab = useMachine({ modules: SG_MODULES, prepare: prepareConverters });

/** Does `deed` while a client streams; afterwards the next one streams at once, and nothing is left of the first. */
async function expectRecovery(bridge: Bridge, deed: (client: GuestProcess) => Promise<void>): Promise<void> {
  const { machine } = lab;
  const { firstBlockMs: usually } = await expectStream(machine, { ...STREAM, bytes: MIB });
  await expect.poll(() => dmabufCount(machine)).toBe(0);
  const filesBefore = await openFiles(machine, bridge.pid);
  const client = await startStream(machine, STREAM);
  await client.waitForLine(/"event":"streaming"/);
  await deed(client);
  const { firstBlockMs } = await expectStream(machine, { ...STREAM, bytes: 4 * MIB });
  expect(firstBlockMs).toBeLessThan(usually + RECOVERY_MS * machine.slowness);
  await expect.poll(() => openFiles(machine, bridge.pid)).toBe(filesBefore);
  await expect.poll(() => dmabufCount(machine)).toBe(0);
}

/** The client ends by itself, with an error, and has seen no sample that is not one. */
async function expectFailure(client: GuestProcess, codes: RegExp): Promise<void> {
  expect(await client.exited, client.output().stderr).toMatchObject({ code: 1 });
  expect(lastEvent(client), client.output().stderr).toMatchObject({
    event: 'failed',
    code: expect.stringMatching(codes),
    mismatches: 0,
  });
}

describe('the bus fails while a client streams', () => {
  test('reset', async () => {
    const bridge = await Bridge.start(lab.machine);
    await expectRecovery(bridge, async (client) => {
      expect(await lab.machine.output(nodeProgram('dist/bundle/usb-control.js', 'IIO', 'reset'))).toBe('ok\n');
      await expectFailure(client, /DISCONNECTED|EPIPE|EIO|ETIMEDOUT/);
    });
    await bridge.expectCleanStop();
  });

  test('the host takes the configuration away, and gives it back', async () => {
    const bridge = await Bridge.start(lab.machine);
    await expectRecovery(bridge, async (client) => {
      await lab.machine.output(`device=${HOST_SIDE} && echo -1 >$device/bConfigurationValue && sleep 0.05 &&
        echo 1 >$device/bConfigurationValue`);
      await expectFailure(client, /DISCONNECTED|EPIPE|EIO|ETIMEDOUT/);
    });
    await bridge.expectCleanStop();
  });

  test('the controller is unbound under us, and bound again', async () => {
    const bridge = await Bridge.start(lab.machine);
    await expectRecovery(bridge, async (client) => {
      await lab.machine.output(`for udc in ${UDC}; do echo >$udc; done`);
      await expectFailure(client, /DISCONNECTED/);
      await lab.machine.output(`while ${SEEN_BY_HOST}; do sleep 0.01; done; for udc in ${UDC}; do echo dummy_udc.0 >$udc; done &&
        until ${SEEN_BY_HOST}; do sleep 0.01; done`);
    });
    await bridge.expectCleanStop();
  });
});

describe('the converter fails while a client streams', () => {
  test('another process disables the buffer', async () => {
    const bridge = await Bridge.start(lab.machine);
    await expectRecovery(bridge, async (client) => {
      await lab.machine.output(`echo 0 >${ENABLE}`);
      // ETIMEDOUT where no block was with the hardware at that moment: nothing tells of it then.
      await expectFailure(client, /EINTR|EIO|ETIMEDOUT/);
    });
    await bridge.expectCleanStop();
  });

  test('it stalls for longer than a time-out: what the client then asks for again comes, whole', async () => {
    const { machine } = lab;
    const bridge = await Bridge.start(machine);
    const stalled = expectStream(machine, { ...STREAM, bytes: 256 * MIB });
    await delay(300);
    await machine.output(`echo 1 >${FAULTS}/stall`);
    await delay(6000);
    await machine.output(`echo 0 >${FAULTS}/stall`);
    await stalled;
    await bridge.expectCleanStop();
  });

  test('it is stalled, and the client goes', async () => {
    const bridge = await Bridge.start(lab.machine);
    await expectRecovery(bridge, async (client) => {
      await lab.machine.output(`echo 1 >${FAULTS}/stall`);
      await client.kill('SIGKILL');
      await client.exited;
      await lab.machine.output(`echo 0 >${FAULTS}/stall`);
    });
    await bridge.expectCleanStop();
  });
});

describe('a client cuts its streams off in every state of their blocks', () => {
  test.each([
    ['zero-copy', []],
    ['with a copy on the USB side', ['--mode', 'copy']],
  ])('%s', async (_, options) => {
    const { machine } = lab;
    const bridge = await Bridge.start(machine, ...options);
    await expectRecovery(bridge, async (client) => {
      await client.kill('SIGKILL');
      for (const seed of [1, 2]) {
        const output = await machine.output(nodeProgram('dist/bundle/stream-abort.js', ADC, String(seed), String(60)));
        const report: RepeatReport = JSON.parse(output);
        expect(report, `seed ${seed}`).toEqual({ streams: 60, mismatches: 0, lost: 0 });
      }
    });
    expect(bridge.complaints).toEqual([]);
    await bridge.expectCleanStop();
  });
});

test('the bridge is killed at any moment of a stream: the next one streams', async () => {
  const { machine } = lab;
  for (const moment of [0, 7, 23, 41]) {
    const killed = await Bridge.start(machine);
    const client = await startStream(machine, STREAM);
    await client.waitForLine(moment === 0 ? /"event":"opened"/ : /"event":"streaming"/);
    await delay(moment);
    await killed.stop('SIGKILL');
    await client.exited;
    expect(lastEvent(client), client.output().stderr).toMatchObject({ event: 'failed' });
  }
  const next = await Bridge.start(machine);
  await expectStream(machine, { ...STREAM, bytes: 4 * MIB });
  await next.expectCleanStop();
});
