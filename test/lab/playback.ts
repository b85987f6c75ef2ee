import { expect, onTestFinished } from 'vitest';
import type { GuestProcess } from '../../lab/guest-process.js';
import type { Machine } from '../../lab/machine.js';
import type { PlayEvent, PlayRequest } from '../../lab/programs/play-check.js';
import { nodeProgram } from './bridge.js';

export const DAC = 'iio-sim-dac';

/** The simulated DAC in sysfs. */
export class SimulatedDac {
  readonly #machine: Machine;
  readonly #folder: string;
  /** Its position in the context: the lab's devices stand in the order of their numbers. */
  readonly dev: number;

  private constructor(machine: Machine, folder: string) {
    this.#machine = machine;
    this.#folder = folder;
    this.dev = Number(folder.replace(/.*iio:device/, ''));
  }

  static async find(machine: Machine): Promise<SimulatedDac> {
    const folder = await machine.output(`dirname $(grep -lx ${DAC} /sys/bus/iio/devices/*/name)`);
    return new SimulatedDac(machine, folder.trim());
  }

  async set(attribute: string, value: string | number): Promise<void> {
    await this.#machine.output(`echo ${value} >${this.#folder}/${attribute}`);
  }

  async number(attribute: string): Promise<number> {
    return Number(await this.#machine.output(`cat ${this.#folder}/${attribute}`));
  }

  /** Bytes that it has played since the module was loaded. */
  async playedBytes(): Promise<number> {
    return Number(await this.#machine.output("sed -n 's/^bytes //p' /sys/kernel/debug/iio_sim/dac/stats"));
  }
}

/** The DAC checks the counter signal, and plays as fast as it is fed. */
export async function prepareDac(machine: Machine): Promise<void> {
  const dac = await SimulatedDac.find(machine);
  await dac.set('test_signal', 'counter');
  await dac.set('free_running', 1);
}

function playProgram(request: PlayRequest): string[] {
  return nodeProgram('dist/bundle/play-check.js', JSON.stringify(request));
}

/** Starts the host's side, which ends with the test. */
export async function startPlaying(machine: Machine, request: PlayRequest): Promise<GuestProcess> {
  const child = await machine.spawn(playProgram(request));
  onTestFinished(() => child[Symbol.asyncDispose]());
  return child;
}

/** Plays all blocks of the request, and expects that the DAC has had every sample set that was sent, and no other. */
export async function expectPlayed(
  machine: Machine,
  request: PlayRequest,
): Promise<Extract<PlayEvent, { event: 'result' }>> {
  const dac = await SimulatedDac.find(machine);
  const before = { bytes: await dac.playedBytes(), errors: await dac.number('pattern_errors') };
  const { stdout, stderr, code } = await machine.run(playProgram(request));
  expect(code, `${stdout}${stderr}`).toBe(0);
  const result: PlayEvent = JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}');
  if (result.event !== 'result') {
    throw new Error(stdout);
  }
  expect(result.failures).toEqual([]);
  const notices = await machine.output("dmesg | grep 'was due' | tail -n 20");
  expect(await dac.number('pattern_errors'), notices).toBe(before.errors);
  expect((await dac.playedBytes()) - before.bytes).toBe(result.bytes);
  return result;
}
