import { describe, expect, test } from 'vitest';
import {
  ADC,
  Bridge,
  clientProgram,
  expectNothingLeft,
  expectStream,
  lastEvent,
  prepareConverters,
  SG_MODULES,
  startStream,
} from './bridge.js';
import { machineKind, useMachine } from './support.js';

const MIB = 1024 * 1024;
const STOP_MS = 1000;
/** One time-out of the client, and then some. */
const CLIENT_END_MS = 7000;

const lab = useMachine({ modules: SG_MODULES, prepare: prepareConverters });

async function expectQuickStop(bridge: Bridge, signal: NodeJS.Signals): Promise<void> {
  const { code, milliseconds } = await bridge.stop(signal);
  expect(code, bridge.process.output().stderr).toBe(0);
  expect(milliseconds).toBeLessThan(STOP_MS * lab.machine.slowness);
  expect(bridge.process.output().stderr).toBe('');
  expect(bridge.complaints).toEqual([]);
  await expectNothingLeft(lab.machine);
}

/** Both lead to the same place: the slow machine looks at one. */
const SIGNALS: readonly NodeJS.Signals[] = machineKind() === 'uml' ? ['SIGTERM', 'SIGINT'] : ['SIGTERM'];

describe.each(SIGNALS)('%s ends the bridge within a second, with nothing left', (signal) => {
  test('when it is idle', async () => {
    await expectQuickStop(await Bridge.start(lab.machine), signal);
  });

  test.each(['auto', 'copy'])('in the middle of a stream, mode %s; the client gets one error', async (mode) => {
    const { machine } = lab;
    const bridge = await Bridge.start(machine, '--mode', mode);
    const client = await startStream(machine, { device: ADC, samplesPerBlock: 32_768 });
    await client.waitForLine(/"event":"streaming"/);
    await expectQuickStop(bridge, signal);

    const startedAt = performance.now();
    expect(await client.exited).toMatchObject({ code: 1 });
    expect(performance.now() - startedAt).toBeLessThan(CLIENT_END_MS * machine.slowness);
    expect(lastEvent(client), client.output().stderr).toMatchObject({
      event: 'failed',
      code: 'DISCONNECTED',
      mismatches: 0,
    });
  });
});

test('the command-line client says in one line that the device is gone', async () => {
  const { machine } = lab;
  const bridge = await Bridge.start(machine);
  await using client = await machine.spawn(clientProgram('read', '-b', '4096', '-o', '/tmp/samples', ADC));
  await machine.output('until [ -s /tmp/samples ]; do sleep 0.01; done', {
    timeoutMs: CLIENT_END_MS * machine.slowness,
  });
  await expectQuickStop(bridge, 'SIGTERM');
  expect(await client.exited).toMatchObject({ code: 1 });
  expect(client.output().stderr).toMatch(/^iio-client: [^\n]*disconnected[^\n]*\n$/);
});

test('after SIGKILL in the middle of a stream the next bridge streams', async () => {
  const { machine } = lab;
  const killed = await Bridge.start(machine);
  const client = await startStream(machine, { device: ADC, samplesPerBlock: 32_768 });
  await client.waitForLine(/"event":"streaming"/);
  await killed.stop('SIGKILL');
  expect(await client.exited).toMatchObject({ code: 1 });
  expect(lastEvent(client), client.output().stderr).toMatchObject({
    event: 'failed',
    code: 'DISCONNECTED',
    mismatches: 0,
  });

  const next = await Bridge.start(machine);
  await expectStream(machine, { device: ADC, samplesPerBlock: 32_768, bytes: 4 * MIB });
  await next.expectCleanStop();
});
