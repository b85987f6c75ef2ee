import { stat } from 'node:fs/promises';
import { EXTENSIONS, EXTENSIONS_ATTRIBUTE, IioError } from '@iio-bridge/protocol';
import { DataPlane } from '../dataplane/data-plane.js';
import { FunctionFs } from '../ffs/function-fs.js';
import { Gadget } from '../ffs/gadget.js';
import { FunctionFsMount } from '../ffs/mount.js';
import type { Backend } from '../iio/backend.js';
import { EmulatedBackend } from '../iio/emulated/emulated-backend.js';
import { DmabufAllocator } from '../iio/heap.js';
import { discoverLocalContext, localFingerprint } from '../iio/local.js';
import { LocalBackend } from '../iio/local-backend.js';
import { fromFsError } from '../sys/errors.js';
import { BlockMemory } from './block-memory.js';
import type { BridgeState } from './bridge-state.js';
import { BufferClaims } from './buffer-claims.js';
import { BufferStatistics } from './buffer-statistics.js';
import { Buffers } from './buffers.js';
import { Clients } from './client.js';
import type { Config, Endpoint } from './config.js';
import { ContextServer, type ContextSource } from './context-server.js';
import type { InputEnvironment } from './input-capture.js';
import type { Logger } from './logger.js';
import { LossCounters } from './loss-counters.js';
import { PermissionedBackend } from './permissions.js';
import { StatisticsBackend } from './statistics-backend.js';
import { type Announcer, TcpServer } from './tcp-server.js';
import { ClientTimeouts } from './text/client-timeouts.js';
import { SharedBuffers } from './text/shared-buffers.js';
import { UsbServer } from './usb-server.js';
import { VERSION } from './version.js';

/** What the service needs of its surroundings. */
export interface ServiceOptions {
  readonly log: Logger;
  /** Undefined: TCP endpoints are not announced. */
  readonly announcer?: Announcer;
}

type LinkKind = keyof Config['permissions'];

/**
 * The running bridge: owns the gadget, the FunctionFS mount, the listening sockets, the data plane and the sessions.
 * `stop()` takes all of it away in the reverse order of its making, and so does a start that fails.
 */
export class Service {
  readonly #config: Config;
  readonly #log: Logger;
  readonly #undo: Undo[] = [];
  #tcp: TcpServer | undefined;

  private constructor(config: Config, log: Logger) {
    this.#config = config;
    this.#log = log;
  }

  /**
   * Serves the IIO context over USB, TCP or both.
   *
   * @throws {IioError} what is missing and how to get it: `NO_CONFIGFS`, `NO_FUNCTIONFS`, `NO_UDC`, `NO_DMA_HEAP`,
   * `EACCES`, `ENOENT` (no IIO devices), `EADDRINUSE`, `BAD_XML`, `EFBIG` (a document above the limit)…
   */
  static async start(config: Config, { log, announcer }: ServiceOptions): Promise<Service> {
    const service = new Service(config, log);
    try {
      await service.#start(announcer);
      return service;
    } catch (error) {
      await service.stop();
      throw error;
    }
  }

  /** Where it listens for TCP connections. */
  get endpoints(): TcpServer['endpoints'] {
    return this.#tcp?.endpoints ?? [];
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

  async #start(announcer: Announcer | undefined): Promise<void> {
    const config = this.#config;
    const source = await this.#openSource();
    // One backend for all kinds of link: it keeps apart what clients must not do at the same time.
    const statistics = new BufferStatistics();
    const common = new ContextServer(
      {
        discover: () => new StatisticsBackend(source.discover(), statistics),
        fingerprint: () => source.fingerprint(),
      },
      this.#log,
    );
    const emulates = config.emulate !== undefined;
    // No hardware reaches the memory of an emulation's blocks.
    const stream = emulates ? { ...config.stream, mode: 'copy' as const } : config.stream;
    const allocator = emulates ? undefined : openAllocator(stream, this.#log);
    if (allocator !== undefined) {
      this.#undo.push(() => allocator.close());
    }
    const plane = DataPlane.start();
    this.#undo.push(() => plane.close());
    await plane.tune(config.dataplane);
    const claims = new BufferClaims();
    const memory = new BlockMemory({ ...config, stream }, allocator);
    const inputs: InputEnvironment = {
      dataPlane: plane,
      memory,
      statistics,
      lossCounters: new LossCounters(config.loss.counters),
    };
    const shared = {
      buffers: new Buffers(claims),
      sharedBuffers: new SharedBuffers({
        claims,
        inputs,
        ring: config.stream.ring,
        policy: config.stream.policy,
        outputs: { ...inputs, dataPlane: plane },
        demux: config.protocol.demux,
      }),
      timeouts: new ClientTimeouts(),
      memory,
      statistics,
      inputs,
      stream: config.stream,
      limits: config.limits,
      protocol: config.protocol,
      dataPlane: plane,
    };
    const stateOf = (kind: LinkKind): BridgeState => {
      const permissions = config.permissions[kind];
      const log = this.#log.child({ link: kind });
      const permitted: ContextSource = {
        discover: () => new PermissionedBackend(common.refresh().backend, permissions, log),
        fingerprint: () => source.fingerprint(),
      };
      const contexts = new ContextServer(permitted, log);
      return { ...shared, permissions, contexts, clients: new Clients(contexts) };
    };
    const udc = config.usb.enabled ? await this.#serveUsb(plane, stateOf('usb')) : undefined;
    if (config.tcp.listen.length > 0) {
      await this.#serveTcp(plane, stateOf('tcp'), config.tcp.announce ? announcer : undefined);
    }
    const metrics = await this.#serveMetrics(common, statistics);
    this.#log.info(
      {
        version: VERSION,
        ...(udc === undefined ? {} : { udc, pipes: config.usb.pipes }),
        ...(this.endpoints.length === 0 ? {} : { tcp: this.endpoints }),
        ...(metrics === undefined ? {} : { metrics }),
        ...(emulates ? { emulate: config.emulate?.context } : {}),
        heap: allocator?.name,
        devices: common.current.backend.description.devices.map((device) => device.name ?? device.id),
      },
      'ready',
    );
  }

