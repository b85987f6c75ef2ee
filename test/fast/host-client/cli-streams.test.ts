import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { parseMetadata } from '../../../host-client/src/cli/sigmf/schema.js';
import { PROCESS_TIMEOUT_MS, run, runJson, start, useBridge, useDirectory } from './cli-harness.js';

const counter = useBridge({ args: ['--free-running'] });
const sine = useBridge({ args: ['--signal', 'sine'] });
const pluto = useBridge({ context: 'pluto.xml', args: ['--signal', 'sine', '--free-running'] });
const looped = useBridge({ args: ['--loopback', 'emu-dac=emu-adc', '--free-running'] });
const path = useDirectory();

/** The emulated ADC's sample set `n`, over its four 16-bit channels, is the number n. */
function counted(from: number, sets: number): Buffer {
  return Buffer.from(BigUint64Array.from({ length: sets }, (_, i) => BigInt(from + i)).buffer);
}

async function metadataOf(recording: string) {
  return parseMetadata(await readFile(`${recording}.sigmf-meta`, 'utf8'), recording);
}

/** `record` makes its files when the device captures. */
async function isCapturing(recording: string): Promise<boolean> {
  return (await readdir(path('.'))).includes(`${recording}.sigmf-meta`);
}

describe('read', { timeout: PROCESS_TIMEOUT_MS }, () => {
  it('writes samples to standard output, and a summary to standard error', async () => {
    const { code, bytes, stderr } = await run('read', '-u', counter(), 'emu-adc', '-b', '1000', '-s', '2500');
    expect(bytes.equals(counted(0, 2500))).toBe(true);
    expect(stderr).toMatch(
      /^2500 samples of voltage0, voltage1, voltage2, voltage3 \(0\.0 MB\) in \d+\.\d\d s, .* MB\/s\n$/,
    );
    expect(code).toBe(0);
  });

  it('takes channels, and prints one JSON object', async () => {
    const output = path('one-channel');
    const words = ['read', '-u', counter(), 'emu-adc', 'voltage0', '-s', '5000', '-o', output];
    expect(await runJson(...words)).toMatchObject({ device: 'emu-adc', channels: ['voltage0'], samplesWritten: 5000 });
    expect(await readFile(output)).toEqual(Buffer.from(Uint16Array.from({ length: 5000 }, (_, i) => i).buffer));
  });

  it('succeeds when the reader of standard output goes away', async () => {
    const reading = start(['read', '-u', counter(), 'emu-adc', '-b', '4096']);
    await reading.lines(1);
    reading.child.stdout?.destroy();
    const { code } = await reading.ended;
    expect(code).toBe(0);
  });
});

