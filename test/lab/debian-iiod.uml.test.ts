import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { DebianIiod } from '../../lab/debian-iiod.js';
import { checkoutRoot } from '../../lab/paths.js';
import { Bridge, prepareConverters, SG_MODULES } from './bridge.js';
import { createDummy, createTimer, DUMMY, DUMMY_MODULES, TIMER } from './dummy-device.js';
import { useMachine } from './support.js';
import { sortUnindexedChannels, withoutBufferFigures, withoutMovingValues, xmlLines } from './tool-output.js';

// libiio's programs against Debian's iiod and against the bridge, in one guest. Where their output differs,
// docs/COMPATIBILITY.md says why. What it does not list fails here, and so does what it lists and is not so.

const BRIDGE_URI = 'ip:127.0.0.1:30431';
const IIOD_PORT = 30432;
const CONFIG = '/run/bridge.json';
/** iiod lets every client do everything. */
const PERMISSIONS = { permissions: { tcp: { debugAttributes: true, registers: true } } };

/** What every command finds. The values of two of the converters stand still. */
const RESET = `
for device in /sys/bus/iio/devices/iio:device*; do
  read -r name <$device/name
  case $name in
    iio-sim-adc)
      echo 1000000 >$device/sampling_frequency
      echo loopback >$device/test_signal
      echo 65 >$device/in_voltage0_hardwaregain;;
    iio-sim-dac)
      echo 1 >$device/free_running
      echo 11 >$device/out_voltage0_raw;;
    ${DUMMY})
      echo >$device/trigger/current_trigger;;
  esac
done`;

const PLAYED = '/tmp/counter';
const MAKE_PLAYED = `const { writeFileSync } = require('node:fs');
  writeFileSync('${PLAYED}', Buffer.from(BigUint64Array.from({ length: 8192 }, (_, set) => BigInt(set)).buffer));`;

const COUNTER = 'iio_attr -u $URI -d iio-sim-adc test_signal counter';
const ERRORS = 'iio_attr -u $URI -d iio-sim-dac pattern_errors';
const sumOf = (command: string) => `${command} >/tmp/samples; echo $?; sha256sum </tmp/samples`;

const COMMANDS: readonly string[] = [
  'iio_info -u $URI',
  'iio_genxml -u $URI',
  'iio_attr -u $URI -C',
  'iio_attr -u $URI -d',
  'iio_attr -u $URI -c',
  'iio_attr -u $URI -d .',
  'iio_attr -u $URI -c .',
  'iio_attr -u $URI -c . .',
  'iio_attr -u $URI -D .',
  'iio_attr -u $URI -B .',
  'iio_attr -u $URI -c nosuch',
  'iio_attr -u $URI -c iio-sim-adc nosuch',
  'iio_attr -u $URI -c iio-sim-adc voltage0 nosuch',
  'iio_attr -u $URI -c iio-sim-adc voltage0 hardwaregain 12',
  'iio_attr -u $URI -c iio-sim-adc voltage0 hardwaregain 99',
  'iio_attr -u $URI -o -c iio-sim-dac voltage0 raw -77',
  'iio_attr -u $URI -o -c iio-sim-dac voltage0 raw 40000',
  'iio_attr -u $URI -d iio-sim-adc sampling_frequency 2000000',
  'iio_attr -u $URI -d iio-sim-adc sampling_frequency 0',
  'iio_attr -u $URI -d iio-sim-adc test_signal bogus',
  'iio_attr -u $URI -d iio-sim-adc lost 2',
  'iio_attr -u $URI -d iio_evgen poke_ev0',
  'iio_attr -u $URI -D iio-sim-adc direct_reg_access 0x88',
  'iio_reg -u $URI iio-sim-adc 0x88',
  'iio_reg -u $URI iio-sim-adc 0x88 0x4',
  'iio_reg -u $URI nosuch 0x88',
  `${COUNTER}; ${sumOf('iio_readdev -u $URI -b 1024 -s 8192 iio-sim-adc')}`,
  `${COUNTER}; ${sumOf('iio_readdev -u $URI -b 1000 -s 1500 iio-sim-adc voltage0 voltage2')}`,
  sumOf('iio_readdev -u $URI -b 512 -s 4096 iio-sim-mixed voltage0 voltage1 voltage2 voltage3'),
  sumOf(`iio_readdev -u $URI -b 16 -s 32 -t ${TIMER} ${DUMMY} voltage0 voltage3-voltage4 accel_x`),
  `iio_readdev -u $URI -b 16 -s 32 -t nosuch ${DUMMY}`,
  `iio_readdev -u $URI -b 16 -s 32 -T 500 ${DUMMY}`,
  'iio_readdev -u $URI -b 16 -s 32 nosuch',
  'iio_readdev -u $URI -b 16 -s 32 iio-sim-dac',
  'iio_readdev -u $URI -b 16 -s 32 iio_evgen',
  `${ERRORS}; iio_writedev -u $URI -b 1024 iio-sim-dac <${PLAYED}; echo $?; ${ERRORS}`,
  `iio_writedev -u $URI -b 1024 iio-sim-adc <${PLAYED}`,
];
const COMMANDS_MS = 120_000;

type Server = 'iiod' | 'bridge';

