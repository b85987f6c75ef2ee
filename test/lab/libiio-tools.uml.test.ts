import { describe, expect, onTestFinished, test } from 'vitest';
import { ADC, MIXED, openFiles, prepareConverters, SG_MODULES, useBridge } from './bridge.js';
import {
  COUNTED,
  expectCounted,
  outputOf,
  prepareCounted,
  simStatistic,
  sysfsValue,
  waitForBytes,
  waitForIdleBuffers,
} from './libiio-tools.js';
import { useMachine } from './support.js';

const DAC = 'iio-sim-dac';
const MIB = 1024 * 1024;

const lab = useMachine({
  modules: SG_MODULES,
  prepare: async (machine) => {
    await prepareConverters(machine);
    await prepareCounted(machine);
    await machine.output(`echo 1 >$(dirname $(grep -lx ${DAC} /sys/bus/iio/devices/*/name))/free_running`);
  },
});

const USB = { way: 'USB', uri: 'usb:', registers: true } as const;
const TCP = { way: 'TCP', uri: 'ip:127.0.0.1', registers: false } as const;

test.each(['usb:x', 'usb:1'])('%s names no interface', async (uri) => {
  const { code, stderr } = await lab.machine.run(`iio_info -u ${uri}`);
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr: `ERROR: Bad URI: '${uri}'\nUnable to create IIO context ${uri}: Invalid argument (22)\n`,
  });
});

