import { describe, expect, onTestFinished, test } from 'vitest';
import type { Machine } from '../../lab/machine.js';
import { loadModules, unloadModules } from '../../lab/modules.js';
import { Bridge, bridgeProgram, SG_MODULES } from './bridge.js';
import { COUNTED, outputOf, prepareCounted } from './libiio-tools.js';
import { useMachine } from './support.js';
import { pythonProgram, UsbLink } from './usb-link.js';

// A transfer of whole packets has no short packet at its end, and the host expects none to follow it.

const SPEEDS = [
  { name: 'full speed', mbits: '12', packet: 64, params: { is_super_speed: 0, is_high_speed: 0 } },
  { name: 'high speed', mbits: '480', packet: 512, params: { is_super_speed: 0, is_high_speed: 1 } },
  { name: 'SuperSpeed', mbits: '5000', packet: 1024, params: { is_super_speed: 1, is_high_speed: 1 } },
] as const;
const LARGEST_PACKET = 1024;

/** READ answers with a NUL, which counts, and a line end, which does not: around all packet sizes. */
const VALUE_LENGTHS = SPEEDS.flatMap(({ packet }) => [-3, -2, -1, 0].map((more) => packet + more));
const MIB = 1024 * 1024;
/** Whole packets; libiio's greatest transfer, more, and a multiple of it. */
const BLOCKS = [512, 1024, MIB, MIB + 8, 2 * MIB];

const CONTEXT = '/tmp/framing.xml';
const PIPES = 3;
const INTERFACE = 4;
const ENDPOINT = 5;
const COMPANION = 0x30;

const valueOfLength = (length: number) =>
  'one two three four five '
    .repeat(50)
    .slice(0, length - 1)
    .concat('.');

/** A context of the emulated kind, with values of chosen lengths. `padding` lengthens the document. */
function contextXml(padding: number): string {
  const numbers = [0, 1, 2, 3];
  const channels = numbers.map(
    (number) =>
      `<channel id="voltage${number}" type="input"><scan-element index="${number}" format="le:S16/16&gt;&gt;0" /></channel>`,
  );
  return `<?xml version="1.0" encoding="utf-8"?>
    <context name="local" version-major="1" version-minor="0" version-git="v1.0" description="framing">
    <context-attribute name="padding" value="${'x'.repeat(padding)}" />
    <device id="iio:device0" name="framed">${channels.join('')}
    <buffer index="0" direction="in">${numbers.map((number) => `<channel id="voltage${number}" type="input" />`).join('')}</buffer>
    ${VALUE_LENGTHS.map((length) => `<attribute name="value${length}" value="${valueOfLength(length)}" />`).join('')}
    </device></context>`;
}

/** The length of the document that the bridge makes of it. */
const DOCUMENT_LENGTH = `import socket
link = socket.create_connection(("127.0.0.1", 30431))
link.sendall(b"PRINT\\r\\n")
print(link.makefile("rb").readline().decode().strip())`;

const lab = useMachine({
  modules: SG_MODULES.slice(1),
  prepare: async (machine) => {
    await prepareCounted(machine);
    await machine.writeFile(CONTEXT, contextXml(0));
    const child = await machine.spawn(bridgeProgram('serve', '--no-usb', '--tcp', '30431', '--emulate', CONTEXT));
    await child.waitForLine(/"ready"/);
    const length = Number(await machine.output(['/usr/bin/python3', '-c', DOCUMENT_LENGTH]));
    await child[Symbol.asyncDispose]();
    await machine.writeFile(CONTEXT, contextXml(LARGEST_PACKET - (length % LARGEST_PACKET)));
  },
});

interface Descriptor {
  readonly type: number;
  readonly bytes: readonly number[];
}

/** What the host has read of the device. */
async function descriptors(machine: Machine): Promise<readonly Descriptor[]> {
  const path = await machine.output('dirname $(grep -lx IIO /sys/bus/usb/devices/*/interface) | head -n 1');
  const bytes = await machine.readFile(`${path.trim().replace(/:[\d.]+$/, '')}/descriptors`);
  const found: Descriptor[] = [];
  for (let at = 0; at < bytes.length; at += bytes[at] ?? bytes.length) {
    found.push({ type: bytes[at + 1] ?? 0, bytes: [...bytes.subarray(at, at + (bytes[at] ?? 0))] });
  }
  return found;
}

async function useSpeed(machine: Machine, params: Readonly<Record<string, number>>): Promise<void> {
  await loadModules(machine, [{ name: 'dummy_hcd_sg', params: { ...params, fifo: 0 } }]);
  onTestFinished(() => unloadModules(machine, ['dummy_hcd_sg']));
}

