import { describe, expect, it } from 'vitest';
import { plotCurves } from '../../../host-client/src/cli/plot/axes.js';
import { Canvas, drawCurve } from '../../../host-client/src/cli/plot/canvas.js';
import { SpectrumAnalyzer } from '../../../host-client/src/cli/plot/spectrum.js';
import { clockTime, niceCeiling, shortWithUnit, ticks, withUnit } from '../../../host-client/src/cli/plot/units.js';
import { ansiPaint, plainPaint, renderWatch, type WatchView } from '../../../host-client/src/cli/plot/watch-screen.js';

const FULL_SCALE = 32767;

function sine(length: number, cyclesPerSample: number, amplitude = FULL_SCALE, phase = 0): Float64Array {
  return Float64Array.from({ length }, (_, i) => amplitude * Math.sin(2 * Math.PI * cyclesPerSample * i + phase));
}

describe('a canvas', () => {
  it('sets the dots of Braille characters, and ignores those outside', () => {
    const canvas = new Canvas(2, 1);
    canvas.dot(0, 0, 1);
    canvas.dot(3, 3, 1);
    canvas.dot(-1, 0, 1);
    canvas.dot(4, 0, 1);
    canvas.dot(0, 4, 1);
    expect(canvas.lines(plainPaint)).toEqual(['⠁⢀']);
  });

  it('paints neighbours of one colour together', () => {
    const canvas = new Canvas(4, 1);
    canvas.vertical(0, 0, 3, 1);
    canvas.vertical(2, 0, 3, 1);
    canvas.vertical(4, 3, 0, 2);
    expect(canvas.lines((text, colour) => `<${colour}${text}>`)).toEqual(['<1⡇⡇><2⡇><0⠀>']);
  });

  it('draws many values per column as their range, so that no peak is lost', () => {
    const canvas = new Canvas(2, 1);
    const values = new Float64Array(4000);
    values[2500] = 3;
    drawCurve(canvas, values, (value) => 3 - value, 1);
    expect(canvas.lines(plainPaint)).toEqual(['⣸⣀']);
  });

  it('draws few values as a line without holes', () => {
    const canvas = new Canvas(4, 2);
    drawCurve(canvas, [0, 7], (value) => Math.round(7 - value), 1);
    expect(canvas.lines(plainPaint)).toEqual(['⠀⠀⡠⠊', '⡠⠊⠀⠀']);
    const step = new Canvas(4, 1);
    drawCurve(step, [0, 0, 0, 0, 3, 3, 3, 3], (value) => 3 - value, 1);
    expect(step.lines(plainPaint)).toEqual(['⣀⣀⠏⠉']);
  });

  it('draws nothing of no values', () => {
    const canvas = new Canvas(1, 1);
    drawCurve(canvas, [], () => 0, 1);
    expect(canvas.lines(plainPaint)).toEqual(['⠀']);
  });
});

describe('a spectrum', () => {
  const analyzer = new SpectrumAnalyzer(1024);

  it.each([
    [100 / 1024, FULL_SCALE, 0],
    [100.37 / 1024, FULL_SCALE, 0],
    [3.5 / 1024, FULL_SCALE / 10, -20],
    [0.4321, FULL_SCALE / 1000, -60],
  ])('finds a sine of %d cycles per sample and its level', (frequency, amplitude, level) => {
    const { peak, levels } = analyzer.real(sine(1024, frequency, amplitude), FULL_SCALE);
    expect(peak.frequency).toBeCloseTo(frequency, 3);
    expect(Math.abs(peak.level - level)).toBeLessThan(0.35);
    expect(levels).toHaveLength(513);
  });

  it('tells positive from negative frequencies of I and Q', () => {
    const spectrum = analyzer.complex(sine(1024, -0.2, 1, Math.PI / 2), sine(1024, -0.2, 1), 1);
    expect(spectrum.peak.frequency).toBeCloseTo(-0.2, 3);
    expect(Math.abs(spectrum.peak.level)).toBeLessThan(0.35);
    const image = Math.round((0.2 - spectrum.firstFrequency) / spectrum.binWidth);
    expect(spectrum.levels[image]).toBeLessThan(-80);
  });

  it('has no peak at 0 Hz because of an offset', () => {
    const samples = sine(1024, 0.1, 10).map((value) => value + 1000);
    expect(analyzer.real(samples, 10).peak.frequency).toBeCloseTo(0.1, 3);
  });

  it('of silence is at the bottom everywhere', () => {
    expect(new Set(analyzer.real(new Float64Array(1024), 1).levels)).toEqual(new Set([-200]));
  });
});

