import { hostname } from 'node:os';
import { GENERATIONS, IioError } from '@iio-bridge/protocol';
import { z } from 'zod';
import type { RingSize } from './input-capture.js';
import { ringSettings } from './stream-options.js';

const MIB = 1024 * 1024;

const bytes = (least: number) => z.number().int().min(least);

const usbSchema = z.strictObject({
  /** False: nothing is put on a USB bus. */
  enabled: z.boolean().default(true),
  /** Name of the gadget and of its FunctionFS function. */
  name: z
    .string()
    .regex(/^[\w-]{1,32}$/, 'letters, digits, - and _ only, at most 32')
    .default('iio-bridge'),
  /** A directory below usb_gadget/ whose gadget our function joins, instead of a gadget of our own. */
  existingGadget: z.string().optional(),
  /** The configuration to join there. */
  config: z.string().default('c.1'),
  /** A name from /sys/class/udc; the first free one by default. */
  udc: z.string().optional(),
  /** Pipes, i.e. one for the context and one for each buffer that can be open at once. */
  pipes: z.number().int().min(1).max(15).default(3),
  idVendor: z.number().int().min(0).max(0xffff).default(0x1209),
  idProduct: z.number().int().min(0).max(0xffff).default(0x0001),
  manufacturer: z.string().max(126).default('iio-bridge'),
  product: z.string().max(126).default('IIO context'),
  serial: z.string().max(126).default(hostname),
});

const listenSchema = z.string().transform((text, context) => {
  const endpoint = parseEndpoint(text);
  if (endpoint === undefined) {
    context.addIssue(
      `"${text}" is not [HOST:]PORT, such as 30431, 127.0.0.1:30431, [::1]:30431 or, for every address, [::]:30431`,
    );
    return z.NEVER;
  }
  return endpoint;
});

const tcpSchema = z.strictObject({
  /** `[HOST:]PORT` each; without a host it is loopback. None: no TCP. */
  listen: z.array(listenSchema).default([]),
  /** Whether to announce the service (DNS-SD, `_iio._tcp`) where it listens beyond loopback. */
  announce: z.boolean().default(true),
});

const metricsSchema = z.strictObject({
  /** `[HOST:]PORT` where figures are served for Prometheus, at `/metrics`; without a host on loopback. */
  listen: listenSchema.optional(),
});

const emulateSchema = z.strictObject({
  /** Path of the document that describes the context, in libiio's XML, with `value`s for its attributes. */
  context: z.string().min(1),
  /** Where the samples of buffers are, as files; beside the document by default. */
  sampleDirectory: z.string().min(1).optional(),
  /** What inputs without a sample file show. */
  signal: z.enum(['counter', 'sine']).default('counter'),
  /** As fast as clients read and write, whatever the sampling frequency. */
  freeRunning: z.boolean().default(false),
  /** Ids or names of an output and an input device: what one plays the other captures. */
  loopback: z.strictObject({ from: z.string().min(1), to: z.string().min(1) }).optional(),
});

/** What the clients of one kind of link may do. */
const permissionsSchema = (isTrusted: boolean) =>
  z.strictObject({
    /** No attribute, trigger or register is written, and no output buffer opened. */
    readOnly: z.boolean().default(false),
    /**
     * If given, only these attributes may be written: `<device>/<file>` with the device's id or name and the file as it
     * is called below the device's directory in sysfs (`debug/<file>` for debug attributes); `*` stands for any text.
     */
    writable: z.array(z.string().regex(/^[^/]+\/.+$/, '<device>/<file> is needed, with * for any text')).optional(),
    debugAttributes: z.boolean().default(isTrusted),
    /** Also in the form of the debug attribute direct_reg_access. */
    registers: z.boolean().default(isTrusted),
  });