describe.each([
  { mode: 'auto', ways: [USB, TCP] },
  { mode: 'copy', ways: [USB, TCP] },
])('serve --mode $mode', ({ mode, ways }) => {
  const served = useBridge(lab, '--mode', mode, '--tcp', '30431');

  describe.each(ways)('over $way', ({ uri, registers }) => {
    test('iio_info shows every device, channel and attribute', async () => {
      const text = await outputOf(lab.machine, `iio_info -u ${uri}`);
      expect(text).toMatch(/^IIO context has 4 devices:$/m);
      expect(text).toMatch(/^\tiio:device0: iio-sim-adc \(label: simulated ADC\) \(buffer capable\)$/m);
      expect(text).toMatch(/^\t\t\tvoltage3: {2}\(input, index: 3, format: be:u12\/16>>4\)$/m);
      expect(text).toMatch(/^\t\t\t\tattr {2}\d: test_signal value: counter$/m);
      expect(text).toMatch(/^\t\t\t\tattr {2}\d: label value: output D$/m);
      const errors = text.split('\n').filter((line) => line.includes('ERROR'));
      // Files that nobody may read, and what clients over TCP may not see.
      const expected = registers ? /add_trigger|remove_trigger/ : /add_trigger|remove_trigger|direct_reg_access/;
      expect(errors.filter((line) => !expected.test(line) || !line.includes('Permission denied (13)'))).toEqual([]);
    });

    test('iio_genxml writes a document from which libiio makes the same context', async () => {
      await outputOf(
        lab.machine,
        `iio_genxml -u ${uri} | grep '<?xml' >/tmp/context.xml &&
        iio_genxml -x /tmp/context.xml | grep '<?xml' >/tmp/again.xml && cmp /tmp/context.xml /tmp/again.xml`,
      );
      expect(await outputOf(lab.machine, `iio_attr -x /tmp/context.xml -d`)).toContain('iio:device0');
    });

    test('iio_attr reads and writes; what the driver refuses comes with its errno', async () => {
      const { machine } = lab;
      const attr = async (words: string) => {
        const { stdout, stderr } = await machine.run(`iio_attr -u ${uri} ${words}`);
        return stdout + stderr;
      };
      expect(await attr(`-c ${ADC} voltage2 hardwaregain 17`)).toMatch(/^17\.0* dB$/m);
      expect(await sysfsValue(machine, ADC, 'in_voltage2_hardwaregain')).toMatch(/^17\.0* dB$/);
      expect(await attr(`-o -c ${DAC} voltage1 raw -5`)).toBe('-5\n');
      expect(await attr(`-o -c ${DAC} voltage1 raw 40000`)).toContain('Invalid argument (22)');
      expect(await attr(`-c ${ADC} voltage0 label`)).toBe('input A\n');
      expect(await attr(`-d ${ADC} test_signal_available`)).toBe('counter sine loopback\n');
      expect(await attr(`-d ${ADC} sampling_frequency 0`)).toContain('Invalid argument (22)');
      expect(await attr(`-B ${ADC} length_align_bytes`)).toContain('8');
    });

    test('iio_reg reads and writes registers where that is allowed', async () => {
      const { machine } = lab;
      const read = await machine.run(`iio_reg -u ${uri} ${ADC} 0x88`);
      const write = await machine.run(`iio_reg -u ${uri} ${ADC} 0x88 0x4`);
      if (registers) {
        expect([read.stdout, read.code, write.code]).toEqual(['0x0\n', 0, 0]);
      } else {
        expect([read.stderr, write.stderr]).toEqual([
          'Unable to read register: Permission denied\n',
          'Unable to write register: Permission denied\n',
        ]);
      }
    });

    test('iio_readdev gets every sample set from number 0 on, session after session', async () => {
      const { machine } = lab;
      for (const [block, sets] of [
        [1024, 8192],
        [1024, 1024],
        [1000, 1500],
        [(3 * MIB) / 8, (3 * MIB) / 8],
        [256, 256],
      ] as const) {
        await expectCounted(machine, { uri, block, sets });
      }
      for (const [block, sets] of [
        [4096, 12_288],
        [(MIB + 4) / 2, (MIB + 4) / 2],
      ] as const) {
        await expectCounted(machine, { uri, block, sets, onlyVoltage0: true });
      }
      const mixed = await outputOf(machine, `iio_readdev -u ${uri} -b 512 -s 4096 ${MIXED} | wc -c`);
      expect(mixed.trim()).toBe(String(4096 * 24));
    });

    test('iio_writedev plays every sample set of whole buffers, in order', async () => {
      const { machine } = lab;
      for (const [block, sets] of [
        [4096, 65_536],
        [3000, 65_536],
        [65_536, 65_536],
        [300_000, 600_000],
      ] as const) {
        const errors = await simStatistic(machine, 'dac', 'pattern_errors');
        const bytes = await simStatistic(machine, 'dac', 'bytes');
        await outputOf(machine, `head -c ${sets * 8} ${COUNTED} | iio_writedev -u ${uri} -b ${block} ${DAC}`);
        expect(await simStatistic(machine, 'dac', 'pattern_errors')).toBe(errors);
        expect((await simStatistic(machine, 'dac', 'bytes')) - bytes, `buffers of ${block}`).toBe(
          Math.floor(sets / block) * block * 8,
        );
      }
    });

    test('iio_writedev -c plays one buffer over and over, until it ends', async () => {
      const { machine } = lab;
      const sets = 1000;
      await outputOf(
        machine,
        `iio_attr -u ${uri} -d ${ADC} test_signal loopback; head -c ${sets * 8} ${COUNTED} >/tmp/turn`,
      );
      onTestFinished(async () => {
        await machine.output(`iio_attr -u ${uri} -d ${ADC} test_signal counter`);
      });
      const writer = await machine.spawn(`exec iio_writedev -u ${uri} -b ${sets} -c ${DAC} </tmp/turn`);
      onTestFinished(() => writer[Symbol.asyncDispose]());
      if (uri === USB.uri) {
        // The interface belongs to one process of the host, so nobody else can look at what is played.
        await waitForBytes(machine, 'dac', 40 * sets * 8);
      } else {
        await outputOf(machine, `iio_readdev -u ${uri} -b 2000 -s 10000 ${ADC} >/tmp/looped`);
        const looped = await machine.readFile('/tmp/looped');
        const values = new BigUint64Array(
          looped.buffer.slice(looped.byteOffset, looped.byteOffset + looped.byteLength),
        );
        const [first = 0n] = values;
        expect([...values]).toEqual(Array.from(values, (_, at) => (first + BigInt(at)) % BigInt(sets)));
      }
      await writer.kill('SIGINT');
      await writer.exited;
      await waitForIdleBuffers(machine);
    });

    test('iio_stresstest, killed in the middle, leaves nothing behind', async () => {
      const { machine } = lab;
      const filesBefore = await openFiles(machine, served.bridge.pid);
      const stress = await machine.spawn(`exec iio_stresstest -u ${uri} -b 256 ${ADC}`);
      onTestFinished(() => stress[Symbol.asyncDispose]());
      await waitForBytes(machine, 'adc', 40 * 256 * 8);
      await stress.kill('SIGKILL');
      await stress.exited;
      // A socket tells that its program has ended. USB does not: there the next program ends what was left open.
      if (uri !== 'usb:') {
        await expect.poll(() => openFiles(machine, served.bridge.pid)).toBe(filesBefore);
      }
      await expectCounted(machine, { uri, block: 1024, sets: 2048 });
      await waitForIdleBuffers(machine);
    });
  });

  test('the bridge has had nothing to complain about', () => {
    // iio_stresstest has several clients share an input, and lets some of them fall behind.
    const expected = /registers are not open|lost blocks that it did not fetch in time/;
    expect(served.bridge.complaints.filter((line) => !expected.test(line))).toEqual([]);
  });
});