describe('numbers for people', () => {
  it.each([
    [1000, 'Hz', '1.000 kHz'],
    [999.96, 'Hz', '1.000 kHz'],
    [0, 'V', '0 V'],
    [-0.00305, 'V', '-3.050 mV'],
    [12_345_678, 'B/s', '12.35 MB/s'],
  ])('%d %s is %s', (value, unit, text) => {
    expect(withUnit(value, unit)).toBe(text);
  });

  it('are short on axes', () => {
    expect([500_000, 0.0025, 0, -20].map((value) => shortWithUnit(value, 'Hz'))).toEqual([
      '500 kHz',
      '2.5 mHz',
      '0 Hz',
      '-20 Hz',
    ]);
  });

  it('have ticks at round places', () => {
    expect(ticks(0, 500_000, 5)).toEqual([0, 100_000, 200_000, 300_000, 400_000, 500_000]);
    expect(ticks(-5, 5, 4)).toEqual([-5, 0, 5]);
    expect(ticks(-1.2, 1.2, 3)).toEqual([-1, 0, 1]);
  });

  it('have round limits', () => {
    expect([0.9, 1, 3.2, 5.1, 32767].map(niceCeiling)).toEqual([1, 1, 5, 10, 50_000]);
    expect(clockTime(3725.9)).toBe('01:02:05');
  });
});

describe('a plot', () => {
  it('has labelled axes and the size that was asked for', () => {
    const axes = { x: { from: 0, to: 1e-3, unit: 's' }, y: { from: -1, to: 1, unit: 'V' } };
    const lines = plotCurves(
      [{ values: sine(200, 1 / 100, 1), colour: 1 }],
      axes,
      { columns: 40, rows: 8 },
      plainPaint,
    );
    expect(lines).toEqual([
      '    1 V ┤⠀⠀⡴⠋⠑⣄⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⣠⠎⠙⢦⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀',
      '        │⠀⡼⠁⠀⠀⠘⡆⠀⠀⠀⠀⠀⠀⠀⠀⠀⢠⠇⠀⠀⠈⢧⠀⠀⠀⠀⠀⠀⠀⠀⠀',
      '        │⣰⠃⠀⠀⠀⠀⠘⡄⠀⠀⠀⠀⠀⠀⠀⢠⠏⠀⠀⠀⠀⠈⢇⠀⠀⠀⠀⠀⠀⠀⠀',
      '    0 V ┤⠏⠀⠀⠀⠀⠀⠀⢹⡀⠀⠀⠀⠀⠀⠀⡞⠀⠀⠀⠀⠀⠀⠘⡆⠀⠀⠀⠀⠀⠀⣠',
      '        │⠀⠀⠀⠀⠀⠀⠀⠀⢧⠀⠀⠀⠀⠀⡼⠁⠀⠀⠀⠀⠀⠀⠀⠹⡀⠀⠀⠀⠀⢠⠇',
      '        │⠀⠀⠀⠀⠀⠀⠀⠀⠈⢇⠀⠀⠀⣰⠃⠀⠀⠀⠀⠀⠀⠀⠀⠀⢳⡀⠀⠀⢠⠏⠀',
      '   -1 V ┤⠀⠀⠀⠀⠀⠀⠀⠀⠀⠈⢦⣀⡴⠃⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠳⣄⡠⠋⠀⠀',
      '        0 s          500 µs         1 ms',
    ]);
  });
});

