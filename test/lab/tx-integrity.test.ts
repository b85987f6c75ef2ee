import { describe, expect, test } from 'vitest';
import type { PlayRequest } from '../../lab/programs/play-check.js';
import { Bridge, dmabufCount, openFiles, SG_MODULES } from './bridge.js';
import { expectPlayed, prepareDac, SimulatedDac, startPlaying } from './playback.js';
import { machineKind, useMachine } from './support.js';

const MIB = 1024 * 1024;
const ZERO_COPY = { mode: 'zero-copy', source: 'usb-dmabuf', sink: 'iio-dmabuf', fallbacks: [] };

const lab = useMachine({ modules: SG_MODULES, prepare: prepareDac });

async function request(fields: Omit<PlayRequest, 'dev'>): Promise<PlayRequest> {
  return { dev: (await SimulatedDac.find(lab.machine)).dev, ...fields };
}

describe('the DAC gets the counter signal whole', () => {
  const SIZES = [
    { blockBytes: 64 * 1024, count: { uml: 64, qemu: 16 } },
    { blockBytes: MIB, count: { uml: 32, qemu: 8 } },
    { blockBytes: 4 * MIB, count: { uml: 12, qemu: 4 } },
    // No multiple of a packet: the end of such a block comes by another way than its packets.
    { blockBytes: 1_000_008, count: { uml: 24, qemu: 8 } },
  ];

  test('in blocks of 64 KiB, 1 MiB, 4 MiB, and of a size that is no multiple of a packet', async () => {
    const bridge = await Bridge.start(lab.machine);
    for (const { blockBytes, count } of SIZES) {
      // Linux lets a host have 16 MiB of transfers in flight.
      const blocks = blockBytes > MIB ? 2 : 4;
      const { mbPerSecond } = await expectPlayed(
        lab.machine,
        await request({ blockBytes, blocks, count: count[machineKind() === 'uml' ? 'uml' : 'qemu'] }),
      );
      expect(bridge.streamPath).toEqual(ZERO_COPY);
      console.log(`${blockBytes} bytes per block: ${mbPerSecond.toFixed(0)} MB/s`);
    }
    expect(bridge.complaints).toEqual([]);
    await bridge.expectCleanStop();
  });

  test('in partial blocks, however the client cuts its transfers, while it reads attributes', async () => {
    const bridge = await Bridge.start(lab.machine);
    const sizes = [256 * 1024, 8, 1000, 64 * 1024, 256 * 1024 - 152, 1024];
    for (const cut of ['libiio', 'request', 'one', 64 * 1024] as const) {
      const { attributesRead } = await expectPlayed(
        lab.machine,
        await request({ blockBytes: 256 * 1024, blocks: 4, count: 18, sizes, cut, readsAttributes: true }),
      );
      expect(attributesRead).toBeGreaterThan(0);
    }
    await bridge.expectCleanStop();
  });
});

test('after a client was killed in the middle of a block, the next one plays at once', async () => {
  const { machine } = lab;
  const bridge = await Bridge.start(machine);
  const fields = { blockBytes: 256 * 1024, blocks: 4, count: 6 };
  await expectPlayed(machine, await request(fields));
  const filesBefore = await openFiles(machine, bridge.pid);
  for (const cut of ['libiio', 'one'] as const) {
    const victim = await startPlaying(machine, await request({ ...fields, cut, stopsInTheMiddle: true }));
    await victim.waitForLine(/"event":"stopped"/);
    await victim.kill('SIGKILL');
    await victim.exited;
    await expectPlayed(machine, await request(fields));
  }
  await expect.poll(() => openFiles(machine, bridge.pid)).toBe(filesBefore);
  await expect.poll(() => dmabufCount(machine)).toBe(0);
  await bridge.expectCleanStop();
});