/** Everything that `iio-bridge serve` can be told, checked once at start. */
export const configSchema = z.strictObject({
  usb: usbSchema.prefault({}),
  tcp: tcpSchema.prefault({}),
  metrics: metricsSchema.prefault({}),
  /** What is served instead of this machine's devices; by default those are. */
  emulate: emulateSchema.optional(),
  protocol: z
    .strictObject({
      /** The numbering of binary opcodes; by default it is told from what the client does. */
      generation: z.enum(['auto', ...GENERATIONS]).default('auto'),
      /**
       * Whether text clients that share a buffer get their own channels only. By default each gets those that any of
       * them wants, and a mask that tells which, as from iiod.
       */
      demux: z.boolean().default(false),
    })
    .prefault({}),
  stream: z
    .strictObject({
      /** As few copies as the hardware allows, or a copy on the client's side on purpose. */
      mode: z.enum(['auto', 'copy']).default('auto'),
      /** A name below /dev/dma_heap, or `udmabuf`; the first that works by default. */
      heap: z.string().optional(),
      /** Streams of which a side would copy are refused with `EOPNOTSUPP`. */
      require: z.literal('zero-copy').optional(),
      ...ringSettings,
    })
    .prefault({}),
  /** So that other work of the machine does not hold samples up. */
  dataplane: z
    .strictObject({
      /** SCHED_FIFO priority of the thread through which all samples go. */
      realtimePriority: z.number().int().min(1).max(99).optional(),
      /** The processor that it runs on. */
      cpu: z.number().int().min(0).max(1023).optional(),
      /** What it runs on is not paged out: code, native heap, stack. */
      lockMemory: z.boolean().default(false),
    })
    .prefault({}),
  loss: z
    .strictObject({
      /**
       * Devices (id or name, `*` stands for any text) with an attribute that counts the sample sets that they have lost.
       * Others' losses are measured by their time stamps, or estimated.
       */
      counters: z.array(z.strictObject({ device: z.string().min(1), attribute: z.string().min(1) })).default([]),
    })
    .prefault({}),
  limits: z
    .strictObject({
      /** Blocks of one buffer. */
      blocks: z.number().int().min(1).max(32767).default(256),
      /** Bytes of one block. */
      blockBytes: bytes(4096).default(64 * MIB),
      /** Bytes of all blocks of all clients. */
      totalBytes: bytes(4096).default(512 * MIB),
      /** TCP connections at once. On USB it is the number of pipes. */
      links: z.number().int().min(1).max(1024).default(32),
      /** Bytes of the document that describes the context. */
      xmlBytes: bytes(1024).default(4 * MIB),
      /** Bytes of a value that a client writes to an attribute. */
      attributeBytes: bytes(256).default(64 * 1024),
    })
    .prefault({}),
  permissions: z
    .strictObject({
      usb: permissionsSchema(true).prefault({}),
      tcp: permissionsSchema(false).prefault({}),
    })
    .prefault({}),
});

export type Config = z.output<typeof configSchema>;
export type Permissions = Config['permissions']['usb'];

/** Where to listen. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** @throws {IioError} `BAD_CONFIG`, with a line for everything that is wrong; `origin` says where it was written. */
export function parseConfig(given: unknown, origin: string): Config {
  const parsed = configSchema.safeParse(given);
  if (!parsed.success) {
    throw new IioError('BAD_CONFIG', `${origin}:\n${z.prettifyError(parsed.error)}`);
  }
  const { usb, tcp } = parsed.data;
  if (!usb.enabled && tcp.listen.length === 0) {
    throw new IioError('BAD_CONFIG', `${origin}: neither USB nor TCP is served: add --tcp [HOST:]PORT`);
  }
  return parsed.data;
}

const RING_UNITS: Readonly<Record<string, number>> = { B: 1, KiB: 1024, MiB: MIB, GiB: 1024 * MIB };

/** `500ms`, `2s`, `64MiB`, `4096B`. Undefined for anything else. */
export function parseRing(text: string): RingSize | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|B|KiB|MiB|GiB)$/.exec(text);
  const amount = Number(match?.[1]);
  const unit = match?.[2];
  if (unit === undefined || amount === 0) {
    return undefined;
  }
  if (unit === 'ms' || unit === 's') {
    return { ms: unit === 's' ? amount * 1000 : amount };
  }
  return { bytes: Math.round(amount * (RING_UNITS[unit] ?? 1)) };
}

/** `30431`, `localhost:30431`, `[::1]:30431`; port 0 is any. Undefined for anything else. */
export function parseEndpoint(text: string): Endpoint | undefined {
  const match = /^(?:(?:\[([^\]]+)\]|([^:[\]]+)):)?(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 0xffff) {
    return undefined;
  }
  return { host: match[1] ?? match[2] ?? '127.0.0.1', port };
}
