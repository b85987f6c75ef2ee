import { describe, expect, it } from 'vitest';
import { BufferStatistics, type FiguresProvider, type InputFigures } from '../../../src/bridge/buffer-statistics.js';
import { StatisticsBackend } from '../../../src/bridge/statistics-backend.js';
import { startPlane } from '../dataplane/sockets.js';
import { ADC, DAC, FakeBackend } from './binary-harness.js';

function served() {
  const plane = startPlane();
  const backend = new FakeBackend((fd) => plane.openSampleIo(fd));
  const statistics = new BufferStatistics();
  const decorated = new StatisticsBackend(backend, statistics);
  const names = (device: number) =>
    decorated.description.devices[device]?.buffers[0]?.attributes.map(({ name }) => name) ?? [];
  const ref = (device: number, name: string) =>
    ({ kind: 'buffer', device, sub: 0, attribute: names(device).indexOf(name) }) as const;
  const read = async (device: number, name: string) =>
    new TextDecoder().decode(await decorated.readAttribute(ref(device, name)));
  return { backend, statistics, decorated, names, ref, read };
}

const FIGURES: InputFigures = {
  direction: 'in',
  mode: 'half-copy',
  fallbacks: ['no-dmabuf-buffer', 'udc-no-sg'],
  blocks: 3,
  bytes: 4096,
  overruns: 1,
  lostSamples: 17,
  ringFill: { waiting: 2, blocks: 8 },
};

describe('the figures of a buffer', () => {
  it("are attributes among the driver's, in the protocol's order, for each direction", () => {
    const { names } = served();
    expect(names(ADC)).toEqual([
      'blocks',
      'bytes',
      'data_available',
      'fallbacks',
      'lost_samples',
      'mode',
      'overruns',
      'ring_fill',
    ]);
    expect(names(DAC)).toEqual([
      'blocks',
      'bytes',
      'data_available',
      'fallbacks',
      'mode',
      'underruns',
      'unplayed_samples',
    ]);
  });

  it("leave the driver's readable and writable at their new places", async () => {
    const { decorated, ref, read } = served();
    expect(await read(ADC, 'data_available')).toBe('buffer 0 data_available\0');
    expect(await decorated.writeAttribute(ref(ADC, 'data_available'), Uint8Array.of(49, 0))).toBe(2);
    expect(await read(ADC, 'data_available')).toBe('1\0');
  });

  it('are read only, and refused beyond the end of the list', async () => {
    const { decorated, ref } = served();
    await expect(decorated.writeAttribute(ref(ADC, 'blocks'), Uint8Array.of(49, 0))).rejects.toThrow(
      expect.objectContaining({ code: 'EACCES' }),
    );
    const beyond = { kind: 'buffer', device: ADC, sub: 0, attribute: 8 } as const;
    await expect(decorated.readAttribute(beyond)).rejects.toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it('say idle before the first opening, come from the open buffer, and stay after it was closed', async () => {
    const { statistics, read } = served();
    expect([await read(ADC, 'mode'), await read(ADC, 'fallbacks'), await read(ADC, 'ring_fill')]).toEqual([
      'idle\0',
      '\0',
      '0/0\0',
    ]);
    let blocks = 3;
    const provider: FiguresProvider = { figures: async () => ({ ...FIGURES, blocks }) };
    statistics.opened('iio:device0', 0, provider);
    blocks = 4;
    const names = ['mode', 'fallbacks', 'blocks', 'bytes', 'overruns', 'lost_samples', 'ring_fill'];
    const shown = ['half-copy', 'no-dmabuf-buffer udc-no-sg', '4', '4096', '1', '17', '2/8'].map((text) => `${text}\0`);
    expect(await Promise.all(names.map((name) => read(ADC, name)))).toEqual(shown);
    await statistics.closing('iio:device0', 0, provider);
    blocks = 5;
    expect(await Promise.all(names.map((name) => read(ADC, name)))).toEqual(shown);
    expect(await read(DAC, 'underruns')).toBe('0\0');
  });

  it('of an opening that has ended do not hide those of the next', async () => {
    const { statistics, read } = served();
    const first: FiguresProvider = { figures: async () => FIGURES };
    const second: FiguresProvider = { figures: async () => ({ ...FIGURES, blocks: 9 }) };
    statistics.opened('iio:device0', 0, first);
    statistics.opened('iio:device0', 0, second);
    await statistics.closing('iio:device0', 0, first);
    expect(await read(ADC, 'blocks')).toBe('9\0');
  });
});
