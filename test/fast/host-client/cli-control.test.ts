import { describe, expect, it } from 'vitest';
import { fixture, PROCESS_TIMEOUT_MS, run, runJson, start, useBridge } from './cli-harness.js';

const uri = useBridge({ config: { permissions: { tcp: { registers: true, debugAttributes: true } } } });
const closed = useBridge();
const on = (command: string, ...words: readonly string[]) => [command, '-u', uri(), ...words];

describe('iio-client', { timeout: PROCESS_TIMEOUT_MS }, () => {
  it('lists its commands, with a description each, and the exit codes', async () => {
    const { code, stdout } = await run('--help');
    expect(code).toBe(0);
    for (const command of 'scan info attr read write record play watch bench events reg trig'.split(' ')) {
      expect(stdout).toMatch(new RegExp(`^ {2}${command} .{20}`, 'm'));
    }
    expect(stdout).toContain('130 interrupted');
  });

  it.concurrent.each([
    [['frobnicate'], /unknown command 'frobnicate'/],
    [['read'], /missing required argument 'device'/],
    [['read', 'adc', '-s', 'many', '-o', 'x'], /'-s, --samples <count>' argument 'many' is invalid. a whole number/],
    [['record', 'adc'], /required option '-o, --output <name>'/],
    [['record', 'adc', '-o', 'x', '--split-size', '10 apples'], /a size in bytes is needed, such as/],
    [['watch', 'adc', '--fft-size', '1000'], /a power of two/],
    [['scan', '-S', 'mars'], /'mars' is no place to look for contexts/],
    [['attr', '-c', '-B'], /only one of -d, -c/],
    [['attr', '-C', 'a', 'b'], /too many words/],
    [['trig', 'adc', 'x', '--none'], /either --none or the trigger 'x'/],
    [['read', 'adc', '--policy', 'hope'], /Allowed choices are drop-newest, drop-oldest, stop/],
  ])('%j is wrong usage', async (words, message) => {
    const { code, stdout, stderr } = await run(...words);
    expect(stderr).toMatch(message);
    expect(stdout).toBe('');
    expect(code).toBe(2);
  });

  it.concurrent.each([
    ['nobody listens', ['info', '-u', 'ip:127.0.0.1:1'], [/port 1 of 127\.0\.0\.1/, /is the server running/, /scan/]],
    ['no such document', ['info', '-u', 'xml:/nowhere.xml'], [/\/nowhere\.xml/, /no such file/]],
    ['no URI', ['info', '-u', 'carrier-pigeon:'], [/'carrier-pigeon:' does not start with usb:, ip: or xml:/]],
    ['a bad USB address', ['info', '-u', 'usb:nonsense'], [/usb:BUS\.ADDRESS/]],
  ])('%s: says so in one line, and ends with 1', async (_, words, patterns) => {
    const { code, stdout, stderr } = await run(...words);
    for (const pattern of patterns) {
      expect(stderr).toMatch(pattern);
    }
    expect(stderr).toMatch(/^iio-client: [^\n]+\n$/);
    expect(stdout).toBe('');
    expect(code).toBe(1);
  });

  it.concurrent.each([
    ['a device', ['attr', 'ad9361', 'x'], [/no device 'ad9361'/, /emu-adc/]],
    ['a channel', ['attr', '-c', 'emu-adc', 'voltage9', 'raw'], [/no channel 'voltage9'/, /voltage0/]],
    ['an attribute', ['attr', 'emu-adc', 'colour'], [/no attribute 'colour'/, /sampling_frequency/]],
    ['a channel attribute', ['attr', '-c', 'emu-adc', 'voltage0', 'colour'], [/'colour'/, /there: raw, scale/]],
    ['a context attribute', ['attr', '-C', 'colour'], [/no context attribute 'colour'/, /local,kernel/]],
    ['a buffer', ['read', 'emu-timer', '-o', '/dev/null'], [/emu-timer|trigger0/, /buffer/]],
    ['an output to read', ['read', 'emu-dac', '-o', '/dev/null'], [/iio:device2|emu-dac/, /output|buffer/]],
    ['an input to write', ['write', 'emu-adc', '-i', '/dev/null'], [/emu-adc has no output buffer/]],
    ['a channel to read', ['read', 'emu-adc', 'voltage9', '-o', '/dev/null'], [/no channel 'voltage9'/, /voltage0/]],
    ['a trigger', ['trig', 'emu-adc', 'cuckoo'], [/no trigger 'cuckoo'/]],
  ])('says what there is where there is not %s', async (_, [command = '', ...words], patterns) => {
    const { code, stderr } = await run(...on(command, ...words));
    for (const pattern of patterns) {
      expect(stderr).toMatch(pattern);
    }
    expect(code).toBe(1);
  });

  it('says how to be allowed what a server forbids', async () => {
    const { code, stderr } = await run('reg', '-u', closed(), 'emu-adc', '5');
    expect(stderr).toMatch(
      /^iio-client: read register 0x5 of iio:device0: .*EACCES.*; .*\(permissions, --config-file\)\n$/,
    );
    expect(code).toBe(1);
  });
});

