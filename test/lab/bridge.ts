import { join } from 'node:path';
import { afterAll, beforeEach, expect, onTestFinished, vi } from 'vitest';
import type { ExitStatus, GuestProcess } from '../../lab/guest-process.js';
import type { Machine } from '../../lab/machine.js';
import type { ModuleSpec } from '../../lab/modules.js';
import { checkoutRoot } from '../../lab/paths.js';
import type { StreamEvent, StreamRequest, StreamResult } from '../../lab/programs/stream-check.js';
import type { MachineFixture } from './support.js';

export const ADC = 'iio-sim-adc';
export const MIXED = 'iio-sim-mixed';

/** Real controllers keep no answer of a closed session; `fifo=1` is the stock module's habit of doing that. */
export const SG_MODULES: readonly ModuleSpec[] = [
  { name: 'dummy_hcd_sg', params: { is_super_speed: 1, fifo: 0 } },
  { name: 'iio_sim' },
];
export const STOCK_MODULES: readonly ModuleSpec[] = [
  { name: 'dummy_hcd', params: { is_super_speed: 1 } },
  { name: 'iio_sim' },
];

/** A line of the bridge's log. */
export interface LogRecord {
  readonly level: number;
  readonly msg: string;
  readonly [field: string]: unknown;
}

export function nodeProgram(path: string, ...words: readonly string[]): string[] {
  return [process.execPath, join(checkoutRoot(), path), ...words];
}

export function bridgeProgram(...words: readonly string[]): string[] {
  return nodeProgram('dist/bundle/iio-bridge.js', ...words);
}

export function clientProgram(...words: readonly string[]): string[] {
  return nodeProgram('dist/bundle/iio-client.js', ...words);
}

/** Sets the simulated ADCs to the counter signal, as fast as they are read. */
export async function prepareConverters(machine: Machine): Promise<void> {
  await machine.output(
    `for device in /sys/bus/iio/devices/iio:device*; do
      case $(cat $device/name) in ${ADC} | ${MIXED}) echo counter >$device/test_signal && echo 1 >$device/free_running || exit 1;; esac
    done`,
  );
}

const SEEN_BY_HOST = 'grep -qsx IIO /sys/bus/usb/devices/*/interface';
/** For the host side to notice a gadget, or that it has gone. */
const HOST_MS = 60_000;

/** `iio-bridge serve` in a guest, ready, and seen by the guest's host side. Ends with the test that started it. */
export class Bridge {
  readonly process: GuestProcess;
  readonly #machine: Machine;

  private constructor(machine: Machine, child: GuestProcess) {
    this.#machine = machine;
    this.process = child;
  }

  static async start(machine: Machine, ...options: readonly string[]): Promise<Bridge> {
    const bridge = await Bridge.launch(machine, ...options);
    onTestFinished(() => bridge.process[Symbol.asyncDispose]());
    return bridge;
  }

  /** For a bridge that outlives a test. */
  static async launch(machine: Machine, ...options: readonly string[]): Promise<Bridge> {
    const isOnBus = !options.includes('--no-usb');
    // A host that still sees an earlier gadget would take it for this one.
    await machine.output(`while ${SEEN_BY_HOST}; do sleep 0.01; done`, { timeoutMs: HOST_MS * machine.slowness });
    const child = await machine.spawn(bridgeProgram('serve', ...options));
    const bridge = new Bridge(machine, child);
    await bridge.waitForRecord('ready');
    if (isOnBus) {
      await machine.output(`until ${SEEN_BY_HOST}; do sleep 0.01; done`, { timeoutMs: HOST_MS * machine.slowness });
    }
    return bridge;
  }

  get pid(): number {
    return this.process.pid;
  }

  /** The log so far. */
  get records(): readonly LogRecord[] {
    return this.process
      .output()
      .stdout.split('\n')
      .filter((line) => line.startsWith('{') && line.endsWith('}'))
      .map((line): LogRecord => JSON.parse(line));
  }

  /** Warnings and errors so far. */
  get complaints(): readonly string[] {
    return this.records.filter(({ level }) => level >= 40).map((record) => JSON.stringify(record));
  }

  async waitForRecord(message: string): Promise<LogRecord> {
    const [line] = await this.process.waitForLine(new RegExp(`^.*"msg":"${message}".*$`));
    return JSON.parse(line);
  }

  /** The newest `stream open` record. */
  get streamPath(): unknown {
    const record = this.records.findLast(({ msg }) => msg === 'stream open');
    return record === undefined ? undefined : pick(record, ['mode', 'source', 'sink', 'fallbacks']);
  }