describe.each(SPEEDS)('at $name', ({ mbits, packet, params }) => {
  test('pairs of endpoints, and transfers of whole packets in both directions', async () => {
    const { machine } = lab;
    await useSpeed(machine, params);
    const bridge = await Bridge.start(machine, '--emulate', CONTEXT, '--free-running');
    const found = await descriptors(machine);

    const ours = found.filter(({ type }) => type === INTERFACE);
    expect(ours.map(({ bytes }) => bytes.slice(2, 8))).toEqual([[0, 0, 2 * PIPES, 0xff, 0, 0]]);
    const endpoints = found.filter(({ type }) => type === ENDPOINT).map(({ bytes }) => Buffer.from(bytes));
    expect(endpoints.map((bytes) => (bytes.readUInt8(2) & 0x80 ? 'in' : 'out'))).toEqual(
      Array.from({ length: PIPES }, () => ['in', 'out']).flat(),
    );
    expect(endpoints.map((bytes) => [bytes.readUInt8(3), bytes.readUInt16LE(4)])).toEqual(
      endpoints.map(() => [2, packet]),
    );
    // Without bursts a fast host waits for every packet.
    const bursts = found.filter(({ type }) => type === COMPANION).map(({ bytes }) => bytes[2]);
    expect(bursts).toEqual(mbits === '5000' ? endpoints.map(() => 15) : []);

    const values = await outputOf(machine, `iio_attr -u usb: -d framed`);
    expect(values.match(/value :'.*'$/gm)).toEqual(
      [...VALUE_LENGTHS]
        .sort((a, b) => (`value${a}` < `value${b}` ? -1 : 1))
        .map((length) => `value :'${valueOfLength(length)}'`),
    );

    for (const bytes of mbits === '12' ? BLOCKS.slice(0, 2) : BLOCKS) {
      const sets = bytes / 8;
      await outputOf(
        machine,
        `iio_readdev -u usb: -b ${sets} -s ${sets} framed >/tmp/read && cmp -n ${bytes} /tmp/read ${COUNTED} && [ $(stat -c %s /tmp/read) = ${bytes} ]`,
      );
    }

    const link = await UsbLink.claim(machine);
    await link.open();
    const length = Number(await link.command('PRINT'));
    expect(length % LARGEST_PACKET).toBe(0);
    expect((await link.receive(0, length)).toString()).toMatch(/^<\?xml .*<\/context>\n?$/s);
    expect(await link.receive(0, 1)).toEqual(Buffer.from('\n'));
    for (const multiple of SPEEDS.map((other) => other.packet)) {
      expect(await link.command('TIMEOUT 1000', multiple)).toBe('0');
      expect(await link.command('OPEN nosuch 64 1', multiple - 1)).toBe('-19');
    }
    await link.release();
    expect(bridge.complaints).toEqual([]);
    await bridge.expectCleanStop();
  });
});

test('an interface that is not number 0 works like one that is', async () => {
  const { machine } = lab;
  await useSpeed(machine, SPEEDS[2].params);
  const gadget = '/sys/kernel/config/usb_gadget/composite';
  await machine.output(
    `set -e
    mkdir -p ${gadget}/functions/ffs.first ${gadget}/configs/c.1 ${gadget}/strings/0x409 /run/first
    echo 0x1209 >${gadget}/idVendor; echo 2 >${gadget}/idProduct
    ln -s ${gadget}/functions/ffs.first ${gadget}/configs/c.1
    mount -t functionfs first /run/first`,
  );
  const first = await machine.spawn(pythonProgram('first_function.py', '/run/first'));
  onTestFinished(async () => {
    await first[Symbol.asyncDispose]();
    await machine.output(
      `umount /run/first; rm ${gadget}/configs/c.1/ffs.first
      rmdir ${gadget}/functions/ffs.first ${gadget}/configs/c.1 ${gadget}/strings/0x409 ${gadget}`,
    );
  });
  await first.waitForLine(/ready/);

  const bridge = await Bridge.start(machine, '--gadget', gadget, '--emulate', CONTEXT, '--free-running');
  const numbers =
    'for i in /sys/bus/usb/devices/*/interface; do echo $(cat $i) $(cat $(dirname $i)/bInterfaceNumber); done';
  expect((await machine.output(numbers)).trim().split('\n').sort()).toEqual(['IIO 01', 'first 00']);
  await outputOf(machine, `iio_readdev -u usb: -b 1024 -s 4096 framed | cmp -n 32768 - ${COUNTED}`);
  // It ends with code 1 whatever it finds.
  const { stdout: found } = await machine.run('iio_info -S usb');
  const [uri] = /usb:\d+\.\d+\.\d+/.exec(found) ?? [];
  expect(uri).toMatch(/^usb:\d+\.\d+\.1$/);
  await outputOf(machine, `iio_readdev -u ${uri} -b 1024 -s 4096 framed | cmp -n 32768 - ${COUNTED}`);
  expect(bridge.complaints).toEqual([]);
  await bridge.stop();
  expect(await machine.output(`ls ${gadget}/configs/c.1`)).not.toContain('ffs.iio-bridge');
});
