import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { fromFsError } from '../sys/errors.js';
import type { BufferFigures, InputFigures, OutputFigures } from './buffer-statistics.js';
import type { Endpoint } from './config.js';
import { VERSION } from './version.js';

/** A buffer of the served context, with its figures. */
export interface NamedFigures {
  /** Its name, or its id where it has none. */
  readonly device: string;
  readonly buffer: number;
  readonly figures: BufferFigures;
}

/** The figures of all buffers, as they are at the moment. */
export type FiguresSource = () => Promise<readonly NamedFigures[]>;

interface Total {
  readonly name: string;
  readonly help: string;
  readonly value: (figures: BufferFigures) => number | undefined;
}

const TOTALS: readonly Total[] = [
  { name: 'blocks', help: 'Blocks moved between the hardware and the bridge', value: ({ blocks }) => blocks },
  { name: 'bytes', help: 'Bytes moved between the hardware and the bridge', value: ({ bytes }) => bytes },
  { name: 'overruns', help: 'Times at which an input had no block to fill', value: input(({ overruns }) => overruns) },
  { name: 'lost_samples', help: 'Sample sets lost in overruns', value: input(({ lostSamples }) => lostSamples) },
  {
    name: 'waiting_blocks',
    help: 'Blocks that are captured and wait for a client',
    value: input(({ ringFill }) => ringFill.waiting),
  },
  { name: 'underruns', help: 'Times at which an output had no block', value: output(({ underruns }) => underruns) },
  {
    name: 'unplayed_samples',
    help: 'Sample sets not played in underruns',
    value: output(({ unplayedSamples }) => unplayedSamples),
  },
];

function input(value: (figures: InputFigures) => number): Total['value'] {
  return (figures) => (figures.direction === 'in' ? value(figures) : undefined);
}

function output(value: (figures: OutputFigures) => number): Total['value'] {
  return (figures) => (figures.direction === 'out' ? value(figures) : undefined);
}

/** Serves the bridge's figures for Prometheus, as `/metrics` over HTTP. Owns the listening socket. */
export class MetricsServer {
  readonly endpoint: Endpoint;
  readonly #server: Server;

  private constructor(server: Server, endpoint: Endpoint) {
    this.#server = server;
    this.endpoint = endpoint;
  }

  /** @throws {IioError} `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES` */
  static async start({ host, port }: Endpoint, source: FiguresSource): Promise<MetricsServer> {
    const registry = registryFor(source);
    const server = createServer((request, response) => {
      answer(registry, request, response).catch((error: unknown) => response.destroy(error as Error));
    });
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(port, host, resolve);
      });
    } catch (error) {
      throw fromFsError(error, `serve metrics on ${host}:${port}`);
    }
    const address = server.address();
    const chosen = address === null || typeof address === 'string' ? port : address.port;
    return new MetricsServer(server, { host, port: chosen });
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

async function answer(registry: Registry, request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (request.method !== 'GET' || request.url !== '/metrics') {
    response.writeHead(404, { 'content-type': 'text/plain' }).end('Only GET /metrics is served here.\n');
    return;
  }
  const text = await registry.metrics();
  response.writeHead(200, { 'content-type': registry.contentType }).end(text);
}

function registryFor(source: FiguresSource): Registry {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const info = new Gauge({ name: 'iio_bridge_info', help: 'Always 1', labelNames: ['version'], registers });
  info.set({ version: VERSION }, 1);
  const path = new Gauge({
    name: 'iio_bridge_buffer_path',
    help: 'Always 1: how the samples of a buffer travel, and why they are copied where they are',
    labelNames: [...BUFFER_LABELS, 'mode', 'fallbacks'],
    registers,
    async collect() {
      const all = await source();
      this.reset();
      for (const { figures, ...buffer } of all) {
        path.set({ ...labelsOf(buffer, figures), mode: figures.mode, fallbacks: figures.fallbacks.join(' ') }, 1);
      }
    },
  });
  for (const { name, help, value } of TOTALS) {
    // No counters: these totals begin anew when a buffer is opened.
    const total = new Gauge({
      name: `iio_bridge_buffer_${name}`,
      help,
      labelNames: BUFFER_LABELS,
      registers,
      async collect() {
        const all = await source();
        this.reset();
        for (const { figures, ...buffer } of all) {
          const now = value(figures);
          if (now !== undefined) {
            total.set(labelsOf(buffer, figures), now);
          }
        }
      },
    });
  }
  return registry;
}

const BUFFER_LABELS = ['device', 'buffer', 'direction'] as const;

function labelsOf({ device, buffer }: Omit<NamedFigures, 'figures'>, { direction }: BufferFigures) {
  return { device, buffer, direction };
}
