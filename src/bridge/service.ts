import { DataPlane } from '../dataplane/data-plane.js';
import { FunctionFs } from '../ffs/function-fs.js';
import { Gadget } from '../ffs/gadget.js';
import { FunctionFsMount } from '../ffs/mount.js';
import { DmabufAllocator } from '../iio/heap.js';
import { discoverLocalContext } from '../iio/local.js';
import { LocalBackend } from '../iio/local-backend.js';
import { BlockMemory } from './block-memory.js';
import type { BridgeState } from './bridge-state.js';
import { Buffers } from './buffers.js';
import type { Config } from './config.js';
import type { Logger } from './logger.js';
import { ServedContext } from './served-context.js';
import { UsbServer } from './usb-server.js';
import { VERSION } from './version.js';

/**
 * The running bridge: owns the gadget, the FunctionFS mount, the data plane and the sessions. `stop()` takes all of it
 * away in the reverse order of its making, and so does a start that fails.
 */
export class Service {
  readonly #undo: Undo[];

  private constructor(undo: Undo[]) {
    this.#undo = undo;
  }

  /**
   * Puts the machine's IIO context on the bus.
   *
   * @throws {IioError} what is missing and how to get it: `NO_CONFIGFS`, `NO_FUNCTIONFS`, `NO_UDC`, `NO_DMA_HEAP`,
   * `EACCES`, `ENOENT` (no IIO devices)…
   */
  static async start(config: Config, log: Logger): Promise<Service> {
    const service = new Service([]);
    try {
      await service.#start(config, log);
      return service;
    } catch (error) {
      await service.stop();
      throw error;
    }
  }

  async stop(): Promise<void> {
    const errors: unknown[] = [];
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) {
      try {
        await undo();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) {
      throw errors.length === 1 ? errors[0] : new AggregateError(errors, 'not everything could be taken down');
    }
  }

  async #start(config: Config, log: Logger): Promise<void> {
    const { usb } = config;
    const context = discoverContext(log);
    // Copying on both sides needs no memory that hardware can reach.
    const allocator = config.stream.mode === 'copy' ? undefined : DmabufAllocator.open(config.stream.heap);
    if (allocator !== undefined) {
      this.#undo.push(() => allocator.close());
    }
    const plane = DataPlane.start();
    this.#undo.push(() => plane.close());
    const state: BridgeState = {
      context,
      buffers: new Buffers(),
      memory: new BlockMemory(config, allocator),
      limits: config.limits,
    };
    const gadget = await Gadget.create(
      usb.existingGadget === undefined
        ? { name: usb.name, identity: usb }
        : { name: usb.name, existing: usb.existingGadget, config: usb.config },
    );
    this.#undo.push(() => gadget.remove());
    const mount = await FunctionFsMount.mount({ name: usb.name });
    this.#undo.push(() => mount.unmount());
    const functionFs = await FunctionFs.open({ mountpoint: mount.mountpoint, pipes: usb.pipes });
    this.#undo.push(() => functionFs.close());
    const udc = await gadget.bind(usb.udc);
    this.#undo.push(() => gadget.unbind());
    const server = new UsbServer(functionFs, plane, state, log);
    server.start(udc);
    // Taken down first of all: endpoints are closed while the bus is still there.
    this.#undo.push(() => server.close());
    log.info(
      {
        version: VERSION,
        udc,
        pipes: usb.pipes,
        heap: allocator?.name,
        devices: context.backend.description.devices.map((device) => device.name ?? device.id),
      },
      'ready',
    );
  }
}

type Undo = () => void | Promise<void>;

function discoverContext(log: Logger): ServedContext {
  const local = discoverLocalContext({ contextAttributes: new Map([['iio-bridge', VERSION]]) });
  for (const warning of local.warnings) {
    log.warn({}, warning);
  }
  return new ServedContext(new LocalBackend(local));
}