describe('scan', { timeout: PROCESS_TIMEOUT_MS }, () => {
  it('prints a list, also of nothing', async () => {
    expect(await runJson('scan', '-S', 'usb=1209:ffff')).toEqual([]);
    expect((await run('scan', '-S', 'usb=1209:ffff')).stdout).toBe('No IIO context found.\n');
  });
});

describe('info', { timeout: PROCESS_TIMEOUT_MS }, () => {
  it('shows devices, channels and values', async () => {
    const { code, stdout } = await run(...on('info'));
    expect(code).toBe(0);
    expect(stdout).toContain(`IIO context ${uri()}\nDescription: Linux converters 6.12.0 emulated aarch64\n`);
    expect(stdout).toContain('  iio:device0: emu-adc [four channels]\n');
    expect(stdout).toContain(
      '      voltage0 (input, index 0, format le:S16/16>>0)\n        raw: 0\n        scale: 0.152587\n',
    );
  });

  it('is one JSON object with --json', async () => {
    expect(await runJson(...on('info'))).toMatchObject({
      uri: uri(),
      devices: [
        { id: 'iio:device0', name: 'emu-adc', attributes: { sampling_frequency: { value: '1000000' } } },
        { id: 'iio:device1' },
        { id: 'iio:device2' },
        { id: 'trigger0' },
      ],
    });
  });

  it('shows a document without its server', async () => {
    const { code, stdout } = await run('info', '-u', `xml:${fixture('pluto.xml')}`);
    expect(code).toBe(0);
    expect(stdout).toContain('ad9361-phy');
  });
});

