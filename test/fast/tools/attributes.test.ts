import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ContextDescription, contextFromXml } from '@iio-bridge/protocol';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { ClientLink } from '../fuzz/links.js';
import { LONG_VALUE, WIDE_CHANNELS } from './context.js';
import { areInstalled, run, ToolBench } from './tools.js';

const installed = areInstalled('iio_info', 'iio_attr', 'iio_genxml', 'iio_reg');
const bench = ToolBench.forAll();
// Programs start slowly where many do.
vi.setConfig({ testTimeout: 30_000 });

async function attr(...args: readonly string[]): Promise<string> {
  return (await bench.output('iio_attr', args)).toString();
}

/** Without its newline, and without what tells how the tool found it. */
async function value(...args: readonly string[]): Promise<string> {
  return (await attr(...args)).replace(/\n$/, '');
}

describe.skipIf(!installed)('iio_info', () => {
  it('shows every device, channel and value, and of what fails the errno', async () => {
    const text = (await bench.output('iio_info', [])).toString();
    expect(text).toContain('IIO context has 8 devices');
    expect(text).toContain('iio:device1: emu-mixed (buffer capable)');
    expect(text).toContain(`${WIDE_CHANNELS} channels found`);
    expect(text).toContain('voltage1:  (input, index: 1, format: le:s24/32>>8)');
    expect(text).toContain('timestamp:  (input, index: 4, format: le:S64/64>>0)');
    expect(text).toContain('altvoltage0: RX_LO (output)');
    expect(text).toContain(`text value: with blanks,  and <signs>`);
    expect(text.split('\n').filter((line) => line.includes('ERROR'))).toEqual([
      '\t\t\t\tattr  1: raw ERROR: Invalid argument (22)',
      '\t\t\t\tattr  4: unreadable ERROR: Invalid argument (22)',
      '\t\t\t\tattr  5: write_only ERROR: Permission denied (13)',
    ]);
  });

  it('tells devices without a trigger from those that take none', async () => {
    const text = (await bench.output('iio_info', [])).toString();
    // Five inputs; an output, the values and the trigger itself.
    expect(text.match(/No trigger assigned to device/g)).toHaveLength(5);
    expect(text.match(/No trigger on this device/g)).toHaveLength(3);
  });

  it('describes the context by its address and document', async () => {
    const text = (await bench.output('iio_info', [])).toString();
    expect(text).toContain('IIO context created with network backend.\nBackend version: 1.0 (git tag: v1.0)');
    expect(text).toContain('Backend description string: 127.0.0.1 Linux tools 6.12.0 emulated');
    expect(text).toContain('\thw_model: Emulated <converters> & more\n');
  });

  it('-S ip finds nothing on loopback, where nothing is announced', async (context) => {
    const { status, out, err } = await run('iio_info', ['-S', 'ip']);
    if (err.includes('Avahi')) {
      context.skip('iio_info -S ip asks the Avahi daemon, which does not run here');
    }
    expect([status, String(out)]).toEqual([0, expect.not.stringContaining(`ip:127.0.0.1:${bench.port}`)]);
  });
});

describe.skipIf(!installed)('iio_attr', () => {
  it.each([
    ['an integer', ['-d', 'emu-values', 'integer'], '-42'],
    ['text with blanks', ['-d', 'emu-values', 'text'], 'with blanks,  and <signs>'],
    ['an empty value', ['-d', 'emu-values', 'empty'], ''],
    ['4095 bytes', ['-d', 'emu-values', 'long'], LONG_VALUE],
    ['a device by its id', ['-d', 'iio:device6', 'integer'], '-42'],
    ['a channel by its id', ['-c', 'emu-adc', 'voltage1', 'scale'], '0.5'],
    ['a channel by its name', ['-c', 'emu-values', 'RX_LO', 'frequency'], '2400000000'],
    ['a debug attribute', ['-D', 'emu-values', 'test_mode'], 'off'],
    ['a buffer attribute', ['-B', 'emu-adc', 'data_available'], '0'],
    ['a context attribute', ['-C', 'hw_model'], 'hw_model: Emulated <converters> & more'],
  ])('reads %s', async (_, args, expected) => {
    expect(await value(...args)).toBe(expected);
  });

  it('lists the attributes of a device whose label has a blank in it', async () => {
    const lines = (await attr('-d', 'emu-values')).split('\n');
    expect(lines).toContain("dev 'all kinds', attr 'integer', value :'-42'");
    expect(lines).toContain(`dev 'all kinds', attr 'long', value :'${LONG_VALUE}'`);
    expect(lines).toContain("dev 'all kinds', attr 'write_only', value :ERROR: Permission denied (13)");
  });

  it.each([
    ['an integer', ['-d', 'emu-values', 'integer'], '7', '-42'],
    ['text with blanks', ['-d', 'emu-values', 'text'], ' a  b, c ', 'with blanks,  and <signs>'],
    // iio_attr takes no more.
    ['255 bytes', ['-d', 'emu-values', 'long'], LONG_VALUE.slice(1000, 1255), LONG_VALUE],
    ['a channel attribute', ['-c', 'emu-values', 'RX_LO', 'frequency'], '1', '2400000000'],
    ['a debug attribute', ['-D', 'emu-values', 'test_mode'], 'on', 'off'],
    ['a buffer attribute', ['-B', 'emu-adc', 'watermark'], '5', '1'],
  ])('writes and reads back %s', async (_, args, written, before) => {
    expect(await value(...args)).toBe(before);
    // It shows what it reads after writing.
    expect(await value(...args, written)).toBe(written);
    expect(await value(...args)).toBe(written);
  });

  it('writes an empty value, and one in place of it', async () => {
    const args = ['-d', 'emu-values', 'empty'];
    expect(await value(...args, 'something')).toBe('something');
    expect(await value(...args, '')).toBe('');
  });

  it('writes what it cannot read back', async () => {
    const { status, out, err } = await bench.tool('iio_attr', ['-d', 'emu-values', 'write_only', '5']);
    expect([status, `${out}${err}`]).toEqual([0, 'ERROR: Permission denied (13)\n']);
  });

  it.each([
    ['cannot be read', ['-d', 'emu-values', 'unreadable'], 'ERROR: Invalid argument (22)'],
    ['can only be written', ['-d', 'emu-values', 'write_only'], 'ERROR: Permission denied (13)'],
    ['of a channel cannot be read', ['-c', 'emu-values', 'temp0', 'raw'], 'ERROR: Invalid argument (22)'],
  ])('shows the errno of an attribute that %s', async (_, args, complaint) => {
    const { status, out, err } = await bench.tool('iio_attr', args);
    expect([status, `${out}${err}`]).toEqual([1, `${complaint}\n`]);
  });

  it('lists the attributes of a channel', async () => {
    expect((await attr('-c', 'emu-adc', 'voltage3')).split('\n')).toEqual([
      "dev 'emu-adc', channel 'voltage3' (input), attr 'raw', value '3'",
      "dev 'emu-adc', channel 'voltage3' (input), attr 'scale', value '0.5'",
      '',
    ]);
  });
});