describe('write and play', { timeout: PROCESS_TIMEOUT_MS }, () => {
  it('what one plays, the other end of the wire records bit for bit, and plays again', async () => {
    const uri = looped();
    const sets = 20_000;
    const samples = Buffer.from(Uint32Array.from({ length: sets * 2 }, (_, i) => (i * 2654435761) % 2 ** 32).buffer);
    await writeFile(path('random'), samples);
    const record = (name: string) =>
      start(['record', '-u', uri, 'emu-adc', '-s', String(sets), '-b', '1000', '-o', path(name), '-T', '0', '--json']);

    const first = record('first');
    while (!(await isCapturing('first'))) {
      await delay(20);
    }
    const written = await runJson('write', '-u', uri, 'emu-dac', '-i', path('random'), '-b', '1024');
    expect(written).toMatchObject({ device: 'emu-dac', samplesWritten: sets, cyclic: false, sampleBytes: 8 });
    expect(await first.ended).toMatchObject({ code: 0, stderr: '' });
    expect((await readFile(path('first.sigmf-data'))).equals(samples)).toBe(true);

    const second = record('second');
    while (!(await isCapturing('second'))) {
      await delay(20);
    }
    const played = await run('play', '-u', uri, 'emu-dac', '-i', path('first'), '-b', '777');
    expect(played.stderr).toMatch(/^20000 samples on voltage0, voltage1, voltage2, voltage3 \(0\.2 MB\) in /);
    expect(await second.ended).toMatchObject({ code: 0, stderr: '' });
    expect((await readFile(path('second.sigmf-data'))).equals(samples)).toBe(true);
    const [one, two] = await Promise.all([metadataOf(path('first')), metadataOf(path('second'))]);
    expect(two.global).toEqual(one.global);
  });

  it('writes standard input, as many samples as asked for, on the channels named', async () => {
    const uri = counter();
    const input = new Uint8Array(Uint16Array.from({ length: 3000 }, (_, i) => i).buffer);
    const { code, stderr } = await start(['write', '-u', uri, 'emu-dac', 'voltage2', '-s', '2000'], input).ended;
    expect(stderr).toMatch(/^2000 samples on voltage2 /);
    expect(code).toBe(0);
  });

  it('plays a cycle until SIGINT', async () => {
    const uri = looped();
    const cycle = counted(7, 256);
    const playing = start(['write', '-u', uri, 'emu-dac', '--cyclic', '--json'], cycle);
    const { bytes } = await run('read', '-u', uri, 'emu-adc', '-s', '1024', '-b', '256');
    playing.child.kill('SIGINT');
    const { code, stdout } = await playing.ended;
    expect(code).toBe(130);
    expect(JSON.parse(stdout)).toMatchObject({ cyclic: true, samplesWritten: 256 });
    // The reader came in anywhere.
    const begin = (Number(bytes.readBigUInt64LE(0)) - 7) * 8;
    const twice = Buffer.concat(Array(6).fill(cycle));
    expect(bytes.equals(twice.subarray(begin, begin + bytes.length))).toBe(true);
  });

  it.each([
    ['an empty input', new Uint8Array(), /the input has no samples/],
    ['a part of a sample set', new Uint8Array(20), /ends with 4 bytes of a sample set, which has 8/],
  ])('refuses %s', async (_, input, message) => {
    const { code, stderr } = await start(['write', '-u', counter(), 'emu-dac'], input).ended;
    expect(stderr).toMatch(message);
    expect(code).toBe(1);
  });

  it('refuses recordings that are not there, or of another format than the device has', async () => {
    const uri = pluto();
    const missing = await run('play', '-u', uri, 'cf-ad9361-dds-core-lpc', '-i', path('nothing'));
    expect(missing.stderr).toMatch(/cannot read .*nothing\.sigmf-meta: there is no such file/);
    await runJson('record', '-u', counter(), 'emu-adc', '-s', '10', '-o', path('four'));
    const four = await run('play', '-u', uri, 'cf-ad9361-dds-core-lpc', '-i', path('four'));
    expect(four.stderr).toMatch(/4 values per sample, but 2 channels of cf-ad9361-dds-core-lpc/);
    expect([missing.code, four.code]).toEqual([1, 1]);
  });

  it('says so where the rate is not the one that was recorded', async () => {
    await runJson('record', '-u', counter(), 'emu-adc', '-s', '100', '--rate', '48000', '-o', path('slow'));
    const { code, stderr } = await run('play', '-u', counter(), 'emu-dac', '-i', path('slow'));
    expect(stderr).toContain("'iio-client attr emu-dac sampling_frequency 48000'");
    expect(code).toBe(0);
  });
});

