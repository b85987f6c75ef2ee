import { describe, expect, test } from 'vitest';
import { ADC, Bridge, expectStream, MIXED, prepareConverters, SG_MODULES } from './bridge.js';
import { machineKind, useMachine } from './support.js';

const KIB = 1024;
const MIB = 1024 * KIB;

const ZERO_COPY = { mode: 'zero-copy', source: 'iio-dmabuf', sink: 'usb-dmabuf', fallbacks: [] };

/** Small blocks cost UML a system call's time over and over; an emulated processor checks some 20 MB/s. */
const SIZES: readonly { readonly blockBytes: number; readonly uml: number; readonly qemu: number }[] = [
  { blockBytes: 64 * KIB, uml: 128 * MIB, qemu: 2 * MIB },
  { blockBytes: MIB, uml: 512 * MIB, qemu: 16 * MIB },
  { blockBytes: 4 * MIB, uml: 512 * MIB, qemu: 24 * MIB },
  { blockBytes: 1_000_008, uml: 512 * MIB, qemu: 16 * MIB },
];
const SUBSET_BYTES = machineKind() === 'uml' ? 4 * MIB : MIB;

const lab = useMachine({ modules: SG_MODULES, prepare: prepareConverters });

describe('the counter signal arrives whole', () => {
  test('in blocks of 64 KiB, 1 MiB, 4 MiB, and of a size that is no multiple of a packet', async () => {
    const bridge = await Bridge.start(lab.machine);
    for (const { blockBytes, ...amounts } of SIZES) {
      const bytes = machineKind() === 'uml' ? amounts.uml : amounts.qemu;
      const result = await expectStream(lab.machine, { device: ADC, samplesPerBlock: blockBytes / 8, bytes });
      expect(result.sets).toBe(result.bytes / 8);
      expect(result.bytes).toBe(result.blocks * blockBytes);
      expect(bridge.streamPath).toEqual(ZERO_COPY);
      console.log(`${blockBytes} bytes per block: ${result.mbPerSecond.toFixed(0)} MB/s`);
    }
    expect(bridge.complaints).toEqual([]);
    await bridge.expectCleanStop();
  });

  test('in any set of channels', async () => {
    const bridge = await Bridge.start(lab.machine);
    const subsets: [string, string[]][] = [
      [ADC, ['voltage0']],
      [ADC, ['voltage1']],
      [ADC, ['voltage0', 'voltage2', 'voltage3']],
      [MIXED, ['voltage1']],
      [MIXED, ['voltage3']],
      [MIXED, ['voltage0', 'timestamp']],
      [MIXED, ['voltage0', 'voltage1', 'voltage3']],
      [MIXED, ['voltage0', 'voltage1', 'voltage2', 'voltage3', 'timestamp']],
    ];
    // Which channels are on makes no difference to what may race: an emulated processor does every third one.
    const chosen = subsets.filter((_, index) => machineKind() === 'uml' || index % 3 === 2);
    for (const [device, channels] of chosen) {
      // Not a power of two, so that neither blocks nor sample sets begin where pages or packets do.
      const result = await expectStream(lab.machine, {
        device,
        channels,
        samplesPerBlock: 33_333,
        bytes: SUBSET_BYTES,
      });
      expect(result.channels).toEqual(channels);
      expect(result.sets).toBe(result.blocks * 33_333);
      if (channels.includes('timestamp')) {
        expect(Math.abs(result.timestampOffsetMs ?? Number.NaN)).toBeLessThan(10_000);
      }
      expect(bridge.streamPath).toEqual(ZERO_COPY);
    }
    await bridge.expectCleanStop();
  });
});