describe('what the programs of 0.24 cannot name or hold, but the protocol can', () => {
  it.each([
    ['a channel by its label', 'READ emu-values INPUT die input\r\n', '6\n29820\0\n'],
    ['a value of 4095 bytes, to write', `WRITE emu-values long 4096\r\n${'x'.repeat(4095)}\0`, '4096\n'],
    ['the same, to read', 'READ emu-values long\r\n', `4096\n${'x'.repeat(4095)}\0\n`],
    ['a channel by its label, to write', 'WRITE emu-values INPUT die input 3\r\n12\0', '3\n'],
  ])('%s', async (_, sent, answer) => {
    const link = await ClientLink.connect(bench.port);
    onTestFinished(() => link.destroy('destroy'));
    link.send(new TextEncoder().encode(sent));
    expect((await link.receive(answer.length)).toString('latin1')).toBe(answer);
  });
});

describe.skipIf(!installed)('iio_genxml', () => {
  const OUTPUT = /^XML generated:\n\n(.*<\/context>)\n\nContext re-creation from generated XML succeeded!\n$/s;

  async function generated(from: readonly string[]): Promise<string> {
    const { status, out, err } = await run('iio_genxml', from);
    expect([status, err]).toEqual([0, '']);
    const [, xml = ''] = OUTPUT.exec(out.toString()) ?? [];
    return xml;
  }

  /** What libiio 0.24 keeps of a document. */
  function known({ version, devices }: ContextDescription) {
    return {
      version,
      devices: devices.map(({ id, name, label, channels, attributes, debugAttributes }) => ({
        ...{ id, name, label, attributes, debugAttributes },
        channels: channels.map((channel) => ({
          ...{ id: channel.id, name: channel.name, direction: channel.direction },
          ...{ scanElement: channel.scanElement, attributes: channel.attributes },
        })),
      })),
    };
  }

  async function served(): Promise<ContextDescription> {
    const link = await ClientLink.connect(bench.port);
    link.send(new TextEncoder().encode('PRINT\r\n'));
    const xml = await link.receive(Number(await link.receiveLine()));
    link.destroy('destroy');
    return contextFromXml(xml.toString());
  }

  it('shows the document that is served', async () => {
    const xml = await generated(['-u', bench.uri]);
    expect(known(contextFromXml(xml))).toEqual(known(await served()));
  });

  it('shows a document that it reads again, and iio_info as well', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'iio-bridge-'));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const file = join(directory, 'context.xml');
    const first = await generated(['-u', bench.uri]);
    writeFileSync(file, first);
    expect(await generated(['-u', `xml:${file}`])).toBe(first);
    expect(spawnSync('iio_info', ['-u', `xml:${file}`]).stdout.toString()).toContain('IIO context has 8 devices');
  });
});

describe.skipIf(!installed)('iio_reg', () => {
  it('reads what it has written', async () => {
    await bench.output('iio_reg', ['emu-adc', '0x10', '0x55']);
    await bench.output('iio_reg', ['emu-adc', '0x80000011', '0xdeadbeef']);
    expect((await bench.output('iio_reg', ['emu-adc', '0x10'])).toString()).toBe('0x55\n');
    expect((await bench.output('iio_reg', ['emu-adc', '0x80000011'])).toString()).toBe('0xdeadbeef\n');
  });

  it('says so where a device has no registers', async () => {
    const { status, err } = await bench.tool('iio_reg', ['emu-values', '0x10']);
    expect([status, err]).toEqual([1, expect.stringContaining('No such file or directory')]);
  });
});