describe('record', { timeout: PROCESS_TIMEOUT_MS }, () => {
  it('makes a recording that says what it is', async () => {
    const words = ['-s', '5000', '-o', path('plain.sigmf-data'), '--author', 'A. Nyquist', '--description', 'a test'];
    const summary = await runJson('record', '-u', counter(), 'emu-adc', ...words, '--frequency', '2.4e9');
    expect(summary).toMatchObject({
      device: 'emu-adc',
      datatype: 'ri16_le',
      sampleRate: 1_000_000,
      samplesWritten: 5000,
      bytesWritten: 40_000,
      recordings: [path('plain')],
    });
    expect((await readFile(path('plain.sigmf-data'))).equals(counted(0, 5000))).toBe(true);
    const { global, captures, annotations } = await metadataOf(path('plain'));
    expect(global).toMatchObject({
      'core:datatype': 'ri16_le',
      'core:num_channels': 4,
      'core:sample_rate': 1_000_000,
      'core:hw': 'emu-adc, Linux converters 6.12.0 emulated aarch64',
      'core:recorder': expect.stringMatching(/^iio-client \d/),
      'core:author': 'A. Nyquist',
      'core:description': 'a test',
      'core:extensions': [{ name: 'iio', version: '1.0.0', optional: true }],
      'iio:device': { id: 'iio:device0', name: 'emu-adc', label: 'four channels' },
      'iio:samples': 'stored',
    });
    expect(global['iio:channels']).toEqual(
      [0, 1, 2, 3].map((i) => ({ id: `voltage${i}`, format: 'le:S16/16>>0', scale: 0.152587 })),
    );
    expect(captures).toEqual([
      {
        'core:sample_start': 0,
        'core:global_index': 0,
        'core:frequency': 2.4e9,
        'core:datetime': expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/),
      },
    ]);
    const capturedAt = Date.parse(captures[0]?.['core:datetime'] ?? '');
    expect(Math.abs(Date.now() - capturedAt)).toBeLessThan(PROCESS_TIMEOUT_MS);
    expect(annotations).toEqual([]);
  });

  it('splits by size and by time', async () => {
    const bySize = await runJson(
      'record',
      '-u',
      counter(),
      'emu-adc',
      '-s',
      '5000',
      '-o',
      path('size'),
      '--split-size',
      '16k',
    );
    expect(bySize).toMatchObject({ recordings: [0, 1, 2].map((part) => path(`size-${part}`)) });
    const parts = await Promise.all([0, 1, 2].map((part) => readFile(path(`size-${part}.sigmf-data`))));
    expect(parts.map(({ length }) => length)).toEqual([16_000, 16_000, 8000]);
    expect(Buffer.concat(parts).equals(counted(0, 5000))).toBe(true);
    const byTime = await runJson(
      'record',
      '-u',
      counter(),
      'emu-adc',
      '-s',
      '5000',
      '-o',
      path('time'),
      '--split-time',
      '0.002',
    );
    expect(byTime).toMatchObject({ recordings: [0, 1, 2].map((part) => path(`time-${part}`)) });
    const last = await metadataOf(path('time-2'));
    expect(last.captures[0]).toMatchObject({ 'core:sample_start': 0, 'core:global_index': 4000 });
    expect(last.global['iio:part']).toBe(2);
    const played = await run('play', '-u', counter(), 'emu-dac', '-i', path('time'));
    expect(played.stderr).toMatch(/^5000 samples on /);
  });

  it('ends with the duration', async () => {
    const summary = await runJson('record', '-u', counter(), 'emu-adc', '-o', path('short'), '--duration', '0.01');
    expect(summary).toMatchObject({ samplesWritten: 10_000 });
  });

  it('decodes what SigMF cannot express, and leaves time stamps out', async () => {
    const { code, stderr } = await run('record', '-u', counter(), 'emu-mixed', '-s', '1000', '-o', path('mixed'));
    expect(stderr).toMatch(/not recorded, .* more than 32 bits: timestamp\n1000 samples of voltage0, .*ri32_le/);
    expect(code).toBe(0);
    const data = await readFile(path('mixed.sigmf-data'));
    const values = new Int32Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.length));
    expect(values.length).toBe(4000);
    expect(Array.from(values.subarray(999 * 4))).toEqual([999, 999, 999, 999]);
    expect((await metadataOf(path('mixed'))).global).toMatchObject({
      'iio:samples': 'decoded',
      'core:num_channels': 4,
    });
  });

  it('records I and Q as complex samples', async () => {
    const words = ['cf-ad9361-lpc', '-s', '1000', '--quadrature', 'pairs', '-o', path('iq')];
    expect(await runJson('record', '-u', pluto(), ...words)).toMatchObject({
      datatype: 'ci16_le',
      sampleRate: 2_400_000,
    });
    expect((await metadataOf(path('iq'))).global['core:num_channels']).toBe(1);
    expect(await readFile(path('iq.sigmf-data'))).toHaveLength(4000);
  });

  it('writes over nothing without --force', async () => {
    await writeFile(path('kept.sigmf-data'), 'precious');
    const words = ['record', '-u', counter(), 'emu-adc', '-s', '10', '-o', path('kept')];
    const { code, stderr } = await run(...words);
    expect(stderr).toMatch(/cannot create .*kept\.sigmf-data: it exists already; .* --force/);
    expect(code).toBe(1);
    expect(await readFile(path('kept.sigmf-data'), 'utf8')).toBe('precious');
    expect((await run(...words, '--force')).code).toBe(0);
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('is complete after %s', async (signal, expected) => {
    const name = path(signal);
    const recording = start(['record', '-u', sine(), 'emu-adc', '-b', '1000', '-o', name, '--json']);
    const hasSamples = () =>
      stat(`${name}.sigmf-data`).then(
        ({ size }) => size > 0,
        () => false,
      );
    while (!(await hasSamples())) {
      await delay(20);
    }
    recording.child.kill(signal);
    const { code, stdout, stderr } = await recording.ended;
    expect(stderr).toBe('');
    expect(code).toBe(expected);
    const { samplesWritten }: { samplesWritten: number } = JSON.parse(stdout);
    expect(await readFile(`${name}.sigmf-data`)).toHaveLength(samplesWritten * 8);
    expect((await metadataOf(name)).captures).toHaveLength(1);
  });
});