/** A difference that docs/COMPATIBILITY.md lists under its name: without it, outputs are alike. */
interface Difference {
  readonly name: string;
  readonly level: (lines: readonly string[], server: Server) => readonly string[];
}

function inLinesOf(server: Server, name: string, ...changes: readonly (readonly [RegExp, string])[]): Difference {
  const change = (line: string) => changes.reduce((text, [from, to]) => text.replace(from, to), line);
  return { name, level: (lines, of) => (of === server ? lines.map(change) : lines) };
}

/** Lines that only the bridge prints, and the number of lines that it announced. */
function onlyOurs(name: string, pattern: RegExp, total: RegExp): Difference {
  return {
    name,
    level: (lines) => {
      const ours = lines.filter((line) => pattern.test(line)).length;
      return lines
        .filter((line) => !pattern.test(line))
        .map((line) => line.replace(total, (count) => String(Number(count) - ours)));
    },
  };
}

const DIFFERENCES: readonly Difference[] = [
  inLinesOf(
    'bridge',
    'server version',
    [/^Backend version: 1\.0 \(git tag: v1\.0\)$/, 'Backend version: 0.24 (git tag: v0.24)'],
    [
      /version-major="1" version-minor="0" version-git="v1\.0"/,
      'version-major="0" version-minor="24" version-git="v0.24"',
    ],
  ),
  onlyOurs(
    'context attributes',
    /^\t?iio-bridge(?:,\w+)?: |^<context-attribute name="iio-bridge/,
    /(?<=^IIO context (?:has|with) )\d+(?= attributes:)/,
  ),
  {
    name: 'buffer attributes',
    level: (lines, server) => (server === 'bridge' ? withoutBufferFigures(lines) : lines),
  },
  inLinesOf('iiod', 'scale of scan elements', [/(<scan-element [^>]*?)scale="[^"]*" /, '$1']),
  { name: 'order of channels', level: sortUnindexedChannels },
  inLinesOf('iiod', 'no trigger', [
    /^ERROR: checking for trigger : Input\/output error \(5\)$/,
    '\t\tNo trigger assigned to device',
  ]),
];

function levelled(output: readonly string[], server: Server, differences: readonly Difference[]): readonly string[] {
  return differences.reduce<readonly string[]>((lines, { level }) => level(lines, server), output);
}

const lab = useMachine({
  modules: [...SG_MODULES, ...DUMMY_MODULES],
  prepare: async (machine) => {
    await createDummy(machine);
    await createTimer(machine);
    await prepareConverters(machine);
    await machine.writeFile(CONFIG, JSON.stringify(PERMISSIONS));
    await machine.output([process.execPath, '-e', MAKE_PLAYED]);
  },
});

let bridge: Bridge;
let outputs: Readonly<Record<Server, readonly (readonly string[])[]>>;

/** Runs all commands in one go, because a process of the guest costs more than what it does. */
async function runCommands(uri: string): Promise<readonly (readonly string[])[]> {
  const runs = COMMANDS.map(
    (command) => `${RESET}\n(${command}) >/tmp/out 2>/tmp/err </dev/null
      echo "@ended with $?"; cat /tmp/out; echo 'standard error:'; cat /tmp/err`,
  );
  const { machine } = lab;
  const text = await machine.output(runs.join('\n'), { env: { URI: uri }, timeoutMs: COMMANDS_MS * machine.slowness });
  return text
    .replaceAll(uri, 'URI')
    .split(/^@/m)
    .slice(1)
    .map((output) => withoutMovingValues(output.includes('<?xml') ? xmlLines(output) : output.split('\n')));
}

beforeAll(async () => {
  const { machine } = lab;
  await using iiod = await DebianIiod.start(machine, { port: IIOD_PORT });
  bridge = await Bridge.launch(machine, '--no-usb', '--tcp', '30431', '--config-file', CONFIG);
  outputs = { iiod: await runCommands(iiod.tcpUri), bridge: await runCommands(BRIDGE_URI) };
});

afterAll(async () => {
  await bridge.expectCleanStop();
});

test.each(COMMANDS.map((command, index) => ({ command, index })))('$command', ({ index }) => {
  const theirs = levelled(outputs.iiod[index] ?? [], 'iiod', DIFFERENCES);
  const ours = levelled(outputs.bridge[index] ?? [], 'bridge', DIFFERENCES);
  expect(ours).toEqual(theirs);
  expect(theirs.length).toBeGreaterThan(2);
});

test('the documentation lists these differences, all of which there are', () => {
  const page = readFileSync(join(checkoutRoot(), 'docs/COMPATIBILITY.md'), 'utf8');
  const section = /^## Differences from iiod 0\.24$(.*?)^## /ms.exec(page)?.[1] ?? '';
  const listed = [...section.matchAll(/^\| \*\*(.*?)\*\* \|/gm)].map(([, name]) => name);
  expect(listed).toEqual(DIFFERENCES.map(({ name }) => name));

  for (const difference of DIFFERENCES) {
    const others = DIFFERENCES.filter((other) => other !== difference);
    const isSeen = COMMANDS.some(
      (_, index) =>
        levelled(outputs.iiod[index] ?? [], 'iiod', others).join('\n') !==
        levelled(outputs.bridge[index] ?? [], 'bridge', others).join('\n'),
    );
    expect(isSeen, `the outputs do not differ by: ${difference.name}`).toBe(true);
  }
});