describe('attr', { timeout: PROCESS_TIMEOUT_MS }, () => {
  it.concurrent.each([
    ['of a device', ['emu-adc', 'sampling_frequency'], '1000000\n'],
    ['of a channel', ['-c', 'emu-adc', 'voltage1', 'scale'], '0.152587\n'],
    ['of the context', ['-C', 'local,kernel'], '6.12.0\n'],
    ['of a buffer', ['-B', 'emu-adc', 'data_available'], '0\n'],
    ['for debugging', ['-D', 'emu-dac', 'direct_reg_access'], '0x0\n'],
    ['of an event', ['-E', 'emu-adc', 'voltage0', 'thresh_falling_value'], '-100\n'],
  ])('prints the bare value of an attribute %s that is named in full', async (_, words, expected) => {
    expect((await run(...on('attr', ...words))).stdout).toBe(expected);
  });

  it('writes, and prints what it is then', async () => {
    expect((await run(...on('attr', 'emu-mixed', 'test_signal', 'sine'))).stdout).toBe('sine\n');
    expect(await runJson(...on('attr', 'emu-mixed', 'test_signal'))).toEqual({
      attribute: 'iio:device1/test_signal',
      value: 'sine',
    });
    expect((await run(...on('attr', '-c', '-o', 'emu-dac', 'voltage0', 'raw', '-12'))).stdout).toBe('-12\n');
  });

  it.concurrent.each([
    [
      '?',
      ['-c', 'emu-adc', 'voltage?', 'sc*'],
      [0, 1, 2, 3].map((i) => `iio:device0/input/voltage${i}/scale: 0.152587\n`),
    ],
    ['*, quietly', ['-q', '-c', 'emu-adc', '*', 'scale'], Array(4).fill('0.152587\n')],
    ['nothing', ['emu-timer'], ['trigger0/sampling_frequency: 100\n']],
    ['nothing, in the other direction', ['-i', '-c', 'emu-dac'], []],
  ])('takes %s as any name', async (_, words, expected) => {
    expect((await run(...on('attr', ...words))).stdout).toBe(expected.join(''));
  });

  it('is a list with --json if it can be several', async () => {
    expect(await runJson(...on('attr', 'emu-*', 'sampling_frequency'))).toHaveLength(4);
  });

  it('says what a driver does not take', async () => {
    const { code, stderr } = await run(...on('attr', 'emu-mixed', 'test_signal', 'triangle'));
    expect(stderr).toMatch(
      /^iio-client: write 'triangle' to iio:device1\/test_signal: .*(takes counter, sine|end with _available)/,
    );
    expect(code).toBe(1);
  });
});

describe('reg', { timeout: PROCESS_TIMEOUT_MS }, () => {
  it('writes and reads', async () => {
    expect((await run(...on('reg', 'emu-adc', '0x10', '0xbeef'))).stdout).toBe('0xbeef\n');
    expect(await runJson(...on('reg', 'emu-adc', '16'))).toEqual({
      device: 'iio:device0',
      register: 16,
      value: 0xbeef,
    });
  });
});

describe('trig', { timeout: PROCESS_TIMEOUT_MS }, () => {
  it('assigns, shows and takes away', async () => {
    expect((await run(...on('trig', 'emu-mixed'))).stdout).toBe('none (there: emu-timer)\n');
    expect((await run(...on('trig', 'emu-mixed', 'emu-timer'))).stdout).toBe('emu-timer\n');
    expect(await runJson(...on('trig', 'emu-mixed', '--none'))).toEqual({
      device: 'iio:device1',
      trigger: null,
      available: ['emu-timer'],
    });
  });
});

describe('events', { timeout: PROCESS_TIMEOUT_MS }, () => {
  it('prints the number of events that was asked for, which attr -E switches on', async () => {
    await run(...on('attr', '-E', 'emu-adc', 'voltage0', 'thresh_rising_value', '100'));
    expect((await run(...on('attr', '-E', 'emu-adc', 'voltage0', 'thresh_rising_en', '1'))).stdout).toBe('1\n');
    const events = start([...on('events', 'emu-adc', '-n', '2'), '--json']);
    const samples = start(on('read', 'emu-adc', '-b', '65536', '-o', '/dev/null'));
    const { code, stdout } = await events.ended;
    samples.child.kill('SIGINT');
    expect(code).toBe(0);
    const lines = stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(2);
    for (const line of lines) {
      expect(JSON.parse(line)).toMatchObject({ channel: 'voltage0', type: 'thresh', direction: 'rising' });
    }
    expect((await samples.ended).code).toBe(130);
  });

  it('ends with 130 by SIGINT', async () => {
    const events = start(on('events', 'emu-adc', '-v'));
    const other = start(on('read', 'emu-adc', '-b', '65536', '-o', '/dev/null'));
    await events.lines(1);
    events.child.kill('SIGINT');
    other.child.kill('SIGINT');
    const { code, stdout, stderr } = await events.ended;
    expect(stdout).toMatch(/^\d+\.\d{6} {2}voltage0 {2}thresh {2}rising\n/);
    expect(stderr).toBe('');
    expect(code).toBe(130);
    await other.ended;
  });
});
