import type { ExitStatus, GuestProcess } from './guest-process.js';
import type { Machine } from './machine.js';

const PROGRAM = '/usr/sbin/iiod';
const CONFIGFS = '/sys/kernel/config';
const GADGET = `${CONFIGFS}/usb_gadget/debian-iiod`;
const FUNCTION = `${GADGET}/functions/ffs.debian-iiod`;
const CONFIGURATION = `${GADGET}/configs/c.1`;
const MOUNT = '/run/debian-iiod';
const READY_MS = 60_000;

export interface DebianIiodOptions {
  /** It listens there in any case. */
  readonly port: number;
  /** Serves over USB too, with as many couples of endpoints: one more than the buffers that can be open. */
  readonly pipes?: number;
}

/**
 * Debian's own iiod (package `iiod`) in a guest, serving the guest's devices as they are when it starts. Owns the process
 * and, with pipes, a gadget with nothing but its function on the first controller; disposing removes both.
 */
export class DebianIiod implements AsyncDisposable {
  readonly process: GuestProcess;
  readonly #machine: Machine;
  readonly #options: DebianIiodOptions;

  private constructor(machine: Machine, options: DebianIiodOptions, child: GuestProcess) {
    this.#machine = machine;
    this.#options = options;
    this.process = child;
  }

  /**
   * Resolves when clients can connect.
   * @throws IioError `ECHILD` or `ETIMEDOUT` with the output of what failed.
   */
  static async start(machine: Machine, options: DebianIiodOptions): Promise<DebianIiod> {
    const { port, pipes } = options;
    const usb = pipes === undefined ? [] : ['-F', MOUNT, '-n', String(pipes)];
    if (pipes !== undefined) {
      await machine.output(
        `set -e
        mkdir -p ${MOUNT} ${GADGET} ${FUNCTION} ${CONFIGURATION} ${GADGET}/strings/0x409
        echo 0x1209 >${GADGET}/idVendor
        echo 0x0001 >${GADGET}/idProduct
        echo Debian >${GADGET}/strings/0x409/manufacturer
        echo iiod >${GADGET}/strings/0x409/product
        echo 0024 >${GADGET}/strings/0x409/serialnumber
        ln -s ${FUNCTION} ${CONFIGURATION}
        mount -t functionfs debian-iiod ${MOUNT}`,
      );
    }
    const iiod = new DebianIiod(machine, options, await machine.spawn([PROGRAM, '-p', String(port), ...usb]));
    try {
      await iiod.#until(`iio_info -u ${iiod.tcpUri}`);
      if (pipes !== undefined) {
        // The endpoints appear with the descriptors, before which no controller takes the gadget.
        await iiod.#until(`[ -e ${MOUNT}/ep${2 * pipes} ]`);
        await machine.output(`ls /sys/class/udc | head -n 1 >${GADGET}/UDC`);
        await iiod.#until(`iio_info -u ${iiod.usbUri}`);
      }
    } catch (error) {
      await iiod.stop();
      throw error;
    }
    return iiod;
  }

  get tcpUri(): string {
    return `ip:127.0.0.1:${this.#options.port}`;
  }

  /** Of the only gadget on the bus. */
  get usbUri(): string {
    return 'usb:';
  }

  get pid(): number {
    return this.process.pid;
  }

  /** Ends it by SIGKILL: by SIGTERM, it does not always end while it has clients. */
  async stop(): Promise<ExitStatus> {
    const { pipes } = this.#options;
    if (pipes !== undefined) {
      await this.#machine.run(`echo >${GADGET}/UDC`);
    }
    await this.process.kill('SIGKILL');
    const status = await this.process.exited;
    if (pipes !== undefined) {
      await this.#machine.output(
        `umount ${MOUNT} && rm ${CONFIGURATION}/ffs.debian-iiod &&
        rmdir ${CONFIGURATION} ${FUNCTION} ${GADGET}/strings/0x409 ${GADGET}`,
      );
    }
    return status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #until(condition: string): Promise<void> {
    await this.#machine.output(
      `until ${condition} >/dev/null 2>&1; do [ -d /proc/${this.pid} ] || exit 1; sleep 0.02; done`,
      { timeoutMs: READY_MS * this.#machine.slowness },
    );
  }
}
