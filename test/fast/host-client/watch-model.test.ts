import { describe, expect, it } from 'vitest';
import { History } from '../../../host-client/src/cli/plot/history.js';
import { type WatchedSource, WatchModel } from '../../../host-client/src/cli/plot/watch-model.js';

const RATE = 100_000;
const KNOWN = { gaps: 0, lostSets: 0, ring: undefined, mode: undefined };

const SOURCE: WatchedSource = {
  uri: 'ip:test',
  device: 'adc',
  channels: [
    { name: 'voltage0', scale: 0.001, offset: 5, unit: 'V', fullScale: 2048 },
    { name: 'voltage1', scale: 0.001, offset: 0, unit: 'V', fullScale: 2048 },
  ],
  complex: false,
  setBytes: 4,
  sampleRate: RATE,
};

function tone(from: number, sets: number, hertz: number, amplitude = 1000): number[] {
  return Array.from({ length: sets }, (_, i) => amplitude * Math.sin((2 * Math.PI * hertz * (from + i)) / RATE));
}

/** Feeds blocks of a tone at the speed of the sampling clock. */
function fed(
  blocks: number,
  setsPerBlock: number,
  options: { readonly hertz?: number; readonly source?: WatchedSource } = {},
) {
  const { hertz = 1000, source = SOURCE } = options;
  const model = new WatchModel(source, 1024, 0);
  let looks = 0;
  const feed = (block: number, isGap = false) =>
    model.arrived(
      {
        sets: setsPerBlock,
        isGap,
        values: () => {
          looks++;
          const values = tone(block * setsPerBlock, setsPerBlock, hertz);
          return [values, values.map((value) => -value)];
        },
      },
      ((block + 1) * setsPerBlock * 1000) / RATE,
    );
  for (let block = 0; block < blocks; block++) {
    feed(block);
  }
  const now = (blocks * setsPerBlock * 1000) / RATE;
  return { model, now, feed, looks: () => looks };
}

describe('the history of a channel', () => {
  it('keeps the latest values, across its end and whatever the size of what comes', () => {
    const history = new History(2, 5);
    history.append([
      [1, 2, 3],
      [10n, 20n, 30n],
    ]);
    expect(Array.from(history.values(1))).toEqual([10, 20, 30]);
    history.append([
      [4, 5, 6],
      [40n, 50n, 60n],
    ]);
    expect(Array.from(history.values(0))).toEqual([2, 3, 4, 5, 6]);
    history.append([Array.from({ length: 12 }, (_, i) => i), Array.from({ length: 12 }, (_, i) => i)]);
    expect(Array.from(history.values(0, 1, 4))).toEqual([8, 9, 10]);
    history.clear();
    expect(history.length).toBe(0);
    history.append([[7], [8]]);
    expect(Array.from(history.values(1))).toEqual([8]);
  });
});

describe('what watch makes of blocks', () => {
  it('is the rate at which they come', () => {
    const { model, now } = fed(100, 100);
    const view = model.view(now, KNOWN);
    expect(view.setsPerSecond).toBeCloseTo(RATE, 0);
    expect(view.bytesPerSecond).toBeCloseTo(RATE * 4, 0);
    expect(view.seconds).toBeCloseTo(0.1, 6);
  });

  it('is three periods of the tone, in physical units, from where it rises', () => {
    const { model, now } = fed(30, 100);
    const { channels, range, spectrum } = model.view(now, KNOWN);
    const values = Array.from(channels[0]?.values ?? []);
    expect(values.length).toBeGreaterThan(295);
    expect(values.length).toBeLessThan(305);
    expect(Math.abs((values[0] ?? 0) - 0.005)).toBeLessThan(0.07);
    expect(values[10]).toBeGreaterThan(values[0] ?? 0);
    expect(range).toEqual({ from: -2, to: 2, unit: 'V' });
    expect((spectrum?.peak.frequency ?? 0) * RATE).toBeCloseTo(1000, -1);
    expect(spectrum?.peak.level).toBeCloseTo(20 * Math.log10(1000 / 2048), 0);
  });

  it('is zoomed by powers of two', () => {
    const { model, now } = fed(30, 100);
    model.zoom = 1;
    const near = model.view(now, KNOWN).channels[0]?.values.length ?? 0;
    model.zoom = -1;
    const far = model.view(now, KNOWN).channels[0]?.values.length ?? 0;
    expect(far / near).toBeCloseTo(4, 1);
  });

  it('has no sample from before a gap', () => {
    const { model, now, feed } = fed(30, 100);
    feed(1000, true);
    const { spectrum } = model.view(now, KNOWN);
    expect(spectrum?.binWidth).toBe(1 / 64);
  });

  it('is not looked at, block by block, when one block fills the screen', () => {
    const { model, now, feed, looks } = fed(50, 2048);
    expect(looks()).toBe(1);
    model.view(now, KNOWN);
    feed(51);
    feed(52);
    expect(looks()).toBe(2);
  });

  it('shows nothing of nothing', () => {
    const view = new WatchModel(SOURCE, 1024, 0).view(0, KNOWN);
    expect(view).toMatchObject({ setsPerSecond: 0, spectrum: undefined, range: { from: -1, to: 1 } });
  });

  it('has a spectrum around zero of I and Q', () => {
    const model = new WatchModel({ ...SOURCE, complex: true }, 1024, 0);
    const phase = (i: number) => (-2 * Math.PI * 20_000 * i) / RATE;
    const indices = Array.from({ length: 1024 }, (_, i) => i);
    model.arrived(
      {
        sets: 1024,
        isGap: false,
        values: () => [indices.map((i) => 2048 * Math.cos(phase(i))), indices.map((i) => 2048 * Math.sin(phase(i)))],
      },
      10,
    );
    const { spectrum } = model.view(10, KNOWN);
    expect((spectrum?.peak.frequency ?? 0) * RATE).toBeCloseTo(-20_000, -1);
  });
});
