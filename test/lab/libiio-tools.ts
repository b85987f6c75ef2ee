import { expect } from 'vitest';
import type { Machine } from '../../lab/machine.js';

// libiio's own programs (Debian's libiio-utils) in a guest.

/** What `iio-sim-adc` counts and `iio-sim-dac` expects, all channels: in a file, because a comparing process is cheap. */
export const COUNTED = '/tmp/counted';
/** 4.8 MB. */
const COUNTED_SETS = 600_000;
const COUNTED_VOLTAGE0 = '/tmp/counted-voltage0';

export async function prepareCounted(machine: Machine): Promise<void> {
  await machine.output([
    process.execPath,
    '-e',
    `const { writeFileSync } = require('node:fs');
    const sets = BigUint64Array.from({ length: ${COUNTED_SETS} }, (_, set) => BigInt(set));
    writeFileSync('${COUNTED}', Buffer.from(sets.buffer));
    writeFileSync('${COUNTED_VOLTAGE0}', Buffer.from(Uint16Array.from({ length: ${COUNTED_SETS} }, (_, set) => set).buffer));`,
  ]);
}

/** Standard output of a command that succeeds and complains of nothing. */
export async function outputOf(machine: Machine, command: string): Promise<string> {
  const result = await machine.run(command);
  expect(result, command).toMatchObject({ code: 0, stderr: '' });
  return result.stdout;
}

export interface CountedRead {
  readonly uri: string;
  /** Sample sets per buffer. */
  readonly block: number;
  readonly sets: number;
  /** All of them otherwise. */
  readonly onlyVoltage0?: boolean;
}

/** `iio_readdev` of the counting ADC, which must begin with sample set 0 and have no gap. */
export async function expectCounted(machine: Machine, { uri, block, sets, onlyVoltage0 }: CountedRead): Promise<void> {
  const [channels, file, bytes] = onlyVoltage0 === true ? ['voltage0', COUNTED_VOLTAGE0, 2] : ['', COUNTED, 8];
  const got = '/tmp/read';
  const result = await machine.run(
    `iio_readdev -u ${uri} -b ${block} -s ${sets} iio-sim-adc ${channels} >${got} || exit 1
    [ $(stat -c %s ${got}) = ${sets * bytes} ] || { ls -l ${got}; exit 2; }
    cmp -n ${sets * bytes} ${got} ${file}`,
  );
  expect(result, `${uri}: ${sets} sets in buffers of ${block}`).toEqual({
    code: 0,
    signal: null,
    stdout: '',
    stderr: '',
  });
}

/** A file of a device in sysfs. */
export async function sysfsValue(machine: Machine, device: string, file: string): Promise<string> {
  return (await machine.output(`cat $(dirname $(grep -lx ${device} /sys/bus/iio/devices/*/name))/${file}`)).trim();
}

/** Totals that a simulated converter keeps (lab/kernel/README.md). */
export async function simStatistic(machine: Machine, converter: 'adc' | 'dac', name: string): Promise<number> {
  const text = await machine.output(`cat /sys/kernel/debug/iio_sim/${converter}/stats`);
  const value = new RegExp(`^${name}\\W+(\\d+)`, 'm').exec(text)?.[1];
  expect(value, text).toBeDefined();
  return Number(value);
}

const MOVING_MS = 90_000;

/** Until a converter has moved that many more bytes. */
export async function waitForBytes(machine: Machine, converter: 'adc' | 'dac', more: number): Promise<void> {
  const stats = `sed -n 's/^bytes[^0-9]*//p' /sys/kernel/debug/iio_sim/${converter}/stats`;
  await machine.output(`end=$(($(${stats}) + ${more})); until [ $(${stats}) -ge $end ]; do sleep 0.02; done`, {
    timeoutMs: MOVING_MS * machine.slowness,
  });
}

/** Until no buffer is enabled any more: what a client that has ended must lead to. */
export async function waitForIdleBuffers(machine: Machine): Promise<void> {
  await machine.output('while grep -qx 1 /sys/bus/iio/devices/*/buffer0/enable; do sleep 0.02; done', {
    timeoutMs: MOVING_MS * machine.slowness,
  });
}
