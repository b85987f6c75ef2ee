import { z } from 'zod';

const MIB = 1024 * 1024;

/** Everything that `iio-bridge serve` can be told, checked once at start. */
export const configSchema = z
  .object({
    usb: z.object({
      /** Name of the gadget and of its FunctionFS function. */
      name: z.string().regex(/^[\w-]{1,32}$/, 'letters, digits, - and _ only'),
      /** A directory below usb_gadget/ whose gadget our function joins, instead of a gadget of our own. */
      existingGadget: z.string().optional(),
      /** The configuration to join there. */
      config: z.string().default('c.1'),
      /** A name from /sys/class/udc; the first free one by default. */
      udc: z.string().optional(),
      /** Pipes, i.e. one for the context and one for each buffer that can be open at once. */
      pipes: z.number().int().min(1).max(15),
      idVendor: z.number().int().min(0).max(0xffff),
      idProduct: z.number().int().min(0).max(0xffff),
      manufacturer: z.string().max(126),
      product: z.string().max(126),
      serial: z.string().max(126),
    }),
    stream: z.object({
      /** The best way there is, or copies on purpose: at the USB side (half-copy) or at both (copy). */
      mode: z.enum(['auto', 'half-copy', 'copy']),
      /** A name below /dev/dma_heap, or `udmabuf`; the first that works by default. */
      heap: z.string().optional(),
    }),
    limits: z.object({
      /** Blocks of one buffer. */
      blocks: z.number().int().min(1).max(32767),
      /** Bytes of one block. */
      blockBytes: z.number().int().min(4096),
      /** Bytes of all blocks of all clients. */
      totalBytes: z.number().int().min(4096),
      /** Bytes of a value that a client writes to an attribute. */
      attributeBytes: z.number().int().min(256),
    }),
  })
  .readonly();

export type Config = z.infer<typeof configSchema>;

export const DEFAULT_LIMITS: Config['limits'] = {
  blocks: 256,
  blockBytes: 64 * MIB,
  totalBytes: 512 * MIB,
  attributeBytes: 64 * 1024,
};