describe('watch', { timeout: PROCESS_TIMEOUT_MS }, () => {
  it('prints a line of JSON per interval: rate, losses, the tone', async () => {
    const words = ['watch', '-u', sine(), 'emu-adc', '--interval', '100', '-s', '600000', '--json'];
    const { code, stdout, stderr } = await run(...words);
    expect(stderr).toBe('');
    expect(code).toBe(0);
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line): Record<string, unknown> => JSON.parse(line));
    expect(lines.length).toBeGreaterThan(1);
    expect(Object.keys(lines[0] ?? {})).toEqual(
      'seconds samplesPerSecond bytesPerSecond gaps lostSamples ring mode peak'.split(' '),
    );
    const { peak, samplesPerSecond } = lines.at(-1) as {
      peak: { frequency: number; dBFS: number };
      samplesPerSecond: number;
    };
    expect(peak.frequency).toBeGreaterThan(990);
    expect(peak.frequency).toBeLessThan(1010);
    expect(Math.abs(peak.dBFS)).toBeLessThan(0.5);
    expect(samplesPerSecond).toBeGreaterThan(100_000);
  });

  it('prints lines for people where there is no terminal, until SIGINT', async () => {
    const watching = start(['watch', '-u', sine(), 'emu-adc', 'voltage1', '--interval', '50']);
    await watching.lines(2);
    watching.child.kill('SIGINT');
    const { code, stdout } = await watching.ended;
    expect(stdout).toMatch(/^[\d.]+ [kM]?S\/s {2}[\d.]+ [kM]?B\/s {2}gaps .* {2}peak [\d.]+ k?Hz -?\d\.\d dBFS$/m);
    expect(code).toBe(130);
  });
});

describe('bench', { timeout: PROCESS_TIMEOUT_MS }, () => {
  it('finds an input by itself, and measures it with several sizes of blocks', async () => {
    const result = await runJson('bench', '-u', counter(), '--duration', '0.05');
    expect(result).toMatchObject({ uri: counter(), device: 'emu-adc', roundTripMs: { median: expect.any(Number) } });
    const { runs } = result as { runs: { blockBytes: number; bytesPerSecond: number }[] };
    expect(runs.map(({ blockBytes }) => blockBytes)).toEqual([16_384, 131_072, 1_048_576]);
    for (const { bytesPerSecond } of runs) {
      expect(bytesPerSecond).toBeGreaterThan(0);
    }
  });

  it('prints a table', async () => {
    const { code, stdout } = await run(
      'bench',
      '-u',
      counter(),
      'emu-adc',
      'voltage0',
      '-b',
      '4096',
      '--duration',
      '0.05',
    );
    expect(stdout).toMatch(/^emu-adc \(voltage0\) at ip:.*; an attribute is read in [\d.]+ ms/);
    expect(stdout.split('\n')[1]).toMatch(/^ *block +MB\/s +MS\/s +CPU s\/GB/);
    expect(stdout.split('\n')[2]).toMatch(/^ *8 KiB +[\d.]+ /);
    expect(code).toBe(0);
  });
});