function view(changes: Partial<WatchView> = {}): WatchView {
  const samples = sine(3000, 1 / 1000, 5);
  return {
    uri: 'ip:127.0.0.1',
    device: 'emu-adc',
    seconds: 83,
    bytesPerSecond: 4e6,
    setsPerSecond: 1e6,
    gaps: 0,
    lostSets: 0,
    ring: { filled: 4, total: 16 },
    mode: 'zero-copy',
    channels: [
      { name: 'voltage0', values: samples },
      { name: 'voltage1', values: samples.map((value) => -value) },
    ],
    sampleRate: 1e6,
    range: { from: -5, to: 5, unit: 'V' },
    spectrum: new SpectrumAnalyzer(1024).real(sine(1024, 0.1, 5), 5),
    ...changes,
  };
}

const ESCAPES = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, 'g');

describe('the screen of watch', () => {
  it.each([
    [80, 24],
    [132, 50],
    [40, 12],
    [20, 5],
  ])('fills %d by %d characters exactly, with and without colours', (columns, rows) => {
    const plain = renderWatch(view(), { columns, rows }, plainPaint);
    expect(plain).toHaveLength(rows);
    for (const line of plain) {
      expect(line.length).toBeLessThanOrEqual(columns);
    }
    const coloured = renderWatch(view(), { columns, rows }, ansiPaint);
    expect(coloured.map((line) => line.replaceAll(ESCAPES, ''))).toEqual(plain);
    expect(coloured.join('')).not.toBe(plain.join(''));
  });

  it('shows rates, losses, the ring, the mode, and both plots', () => {
    const lines = renderWatch(view({ gaps: 2, lostSets: 4096 }), { columns: 100, rows: 30 }, plainPaint);
    expect(lines[0]).toMatch(/^ emu-adc {2}ip:127\.0\.0\.1 +00:01:23 {2}q quits, space pauses $/);
    expect(lines[1]).toBe(' 1.000 MS/s   4.000 MB/s   gaps 2, lost 4096   ring ███░░░░░░░░░ 4/16   zero-copy');
    expect(lines[2]).toMatch(/^── waveform, 2\.999 ms ─+ ■ voltage0 {2}■ voltage1 ──$/);
    expect(lines.find((line) => line.includes('spectrum'))).toMatch(
      /^── spectrum of voltage0, 976\.6 Hz per bin ─+ peak 100\.0 kHz 0\.\d dBFS ──$/,
    );
    expect(lines.filter((line) => line.includes('5 V')).length).toBe(2);
    expect(lines.at(-1)).toMatch(/0 Hz .* 500 kHz$/);
  });

  it('says what it does not know', () => {
    const unknown = view({
      gaps: undefined,
      lostSets: undefined,
      ring: undefined,
      mode: undefined,
      sampleRate: undefined,
    });
    const lines = renderWatch(unknown, { columns: 100, rows: 30 }, plainPaint);
    expect(lines[1]).toBe(' 1.000 MS/s   4.000 MB/s   gaps unknown');
    expect(lines[2]).toContain('waveform, 2.999 kS');
    expect(lines.at(-1)).toMatch(/500 m\/S$/);
  });

  it('names I and Q of a complex spectrum, which is around 0 Hz', () => {
    const analyzer = new SpectrumAnalyzer(1024);
    const spectrum = analyzer.complex(sine(1024, 0.1, 5, Math.PI / 2), sine(1024, 0.1, 5), 5);
    const lines = renderWatch(view({ spectrum }), { columns: 100, rows: 30 }, plainPaint);
    expect(lines.find((line) => line.includes('spectrum'))).toContain('spectrum of voltage0 + j voltage1');
    expect(lines.at(-1)).toMatch(/-400 kHz .* 0 Hz .* 400 kHz/);
  });

  it('shows the waveform alone where there is no room for two plots, or no spectrum', () => {
    for (const lines of [
      renderWatch(view(), { columns: 80, rows: 12 }, plainPaint),
      renderWatch(view({ spectrum: undefined }), { columns: 80, rows: 30 }, plainPaint),
    ]) {
      expect(lines.join('\n')).not.toContain('spectrum');
      expect(lines.join('\n')).toContain('waveform');
    }
  });
});
