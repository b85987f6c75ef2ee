import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { wideSamples } from './samples.js';
import { run, ToolBench } from './tools.js';

/** Debian's, not one of another installation: the binding is a package of Debian's. */
const PYTHON = '/usr/bin/python3';
const SCRIPT = join(import.meta.dirname, 'python_libiio.py');

const installed = spawnSync(PYTHON, ['-c', 'import iio']).status === 0;
if (!installed) {
  console.warn("skipped: Python's module iio not found; install Debian's python3-libiio");
}
const bench = ToolBench.forAll();

interface Result {
  readonly description: string;
  readonly version: readonly unknown[];
  readonly attributes: Readonly<Record<string, string>>;
  readonly devices: readonly {
    readonly id: string;
    readonly name: string | null;
    readonly label: string | null;
    readonly attributes: Readonly<Record<string, string | number>>;
    readonly debug: Readonly<Record<string, string | number>>;
    readonly channels: readonly { readonly id: string; readonly name: string | null }[];
  }[];
  readonly written: Readonly<Record<string, string | number>>;
  readonly captured: { readonly blocks: readonly string[]; readonly single: string };
  readonly played: boolean;
}

describe.skipIf(!installed)('python3-libiio 0.24', () => {
  it('walks the context, reads, writes, captures and plays', { timeout: 30_000 }, async () => {
    const { status, out, err } = await run(PYTHON, [SCRIPT, bench.uri]);
    expect([status, err]).toEqual([0, '']);
    const result: Result = JSON.parse(String(out));

    expect(result.description).toContain('Linux tools 6.12.0 emulated');
    expect(result.version).toEqual([1, 0, 'v1.0']);
    expect(result.attributes['hw_model']).toBe('Emulated <converters> & more');
    expect(result.devices.map(({ name }) => name)).toEqual([
      ...['emu-adc', 'emu-mixed', 'emu-dac', 'emu-wide', 'emu-idle', 'emu-file', 'emu-values', 'emu-timer'],
    ]);
    const values = result.devices.find(({ name }) => name === 'emu-values');
    expect(values).toMatchObject({
      label: 'all kinds',
      attributes: {
        empty: '',
        integer: '-42',
        // EIO: the binding has room for 1024 bytes.
        long: 5,
        text: 'with blanks,  and <signs>',
        unreadable: 22,
        write_only: 13,
      },
      debug: { test_mode: 'off' },
    });
    expect(values?.channels).toContainEqual(expect.objectContaining({ id: 'altvoltage0', name: 'RX_LO' }));

    expect(result.written).toEqual({
      integer: '12',
      text: ' two  words ',
      long: 'x'.repeat(1000),
      test_mode: 'on',
      frequency: '7',
      register: 0x1234,
    });
    const expected = [0, 1000, 2000].map((first) => wideSamples([0, 33], first, 1000).toString('hex'));
    expect(result.captured.blocks).toEqual(expected);
    expect(result.captured.single).toBe(wideSamples([33], 2000, 1000).toString('hex'));
    expect(result.played).toBe(true);
  });
});
