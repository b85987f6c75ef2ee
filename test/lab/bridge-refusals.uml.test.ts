import { describe, expect, onTestFinished, test } from 'vitest';
import type { RunResult } from '../../lab/machine.js';
import { loadModules, unloadModules } from '../../lab/modules.js';
import {
  ADC,
  Bridge,
  bridgeProgram,
  clientProgram,
  expectNothingLeft,
  expectStream,
  nodeProgram,
  prepareConverters,
  SG_MODULES,
} from './bridge.js';
import { useMachine } from './support.js';

const REFUSAL_MS = 60_000;
const MIB = 1024 * 1024;
const SMALL = { device: ADC, samplesPerBlock: 8192, bytes: MIB };

const lab = useMachine({ modules: SG_MODULES, prepare: prepareConverters });

/** One clear sentence, on standard error alone, which holds all of `words`. */
function expectSentence({ code, stdout, stderr }: RunResult, program: string, words: readonly RegExp[]): void {
  expect(code, stderr).toBe(1);
  expect(stdout).toBe('');
  expect(stderr).toMatch(new RegExp(`^${program}: [^\\n]+\\n$`));
  for (const word of words) {
    expect(stderr).toMatch(word);
  }
}

/** Ends a bridge that serves although it should not. */
async function run(command: string | readonly string[]): Promise<RunResult> {
  return await lab.machine.run(command, { timeoutMs: REFUSAL_MS * lab.machine.slowness });
}

async function expectNoBridge(command: string | readonly string[], ...words: readonly RegExp[]): Promise<void> {
  expectSentence(await run(command), 'iio-bridge', words);
  await expectNothingLeft(lab.machine);
}

const SERVE = bridgeProgram('serve').join(' ');

/** Runs the bridge where `preparation` has changed what it sees of the file systems, and nobody else. */
function inNamespace(preparation: string, ...options: readonly string[]): string {
  return `unshare -m sh -c '${preparation} && exec ${[SERVE, ...options].join(' ')}'`;
}

describe('the bridge says what is missing and how to get it', () => {
  test('no DMA heap and no udmabuf', async () => {
    const { machine } = lab;
    await machine.output('mv /dev/udmabuf /dev/udmabuf-away');
    onTestFinished(async () => {
      await machine.output('mv /dev/udmabuf-away /dev/udmabuf');
    });
    const noHeap = 'mount -t tmpfs none /dev/dma_heap';
    await expectNoBridge(
      inNamespace(noHeap),
      /no memory for DMA/,
      /\/dev\/dma_heap\/system/,
      /CONFIG_\w*(?:DMABUF|DMA_HEAP|HEAPS)/,
    );
    await expectNoBridge(bridgeProgram('serve', '--heap', 'reserved'), /reserved/, /Heaps on this machine: system/);
  });

  test('no USB device controller, or not the one that was asked for', async () => {
    const { machine } = lab;
    await expectNoBridge(
      bridgeProgram('serve', '--udc', 'fe800000.usb'),
      /no USB device controller fe800000\.usb/,
      /dummy_udc\.0/,
    );
    await unloadModules(machine, ['dummy_hcd_sg']);
    onTestFinished(() => loadModules(machine, SG_MODULES.slice(0, 1)));
    await expectNoBridge(bridgeProgram('serve'), /no USB device controller/, /device.* mode/, /modprobe dummy_hcd/);
  });

  test('a kernel without IIO', async () => {
    await expectNoBridge(inNamespace('mount -t tmpfs none /sys/bus/iio'), /IIO/);
  });

  test('no permission', async () => {
    const nobody = 'setpriv --reuid 65534 --regid 65534 --clear-groups';
    await expectNoBridge(`${nobody} ${SERVE}`, /permission|root/);
  });

  test('no configfs, or a kernel without USB gadgets in it', async () => {
    await expectNoBridge(inNamespace('mount -t tmpfs none /sys/kernel/config'), /usb_gadget/, /libcomposite/);
  });

  test('a name that is taken, by a bridge or by somebody else', async () => {
    const { machine } = lab;
    const bridge = await Bridge.start(machine);
    expectSentence(await run(bridgeProgram('serve')), 'iio-bridge', [new RegExp(`process ${bridge.pid}`)]);
    expectSentence(await run(bridgeProgram('serve', '--name', 'other')), 'iio-bridge', [
      /dummy_udc\.0 serves/,
      /unbind/,
    ]);
    // The first one has not noticed.
    await expectStream(machine, SMALL);
    await bridge.expectCleanStop();
  });

  test('a gadget to join that does not exist', async () => {
    await expectNoBridge(bridgeProgram('serve', '--gadget', '/sys/kernel/config/usb_gadget/none'), /usb_gadget\/none/);
  });

  test.each([
    [['serve', '--pipes', 'many'], /many/],
    [['serve', '--pipes', '99'], /pipes/],
    [['serve', '--mode', 'fast'], /auto, copy/],
    [['serve', '--name', '../evil'], /letters, digits/],
    [['serve', '--speed', '3'], /unknown option.*--speed/],
    [['sing'], /unknown command.*sing/],
  ])('a wrong command line: %j', async (words, pattern) => {
    const { code, stderr, stdout } = await run(bridgeProgram(...words));
    expect(code).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toMatch(pattern);
    expect(stderr).not.toMatch(/ at .*\.js:\d+/);
    await expectNothingLeft(lab.machine);
  });
});