  /** Sends the signal, and tells how the process ended and after how many ms, the way through the lab included. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<ExitStatus & { readonly milliseconds: number }> {
    const startedAt = performance.now();
    await this.process.kill(signal);
    const status = await this.process.exited;
    return { ...status, milliseconds: performance.now() - startedAt };
  }

  /** Stops it, and expects that it succeeds and leaves nothing behind. */
  async expectCleanStop(): Promise<void> {
    expect(await this.stop(), this.process.output().stderr).toMatchObject({ code: 0 });
    await expectNothingLeft(this.#machine);
  }
}

export interface BridgeFixture {
  readonly bridge: Bridge;
}

/**
 * One bridge for all tests of a file, so that each also shows that the one before has left nothing behind. Call it after
 * `useMachine`. After the last test it is stopped, which has to succeed.
 */
export function useBridge(lab: MachineFixture, ...options: readonly string[]): BridgeFixture {
  let running: { readonly machine: Machine; readonly bridge: Bridge } | undefined;
  beforeEach(async () => {
    const { machine } = lab;
    if (running?.machine !== machine) {
      running = { machine, bridge: await Bridge.launch(machine, ...options) };
      // libiio gives a control request one second, whatever LAB_PATIENCE says: the first takes longest.
      await machine.run('iio_attr -u usb: -C');
    }
  });
  afterAll(async () => {
    await running?.bridge.expectCleanStop();
  });
  return {
    get bridge(): Bridge {
      if (running === undefined) {
        throw new Error('The bridge exists in tests only');
      }
      return running.bridge;
    },
  };
}

function pick(record: LogRecord, fields: readonly string[]): unknown {
  return Object.fromEntries(fields.map((field) => [field, record[field]]));
}

/** No gadget, mount, running buffer or DMA buffer. */
export async function expectNothingLeft(machine: Machine): Promise<void> {
  const left = await machine.output(
    `ls /sys/kernel/config/usb_gadget 2>/dev/null | sed 's/^/gadget /'
    grep functionfs /proc/mounts
    grep -sx 1 /sys/bus/iio/devices/*/buffer0/enable
    find /run/iio-bridge -mindepth 1 -type d 2>/dev/null
    true`,
  );
  expect(left).toBe('');
  // The kernel frees them in its own time. Not expect.poll, which afterAll() does not have.
  await vi.waitFor(async () => expect(await dmabufCount(machine)).toBe(0), {
    interval: 100,
    timeout: HOST_MS * machine.slowness,
  });
}

/** DMA buffers that exist in the guest. */
export async function dmabufCount(machine: Machine): Promise<number> {
  const text = await machine.output('cat /sys/kernel/debug/dma_buf/bufinfo');
  const count = /^Total (\d+) objects/m.exec(text)?.[1];
  expect(count, text).toBeDefined();
  return Number(count);
}

function streamEvents(output: string): StreamEvent[] {
  return output
    .split('\n')
    .filter((line) => line !== '')
    .map((line): StreamEvent => JSON.parse(line));
}

/** Starts the checking client, which ends with the test. */
export async function startStream(machine: Machine, request: StreamRequest): Promise<GuestProcess> {
  const child = await machine.spawn(nodeProgram('dist/bundle/stream-check.js', JSON.stringify(request)));
  onTestFinished(() => child[Symbol.asyncDispose]());
  return child;
}

/** The last event of a client that has ended. */
export function lastEvent(child: GuestProcess): StreamEvent | undefined {
  return streamEvents(child.output().stdout).at(-1);
}

/** A stream that ends by itself. */
export type CheckedRequest = StreamRequest & { readonly bytes: number };

/** Streams the request's bytes, and expects that every sample set has come as documented. */
export async function expectStream(machine: Machine, request: CheckedRequest): Promise<StreamResult> {
  const { stdout, stderr, code } = await machine.run(
    nodeProgram('dist/bundle/stream-check.js', JSON.stringify(request)),
  );
  const result = streamEvents(stdout).at(-1);
  expect(result, `${stdout}${stderr}`).toMatchObject({ event: 'result', mismatches: 0, lost: 0 });
  expect(code).toBe(0);
  if (result?.event !== 'result') {
    throw new Error(stdout);
  }
  expect(result.bytes).toBeGreaterThanOrEqual(request.bytes);
  expect(result.sets).toBeGreaterThan(0);
  return result;
}

/** How many descriptors a process has open. */
export async function openFiles(machine: Machine, pid: number): Promise<number> {
  return Number(await machine.output(`ls /proc/${pid}/fd | wc -l`));
}