  /** Where. */
  async #serveMetrics(contexts: ContextServer, statistics: BufferStatistics): Promise<Endpoint | undefined> {
    const { listen } = this.#config.metrics;
    if (listen === undefined) {
      return undefined;
    }
    // Loaded only where it is wanted.
    const { MetricsServer } = await import('./metrics.js');
    const server = await MetricsServer.start(listen, async () => {
      const buffers = contexts.current.backend.description.devices.flatMap(({ id, name, buffers }) =>
        buffers.map(async ({ index, direction }) => ({
          device: name ?? id,
          buffer: index,
          figures: await statistics.figures(id, index, direction),
        })),
      );
      return await Promise.all(buffers);
    });
    this.#undo.push(() => server.close());
    return server.endpoint;
  }

  async #openSource(): Promise<ContextSource> {
    const { emulate, limits } = this.#config;
    if (emulate !== undefined) {
      const { context, signal, freeRunning, loopback, sampleDirectory } = emulate;
      await checkSize(context, limits.xmlBytes);
      const emulated = await EmulatedBackend.open(context, {
        signal,
        freeRunning,
        ...(loopback === undefined ? {} : { loopback }),
        ...(sampleDirectory === undefined ? {} : { sampleDirectory }),
        contextAttributes: CONTEXT_ATTRIBUTES,
      });
      this.#undo.push(() => emulated[Symbol.asyncDispose]());
      return { discover: () => emulated, fingerprint: () => '' };
    }
    return { discover: () => this.#discoverLocal(), fingerprint: localFingerprint };
  }

  #discoverLocal(): Backend {
    const local = discoverLocalContext({ contextAttributes: CONTEXT_ATTRIBUTES });
    for (const warning of local.warnings) {
      this.#log.warn({}, warning);
    }
    return new LocalBackend(local);
  }

  /** The name of the controller that it is bound to. */
  async #serveUsb(plane: DataPlane, state: BridgeState): Promise<string> {
    const { usb } = this.#config;
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
    const server = new UsbServer(functionFs, plane, state, this.#log);
    server.start(udc);
    // Taken down first of all: endpoints are closed while the bus is still there.
    this.#undo.push(() => server.close());
    return udc;
  }

  async #serveTcp(plane: DataPlane, state: BridgeState, announcer: Announcer | undefined): Promise<void> {
    const server = await TcpServer.start(this.#config.tcp.listen, { plane, state, log: this.#log, announcer });
    this.#undo.push(() => server.close());
    this.#tcp = server;
  }
}

/** By which clients tell that this is no iiod, and what it can do beyond one. */
const CONTEXT_ATTRIBUTES = new Map([
  ['iio-bridge', VERSION],
  [EXTENSIONS_ATTRIBUTE, EXTENSIONS.join(' ')],
]);

type Undo = () => void | Promise<void>;

async function checkSize(path: string, limit: number): Promise<void> {
  let size: number;
  try {
    ({ size } = await stat(path));
  } catch (error) {
    throw fromFsError(error, `read the context of ${path}`);
  }
  if (size > limit) {
    throw new IioError('EFBIG', `${path} has ${size} bytes, above the limit of ${limit} (limits.xmlBytes)`);
  }
}

/**
 * Streams that copy anyway can do without memory for DMA. They read() the kernel's buffer then, which Linux 6.12 gets wrong
 * for buffers that do take dmabufs: it keeps its place in a ring of two blocks over a disable, so after an odd number of
 * blocks the next reader gets its first two in the wrong order.
 */
function openAllocator({ mode, heap }: Config['stream'], log: Logger): DmabufAllocator | undefined {
  try {
    return DmabufAllocator.open(heap);
  } catch (error) {
    if (mode !== 'copy' || !(error instanceof IioError) || error.code !== 'NO_DMA_HEAP') {
      throw error;
    }
    log.warn({ code: error.code }, error.message);
    return undefined;
  }
}