describe('udmabuf serves where there is no DMA heap', () => {
  test('without a copy', async () => {
    const { machine } = lab;
    const bridge = await Bridge.start(machine, '--heap', 'udmabuf');
    expect(await bridge.waitForRecord('ready')).toMatchObject({ heap: 'udmabuf' });
    await expectStream(machine, SMALL);
    expect(bridge.streamPath).toMatchObject({ mode: 'zero-copy', fallbacks: [] });
    await bridge.expectCleanStop();
  });
});

describe('the client says what is wrong', () => {
  test('no device on the bus', async () => {
    expectSentence(await lab.machine.run(clientProgram('info')), 'iio-client', [/no IIO context/, /plugged in/]);
  });

  test('what the context does not have, and the bridge goes on', async () => {
    const { machine } = lab;
    const bridge = await Bridge.start(machine);
    const refuse = async (words: readonly string[], ...patterns: readonly RegExp[]) =>
      expectSentence(await run(clientProgram(...words)), 'iio-client', patterns);
    await refuse(['read', 'ad9361'], /no device 'ad9361'/, /iio-sim-adc/);
    await refuse(['read', ADC, 'voltage9'], /no channel 'voltage9'/, /voltage0/);
    await refuse(['read', 'iio-sim-dac'], /iio:device2|iio-sim-dac/);
    await refuse(['read', '-b', '1000000000000', ADC], /samplesPerBlock|block/);
    await refuse(['read', '-b', '100000000', ADC], /block/i);
    await refuse(['read', '--blocks', '100000', ADC], /blocks/i);
    await refuse(['attr', ADC, 'colour'], /no attribute 'colour'/, /sampling_frequency/);
    await refuse(['info', '-u', 'ip:192.0.2.1'], /ip:192\.0\.2\.1: .*cannot be reached/, /iio-client scan/);
    await refuse(['info', '-u', 'usb:250.250'], /usb:250\.250/, /no IIO context/);
    const { code, stderr } = await machine.run(clientProgram('read', '--loud', ADC));
    expect(code).toBe(2);
    expect(stderr).toMatch(/unknown option.*--loud/);

    await expectStream(machine, SMALL);
    await bridge.expectCleanStop();
  });

  test('no permission on the bus', async () => {
    const { machine } = lab;
    const bridge = await Bridge.start(machine);
    await machine.output('chmod 600 /dev/bus/usb/*/*');
    const nobody = 'setpriv --reuid 65534 --regid 65534 --clear-groups';
    const { code, stderr } = await machine.run(`${nobody} ${clientProgram('info').join(' ')}`);
    expect(code).toBe(1);
    expect(stderr).toMatch(/no permission/);
    expect(stderr).toMatch(/SUBSYSTEM=="usb"/);
    await bridge.expectCleanStop();
  });
});

describe('control requests', () => {
  test('that make no sense are stalled, and the bridge goes on', async () => {
    const { machine } = lab;
    const bridge = await Bridge.start(machine);
    const send = async (request: number, value: number) =>
      (await machine.output(nodeProgram('dist/bundle/usb-control.js', 'IIO', String(request), String(value)))).trim();
    const [RESET_PIPES, OPEN_PIPE, CLOSE_PIPE] = [0, 1, 2];
    expect(await send(OPEN_PIPE, 3)).toBe('EPIPE');
    expect(await send(OPEN_PIPE, 0xffff)).toBe('EPIPE');
    expect(await send(CLOSE_PIPE, 3)).toBe('EPIPE');
    expect(await send(77, 0)).toBe('EPIPE');
    expect(await send(CLOSE_PIPE, 2)).toBe('ok');
    expect(await send(OPEN_PIPE, 2)).toBe('ok');
    expect(await send(OPEN_PIPE, 2)).toBe('ok');
    expect(await send(RESET_PIPES, 0)).toBe('ok');
    await expectStream(machine, SMALL);
    await bridge.expectCleanStop();
  });
});
