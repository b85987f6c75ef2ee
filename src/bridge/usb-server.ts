import { readFile } from 'node:fs/promises';
import { IioError } from '@iio-bridge/protocol';
import type { DataPlane } from '../dataplane/data-plane.js';
import { decodeFfsEvents, type SetupPacket } from '../ffs/events.js';
import type { FunctionFs } from '../ffs/function-fs.js';
import type { BridgeState } from './bridge-state.js';
import type { Logger } from './logger.js';
import { SerialQueue } from './serial-queue.js';
import { Session } from './session.js';

/** bmRequestType of all requests: host to device, vendor, to an interface. */
const VENDOR_TO_INTERFACE = 0x41;

const RESET_PIPES = 0;
const OPEN_PIPE = 1;
const CLOSE_PIPE = 2;

/** wMaxPacketSize of a bulk endpoint, by what /sys/class/udc/<udc>/current_speed says. */
const PACKET_BYTES: Readonly<Record<string, number>> = { 'full-speed': 64, 'high-speed': 512 };
const SUPER_SPEED_PACKET_BYTES = 1024;

/**
 * The pipes of our USB function: owns a session for each that a host has opened. Hosts open and close them by control
 * requests; requests that make no sense are stalled.
 */
export class UsbServer {
  readonly #functionFs: FunctionFs;
  readonly #plane: DataPlane;
  readonly #state: BridgeState;
  readonly #log: Logger;
  readonly #sessions = new Map<number, Session>();
  readonly #requests = new SerialQueue();
  #udc = '';

  /** The FunctionFS instance and the data plane stay the caller's, and must outlive `close()`. */
  constructor(functionFs: FunctionFs, plane: DataPlane, state: BridgeState, log: Logger) {
    this.#functionFs = functionFs;
    this.#plane = plane;
    this.#state = state;
    this.#log = log;
  }

  /** Starts to answer the host; `udc` is the controller that the gadget is bound to. */
  start(udc: string): void {
    this.#udc = udc;
    this.#plane.watchEp0(this.#functionFs.ep0Fd, (bytes) => {
      for (const event of decodeFfsEvents(bytes)) {
        if (event.type === 'setup') {
          this.#requests
            .run(() => this.#answer(event.setup))
            .catch((error: unknown) => this.#log.error({ err: error }, 'ep0'));
        } else {
          this.#log.debug({ event: event.type }, 'usb');
        }
      }
    });
  }

  /** Ends every session and stops answering. */
  async close(): Promise<void> {
    await this.#plane.unwatchEp0();
    await Promise.all([...this.#sessions.values()].map((session) => session.close()));
  }

  async #answer(setup: SetupPacket): Promise<void> {
    try {
      let accepted = false;
      try {
        accepted = await this.#execute(setup);
      } catch (error) {
        this.#log.warn({ err: error, request: setup.request, pipe: setup.value }, 'control request failed');
      }
      await this.#reply(setup, accepted);
    } finally {
      this.#plane.resumeEp0();
    }
  }

  /** Hosts give up after a second, and may have sent another request by now: theirs to repeat, and no failure of ours. */
  async #reply(setup: SetupPacket, accepted: boolean): Promise<void> {
    try {
      await (accepted ? this.#functionFs.acknowledge(setup) : this.#functionFs.stall(setup));
    } catch (error) {
      this.#log.warn({ err: error, request: setup.request, pipe: setup.value }, 'a control request got no answer');
    }
  }

  /** False to stall. Only OPEN_PIPE waits, for what is left of the pipe's last session. */
  async #execute(setup: SetupPacket): Promise<boolean> {
    if (setup.requestType !== VENDOR_TO_INTERFACE || setup.length !== 0) {
      return false;
    }
    switch (setup.request) {
      case RESET_PIPES:
        for (const pipe of [...this.#sessions.keys()]) {
          this.#closePipe(pipe);
        }
        return true;
      case OPEN_PIPE:
        if (setup.value >= this.#functionFs.pipes) {
          return false;
        }
        await this.#openPipe(setup.value);
        return true;
      case CLOSE_PIPE:
        if (setup.value >= this.#functionFs.pipes) {
          return false;
        }
        this.#closePipe(setup.value);
        return true;
      default:
        return false;
    }
  }

  async #openPipe(pipe: number): Promise<void> {
    await this.#sessions.get(pipe)?.close();
    const endpoints = await this.#functionFs.openPipe(pipe);
    const link = this.#plane.openUsbLink(endpoints, await this.#packetBytes());
    const session = new Session(link, this.#state, 'usb', this.#log.child({ pipe }));
    this.#sessions.set(pipe, session);
    const forget = (): void => {
      if (this.#sessions.get(pipe) === session) {
        this.#sessions.delete(pipe);
      }
    };
    session.ended.then(forget, forget);
  }

  #closePipe(pipe: number): void {
    this.#sessions
      .get(pipe)
      ?.close()
      .catch((error: unknown) => this.#log.error({ err: error, pipe }, 'pipe did not close'));
  }

  async #packetBytes(): Promise<number> {
    const path = `/sys/class/udc/${this.#udc}/current_speed`;
    try {
      const speed = (await readFile(path, 'utf8')).trim();
      return PACKET_BYTES[speed] ?? SUPER_SPEED_PACKET_BYTES;
    } catch (error) {
      throw new IioError('NO_UDC', `${path} cannot be read: is the USB device controller gone?`, { cause: error });
    }
  }
}
