import { join } from 'node:path';
import { DebianIiod } from '../lab/debian-iiod.js';
import type { GuestProcess } from '../lab/guest-process.js';
import type { Machine } from '../lab/machine.js';
import { loadModules } from '../lab/modules.js';
import { checkoutRoot } from '../lab/paths.js';

/** A server in a guest. Owns its process; disposing ends it. */
export interface Server extends AsyncDisposable {
  readonly pid: number;
}

/** A SuperSpeed controller that takes scatter-gather, and the converters. */
export async function loadBenchModules(machine: Machine): Promise<void> {
  // Real controllers do not take answers before the host fetches them: fifo=0.
  await loadModules(machine, [{ name: 'dummy_hcd_sg', params: { is_super_speed: 1, fifo: 0 } }, { name: 'iio_sim' }]);
  // No limit on what readers have in flight: four blocks of 4 MiB are all of usbfs's 16 MiB.
  await machine.writeFile('/sys/module/usbcore/parameters/usbfs_memory_mb', '0');
}

const READY_MS = 120_000;
const SEEN_BY_HOST = 'grep -qsx IIO /sys/bus/usb/devices/*/interface';

/** `iio-bridge serve` in a guest. */
export class BridgeServer implements Server {
  readonly #process: GuestProcess;

  private constructor(child: GuestProcess) {
    this.#process = child;
  }

  /**
   * Resolves when clients can connect: libusb, without udevd, sees the devices that exist when it starts, and no later
   * ones.
   * @throws IioError `ECHILD` or `ETIMEDOUT` with its log.
   */
  static async start(machine: Machine, ...options: readonly string[]): Promise<BridgeServer> {
    const timeoutMs = READY_MS * machine.slowness;
    await machine.output(`while ${SEEN_BY_HOST}; do sleep 0.01; done`, { timeoutMs });
    const program = join(checkoutRoot(), 'dist/bundle/iio-bridge.js');
    const bridge = new BridgeServer(await machine.spawn([process.execPath, program, 'serve', ...options]));
    try {
      await bridge.#process.waitForLine(/"msg":"ready"/, { timeoutMs });
      if (!options.includes('--no-usb')) {
        await machine.output(`until ${SEEN_BY_HOST}; do sleep 0.01; done`, { timeoutMs });
      }
    } catch (error) {
      await bridge[Symbol.asyncDispose]();
      throw error;
    }
    return bridge;
  }

  get pid(): number {
    return this.#process.pid;
  }

  /** How the latest stream's samples travelled, by its log. */
  get mode(): string | undefined {
    const record = this.#process
      .output()
      .stdout.split('\n')
      .findLast((line) => line.includes('"msg":"stream open"'));
    return record === undefined ? undefined : /"mode":"([^"]+)"/.exec(record)?.[1];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.kill('SIGTERM');
    await this.#process.exited;
    await this.#process[Symbol.asyncDispose]();
  }
}

const IIOD_PORT = 30431;
/** As many as the bridge has by default. */
const IIOD_PIPES = 3;

/** Debian's iiod on a gadget of its own. */
export async function startIiod(machine: Machine): Promise<DebianIiod> {
  return await DebianIiod.start(machine, { port: IIOD_PORT, pipes: IIOD_PIPES });
}
